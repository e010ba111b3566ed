//! Apps as the nodes share them: known to the database, paused or not.

use std::sync::Arc;

use entity::{
    Timestamp,
    app::{self as row, PausedBy},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, sea_query::OnConflict};

use crate::{config::App, context::Context, error::Error};

/// Makes sure that every configured app has its row.
pub async fn register(ctx: &Context) -> Result<(), Error> {
    for app in ctx.apps().iter() {
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
            .exec_without_returning(ctx.db.write())
            .await?;
    }
    Ok(())
}

/// The configured apps with what the nodes know about them, in the configuration's order.
pub async fn all(ctx: &Context) -> Result<Vec<(Arc<App>, row::Model)>, Error> {
    let rows = row::Entity::find().all(ctx.db.read()).await?;
    let of = |app: &App| rows.iter().find(|row| row.app_id == app.app_id).cloned();
    Ok(ctx.apps().iter().filter_map(|app| Some((app.clone(), of(app)?))).collect())
}

/// No message of the app is claimed before `until`, or before what `by` waits for.
pub async fn pause(
    db: &impl ConnectionTrait,
    app_id: &str,
    until: Timestamp,
    because: &str,
    by: Option<PausedBy>,
) -> Result<(), Error> {
    set_pause(db, app_id, Some(until), Some(because), by).await?;
    tracing::warn!(app.id = app_id, because, "app.paused");
    Ok(())
}

/// The quota of the day is still gone: the pause goes on, its cause stays.
pub async fn pause_for_quota(db: &impl ConnectionTrait, app_id: &str, until: Timestamp) -> Result<(), Error> {
    row::Entity::update_many()
        .set(row::ActiveModel { paused_until: Set(Some(until)), ..Default::default() })
        .filter(row::Column::AppId.eq(app_id))
        .filter(row::Column::PausedBy.eq(PausedBy::Quota))
        .exec(db)
        .await?;
    Ok(())
}

/// Apps that waited for an access token are tried at once: their configuration was loaded again.
pub async fn retry_tokens(ctx: &Context) -> Result<(), Error> {
    for (app, row) in all(ctx).await? {
        if row.paused_by == Some(PausedBy::Token) {
            resume(ctx.db.write(), &app.app_id).await?;
        }
    }
    ctx.wake.delivery.notify_one();
    Ok(())
}

/// Whether messages of the app may be claimed.
pub fn is_awake(row: &row::Model, now: Timestamp) -> bool {
    // A quota's pause ends when WeChat shows room, which `quota::resume_where_room` looks for.
    row.paused_until.is_none_or(|until| until <= now) && row.paused_by != Some(PausedBy::Quota)
}

/// Messages of the app are claimed again.
pub async fn resume(db: &impl ConnectionTrait, app_id: &str) -> Result<(), Error> {
    set_pause(db, app_id, None, None, None).await?;
    tracing::info!(app.id = app_id, "app.resumed");
    Ok(())
}

async fn set_pause(
    db: &impl ConnectionTrait,
    app_id: &str,
    until: Option<Timestamp>,
    because: Option<&str>,
    by: Option<PausedBy>,
) -> Result<(), Error> {
    row::Entity::update_many()
        .set(row::ActiveModel {
            paused_until: Set(until),
            paused_because: Set(because.map(str::to_owned)),
            paused_by: Set(by),
            ..Default::default()
        })
        .filter(row::Column::AppId.eq(app_id))
        .exec(db)
        .await?;
    Ok(())
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
