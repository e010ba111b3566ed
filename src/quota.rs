//! How much of WeChat's quota for sending an app has left, and the pause when nothing is.
//!
//! ```text
//! 45009 ─▶ quota/get ─ nothing remains ─▶ app paused until midnight in China, or until there is room
//!                    └ something remains ─▶ the limit of a short window: a little later
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use entity::{Timestamp, app::PausedBy};
use tokio::sync::Mutex;

use crate::{
    access_token::{self, Failed},
    app_account,
    config::{App, Kind},
    context::Context,
    error::Error,
    wechat::quota::Quota,
};

/// What a look at the quota may cost: it is asked at most so often, whoever looks.
const FOR_A_LOOK: Duration = Duration::from_mins(1);
/// Many calls meet a limit together; they share one answer.
const FOR_A_REFUSAL: Duration = Duration::from_secs(5);
/// Where WeChat does not say how long its short window lasts.
const MINUTE: Duration = Duration::from_mins(1);

/// Which limit a 45009 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Nothing remains of the day.
    Day,
    /// A short window is full; it opens again after so long.
    Window(Duration),
}

/// The last answer, or that there was none, and when.
type Asked = Option<(Timestamp, Option<Quota>)>;

#[derive(Default)]
struct Known(std::sync::Mutex<HashMap<String, Arc<Mutex<Asked>>>>);

/// The API that sends this kind of account's messages.
pub fn send_path(kind: Kind) -> &'static str {
    match kind {
        Kind::MiniProgram => "/cgi-bin/message/subscribe/send",
        Kind::ServiceAccount => "/cgi-bin/message/template/send",
    }
}

/// The quota of sending; None when WeChat does not tell.
pub async fn of_sending(ctx: &Context, app: &App) -> Option<Quota> {
    asked_within(ctx, app, FOR_A_LOOK).await
}

/// Which limit a send has met. Where WeChat does not tell, it is the day's: asking again costs nothing.
pub async fn limit_met(ctx: &Context, app: &App) -> Limit {
    match asked_within(ctx, app, FOR_A_REFUSAL).await {
        Some(quota) if quota.remain > 0 => Limit::Window(quota.refresh.unwrap_or(MINUTE)),
        _ => Limit::Day,
    }
}

/// Resumes the apps whose quota has room again; gives how many. A pause that has ended is looked at
/// at once, one that goes on once a minute: the quota may have been cleared by hand.
pub async fn resume_where_room(ctx: &Context) -> Result<usize, Error> {
    let mut resumed = 0;
    for (app, row) in app_account::all(ctx).await? {
        let (Some(PausedBy::Quota), Some(until)) = (row.paused_by, row.paused_until) else { continue };
        let now = ctx.clock.now();
        let over = until <= now;
        let quota = asked_within(ctx, &app, if over { FOR_A_REFUSAL } else { FOR_A_LOOK }).await;
        match quota {
            Some(quota) if quota.remain == 0 => {
                if over {
                    app_account::pause_for_quota(ctx, &app.app_id, now + FOR_A_LOOK).await?;
                }
            }
            // Without an answer the next send finds out, once the time is over.
            None if !over => {}
            _ => {
                app_account::resume(ctx, &app.app_id).await?;
                resumed += 1;
            }
        }
    }
    Ok(resumed)
}

async fn asked_within(ctx: &Context, app: &App, span: Duration) -> Option<Quota> {
    let known = {
        let all = ctx.memory::<Known>();
        let mut all = all.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(app.app_id.clone()).or_default().clone()
    };
    let mut known = known.lock().await;
    let now = ctx.clock.now();
    if let Some((at, quota)) = *known
        && now.since(at) < span
    {
        return quota;
    }
    let path = send_path(app.kind);
    let answer = access_token::with(ctx, app, |token| async move { ctx.wechat.quota(&token, path).await }).await;
    let quota = match answer {
        Ok(quota) => Some(quota),
        Err(error @ Failed::Call(_)) => {
            tracing::warn!(app.id = %app.app_id, %error, "quota.unknown");
            None
        }
        Err(_) => None,
    };
    *known = Some((now, quota));
    quota
}
