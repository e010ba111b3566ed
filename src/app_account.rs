//! Apps as the nodes share them: known to the database, paused or not.

use std::sync::Arc;

use entity::{
    Timestamp,
    app::{self as row, PausedBy},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, UpdateMany,
    sea_query::{ExprTrait, OnConflict},
};

use crate::{
    audit::{self, Entry},
    config::App,
    context::Context,
    error::Error,
    revision::{self, Of},
};

/// Makes sure that each of these apps has its row.
pub async fn register(ctx: &Context, apps: &[App]) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    for app in apps {
        let model = row::ActiveModel {
            app_id: Set(app.app_id.clone()),
            paused_until: Set(None),
            paused_because: Set(None),
            paused_by: Set(None),
            last_receipt_at: Set(None),
            created_at: Set(ctx.clock.now()),
        };
        row::Entity::insert(model)
            .on_conflict(OnConflict::column(row::Column::AppId).do_nothing().to_owned())
            .try_insert()
            .exec_without_returning(&tx)
            .await?;
    }
    revision::raise(&tx, Of::Pause).await?;
    Ok(tx.commit().await?)
}

/// The configured apps with what the nodes know about them, in the configuration's order.
pub async fn all(ctx: &Context) -> Result<Vec<(Arc<App>, row::Model)>, Error> {
    let rows = row::Entity::find().all(ctx.db.read()).await?;
    let of = |app: &App| rows.iter().find(|row| row.app_id == app.app_id).cloned();
    Ok(ctx.apps().iter().filter_map(|app| Some((app.clone(), of(app)?))).collect())
}

/// No message of the app is claimed before `until`, or before what `by` waits for. A longer pause that is
/// in force stays.
pub async fn pause(
    db: &impl ConnectionTrait,
    app_id: &str,
    until: Timestamp,
    because: &str,
    by: Option<PausedBy>,
) -> Result<(), Error> {
    let shorter = row::Column::PausedUntil.is_null().or(row::Column::PausedUntil.lt(until));
    let paused = set_pause(Some(until), Some(because), by)
        .filter(row::Column::AppId.eq(app_id))
        .filter(shorter)
        .exec(db)
        .await?;
    if paused.rows_affected > 0 {
        revision::raise(db, Of::Pause).await?;
        tracing::warn!(app.id = app_id, because, "app.paused");
    }
    Ok(())
}

/// Until a hand resumes it: far beyond anything that is kept.
const WITHOUT_END: std::time::Duration = std::time::Duration::from_hours(24 * 365 * 100);

/// An operator pauses the app, until `until` or until it is resumed.
pub async fn pause_by_hand(
    ctx: &Context,
    app_id: &str,
    until: Option<Timestamp>,
    because: &str,
    actor: &str,
) -> Result<(), Error> {
    let now = ctx.clock.now();
    if until.is_some_and(|until| until <= now) {
        return Err(Error::field("/until", "must be in the future"));
    }
    if because.trim().is_empty() || because.chars().count() > 500 {
        return Err(Error::field("/because", "must be 1 to 500 characters"));
    }
    let tx = ctx.db.begin().await?;
    pause(&tx, app_id, until.unwrap_or(now + WITHOUT_END), because, None).await?;
    audit::record(&tx, by_hand(actor, "app.paused", app_id), now).await?;
    Ok(tx.commit().await?)
}

/// An operator has messages of the app claimed again.
pub async fn resume_by_hand(ctx: &Context, app_id: &str, actor: &str) -> Result<(), Error> {
    resume(ctx, app_id).await?;
    audit::record(ctx.db.write(), by_hand(actor, "app.resumed", app_id), ctx.clock.now()).await
}

fn by_hand<'a>(actor: &'a str, action: &'a str, app_id: &'a str) -> Entry<'a> {
    Entry { actor, action, app_id: Some(app_id), subject: None, detail: serde_json::json!({}) }
}

/// The quota of the day is still gone: the pause goes on, its cause stays.
pub async fn pause_for_quota(ctx: &Context, app_id: &str, until: Timestamp) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    row::Entity::update_many()
        .set(row::ActiveModel { paused_until: Set(Some(until)), ..Default::default() })
        .filter(row::Column::AppId.eq(app_id))
        .filter(row::Column::PausedBy.eq(PausedBy::Quota))
        .exec(&tx)
        .await?;
    revision::raise(&tx, Of::Pause).await?;
    Ok(tx.commit().await?)
}

/// Apps that waited for an access token are tried at once: their configuration was loaded again.
pub async fn retry_tokens(ctx: &Context) -> Result<(), Error> {
    for (app, row) in all(ctx).await? {
        if row.paused_by == Some(PausedBy::Token) {
            resume(ctx, &app.app_id).await?;
        }
    }
    Ok(())
}

/// Whether messages of the app may be claimed.
pub fn is_awake(row: &row::Model, now: Timestamp) -> bool {
    // A quota's pause ends when WeChat shows room, which `quota::resume_where_room` looks for.
    row.paused_until.is_none_or(|until| until <= now) && row.paused_by != Some(PausedBy::Quota)
}

/// Messages of the app are claimed again.
pub async fn resume(ctx: &Context, app_id: &str) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    set_pause(None, None, None).filter(row::Column::AppId.eq(app_id)).exec(&tx).await?;
    revision::raise(&tx, Of::Pause).await?;
    tx.commit().await?;
    ctx.wake.delivery.ring(app_id);
    tracing::info!(app.id = app_id, "app.resumed");
    Ok(())
}

fn set_pause(until: Option<Timestamp>, because: Option<&str>, by: Option<PausedBy>) -> UpdateMany<row::Entity> {
    row::Entity::update_many().set(row::ActiveModel {
        paused_until: Set(until),
        paused_because: Set(because.map(str::to_owned)),
        paused_by: Set(by),
        ..Default::default()
    })
}

/// Notes that WeChat told what became of a message of the app.
pub async fn receipt_came(db: &impl ConnectionTrait, app_id: &str, at: Timestamp) -> Result<(), Error> {
    row::Entity::update_many()
        .set(row::ActiveModel { last_receipt_at: Set(Some(at)), ..Default::default() })
        .filter(row::Column::AppId.eq(app_id))
        .exec(db)
        .await?;
    Ok(())
}
