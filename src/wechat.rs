//! Only WeChat's protocol: hosts, paths, bodies, answers, error codes, callback signatures. It knows
//! neither the database nor our words for people and messages; a token is an argument.
//!
//! One file for each family of WeChat's APIs. `error.rs` owns the table of error codes and what each
//! means for us.

mod answer;
mod client;
mod hosts;

pub mod access_token;
pub mod callback;
pub mod diagnosis;
pub mod error;
pub mod follower;
pub mod login;
pub mod phone;
pub mod quota;
pub mod rid;
pub mod subscribe_message;
pub mod template;
pub mod template_library;
pub mod template_message;
pub mod user_data;

pub use client::{Client, ClientError};
pub use error::{Error, Refusal, Verdict};
