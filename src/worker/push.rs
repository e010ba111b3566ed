//! One call to WeChat for one claimed notification.

use std::collections::BTreeMap;

use entity::notification::Model;
use secrecy::SecretString;

use crate::{
    access_token::{self, Failed},
    clock::Stopwatch,
    config::{App, Kind},
    context::Context,
    error::Error,
    notification::{
        attempts::was_unsure,
        settle::Settlement,
        state::{Came, Hold, is_too_late_to_repeat},
    },
    quota,
    wechat::{
        self, Verdict,
        subscribe_message::{FieldValue, SubscribeMessage},
        template_message::{Target, TemplateMessage},
    },
};

/// Why a message that may have arrived is not sent once more.
const TOO_LATE: &str = "not called again: WeChat would no longer recognise it as the same message";

/// Calls WeChat and says what came of it. The call is made only while the lease still outlasts it.
pub(super) async fn push(ctx: &Context, row: Model) -> Settlement {
    let stopwatch = Stopwatch::start();
    let came = match ctx.app(&row.app_id) {
        Some(app) if lease_outlasts_a_call(ctx, &row) => with_token(ctx, &app, &row).await,
        _ => Came::NotCalled { because: Hold::Released },
    };
    Settlement { row, came, duration_ms: stopwatch.millis() }
}

fn lease_outlasts_a_call(ctx: &Context, row: &Model) -> bool {
    row.lease_until.is_some_and(|until| ctx.clock.now() + ctx.config.delivery.request_timeout < until)
}

/// A refused token is replaced and the call repeated once, if the lease outlasts that, too.
async fn with_token(ctx: &Context, app: &App, row: &Model) -> Came {
    let recognised = app.kind == Kind::ServiceAccount;
    if recognised {
        match Box::pin(may_repeat(ctx, row)).await {
            Ok(true) => {}
            Ok(false) => return Came::Unknown { problem: TOO_LATE.into(), recognised: false },
            Err(error) => {
                tracing::warn!(notification.id = %row.id, %error, "notification.attempts_unread");
                return Came::NotCalled { because: Hold::Released };
            }
        }
    }
    let called = access_token::with(ctx, app, |token| async move {
        if !lease_outlasts_a_call(ctx, row) {
            return Ok(Came::NotCalled { because: Hold::Released });
        }
        let message_id = match app.kind {
            Kind::MiniProgram => subscribe_message(ctx, app, row, &token).await?,
            Kind::ServiceAccount => template_message(ctx, row, &token).await?,
        };
        Ok(Came::Accepted { message_id })
    });
    match called.await {
        Ok(came) => came,
        Err(Failed::Call(wechat::Error::Refused(refusal))) if refusal.verdict() == Verdict::PauseApp => {
            Came::Limited { limit: Box::pin(quota::limit_met(ctx, app)).await, refusal }
        }
        Err(Failed::Call(wechat::Error::Refused(refusal))) => Came::Refused { verdict: refusal.verdict(), refusal },
        Err(Failed::Call(wechat::Error::NotSent(_))) => Came::NotSent,
        Err(Failed::Call(error)) => Came::Unknown { problem: error.to_string(), recognised },
        Err(failed) => no_token(&failed),
    }
}

async fn may_repeat(ctx: &Context, row: &Model) -> Result<bool, Error> {
    Ok(!is_too_late_to_repeat(row, ctx.clock.now()) || !was_unsure(ctx.db.read(), row.id).await?)
}

async fn subscribe_message(
    ctx: &Context,
    app: &App,
    row: &Model,
    token: &SecretString,
) -> Result<Option<String>, wechat::Error> {
    let message = SubscribeMessage {
        touser: &row.openid,
        template_id: &row.template_id,
        page: row.page.as_deref(),
        data: data(row),
        miniprogram_state: app.miniprogram_state,
        lang: "zh_CN",
    };
    ctx.wechat.send_subscribe_message(token, &message).await
}

async fn template_message(ctx: &Context, row: &Model, token: &SecretString) -> Result<Option<String>, wechat::Error> {
    let client_msg_id = match row.replays {
        0 => row.id.to_string(),
        replays => format!("{}:replay_{replays}", row.id),
    };
    let message = TemplateMessage {
        touser: &row.openid,
        template_id: &row.template_id,
        url: row.url.as_deref(),
        miniprogram: row.miniprogram.as_ref().map(|link| Target { appid: &link.app_id, pagepath: &link.page }),
        data: data(row),
        client_msg_id: &client_msg_id,
    };
    ctx.wechat.send_template_message(token, &message).await
}

fn data(row: &Model) -> BTreeMap<&str, FieldValue<'_>> {
    row.fields.0.iter().map(|(key, value)| (key.as_str(), FieldValue { value })).collect()
}

/// What only the operator can mend lets the app rest until WeChat is worth asking; anything else passes.
fn no_token(failed: &Failed) -> Came {
    let until = match failed {
        Failed::Refused(breaker) => Some(breaker.until),
        _ => None,
    };
    Came::NotCalled { because: Hold::Token { until, problem: failed.to_string() } }
}
