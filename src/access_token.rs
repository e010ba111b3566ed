//! The apps' access tokens for WeChat: one per app, fetched once however many calls need it, replaced
//! by compare-and-set when WeChat refuses it. `stable_token` gives every node the same one, so nothing
//! is shared but the budget of forced refreshes.
//!
//! ```text
//! with ─▶ held token ─▶ call ─ refused ─▶ fetch ─ the very same token ─▶ force, if the budget allows
//!                                           │                              │
//!                                           └──────▶ call once more ◀──────┘
//! refused again, no budget ─▶ breaker open for a moment or five minutes
//! token endpoint says no ─▶ breaker open: the cause at once, until its time or a reload of the apps
//! ```

mod breaker;
mod budget;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use entity::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

pub use breaker::{Breaker, explain};
use budget::Denied;

use crate::{
    config::App,
    context::Context,
    error::Error,
    wechat::{self, Verdict},
};

/// WeChat renews a stable token in its last five minutes; before them the same one comes back.
const REFRESH_AHEAD: Duration = Duration::from_mins(5);
/// How long a token that is nearly over is used before WeChat is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// A token as this node holds it.
#[derive(Clone)]
struct AccessToken {
    token: SecretString,
    fetched_at: Timestamp,
    expires_at: Timestamp,
    /// When WeChat is asked for the next one.
    renew_at: Timestamp,
    /// Which fetch gave it: two tokens are the same when this is.
    serial: u64,
}

/// Why a call that needs a token gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The token endpoint says no, and would say so again; nothing was called.
    #[error("no access token: {0}")]
    Refused(Breaker),
    /// The token endpoint did not answer, or is busy; nothing was called.
    #[error("no access token: {0}")]
    NoToken(wechat::Error),
    #[error(transparent)]
    Call(wechat::Error),
}

/// What this node knows of an app's token.
pub struct Standing {
    pub age: Option<Duration>,
    pub expires_in: Option<Duration>,
    pub force_refreshes_left: i32,
    pub breaker: Option<Breaker>,
}

#[derive(Default)]
struct Slot {
    held: Option<AccessToken>,
    serial: u64,
    breaker: Option<Breaker>,
    /// The apps as they were when this was learned.
    learned_from: Option<Arc<Vec<Arc<App>>>>,
    secret: SecretString,
}

#[derive(Default)]
struct Slots(std::sync::Mutex<HashMap<String, Arc<Mutex<Slot>>>>);

/// Calls WeChat with the app's token. A refused token is replaced and the call repeated once; a second
/// refusal is the caller's to judge.
pub async fn with<T, F, Fut>(ctx: &Context, app: &App, call: F) -> Result<T, Failed>
where
    F: Fn(SecretString) -> Fut,
    Fut: Future<Output = Result<T, wechat::Error>>,
{
    let token = get(ctx, app).await?;
    match call(token.token.clone()).await {
        Err(wechat::Error::Refused(refusal)) if refusal.verdict() == Verdict::RefreshToken => {
            let (fresh, denied) = Box::pin(replace(ctx, app, &token)).await?;
            match (call(fresh.token.clone()).await, denied) {
                (Err(wechat::Error::Refused(refusal)), Some(denied)) if refusal.verdict() == Verdict::RefreshToken => {
                    Err(Failed::Refused(Box::pin(rest(ctx, app, &fresh, &refusal, denied)).await))
                }
                (answer, _) => answer.map_err(Failed::Call),
            }
        }
        answer => answer.map_err(Failed::Call),
    }
}

/// The token this node holds, without asking WeChat, and what keeps it from getting one.
pub async fn standing(ctx: &Context, app: &App) -> Result<Standing, Error> {
    let now = ctx.clock.now();
    let force_refreshes_left = budget::left(ctx, &app.app_id).await?;
    let slot = slot(ctx, app);
    let mut slot = slot.lock().await;
    slot.follow_the_configuration(ctx, app);
    let held = slot.held.as_ref().filter(|held| held.expires_at > now);
    Ok(Standing {
        age: held.map(|held| now.since(held.fetched_at)),
        expires_in: held.map(|held| held.expires_at.since(now)),
        force_refreshes_left,
        breaker: slot.breaker.clone().filter(|breaker| breaker.until > now),
    })
}

/// Makes sure that a token can be had, as the next call would.
pub async fn check(ctx: &Context, app: &App) -> Result<(), Failed> {
    get(ctx, app).await.map(drop)
}

/// A token that works, as far as known. Callers that come while it is fetched wait for the same fetch.
async fn get(ctx: &Context, app: &App) -> Result<AccessToken, Failed> {
    let slot = slot(ctx, app);
    let mut slot = slot.lock().await;
    slot.follow_the_configuration(ctx, app);
    let now = ctx.clock.now();
    match &slot.held {
        Some(held) if now < held.renew_at => Ok(held.clone()),
        _ => match Box::pin(fetch(ctx, app, &mut slot, false)).await {
            Ok(token) => Ok(token),
            // A token near its end is better than none while WeChat's token endpoint is away.
            Err(failed) => slot.held.clone().filter(|held| held.expires_at > now).ok_or(failed),
        },
    }
}

