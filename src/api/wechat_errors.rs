//! WeChat's error codes and what Magpie does about each.

use poem_openapi::{Enum, Object, OpenApi, payload::Json};

use super::{Tag, problem::Failure};
use crate::wechat::{
    self,
    error::{CreditEffect, Entry, Who},
};

pub struct WeChatErrorsApi;

/// One of WeChat's error codes.
#[derive(Object)]
struct WeChatError {
    errcode: i64,
    /// The APIs at which it means this, by how their paths begin; empty: everywhere else.
    apis: Vec<String>,
    meaning: Meaning,
    verdict: Verdict,
    credit: Credit,
    who: Actor,
}

/// A meaning in both languages.
#[derive(Object)]
struct Meaning {
    en: String,
    zh: String,
}

/// What Magpie does: `retry` with back-off, `refresh_token` and repeat once, `slow_down` for the limit
/// of a minute, `snooze` behind another message to the same user, `pause_app` until the quota has room,
/// `no_credit`: the user takes no more, `drop_user`: permanent for this user, `pause_template` until
/// the templates are fetched again, `reject`: this request can never succeed, `operator`: the app rests until it is mended.
#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum Verdict {
    Retry,
    RefreshToken,
    SlowDown,
    Snooze,
    PauseApp,
    NoCredit,
    DropUser,
    PauseTemplate,
    Reject,
    Operator,
}

/// What becomes of the credit set aside for the message.
#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum Credit {
    Kept,
    Returned,
    Zeroed,
}

/// Who should act: nobody but `magpie`, the `user`, the `integrator` who wrote the rule or the front
/// end, or the `operator` who holds WeChat's console.
#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum Actor {
    Magpie,
    User,
    Integrator,
    Operator,
}

#[derive(Object)]
struct WeChatErrorList {
    data: Vec<WeChatError>,
}

#[OpenApi(tag = "Tag::Operation")]
impl WeChatErrorsApi {
    /// WeChat's error codes and what Magpie does about each
    ///
    /// A code that is not listed is never tried again blindly: the message fails with `system_failure`
    /// and its credit comes back.
    #[oai(path = "/v1/wechat-errors", method = "get", operation_id = "list_wechat_errors")]
    async fn list(&self) -> Result<Json<WeChatErrorList>, Failure> {
        Ok(Json(WeChatErrorList { data: wechat::error::all().into_iter().map(show).collect() }))
    }
}

fn show(entry: &Entry) -> WeChatError {
    WeChatError {
        errcode: entry.errcode,
        apis: entry.apis.iter().map(|&api| api.to_owned()).collect(),
        meaning: Meaning { en: entry.en.into(), zh: entry.zh.into() },
        verdict: match entry.verdict {
            wechat::Verdict::Retry => Verdict::Retry,
            wechat::Verdict::RefreshToken => Verdict::RefreshToken,
            wechat::Verdict::SlowDown => Verdict::SlowDown,
            wechat::Verdict::Snooze => Verdict::Snooze,
            wechat::Verdict::PauseApp => Verdict::PauseApp,
            wechat::Verdict::NoCredit => Verdict::NoCredit,
            wechat::Verdict::DropUser(_) => Verdict::DropUser,
            wechat::Verdict::PauseTemplate => Verdict::PauseTemplate,
            wechat::Verdict::Reject(_) => Verdict::Reject,
            wechat::Verdict::Operator => Verdict::Operator,
        },
        credit: match entry.credit() {
            CreditEffect::Kept => Credit::Kept,
            CreditEffect::Returned => Credit::Returned,
            CreditEffect::Zeroed => Credit::Zeroed,
        },
        who: match entry.who {
            Who::Magpie => Actor::Magpie,
            Who::User => Actor::User,
            Who::Integrator => Actor::Integrator,
            Who::Operator => Actor::Operator,
        },
    }
}
