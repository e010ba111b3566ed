//! Claiming: due deliveries of one endpoint get a lease, which is a time until which nobody else takes them. A node
//! that dies leaves them due again.

use std::time::Duration;

use entity::{
    Timestamp, WebhookId, webhook,
    webhook_delivery::{self as row, Model},
};
use sea_orm::{
    ColumnTrait, DbBackend, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect, Statement, sea_query::Expr,
};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{LEASE_MARGIN, current, settle};
use crate::{context::Context, error::Error};

/// Calls of one endpoint in one round of [`step`].
const A_ROUND: usize = 16;

/// What a look for due deliveries found.
#[derive(Debug, Default)]
pub struct Found {
    /// Each with the endpoint as it is now.
    pub rows: Vec<Claimed>,
    /// When the next one is due, of those that are not due yet.
    pub next_due: Option<Timestamp>,
}

/// A delivery that this node may send.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub endpoint: webhook::Model,
    pub row: Model,
}

/// Claims up to `most` due deliveries of an endpoint, the longest due first; none while it is switched off.
pub async fn claim(ctx: &Context, id: WebhookId, most: usize) -> Result<Found, Error> {
    let now = ctx.clock.now();
    let first = earliest(ctx, id).await?;
    let overdue = first.map_or(Duration::ZERO, |first| now.since(first));
    metrics::gauge!("magpie_webhook_lag_seconds", "webhook_id" => id.to_string()).set(overdue.as_secs_f64());
    if first.is_none_or(|at| at > now) {
        return Ok(Found { rows: Vec::new(), next_due: first });
    }
    let endpoint = webhook::Entity::find_by_id(id).filter(webhook::Column::Enabled.eq(true)).one(ctx.db.read()).await?;
    let Some(endpoint) = endpoint else { return Ok(Found::default()) };
    let statement = statement(ctx.db.write().get_database_backend(), id, most, (now, lease_end(ctx, now)));
    let rows = row::Entity::find().from_raw_sql(statement).all(ctx.db.write()).await?;
    let rows: Vec<_> = rows.into_iter().map(|row| Claimed { endpoint: endpoint.clone(), row }).collect();
    Ok(Found { rows, next_due: earliest(ctx, id).await? })
}

fn lease_end(ctx: &Context, now: Timestamp) -> Timestamp {
    now + ctx.config.webhooks.timeout + LEASE_MARGIN
}

async fn earliest(ctx: &Context, id: WebhookId) -> Result<Option<Timestamp>, Error> {
    let first = row::Entity::find()
        .select_only()
        .column(row::Column::DueAt)
        .filter(row::Column::WebhookId.eq(id))
        // Part of the text: a bound state hides from the database that the partial index fits.
        .filter(row::Column::State.into_expr().eq(Expr::Constant("pending".into())))
        .order_by_asc(row::Column::DueAt)
        .limit(1)
        .into_tuple()
        .one(ctx.db.read())
        .await?;
    Ok(first)
}

/// One statement on either database; on PostgreSQL a row that another node is claiming is skipped.
pub fn statement(backend: DbBackend, id: WebhookId, most: usize, (now, until): (Timestamp, Timestamp)) -> Statement {
    let skip = if backend == DbBackend::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
    let sql = format!(
        "WITH due AS MATERIALIZED (
            SELECT id FROM webhook_delivery
            WHERE webhook_id = $1 AND state = 'pending' AND due_at <= $2 ORDER BY due_at LIMIT $3 {skip}
        )
        UPDATE webhook_delivery SET due_at = $4, lease_token = $5, attempts = attempts + 1
        WHERE id IN (SELECT id FROM due) RETURNING *"
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    Statement::from_sql_and_values(
        backend,
        sql,
        [id.into(), now.into(), most.into(), until.into(), Uuid::now_v7().into()],
    )
}

/// Claims, calls and settles one round for every endpoint; gives how many calls were made. Tests call it until
/// nothing is left.
pub async fn step(ctx: &Context) -> Result<usize, Error> {
    let mut calls = JoinSet::new();
    for listener in current(ctx).await?.iter() {
        for claimed in claim(ctx, listener.id, A_ROUND).await?.rows {
            let ctx = ctx.clone();
            calls.spawn(async move { settle::call_and_settle(&ctx, &claimed).await });
        }
    }
    let made = calls.len();
    while let Some(called) = calls.join_next().await {
        called.map_err(|error| Error::new(crate::error::Code::Internal).because(error))??;
    }
    Ok(made)
}
