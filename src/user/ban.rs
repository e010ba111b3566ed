//! Bans: who may not log in. A ban ends the person's sessions with the same commit, so it counts at once
//! on every node; messages go on, since they answer to consent.

use std::collections::HashSet;

use entity::{
    Timestamp, UserId, identity,
    session::{self, RevokedBecause},
    user as row,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, ExprTrait, QueryFilter, QuerySelect,
    sea_query::Expr,
};
use serde_json::json;

use super::{lock_persons, lookup};
use crate::{
    audit::{self, Entry},
    context::Context,
    database::rows::padded,
    error::Error,
    webhook::kind::Kind,
};

const LONGEST_REASON: usize = 500;

/// Bans the person from all apps. Banning again changes the reason.
pub async fn ban(ctx: &Context, id: UserId, because: Option<&str>, actor: &str) -> Result<(), Error> {
    if because.is_some_and(|text| text.chars().count() > LONGEST_REASON) {
        return Err(Error::field("/because", format!("must be at most {LONGEST_REASON} characters")));
    }
    let person = lookup::get(ctx, id).await?;
    let (id, now) = (person.user.id, ctx.clock.now());
    let tx = ctx.db.begin().await?;
    // In a login's order: one that began before is waited for, and its session ended below. One that has read the
    // identity, but has not written yet, finds it changed and looks for bans once more (login/known.rs).
    lock_persons(&tx, person.identities.iter().filter_map(|identity| identity.unionid.as_deref())).await?;
    identity::Entity::update_many()
        .col_expr(identity::Column::SessionKeyAt, Expr::col(identity::Column::SessionKeyAt).add(1))
        .filter(identity::Column::UserId.eq(id))
        .exec(&tx)
        .await?;
    row::Entity::update_many()
        .col_expr(row::Column::BannedAt, Expr::col(row::Column::BannedAt).if_null(now))
        .col_expr(row::Column::BannedBecause, because.map_or(Expr::null(), Expr::value))
        .col_expr(row::Column::UpdatedAt, Expr::value(now))
        .filter(row::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    end_sessions(&tx, id, now).await?;
    audit::record(&tx, entry(actor, "user.banned", id), now).await?;
    super::tell(ctx, &tx, (Kind::UserBanned, id), json!({}), now).await?;
    Ok(tx.commit().await?)
}

/// Lifts the ban, if there is one.
pub async fn lift(ctx: &Context, id: UserId, actor: &str) -> Result<(), Error> {
    let (id, now) = (lookup::get(ctx, id).await?.user.id, ctx.clock.now());
    let tx = ctx.db.begin().await?;
    let lifted = row::Entity::update_many()
        .col_expr(row::Column::BannedAt, Expr::null())
        .col_expr(row::Column::BannedBecause, Expr::null())
        .col_expr(row::Column::UpdatedAt, Expr::value(now))
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::BannedAt.is_not_null())
        .exec(&tx)
        .await?;
    if lifted.rows_affected > 0 {
        audit::record(&tx, entry(actor, "user.unbanned", id), now).await?;
        super::tell(ctx, &tx, (Kind::UserUnbanned, id), json!({}), now).await?;
    }
    Ok(tx.commit().await?)
}

fn entry<'a>(actor: &'a str, action: &'a str, id: UserId) -> Entry<'a> {
    Entry { actor, action, app_id: None, subject: Some(id), detail: json!({}) }
}

/// Those of the users who are banned.
pub async fn among(tx: &DatabaseTransaction, users: impl Iterator<Item = UserId>) -> Result<HashSet<UserId>, Error> {
    let banned: Vec<UserId> = row::Entity::find()
        .select_only()
        .column(row::Column::Id)
        .filter(row::Column::Id.is_in(padded(users)))
        .filter(row::Column::BannedAt.is_not_null())
        .into_tuple()
        .all(tx)
        .await?;
    Ok(banned.into_iter().collect())
}

/// Of two users that turned out to be one person, a ban of either is one of both.
pub async fn carry_over(
    tx: &DatabaseTransaction,
    from: &row::Model,
    into: UserId,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some(banned_at) = from.banned_at {
        row::Entity::update_many()
            .col_expr(row::Column::BannedAt, Expr::value(banned_at))
            .col_expr(row::Column::BannedBecause, from.banned_because.clone().map_or(Expr::null(), Expr::value))
            .filter(row::Column::Id.eq(into))
            .filter(row::Column::BannedAt.is_null())
            .exec(tx)
            .await?;
    }
    if !among(tx, [into].into_iter()).await?.is_empty() {
        end_sessions(tx, into, now).await?;
    }
    Ok(())
}

async fn end_sessions(tx: &DatabaseTransaction, id: UserId, now: Timestamp) -> Result<(), Error> {
    session::Entity::update_many()
        .set(session::ActiveModel {
            revoked_at: Set(Some(now)),
            revoked_because: Set(Some(RevokedBecause::Banned)),
            ..Default::default()
        })
        .filter(session::Column::UserId.eq(id))
        .filter(session::Column::RevokedAt.is_null())
        .exec(tx)
        .await?;
    Ok(())
}
