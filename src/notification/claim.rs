//! Claiming: due rows become `sending` under a lease, and their calls are written down as begun, in one
//! short transaction before any call.

use std::collections::HashSet;

use entity::{IdentityId, Timestamp, notification as row, notification::State};
use sea_orm::{
    ActiveEnum,
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, DbBackend, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Select, Statement,
    sea_query::{Alias, Condition, Expr, Query},
};
use uuid::Uuid;

use crate::{context::Context, database::rows::padded, error::Error};

/// The most rows of one claim; a larger backlog is claimed in turns.
const BATCH: usize = 256;
/// Candidates looked at for each row wanted: some belong to users with a message in flight.
const SPARE: u64 = 2;

/// What a look for due messages found.
#[derive(Default)]
pub struct Found {
    pub rows: Vec<row::Model>,
    /// Whether anything of the app waits to be sent, now or later.
    pub any_pending: bool,
    /// When the next one is due, of those that are not due yet.
    pub next_due: Option<Timestamp>,
}

/// What one claim looks for.
pub struct Look<'a> {
    pub app_id: &'a str,
    /// Of this priority: a level is read in the order of its index, however much is scheduled for later.
    pub priority: i32,
    /// Whether nothing waits with a higher one. Below it a message also waits for its user's more urgent ones: another
    /// node may have settled the user's call since their level was looked at.
    pub is_highest: bool,
    pub most: u64,
    pub paused_templates: &'a [String],
    pub now: Timestamp,
    pub lease: Lease,
}

/// How long a call may take, and who may write down what came of it.
#[derive(Clone, Copy)]
pub struct Lease {
    pub token: Uuid,
    pub until: Timestamp,
}

impl Lease {
    pub fn new(ctx: &Context, now: Timestamp) -> Self {
        Self { token: Uuid::now_v7(), until: now + ctx.config.delivery.lease }
    }
}

/// Claims up to `most` due notifications of an app, the highest priority first, then the longest due,
/// never two of one identity and none of an identity with a call in flight (43108).
pub async fn claim(ctx: &Context, app_id: &str, most: usize, paused_templates: &[String]) -> Result<Found, Error> {
    let now = ctx.clock.now();
    let most = most.min(BATCH);
    let mut found = Found::default();
    let mut below = i32::MAX;
    while let Some(priority) = next_level(ctx, app_id, below).await? {
        let is_highest = !found.any_pending;
        found.any_pending = true;
        below = priority;
        let wanted = u64::try_from(most - found.rows.len()).unwrap_or(0);
        let lease = Lease::new(ctx, now);
        let look = Look { app_id, priority, is_highest, most: wanted, paused_templates, now, lease };
        let claimed = if ctx.db.is_sqlite() { on_sqlite(ctx, look).await? } else { on_postgres(ctx, look).await? };
        found.rows.extend(claimed);
        if found.rows.len() >= most {
            return Ok(found);
        }
        let next = next_due(ctx, app_id, priority, now).await?;
        found.next_due = [found.next_due, next].into_iter().flatten().min();
    }
    Ok(found)
}

/// A row that is sent by the node that accepted it: claimed before it was ever stored.
pub fn born_claimed(row: &mut row::Model, lease: Lease, now: Timestamp) {
    row.state = State::Sending;
    row.lease_token = Some(lease.token);
    row.lease_until = Some(lease.until);
    row.attempt_number = 1;
    row.first_attempt_at = Some(now);
    row.attempt_at = Some(now);
}

/// The highest priority below this one of which anything waits.
async fn next_level(ctx: &Context, app_id: &str, below: i32) -> Result<Option<i32>, Error> {
    let level = row::Entity::find()
        .select_only()
        .column(row::Column::Priority)
        .filter(pending_of(app_id))
        .filter(row::Column::Priority.lt(below))
        .order_by_desc(row::Column::Priority)
        .limit(1)
        .into_tuple()
        .one(ctx.db.planned_once())
        .await?;
    Ok(level)
}