/// WeChat refused `token`: gives another one, unless somebody has replaced it already. When WeChat
/// gives the very same one again it is forced to make a new one; where the budget forbids that, the
/// same one is tried once more, and the reason comes with it.
async fn replace(ctx: &Context, app: &App, token: &AccessToken) -> Result<(AccessToken, Option<Denied>), Failed> {
    let slot = slot(ctx, app);
    let mut slot = slot.lock().await;
    slot.follow_the_configuration(ctx, app);
    if let Some(held) = slot.held.as_ref().filter(|held| held.serial != token.serial) {
        return Ok((held.clone(), None));
    }
    slot.held = None;
    let fresh = fetch(ctx, app, &mut slot, false).await?;
    if fresh.token.expose_secret() != token.token.expose_secret() {
        return Ok((fresh, None));
    }
    match budget::take(ctx, &app.app_id).await {
        Ok(Ok(())) => {}
        Ok(Err(denied)) => {
            tracing::warn!(app.id = %app.app_id, ?denied, "access_token.not_forced");
            return Ok((fresh, Some(denied)));
        }
        Err(error) => {
            tracing::error!(app.id = %app.app_id, %error, "access_token.budget_unknown");
            return Ok((fresh, None));
        }
    }
    tracing::warn!(app.id = %app.app_id, "access_token.forced");
    match fetch(ctx, app, &mut slot, true).await {
        Ok(forced) => Ok((forced, None)),
        // The twenty may have been spent by somebody else: the token at hand is tried once more.
        Err(Failed::NoToken(wechat::Error::Refused(refusal))) if refusal.verdict() == Verdict::PauseApp => {
            Ok((fresh, Some(Denied::Spent)))
        }
        Err(_) => Ok((fresh, None)),
    }
}

/// The token is refused and no other is to be had: it is dropped and the cause is told at once, until
/// somebody may have made another one.
async fn rest(ctx: &Context, app: &App, token: &AccessToken, refusal: &wechat::Refusal, denied: Denied) -> Breaker {
    let breaker = Breaker::without_budget(refusal, denied, ctx.clock.now());
    let slot = slot(ctx, app);
    let mut slot = slot.lock().await;
    if slot.held.as_ref().is_some_and(|held| held.serial == token.serial) {
        slot.held = None;
        slot.breaker = Some(breaker.clone());
    }
    breaker
}

fn slot(ctx: &Context, app: &App) -> Arc<Mutex<Slot>> {
    let slots = ctx.memory::<Slots>();
    let mut slots = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
    slots.entry(app.app_id.clone()).or_default().clone()
}

impl Slot {
    /// Apps that were loaded again close the breaker; a token of another secret is dropped.
    fn follow_the_configuration(&mut self, ctx: &Context, app: &App) {
        let apps = ctx.apps();
        if self.learned_from.as_ref().is_some_and(|known| Arc::ptr_eq(known, &apps)) {
            return;
        }
        let secret = apps.iter().find(|other| other.app_id == app.app_id).map_or(app.secret(), |app| app.secret());
        if self.secret.expose_secret() != secret.expose_secret() {
            self.held = None;
            self.secret = secret.clone();
        }
        self.breaker = None;
        self.learned_from = Some(apps);
    }
}

async fn fetch(ctx: &Context, app: &App, slot: &mut Slot, force: bool) -> Result<AccessToken, Failed> {
    let asked_at = ctx.clock.now();
    if let Some(breaker) = slot.breaker.as_ref().filter(|breaker| breaker.until > asked_at) {
        return Err(Failed::Refused(breaker.clone()));
    }
    // The secret as last loaded: the caller may hold the app as it was before.
    match ctx.wechat.stable_token(&app.app_id, &slot.secret, force).await {
        Ok(fresh) => {
            slot.serial += 1;
            slot.breaker = None;
            let expires_at = asked_at + fresh.expires_in;
            let renew_at = (expires_at - REFRESH_AHEAD).max((asked_at + ASK_AGAIN).min(expires_at));
            let token =
                AccessToken { token: fresh.token, fetched_at: asked_at, expires_at, renew_at, serial: slot.serial };
            slot.held = Some(token.clone());
            tracing::info!(app.id = %app.app_id, expires_in_s = fresh.expires_in.as_secs(), "access_token.fetched");
            Ok(token)
        }
        Err(wechat::Error::Refused(refusal)) => match Breaker::opened_by(&refusal, asked_at) {
            Some(_) if force => Err(Failed::NoToken(wechat::Error::Refused(refusal))),
            Some(breaker) => {
                tracing::error!(app.id = %app.app_id, wechat.errcode = refusal.errcode, because = %breaker, "access_token.refused");
                slot.breaker = Some(breaker.clone());
                Err(Failed::Refused(breaker))
            }
            None => Err(Failed::NoToken(wechat::Error::Refused(refusal))),
        },
        Err(error) => Err(Failed::NoToken(error)),
    }
}
