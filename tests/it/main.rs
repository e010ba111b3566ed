//! The one integration test binary: stories through the public door, on SQLite and PostgreSQL alike.

mod callbacks;
mod consent;
mod databases;
mod delivery;
mod events;
mod faults;
mod fleet;
mod harness;
mod hostile;
mod hosts;
mod house;
mod indexes;
mod login;
mod operation;
mod privacy;
mod process;
mod reload;
mod rids;
mod service_account;
mod surface;
mod templates;
mod token_budget;
mod tokens;
mod user_data;
mod vectors;
mod wechat_errors;
