//! The one integration test binary: stories through the public door, on SQLite and PostgreSQL alike.

mod callbacks;
mod consent;
mod databases;
mod delivery;
mod events;
mod harness;
mod house;
mod login;
mod process;
mod service_account;
mod surface;
mod user_data;
