//! One call to WeChat for one claimed notification.

use entity::notification::Model;

use crate::{
    access_token::{self, AccessToken},
    clock::Stopwatch,
    config::App,
    context::Context,
    notification::{
        settle::Settlement,
        state::{Came, Hold},
    },
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

/// A refused token is replaced and the call repeated once.
async fn with_token(ctx: &Context, app: &App, row: &Model) -> Came {
    let token = match access_token::get(ctx, app).await {
        Ok(token) => token,
        Err(error) => return no_token(&error),
    };
    match call(ctx, app, row, &token).await {
        Came::Refused { verdict: Verdict::RefreshToken, .. } => match access_token::replace(ctx, app, &token).await {
            Ok(fresh) if lease_outlasts_a_call(ctx, row) => call(ctx, app, row, &fresh).await,
            Ok(_) => Came::NotCalled { because: Hold::Released },
            Err(error) => no_token(&error),
        },
        came => came,
    }
}

async fn call(ctx: &Context, app: &App, row: &Model, token: &AccessToken) -> Came {
    let message = SubscribeMessage {
        touser: &row.openid,
        template_id: &row.template_id,
        page: row.page.as_deref(),
        data: row.fields.0.iter().map(|(key, value)| (key.as_str(), FieldValue { value })).collect(),
        miniprogram_state: app.miniprogram_state,
        lang: "zh_CN",
    };
    match ctx.wechat.send_subscribe_message(&token.token, &message).await {
        Ok(message_id) => Came::Accepted { message_id },
        Err(wechat::Error::Refused(refusal)) => Came::Refused { verdict: refusal.verdict(), refusal },
        Err(wechat::Error::NotSent(_)) => Came::NotSent,
        Err(error) => Came::Unknown { problem: error.to_string() },
    }
}

/// A secret WeChat refuses is a matter for the operator; anything else passes.
fn no_token(error: &wechat::Error) -> Came {
    let operator = error.refusal().is_some_and(|refusal| {
        matches!(refusal.verdict(), Verdict::Operator | Verdict::RefreshToken | Verdict::PauseApp)
    });
    let problem = format!("no access token: {error}");
    Came::NotCalled { because: Hold::Token { operator, problem } }
}
