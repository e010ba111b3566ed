//! Claiming: due rows become `sending` under a lease, and their attempts are written as begun, in one
//! short transaction before any call.

use entity::{Timestamp, attempt, notification as row, notification::State, template};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Statement,
    sea_query::{Alias, Expr, Query},
};
use uuid::Uuid;

use crate::{context::Context, error::Error};

/// The most rows of one claim; a larger backlog is claimed in turns.
const BATCH: u64 = 256;
/// Candidates looked at for each row wanted: some belong to users with a message in flight.
const SPARE: u64 = 2;

/// Claims up to `most` due notifications of an app, the highest priority first, then the longest due,
/// never two of one identity and none of an identity with a call in flight (43108).
pub async fn claim(ctx: &Context, app_id: &str, most: usize) -> Result<Vec<row::Model>, Error> {
    let now = ctx.clock.now();
    let lease = Lease { token: Uuid::now_v7(), until: now + ctx.config.delivery.lease };
    let most = Ord::min(u64::try_from(most).unwrap_or(BATCH), BATCH);
    let paused = paused_templates(ctx, app_id).await?;
    if ctx.db.is_sqlite() {
        on_sqlite(ctx, app_id, most, &paused, now, lease).await
    } else {
        on_postgres(ctx, app_id, most, &paused, now, lease).await
    }
}

struct Lease {
    token: Uuid,
    until: Timestamp,
}

async fn paused_templates(ctx: &Context, app_id: &str) -> Result<Vec<String>, Error> {
    let ids = template::Entity::find()
        .select_only()
        .column(template::Column::TemplateId)
        .filter(template::Column::AppId.eq(app_id))
        .filter(template::Column::State.ne(template::State::Active))
        .into_tuple()
        .all(ctx.db.read())
        .await?;
    Ok(ids)
}

/// One statement: a row locked by another node is skipped, not waited for.
const POSTGRES_CLAIM: &str = r"
WITH due AS MATERIALIZED (
    SELECT id, identity_id, priority, due_at FROM notification n
    WHERE app_id = $1 AND state = 'pending' AND due_at <= $2 AND template_id <> ALL ($3)
      AND NOT EXISTS (SELECT 1 FROM notification s WHERE s.identity_id = n.identity_id AND s.state = 'sending')
    ORDER BY priority DESC, due_at LIMIT $4
    FOR UPDATE SKIP LOCKED
), one AS (
    SELECT id FROM (
        SELECT id, priority, due_at,
               row_number() OVER (PARTITION BY identity_id ORDER BY priority DESC, due_at, id) AS place
        FROM due
    ) ranked WHERE place = 1 ORDER BY priority DESC, due_at LIMIT $5
), claimed AS (
    UPDATE notification n
    SET state = 'sending', lease_token = $6, lease_until = $7, attempt_number = n.attempt_number + 1,
        first_attempt_at = COALESCE(n.first_attempt_at, $2)
    FROM one WHERE n.id = one.id
    RETURNING n.*
), started AS (
    INSERT INTO attempt (notification_id, number, started_at) SELECT id, attempt_number, $2 FROM claimed
)
SELECT * FROM claimed";

async fn on_postgres(
    ctx: &Context,
    app_id: &str,
    most: u64,
    paused: &[String],
    now: Timestamp,
    lease: Lease,
) -> Result<Vec<row::Model>, Error> {
    let limit = |count: u64| i64::try_from(count).unwrap_or(i64::MAX).into();
    let values: [sea_orm::Value; 7] = [
        app_id.into(),
        now.into(),
        paused.to_vec().into(),
        limit(most * SPARE),
        limit(most),
        lease.token.into(),
        lease.until.into(),
    ];
    let statement = Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, POSTGRES_CLAIM, values);
    Ok(row::Entity::find().from_raw_sql(statement).all(ctx.db.write()).await?)
}

/// SQLite has one writer: what is read in the transaction stays true until it commits.
async fn on_sqlite(
    ctx: &Context,
    app_id: &str,
    most: u64,
    paused: &[String],
    now: Timestamp,
    lease: Lease,
) -> Result<Vec<row::Model>, Error> {
    if candidates(app_id, 1, paused, now).one(ctx.db.read()).await?.is_none() {
        return Ok(Vec::new());
    }
    let tx = ctx.db.begin().await?;
    let mut due = candidates(app_id, most * SPARE, paused, now).all(&tx).await?;
    let mut identities = std::collections::HashSet::new();
    due.retain(|row| identities.insert(row.identity_id));
    due.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    if due.is_empty() {
        return Ok(due);
    }
    mark(&tx, &due, now, &lease).await?;
    tx.commit().await?;
    for row in &mut due {
        row.state = State::Sending;
        row.lease_token = Some(lease.token);
        row.lease_until = Some(lease.until);
        row.attempt_number += 1;
        row.first_attempt_at = row.first_attempt_at.or(Some(now));
    }
    Ok(due)
}

fn candidates(app_id: &str, limit: u64, paused: &[String], now: Timestamp) -> sea_orm::Select<row::Entity> {
    let other = Alias::new("other");
    let in_flight = Query::select()
        .expr(Expr::value(1))
        .from_as(row::Entity, other.clone())
        .and_where(Expr::col((other.clone(), row::Column::IdentityId)).equals((row::Entity, row::Column::IdentityId)))
        .and_where(Expr::col((other, row::Column::State)).eq(State::Sending))
        .take();
    let mut query = row::Entity::find()
        .filter(row::Column::AppId.eq(app_id))
        .filter(row::Column::State.eq(State::Pending))
        .filter(row::Column::DueAt.lte(now))
        .filter(Expr::exists(in_flight).not())
        .order_by_desc(row::Column::Priority)
        .order_by_asc(row::Column::DueAt)
        .limit(limit);
    if !paused.is_empty() {
        query = query.filter(row::Column::TemplateId.is_not_in(paused.iter().map(String::as_str)));
    }
    query
}

async fn mark(tx: &DatabaseTransaction, due: &[row::Model], now: Timestamp, lease: &Lease) -> Result<(), Error> {
    row::Entity::update_many()
        .col_expr(row::Column::AttemptNumber, row::Column::AttemptNumber.into_expr().add(1))
        .col_expr(row::Column::FirstAttemptAt, row::Column::FirstAttemptAt.into_expr().if_null(now))
        .set(row::ActiveModel {
            state: Set(State::Sending),
            lease_token: Set(Some(lease.token)),
            lease_until: Set(Some(lease.until)),
            ..Default::default()
        })
        .filter(row::Column::Id.is_in(due.iter().map(|row| row.id)))
        .exec(tx)
        .await?;
    let started = due.iter().map(|row| {
        attempt::Model {
            notification_id: row.id,
            number: row.attempt_number + 1,
            started_at: now,
            duration_ms: None,
            outcome: None,
            errcode: None,
            errmsg: None,
            rid: None,
        }
        .into_active_model()
    });
    attempt::Entity::insert_many(started).exec_without_returning(tx).await?;
    Ok(())
}
