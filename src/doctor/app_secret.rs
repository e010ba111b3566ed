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

/// What WeChat says of it.
enum Found {
    Right,
    /// With the cure.
    Wrong(String),
    /// There was no answer, or none about it.
    Unknown(String),
}

/// Asks code2Session with a made-up code: that WeChat refuses only the code proves `AppID` and `AppSecret`
/// right.
async fn find(ctx: &Context, app: &App) -> Found {
    match ctx.wechat.code_to_session(&app.app_id, app.secret(), MADE_UP).await {
        Ok(_) => Found::Right,
        Err(wechat::Error::Refused(refusal)) => match (refusal.errcode, refusal.verdict()) {
            (40029 | 40163, _) => Found::Right,
            (_, Verdict::Retry | Verdict::SlowDown) => Found::Unknown(refusal.to_string()),
            _ => Found::Wrong(access_token::explain(&refusal)),
        },
        Err(error) => Found::Unknown(error.to_string()),
    }
}

/// What the doctor tells.
pub(super) async fn check(ctx: &Context, app: &App) -> Result<String, String> {
    match find(ctx, app).await {
        Found::Right => Ok("WeChat takes it at login".to_owned()),
        Found::Wrong(problem) => Err(problem),
        Found::Unknown(problem) => Err(format!("could not be checked: {problem}; try again")),
    }
}

/// Writes a warning with the cure to the log for each Mini Program that nobody can log in to.
pub async fn warn(ctx: &Context) {
    for app in ctx.apps().iter().filter(|app| app.kind == Kind::MiniProgram) {
        match find(ctx, app).await {
            Found::Right => tracing::info!(app.id = %app.app_id, "app_secret.right"),
            Found::Wrong(problem) => tracing::warn!(app.id = %app.app_id, problem, "app_secret.wrong"),
            Found::Unknown(problem) => tracing::warn!(app.id = %app.app_id, problem, "app_secret.unchecked"),
        }
    }
}
