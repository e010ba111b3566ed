//! One call to WeChat for one claimed notification.

use entity::notification::Model;

use crate::{
    access_token::{self, Failed},
    clock::Stopwatch,
    config::App,
    context::Context,
    notification::{
        settle::Settlement,
        state::{Came, Hold},
    },
    quota,
    wechat::{
        self, Verdict,
        subscribe_message::{FieldValue, SubscribeMessage},
    },
};

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
    let called = access_token::with(ctx, app, |token| async move {
        if !lease_outlasts_a_call(ctx, row) {
            return Ok(Came::NotCalled { because: Hold::Released });
        }
        let message = message(app, row);
        let message_id = ctx.wechat.send_subscribe_message(&token, &message).await?;
        Ok(Came::Accepted { message_id })
    });
    match called.await {
        Ok(came) => came,
        Err(Failed::Call(wechat::Error::Refused(refusal))) if refusal.verdict() == Verdict::PauseApp => {
            Came::Limited { limit: quota::limit_met(ctx, app).await, refusal }
        }
        Err(Failed::Call(wechat::Error::Refused(refusal))) => Came::Refused { verdict: refusal.verdict(), refusal },
        Err(Failed::Call(wechat::Error::NotSent(_))) => Came::NotSent,
        Err(Failed::Call(error)) => Came::Unknown { problem: error.to_string() },
        Err(failed) => no_token(&failed),
    }
}

fn message<'a>(app: &App, row: &'a Model) -> SubscribeMessage<'a> {
    SubscribeMessage {
        touser: &row.openid,
        template_id: &row.template_id,
        page: row.page.as_deref(),
        data: row.fields.0.iter().map(|(key, value)| (key.as_str(), FieldValue { value })).collect(),
        miniprogram_state: app.miniprogram_state,
        lang: "zh_CN",
    }
}

/// What only the operator can mend lets the app rest until WeChat is worth asking; anything else passes.
fn no_token(failed: &Failed) -> Came {
    let until = match failed {
        Failed::Refused(breaker) => Some(breaker.until),
        _ => None,
    };
    Came::NotCalled { because: Hold::Token { until, problem: failed.to_string() } }
}
