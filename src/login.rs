//! Logging in.
//!
//! ```text
//! wx.login code ─▶ code2Session ─▶ openid, session_key, unionid?
//!                                     │ one transaction: user, identity (session_key sealed), session
//!                                     ▼
//!                               access token + refresh token
//! ```
//!
//! A code works once at WeChat. A front end that repeats its request (a lost answer, a double tap)
//! gets the same session for a minute: from this node's memory, or by the code's MAC in the session
//! row when another node took the first request.

mod back_off;
mod known;
mod record;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use entity::{SessionId, Timestamp, UserId, session as session_row};
use moka::{future::Cache, policy::EvictionPolicy};
use sea_orm::EntityTrait;

use crate::{
    config::{App, Kind},
    context::Context,
    error::{Code, Error},
    group::{Group, Limits},
    session::{self, Tokens},
    wechat::{self, login::CodeSession},
    wechat_problem,
};

/// How long the same code gets the same session.
const REPEAT_WINDOW: Duration = Duration::from_mins(1);
/// Logins that are remembered, at about 350 bytes each; a repeat of an older one finds its session by the code's MAC.
const MOST_RECENT: u64 = 1_024;
/// How long a used code is looked for in the sessions, while the node that used it may still be
/// writing.
const LOOK_FOR: Duration = Duration::from_millis(1_500);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Codes are 32 characters today; WeChat promises no length.
const LONGEST_CODE: usize = 512;

/// A successful login.
pub struct LoggedIn {
    pub tokens: Tokens,
    pub user_id: UserId,
    pub app_id: String,
    /// Whether this login made the user.
    pub is_new: bool,
}

/// What code2Session told, to be stored.
pub struct NewLogin {
    pub app_id: String,
    pub wechat: CodeSession,
    pub code_mac: Vec<u8>,
    /// When the call began: of two logins the later one's `session_key` is the valid one.
    pub began_at: Timestamp,
}

/// What is remembered of a login: little, because there are many.
#[derive(Clone, Copy)]
struct Done {
    session_id: SessionId,
    is_new: bool,
}

/// Logins that are stored together.
#[derive(Default)]
struct Logins(Arc<Group<NewLogin, (session_row::Model, bool)>>);

/// Logins of one transaction at most.
const MOST_TOGETHER: usize = 24;
/// Logins that wait while others are written, before a transaction of their own begins beside that.
const WORTH_ANOTHER: usize = 20;

/// Logins of the last minute on this node, and those under way: equal codes share one call.
struct Recent(Cache<Vec<u8>, Done>);

impl Default for Recent {
    fn default() -> Self {
        // The oldest goes, not the one that was never repeated: most never are.
        let cache = Cache::builder().time_to_live(REPEAT_WINDOW).max_capacity(MOST_RECENT);
        Self(cache.eviction_policy(EvictionPolicy::lru()).build())
    }
}

/// Exchanges a code of `wx.login` for a session. `address` is where the request came from.
pub async fn log_in(ctx: &Context, app_id: &str, code: &str, address: &str) -> Result<LoggedIn, Error> {
    let app = mini_program(ctx, app_id)?;
    if code.is_empty() || code.len() > LONGEST_CODE {
        return Err(Error::field("/code", "must be the code that wx.login gave"));
    }
    let code_mac = ctx.keys.mac("login code", format!("{app_id}\n{code}").as_bytes()).to_vec();
    let recent = ctx.memory::<Recent>();
    let made = OnceLock::new();
    let exchanged = Box::pin(async {
        let (session, is_new) = exchange(ctx, &app, code, code_mac.clone(), address).await?;
        let done = Done { session_id: session.id, is_new };
        let _ = made.set(session);
        Ok::<_, Error>(done)
    });
    let entry =
        recent.0.entry(code_mac.clone()).or_try_insert_with(exchanged).await.map_err(|error| (*error).clone())?;
    let is_fresh = entry.is_fresh();
    let done = entry.into_value();
    let row = if is_fresh {
        made.into_inner()
    } else {
        Box::pin(session_row::Entity::find_by_id(done.session_id).one(ctx.db.read())).await?
    };
    match row.filter(|row| may_repeat(ctx, row)) {
        Some(row) => Ok(LoggedIn {
            tokens: session::tokens(ctx, &row).await?,
            user_id: row.user_id,
            app_id: row.app_id,
            is_new: done.is_new,
        }),
        None => Err(Error::new(Code::LoginCodeUsed)),
    }
}

fn mini_program(ctx: &Context, app_id: &str) -> Result<Arc<App>, Error> {
    let app = ctx.app(app_id).ok_or(Error::new(Code::AppNotFound))?;
    if app.kind == Kind::MiniProgram {
        Ok(app)
    } else {
        Err(Error::new(Code::AppNotFound)
            .detail("This app is a service account; only Mini Programs log in with a code."))
    }
}

/// A repeat gets the session while it is young, not refreshed and not revoked.
fn may_repeat(ctx: &Context, row: &session_row::Model) -> bool {
    row.generation == 1 && row.revoked_at.is_none() && ctx.clock.now().since(row.created_at) <= REPEAT_WINDOW
}

/// A session with whether its user is new.
async fn exchange(
    ctx: &Context,
    app: &App,
    code: &str,
    code_mac: Vec<u8>,
    address: &str,
) -> Result<(session_row::Model, bool), Error> {
    back_off::check(ctx, &app.app_id, address)?;
    let began_at = ctx.clock.now();
    let answer = ctx.wechat.code_to_session(&app.app_id, app.secret(), code).await;
    match &answer {
        Ok(_) => back_off::note(ctx, &app.app_id, address, 0),
        Err(error) => {
            if let Some(refusal) = error.refusal() {
                back_off::note(ctx, &app.app_id, address, refusal.errcode);
            }
        }
    }
    match answer {
        Ok(wechat) => {
            let login = NewLogin { app_id: app.app_id.clone(), wechat, code_mac, began_at };
            let writer = ctx.clone();
            let write = move |logins: Vec<Arc<NewLogin>>| {
                let ctx = writer.clone();
                async move { record::record(&ctx, &logins).await }
            };
            let limits = Limits { most: MOST_TOGETHER, at_once: ctx.db.writers(), worth_another: WORTH_ANOTHER };
            ctx.memory::<Logins>().0.join(login, limits, write).await
        }
        Err(error) => match made_elsewhere(ctx, &error, &code_mac).await? {
            Some(session) => {
                let is_new = record::is_first(ctx, &session).await?;
                Ok((session, is_new))
            }
            None => Err(wechat_problem::of_login(&error)),
        },
    }
}

/// The session another node, or this one before a restart, made of a code that WeChat calls spent.
async fn made_elsewhere(
    ctx: &Context,
    error: &wechat::Error,
    code_mac: &[u8],
) -> Result<Option<session_row::Model>, Error> {
    // 40163: used. 40029: wrong or expired; WeChat forgets used codes too, but nobody waits for those.
    let patience = match error.refusal().map(|refusal| refusal.errcode) {
        Some(40163) => LOOK_FOR,
        Some(40029) => Duration::ZERO,
        _ => return Ok(None),
    };
    let not_before = ctx.clock.now() - REPEAT_WINDOW;
    let waited = crate::clock::Stopwatch::start();
    loop {
        let found = session::of_code(ctx.db.read(), code_mac, not_before).await?;
        if found.is_some() || waited.elapsed() >= patience {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
