//! WeChat's paths: which method they take, whether they need a token, and who answers them.

#![expect(clippy::unnecessary_wraps, reason = "all handlers share one signature, also those that cannot fail")]

mod access_token;
mod call;
mod data;
mod date_time;
mod diagnosis;
mod follower;
mod keyword;
mod library;
mod login;
mod network;
mod phone_number;
mod private_template;
mod public_library;
mod refusal;
mod routes;
mod session_key;
mod subscribe_message;
mod template;
mod template_message;

pub(crate) use access_token::owner_of;
pub(crate) use call::Call;
pub(crate) use refusal::{Refusal, usual_text};
pub(crate) use routes::{ONE_AT_A_TIME, route};

use poem::http::Method;
use serde_json::{Value, json};

use crate::{account::Account, config::Kind, push::Event, quota::Exhausted, world::World};
use refusal::{refuse, refuse_with};

/// What a handler says: the JSON answer, perhaps with a receipt to post later.
pub(crate) type Answer = Result<Done, Refusal>;

#[derive(Debug)]
pub(crate) struct Done {
    pub body: Value,
    pub receipt: Option<Event>,
}

impl From<Value> for Done {
    fn from(body: Value) -> Self {
        Self { body, receipt: None }
    }
}

/// `{"errcode":0,"errmsg":"ok"}`.
pub(crate) fn ok() -> Value {
    json!({ "errcode": 0, "errmsg": "ok" })
}

#[derive(Clone, Copy)]
pub(crate) enum Takes {
    Get,
    Post,
    Either,
}

/// Whose token a path accepts; another account type's gets 48001.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    MiniProgram,
    ServiceAccount,
    Both,
}

#[derive(Clone, Copy)]
pub(crate) enum Handler {
    /// Names its app in its own way.
    Open(fn(&Call, &mut World) -> Answer),
    /// The token names the app.
    WithToken(For, fn(&Call, &mut Account) -> Answer),
    /// As above, for the few that look beyond one app.
    WithTokenAndWorld(For, fn(&Call, &mut World, &str) -> Answer),
}

/// Checks path, method, token, account type and quota, in this order, then works.
pub(crate) fn work(call: &Call, world: &mut World) -> Answer {
    let Some((takes, handler)) = route(&call.path) else {
        return refuse(40066);
    };
    match takes {
        Takes::Get if call.method != Method::GET => return refuse(43001),
        Takes::Post if call.method != Method::POST => return refuse(43002),
        _ => {}
    }
    match handler {
        Handler::Open(answer) => answer(call, world),
        Handler::WithToken(audience, answer) => {
            let app_id = access_token::authorize(call, world)?;
            let Some(account) = world.accounts.get_mut(&app_id) else {
                return refuse(40014);
            };
            admit(call, account, audience)?;
            answer(call, account)
        }
        Handler::WithTokenAndWorld(audience, answer) => {
            let app_id = access_token::authorize(call, world)?;
            let Some(account) = world.accounts.get_mut(&app_id) else {
                return refuse(40014);
            };
            admit(call, account, audience)?;
            answer(call, world, &app_id)
        }
    }
}

fn admit(call: &Call, account: &mut Account, audience: For) -> Result<(), Refusal> {
    let fits = match audience {
        For::Both => true,
        For::MiniProgram => account.app.kind == Kind::MiniProgram,
        For::ServiceAccount => account.app.kind == Kind::ServiceAccount,
    };
    if !fits {
        return refuse(48001);
    }
    spend_quota(call, account)
}

/// 45009 is WeChat's word for the day's limit, and at times for the minute's as well.
fn spend_quota(call: &Call, account: &mut Account) -> Result<(), Refusal> {
    let limit = account.knobs.quotas.get(&call.path);
    match account.quota.spend(&call.path, limit, call.now()) {
        Ok(()) => Ok(()),
        Err(Exhausted::Day) => refuse(45009),
        Err(Exhausted::Minute) if call.path == "/cgi-bin/stable_token" => refuse(45011),
        Err(Exhausted::Minute) => refuse_with(45009, "reach max api minute quota limit"),
    }
}
