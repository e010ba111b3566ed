//! A simulator of WeChat's server API for Mini Programs and service accounts.
//!
//! It tells WeChat's contract from the far side, over real sockets, as strictly as WeChat does, and
//! shares no code with any client. Cast:
//!
//! * `config` – what the console holds: apps, templates, message push.
//! * `world`, `account`, `person`, `token_book`, `quota` – what WeChat remembers.
//! * `door` – every call enters here: counted, met by ordered faults, refused or worked on, answered.
//! * `api` – WeChat's paths, one file per family of documents.
//! * `push` – WeChat's posts to an app's callback URL, in three modes and two formats.
//! * `control` – the fake phone and the test's knobs, under `/sandbox`.
//! * `state_file` – what outlives a restart.

mod account;
mod api;
mod clock;
mod config;
mod connection;
mod control;
mod cut_answer;
mod demo;
mod door;
mod fault;
mod knobs;
mod person;
mod platform;
mod push;
mod quota;
mod random;
mod server;
mod state_file;
mod tally;
mod token_book;
mod world;

pub use config::{App, Callback, Config, Format, Kind, Mode, Template};
pub use demo::{DEMO_APP_ID, DEMO_OPENID, DEMO_SECRET, DEMO_TEMPLATE_ID, demo_app};
pub use server::Sandbox;
