//! Magpie: a backend for WeChat Mini Programs. It logs users in, keeps count of what they have agreed
//! to receive, and turns business events into notifications that arrive.
//!
//! This page is the map of the house. Each file below opens with its own part of it.
//!
//! # The cast
//!
//! | row | what it is | told in |
//! | --- | --- | --- |
//! | app | a WeChat account: secrets in the configuration, pause in the database | [`app_account`], [`access_token`] |
//! | user | a person, whatever the number of apps | [`user`] |
//! | identity | one openid of a user in one app, with unionid and session key | [`login`], [`recipient`] |
//! | session | our login of a user in an app | [`session`] |
//! | template | WeChat's template as mirrored from the account, with typed fields | [`template`], [`keyword`] |
//! | consent, credit | one dated entry of the ledger; what all of them add up to | [`consent`] |
//! | rule | event type → template, field expressions, recipients, policies | [`rule`] |
//! | event | a fact told to us once by a business system | [`event`] |
//! | fan-out | an event on its way to more people than one transaction takes | [`event::fan_out`] |
//! | notification, attempt | one message for one identity, the row is the job; one call for it | [`notification`] |
//! | callback, receipt | anything WeChat posts; its word on what became of a message | [`callback`], [`receipt`] |
//! | webhook, delivery | an endpoint of a business system; one message to it, the row is the job | [`webhook`] |
//! | API key | who a business system is and what it may do; or it signs its requests | [`api_key`], [`signed_request`] |
//! | signing key, sealing key | signs access tokens; proves the master keys right; new master keys | [`signing_key`], [`sealing_key`], [`master_key`] |
//! | audit entry | what was done, by whom; how long anything is kept | [`audit`], [`retention`] |
//!
//! # The flows
//!
//! ```text
//! login    code ─▶ api ─▶ login ─▶ code2Session ─▶ one transaction: user, identity, session ─▶ tokens
//! consent  report or popup event ─▶ consent: one tap counts once ─▶ ledger entry and credit; what waits becomes pending
//! accept   event ─▶ api ─▶ event ─▶ one transaction: event, rules, notifications, credits reserved ─▶ 202, bell
//!          many recipients ─▶ worker: a portion a transaction ─▶ … · preview: the same, taken back · letter: no rule
//! deliver  bell or period ─▶ worker: claim under a lease ─▶ push ─▶ settle: state, credit and attempt in one commit
//! receipt  WeChat ─▶ api ─▶ callback stored ─▶ "success" … worker ─▶ receipt ─▶ delivered or failed
//! sweep    worker: a lease that ran out ─▶ unsure ─▶ at its deadline what the rule says; too late to send ─▶ expired
//! tell     what becomes of a notification or a person ─▶ webhook: a row in the same commit ─▶ worker: signed POST
//! ```
//!
//! From a route to a row it is two hops: a handler of [`api`] reads the request and calls one use-case, a
//! function of a product file that takes `&Context` and opens its own transaction. [`notification::state`] draws
//! the state machine; [`worker`] lists the duties and what wakes them; [`app`] starts and stops everything.
//!
//! # The import rule
//!
//! Imports point downward only:
//!
//! ```text
//! main ─▶ cli ─▶ dev ─▶ app
//!   ─▶ api · worker
//!     ─▶ product files: everything the cast names
//!       ─▶ context ─▶ database
//!         ─▶ wechat
//!           ─▶ config · clock · error · secret · telemetry
//!             ─▶ the crate entity
//! ```
//!
//! poem is named only in [`api`] and [`app`], reqwest only in [`wechat`] and `webhook/call.rs`, SQL only in product files, [`database`]
//! and `entity`; the current time comes from [`clock`] alone. `tests/it/house.rs` and the lints hold all of this.

pub mod access_token;
pub mod api;
pub mod api_key;
pub mod app;
pub mod app_account;
pub mod audit;
pub mod callback;
pub mod cli;
pub mod clock;
pub mod config;
pub mod consent;
pub mod context;
pub mod database;
#[cfg(feature = "sandbox")]
pub mod dev;
pub mod doctor;
pub mod error;
pub mod event;
pub mod follower;
pub mod group;
pub mod keyword;
pub mod login;
pub mod master_key;
pub mod notification;
pub mod pause;
pub mod quota;
pub mod receipt;
pub mod recipient;
pub mod retention;
pub mod revision;
pub mod rid;
pub mod rule;
pub mod sealing_key;
pub mod secret;
pub mod session;
pub mod signed_request;
pub mod signing_key;
pub mod telemetry;
pub mod template;
pub mod user;
pub mod user_data;
pub mod webhook;
pub mod wechat;
pub mod wechat_problem;
pub mod worker;
