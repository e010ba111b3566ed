//! The apps' access tokens for WeChat: one per app, fetched once however many calls need it, replaced
//! by compare-and-set when WeChat refuses it. `stable_token` gives every node the same one, so nothing
//! is shared.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use entity::Timestamp;
use secrecy::SecretString;
use tokio::sync::Mutex;

use crate::{
    config::App,
    context::Context,
    wechat::{self, Refusal, Verdict},
};

/// WeChat renews a stable token in its last five minutes; before them the same one comes back.
const REFRESH_AHEAD: Duration = Duration::from_mins(5);
/// How long a token that is nearly over is used before WeChat is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// After a definite refusal the endpoint is left alone for so long, unless somebody waits longer.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);

/// A token as this node holds it.
#[derive(Clone)]
pub struct AccessToken {
    pub token: SecretString,
    pub fetched_at: Timestamp,
    pub expires_at: Timestamp,
    /// When WeChat is asked for the next one.
    renew_at: Timestamp,
    /// Which fetch gave it: two tokens are the same when this is.
    serial: u64,
}

#[derive(Default)]
struct Slot {
    held: Option<AccessToken>,
    serial: u64,
    refused: Option<(Refusal, Timestamp)>,
}

#[derive(Default)]
struct Slots(std::sync::Mutex<HashMap<String, Arc<Mutex<Slot>>>>);

/// A token that works, as far as known. Callers that come while it is fetched wait for the same fetch.
pub async fn get(ctx: &Context, app: &App) -> Result<AccessToken, wechat::Error> {
    let slot = slot(ctx, app);
    let mut slot = slot.lock().await;
    let now = ctx.clock.now();
    match &slot.held {
        Some(held) if now < held.renew_at => Ok(held.clone()),
        _ => fetch(ctx, app, &mut slot).await,
    }
}

/// WeChat refused `token`: gives another one, unless somebody has replaced it already.
pub async fn replace(ctx: &Context, app: &App, token: &AccessToken) -> Result<AccessToken, wechat::Error> {
    let slot = slot(ctx, app);
    let mut slot = slot.lock().await;
    match &slot.held {
        Some(held) if held.serial != token.serial => Ok(held.clone()),
        _ => {
            slot.held = None;
            fetch(ctx, app, &mut slot).await
        }
    }
}

/// Makes a call with the app's token. A refused token is replaced and the call repeated once.
pub async fn with<T, F>(ctx: &Context, app: &App, call: impl Fn(AccessToken) -> F) -> Result<T, wechat::Error>
where
    F: Future<Output = Result<T, wechat::Error>>,
{
    let token = get(ctx, app).await?;
    match call(token.clone()).await {
        Err(wechat::Error::Refused(refusal)) if refusal.verdict() == Verdict::RefreshToken => {
            call(replace(ctx, app, &token).await?).await
        }
        answer => answer,
    }
}

/// The token this node holds, without asking WeChat.
pub async fn held(ctx: &Context, app: &App) -> Option<AccessToken> {
    let slot = slot(ctx, app);
    let slot = slot.lock().await;
    slot.held.clone().filter(|held| held.expires_at > ctx.clock.now())
}

fn slot(ctx: &Context, app: &App) -> Arc<Mutex<Slot>> {
    let slots = ctx.memory::<Slots>();
    let mut slots = slots.0.lock().unwrap_or_else(PoisonError::into_inner);
    slots.entry(app.app_id.clone()).or_default().clone()
}

async fn fetch(ctx: &Context, app: &App, slot: &mut Slot) -> Result<AccessToken, wechat::Error> {
    let asked_at = ctx.clock.now();
    if let Some((refusal, at)) = &slot.refused
        && asked_at.since(*at) < AFTER_REFUSAL
    {
        return Err(wechat::Error::Refused(refusal.clone()));
    }
    match ctx.wechat.stable_token(&app.app_id, app.secret(), false).await {
        Ok(fresh) => {
            slot.serial += 1;
            slot.refused = None;
            let expires_at = asked_at + fresh.expires_in;
            let renew_at = (expires_at - REFRESH_AHEAD).max((asked_at + ASK_AGAIN).min(expires_at));
            let token =
                AccessToken { token: fresh.token, fetched_at: asked_at, expires_at, renew_at, serial: slot.serial };
            slot.held = Some(token.clone());
            tracing::info!(app.id = %app.app_id, expires_in_s = fresh.expires_in.as_secs(), "access_token.fetched");
            Ok(token)
        }
        Err(wechat::Error::Refused(refusal)) => {
            // At the token endpoint 40001 says that the AppSecret is wrong.
            if matches!(refusal.verdict(), Verdict::Operator | Verdict::RefreshToken) {
                tracing::error!(app.id = %app.app_id, wechat.errcode = refusal.errcode, "access_token.refused");
                slot.refused = Some((refusal.clone(), asked_at));
            }
            usable_still(slot, asked_at).ok_or(wechat::Error::Refused(refusal))
        }
        Err(error) => usable_still(slot, asked_at).ok_or(error),
    }
}

/// A token near its end is better than none while WeChat's token endpoint is away.
fn usable_still(slot: &Slot, now: Timestamp) -> Option<AccessToken> {
    slot.held.clone().filter(|held| held.expires_at > now)
}
