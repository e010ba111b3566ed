//! The simulator over real sockets.

mod callback;
mod diagnosis;
mod event;
mod faults;
mod harness;
mod library;
mod login;
mod message;
mod receipt;
mod restart;
mod service_account;
mod subscribe;
mod token;
mod user_data;
