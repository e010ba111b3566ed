//! `magpie doctor`: looks at everything that must be right before a message can arrive, one line a
//! check, each with the cure when it fails. It sends no message and changes no schema.

pub mod app_secret;

use std::time::Duration;

use entity::{Timestamp, template::State};
use migration::{Migrator, MigratorTrait};

use crate::{
    access_token::{self, Failed},
    clock,
    config::{App, Kind},
    context::Context,
    rule, sealing_key, template,
};

/// Signatures, leases and tokens bear no more.
const CLOCK_MAY_DIFFER: Duration = Duration::from_secs(5);
/// `Date` counts whole seconds and the answer takes its time.
const HTTP_CLOCK_MAY_DIFFER: Duration = Duration::from_secs(30);
/// Rules looked at.
const MOST_RULES: u64 = 10_000;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Check {
    /// `clock`, `database`, `wx… token`
    pub what: String,
    /// What was found, or what is wrong and the cure.
    pub found: Result<String, String>,
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.found {
            Ok(found) => write!(f, "ok    {}: {found}", self.what),
            Err(problem) => write!(f, "FAIL  {}: {problem}", self.what),
        }
    }
}

/// All checks, in the order in which they should be mended.
pub async fn examine(ctx: &Context) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut note = |what: &str, found| checks.push(Check { what: what.to_owned(), found });
    let schema = schema(ctx).await;
    let readable = schema.is_ok();
    note("database", schema);
    note("clock", database_clock(ctx).await);
    if readable {
        let fits = sealing_key::verify(&ctx.db, &ctx.keys).await;
        note("master key", fits.map(|_| "opens the database's secrets".into()).map_err(|error| error.to_string()));
    }
    let wechat = wechat_clock(ctx).await;
    note("WeChat", wechat);
    if ctx.apps().is_empty() {
        note("apps", Err("none is configured; add [[apps]] to the configuration".into()));
    }
    for app in ctx.apps().iter() {
        let of_app = |part: &str| format!("{} {part}", app.app_id);
        let token = token(ctx, app).await;
        let has_token = token.is_ok();
        note(&of_app("token"), token);
        if has_token {
            note(&of_app("address"), Ok(address(ctx, app).await));
        }
        if app.kind == Kind::MiniProgram {
            note(&of_app("AppSecret"), app_secret::check(ctx, app).await);
        }
        if has_token && readable {
            note(&of_app("templates"), templates(ctx, app).await);
        }
        note(&of_app("callback"), callback(ctx, app, has_token).await);
    }
    checks
}

async fn schema(ctx: &Context) -> Result<String, String> {
    let pending = Migrator::get_pending_migrations(ctx.db.write())
        .await
        .map_err(|error| format!("cannot be reached: {error}; check database_url and that the server runs"))?;
    if pending.is_empty() {
        Ok(format!("{}, schema is current", if ctx.db.is_sqlite() { "SQLite" } else { "PostgreSQL" }))
    } else {
        Err(format!("{} changes of the schema are missing; run `magpie migrate`", pending.len()))
    }
}

async fn database_clock(ctx: &Context) -> Result<String, String> {
    match ctx.db.now().await {
        Ok(Some(theirs)) => agree(ctx.clock.now(), theirs, CLOCK_MAY_DIFFER, "the database's"),
        Ok(None) => Ok("the database uses this machine's".into()),
        Err(error) => Err(format!("the database's cannot be read: {error}")),
    }
}

async fn wechat_clock(ctx: &Context) -> Result<String, String> {
    let date = ctx.wechat.date().await.map_err(|error| {
        format!(
            "{error}; check the network, DNS, clock, certificates and wechat.proxy of this machine, or name \
             wechat.fallback_url"
        )
    })?;
    match date.as_deref().and_then(clock::from_http_date) {
        Some(theirs) => agree(ctx.clock.now(), theirs, HTTP_CLOCK_MAY_DIFFER, "WeChat's")
            .map(|found| format!("can be reached, {found}")),
        None => Ok("can be reached; it tells no time".into()),
    }
}

fn agree(ours: Timestamp, theirs: Timestamp, most: Duration, whose: &str) -> Result<String, String> {
    let apart = ours.since(theirs).max(theirs.since(ours));
    let told = format!("the clock is {} ms from {whose}", apart.as_millis());
    if apart <= most { Ok(told) } else { Err(format!("{told}; let NTP set both")) }
}

async fn token(ctx: &Context, app: &App) -> Result<String, String> {
    access_token::check(ctx, app).await.map_err(|failed| failed.to_string())?;
    Ok("WeChat gives one".into())
}

/// The address the app's white list must hold: WeChat names it in what it tells of a call that failed, so one
/// is made that must fail.
async fn address(ctx: &Context, app: &App) -> String {
    let ask = async |rid: &str| {
        access_token::with(ctx, app, |token| async move { ctx.wechat.failed_call(&token, rid).await }).await
    };
    let rid = match ask("none").await {
        Err(Failed::Call(error)) => error.refusal().and_then(|refusal| refusal.rid.clone()),
        _ => None,
    };
    let told = match rid {
        Some(rid) => ask(&rid).await.ok().map(|call| call.client_ip).filter(|ip| !ip.is_empty()),
        None => None,
    };
    told.map_or_else(|| "WeChat does not tell it".into(), |ip| format!("WeChat sees calls come from {ip}"))
}

async fn templates(ctx: &Context, app: &App) -> Result<String, String> {
    let ids: Vec<String> = if app.kind == Kind::MiniProgram {
        let listed = access_token::with(ctx, app, |token| async move { ctx.wechat.private_templates(&token).await });
        let listed = listed.await.map_err(|failed: Failed| failed.to_string())?;
        listed.into_iter().map(|template| template.id).collect()
    } else {
        let mirrored = template::of_app(ctx.db.read(), &app.app_id).await.map_err(|error| error.to_string())?;
        let there = mirrored.into_iter().filter(|row| row.state != State::Deleted);
        there.map(|row| row.template_id).collect()
    };
    let rules = rule::list(ctx, None, MOST_RULES).await.map_err(|error| error.to_string())?;
    let of_app = rules.iter().filter(|rule| rule.app_id == app.app_id);
    let missing: Vec<_> = of_app
        .filter(|rule| !ids.contains(&rule.template_id))
        .map(|rule| format!("{} ({})", rule.name, rule.template_id))
        .collect();
    if missing.is_empty() {
        Ok(format!("{}, none that a rule needs is missing", ids.len()))
    } else {
        let missing = missing.join(", ");
        Err(format!("these rules need templates that the account has not: {missing}; add them or correct the rules"))
    }
}

async fn callback(ctx: &Context, app: &App, has_token: bool) -> Result<String, String> {
    let address = format!("{}/wechat/{}/callback", ctx.config.public_url, app.app_id);
    if app.callback_token.is_none() {
        return Err(format!(
            "callback_token is missing, so receipts are refused; set it, and {address} in WeChat's console"
        ));
    }
    if !has_token {
        return Ok("callback_token is set; WeChat could not be asked for the address".into());
    }
    let checked = access_token::with(ctx, app, |token| async move { ctx.wechat.check_callback(&token).await }).await;
    let checked = checked.map_err(|failed| format!("{failed}; set {address} in WeChat's console"))?;
    match checked.ping.iter().find(|ping| ping.package_loss == "100%") {
        Some(ping) => Err(format!("WeChat does not reach {}; open the way to {address}", ping.ip)),
        None => Ok("callback_token is set and WeChat reaches the address".into()),
    }
}