async fn next_due(ctx: &Context, app_id: &str, priority: i32, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let due = row::Entity::find()
        .select_only()
        .column(row::Column::DueAt)
        .filter(pending_of(app_id))
        .filter(row::Column::Priority.eq(priority))
        .filter(row::Column::DueAt.gt(now))
        .order_by_asc(row::Column::DueAt)
        .limit(1)
        .into_tuple()
        .one(ctx.db.planned_once())
        .await?;
    Ok(due)
}

/// Whether a message that is found by something else, such as its user, is in one of these states: the expression fits no
/// index of all that is, which would be read from end to end.
pub fn is_one_of(states: &[State]) -> Expr {
    Expr::cust(r#""notification"."state" || ''"#).is_in(states.iter().map(ActiveEnum::to_value))
}

/// The state is part of the text: a bound one hides from the database that the partial index fits.
fn pending_of(app_id: &str) -> Condition {
    Condition::all()
        .add(row::Column::AppId.eq(app_id))
        .add(row::Column::State.into_expr().eq(Expr::Constant("pending".into())))
}

/// One statement: a row locked by another node is skipped, not waited for. What is in flight and what is more urgent is
/// looked up once for each user: a subquery of this form is not made a join with all that is in flight or pending, and the
/// expression of the more urgent one's state fits no index of that.
const POSTGRES_CLAIM: &str = r"
WITH due AS MATERIALIZED (
    SELECT id, identity_id, due_at FROM notification n
    WHERE app_id = $1 AND state = 'pending' AND priority = $8 AND due_at <= $2 AND template_id <> ALL ($3)
      AND (SELECT 1 FROM notification s WHERE s.identity_id = n.identity_id AND s.state = 'sending' LIMIT 1) IS NULL
    ORDER BY due_at LIMIT $4
    FOR UPDATE SKIP LOCKED
), one AS (
    SELECT id FROM (
        SELECT id, identity_id, due_at, row_number() OVER (PARTITION BY identity_id ORDER BY due_at, id) AS place
        FROM due
    ) ranked
    WHERE place = 1 AND ($9 OR (
        SELECT 1 FROM notification h
        WHERE h.identity_id = ranked.identity_id AND h.state || '' = 'pending' AND h.priority > $8
          AND h.due_at <= $2 AND h.template_id <> ALL ($3)
        LIMIT 1
    ) IS NULL)
    ORDER BY due_at LIMIT $5
), claimed AS (
    UPDATE notification n
    SET state = 'sending', lease_token = $6, lease_until = $7, attempt_number = n.attempt_number + 1,
        first_attempt_at = COALESCE(n.first_attempt_at, $2), attempt_at = $2, attempt_ms = NULL
    FROM one WHERE n.id = one.id
    RETURNING n.*
)
SELECT * FROM claimed";

/// How due messages are found on this database: on PostgreSQL they are claimed along with it.
pub fn statement(backend: DbBackend, look: &Look<'_>) -> Statement {
    if backend == DbBackend::Postgres {
        postgres_claim(look)
    } else {
        candidates(look, look.most * SPARE).build(backend)
    }
}

fn postgres_claim(look: &Look<'_>) -> Statement {
    let limit = |count: u64| i64::try_from(count).unwrap_or(i64::MAX).into();
    let values: [sea_orm::Value; 9] = [
        look.app_id.into(),
        look.now.into(),
        look.paused_templates.to_vec().into(),
        limit(look.most * SPARE),
        limit(look.most),
        look.lease.token.into(),
        look.lease.until.into(),
        look.priority.into(),
        look.is_highest.into(),
    ];
    Statement::from_sql_and_values(DbBackend::Postgres, POSTGRES_CLAIM, values)
}

async fn on_postgres(ctx: &Context, look: Look<'_>) -> Result<Vec<row::Model>, Error> {
    Ok(row::Entity::find().from_raw_sql(postgres_claim(&look)).all(ctx.db.planned_once()).await?)
}

/// SQLite has one writer: what is read in the transaction stays true until it commits.
async fn on_sqlite(ctx: &Context, look: Look<'_>) -> Result<Vec<row::Model>, Error> {
    if candidates(&look, 1).one(ctx.db.read()).await?.is_none() {
        return Ok(Vec::new());
    }
    let tx = ctx.db.begin().await?;
    let mut due = candidates(&look, look.most * SPARE).all(&tx).await?;
    let mut identities = HashSet::new();
    due.retain(|row| identities.insert(row.identity_id));
    if !look.is_highest && !due.is_empty() {
        let urgent: Vec<IdentityId> = more_urgent(&look, identities.iter().copied()).into_tuple().all(&tx).await?;
        due.retain(|row| !urgent.contains(&row.identity_id));
    }
    due.truncate(usize::try_from(look.most).unwrap_or(usize::MAX));
    if due.is_empty() {
        return Ok(due);
    }
    mark(&tx, &due, look.now, &look.lease).await?;
    tx.commit().await?;
    for row in &mut due {
        row.state = State::Sending;
        row.lease_token = Some(look.lease.token);
        row.lease_until = Some(look.lease.until);
        row.attempt_number += 1;
        row.first_attempt_at = row.first_attempt_at.or(Some(look.now));
        row.attempt_at = Some(look.now);
        row.attempt_ms = None;
    }
    Ok(due)
}

fn candidates(look: &Look<'_>, limit: u64) -> Select<row::Entity> {
    let other = Alias::new("other");
    let in_flight = Query::select()
        .expr(Expr::value(1))
        .from_as(row::Entity, other.clone())
        .and_where(Expr::col((other.clone(), row::Column::IdentityId)).equals((row::Entity, row::Column::IdentityId)))
        .and_where(Expr::col((other, row::Column::State)).eq(Expr::Constant("sending".into())))
        .take();
    let query = row::Entity::find()
        .filter(pending_of(look.app_id))
        .filter(row::Column::Priority.eq(look.priority))
        .filter(row::Column::DueAt.lte(look.now))
        .filter(Expr::exists(in_flight).not())
        .order_by_asc(row::Column::DueAt)
        .limit(limit);
    unless_paused(look, query)
}

/// Those of the users who wait for something of a higher priority.
pub fn more_urgent(look: &Look<'_>, identities: impl Iterator<Item = IdentityId>) -> Select<row::Entity> {
    let query = row::Entity::find()
        .select_only()
        .column(row::Column::IdentityId)
        .filter(row::Column::IdentityId.is_in(padded(identities)))
        .filter(is_one_of(&[State::Pending]))
        .filter(row::Column::Priority.gt(look.priority))
        .filter(row::Column::DueAt.lte(look.now));
    unless_paused(look, query)
}

fn unless_paused(look: &Look<'_>, query: Select<row::Entity>) -> Select<row::Entity> {
    if look.paused_templates.is_empty() {
        return query;
    }
    query.filter(row::Column::TemplateId.is_not_in(padded(look.paused_templates.iter().cloned())))
}

async fn mark(tx: &DatabaseTransaction, due: &[row::Model], now: Timestamp, lease: &Lease) -> Result<(), Error> {
    row::Entity::update_many()
        .col_expr(row::Column::AttemptNumber, row::Column::AttemptNumber.into_expr().add(1))
        .col_expr(row::Column::FirstAttemptAt, row::Column::FirstAttemptAt.into_expr().if_null(now))
        .set(row::ActiveModel {
            state: Set(State::Sending),
            lease_token: Set(Some(lease.token)),
            lease_until: Set(Some(lease.until)),
            attempt_at: Set(Some(now)),
            attempt_ms: Set(None),
            ..Default::default()
        })
        .filter(row::Column::Id.is_in(padded(due.iter().map(|row| row.id))))
        .exec(tx)
        .await?;
    Ok(())
}
