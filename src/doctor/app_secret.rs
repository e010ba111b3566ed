//! Whether WeChat takes an app's `AppSecret` at login too. The token endpoint and code2Session check it
//! separately, and only the former has an IP white list: one may work while the other does not.

use crate::{
    access_token,
    config::{App, Kind},
    context::Context,
    wechat::{self, Verdict},
};

/// No code of wx.login looks like this.
const MADE_UP: &str = "made-up-to-check-the-secret";

/// Asks code2Session with a made-up code: that WeChat refuses only the code proves `AppID` and `AppSecret`
/// right. The error says what is wrong and what to do.
pub(super) async fn check(ctx: &Context, app: &App) -> Result<String, String> {
    let right = || Ok("WeChat takes it at login".to_owned());
    match ctx.wechat.code_to_session(&app.app_id, app.secret(), MADE_UP).await {
        Ok(_) => right(),
        Err(wechat::Error::Refused(refusal)) => match (refusal.errcode, refusal.verdict()) {
            (40029 | 40163, _) => right(),
            (_, Verdict::Retry | Verdict::SlowDown) => Err(format!("could not be checked: {refusal}; try again")),
            _ => Err(access_token::explain(&refusal)),
        },
        Err(error) => Err(format!("could not be checked: {error}")),
    }
}

/// Writes a warning with the cure to the log for each Mini Program that nobody can log in to.
pub async fn warn(ctx: &Context) {
    for app in ctx.apps().iter().filter(|app| app.kind == Kind::MiniProgram) {
        match check(ctx, app).await {
            Ok(found) => tracing::info!(app.id = %app.app_id, found, "app_secret.right"),
            Err(problem) => tracing::warn!(app.id = %app.app_id, problem, "app_secret.wrong"),
        }
    }
}
