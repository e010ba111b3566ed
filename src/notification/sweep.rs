//! What the passing of time makes of notifications: leases that ran out, unknown outcomes at their
//! deadline, messages that came too late to be sent. Takes no input and is safe at any time, on any
//! number of nodes.

use entity::{
    Timestamp, attempt,
    attempt::Outcome,
    notification::{self as row, Credit, Reason, State},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    Select,
    sea_query::{Expr, ExprTrait, LockBehavior, LockType},
};
use tokio_util::sync::CancellationToken;

use super::{
    attempts,
    state::{at_unsure_deadline, is_recognised},
};
use crate::{
    config::Kind,
    consent,
    context::Context,
    database::{again, rows::padded},
    error::Error,
    webhook::outbox,
};

/// Rows dealt with in one transaction.
const BATCH: usize = 500;

/// How many rows the sweep moved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// `sending` whose lease ran out, now `unsure`.
    pub leases: usize,
    /// `unsure` whose deadline passed.
    pub decided: usize,
    pub expired: usize,
}

impl Swept {
    pub fn total(&self) -> usize {
        self.leases + self.decided + self.expired
    }

    /// Whether there may be more of something.
    fn is_full(&self) -> bool {
        [self.leases, self.decided, self.expired].contains(&BATCH)
    }
}

/// When the next thing is due here; None when nothing is.
pub async fn next(ctx: &Context) -> Result<Option<Timestamp>, Error> {
    let mut next = None;
    for (column, states) in
        [(row::Column::LeaseUntil, &SENDING[..]), (row::Column::DueAt, &UNSURE), (row::Column::ExpiresAt, &TO_BE_SENT)]
    {
        let first = row::Entity::find()
            .select_only()
            .column(column)
            .filter(in_state(states))
            .order_by_asc(column)
            .limit(1)
            .into_tuple::<Option<Timestamp>>()
            .one(ctx.db.read())
            .await?;
        next = [next, first.flatten()].into_iter().flatten().min();
    }
    Ok(next)
}

const SENDING: [&str; 1] = ["sending"];
const UNSURE: [&str; 1] = ["unsure"];
const TO_BE_SENT: [&str; 2] = ["waiting", "pending"];

/// The states are part of the text: bound ones hide from the database that a partial index fits.
fn in_state(states: &[&'static str]) -> Expr {
    let state = row::Column::State.into_expr();
    match states {
        [one] => state.eq(Expr::Constant((*one).into())),
        several => state.is_in(several.iter().map(|state| Expr::Constant((*state).into()))),
    }
}

/// Calls whose lease ran out.
pub fn leases_over(now: Timestamp) -> Select<row::Entity> {
    row::Entity::find().filter(in_state(&SENDING)).filter(row::Column::LeaseUntil.lte(now))
}

/// Unknown outcomes at their deadline.
pub fn unsure_over(now: Timestamp) -> Select<row::Entity> {
    row::Entity::find().filter(in_state(&UNSURE)).filter(row::Column::DueAt.lte(now))
}

/// What was not sent in time.
pub fn too_late(now: Timestamp) -> Select<row::Entity> {
    row::Entity::find().filter(in_state(&TO_BE_SENT)).filter(row::Column::ExpiresAt.lte(now))
}

/// Round after round while one is full: a backlog, such as after an outage, does not wait for its next turn.
pub async fn sweep_all(ctx: &Context, stop: &CancellationToken) -> Result<(), Error> {
    while !stop.is_cancelled() && sweep(ctx).await?.is_full() {}
    Ok(())
}

/// One round; a larger backlog takes several.
pub async fn sweep(ctx: &Context) -> Result<Swept, Error> {
    Ok(Swept {
        leases: again(|| end_leases(ctx)).await?,
        decided: again(|| decide_unsure(ctx)).await?,
        expired: again(|| expire(ctx)).await?,
    })
}

/// The call may have been carried out, and nobody lived to tell.
async fn end_leases(ctx: &Context) -> Result<usize, Error> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let rows = locked(&tx, leases_over(now)).await?;
    let (mut unknown, mut unsure) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in &rows {
        let kind = ctx.app(&row.app_id).map(|app| app.kind);
        let again = kind == Some(Kind::ServiceAccount) && is_recognised(row, now);
        let change = row::ActiveModel {
            lease_until: Set(None),
            ..if again { repeated(row, now) } else { undecided(now + ctx.config.delivery.unsure_deadline) }
        };
        if !again {
            unsure.push((row, State::Unsure, None));
        }
        update(&tx, row, change).await?;
        unknown.extend(attempts::latest(row).map(|attempt| attempt::Model {
            outcome: Some(Outcome::Unsure),
            errmsg: Some("the lease ran out; nobody knows what came of the call".into()),
            ..attempt
        }));
        tracing::warn!(notification.id = %row.id, "notification.lease_ran_out");
    }
    attempts::write(&tx, unknown).await?;
    outbox::notifications(ctx, &tx, unsure.into_iter(), now).await?;
    tx.commit().await?;
    Ok(rows.len())
}

fn undecided(until: Timestamp) -> row::ActiveModel {
    row::ActiveModel { state: Set(State::Unsure), due_at: Set(until), ..Default::default() }
}

/// WeChat recognises a service account's message, so it goes again; the lease was pause enough.
fn repeated(row: &row::Model, now: Timestamp) -> row::ActiveModel {
    row::ActiveModel {
        state: Set(State::Pending),
        lease_token: Set(None),
        due_at: Set(now),
        attempts_used: Set(row.attempts_used + 1),
        ..Default::default()
    }
}

/// No receipt came in time; its absence proves nothing, so the rule's policy decides.
async fn decide_unsure(ctx: &Context) -> Result<usize, Error> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let rows = locked(&tx, unsure_over(now)).await?;
    let (mut again, mut decided) = (Vec::new(), Vec::new());
    for row in &rows {
        let (state, reason) = at_unsure_deadline(row, &ctx.config.delivery);
        if state == State::Pending {
            again.push(row.app_id.as_str());
        }
        let change = row::ActiveModel {
            state: Set(state),
            reason: Set(reason),
            lease_token: Set(None),
            due_at: Set(now),
            attempts_used: Set(row.attempts_used + 1),
            finished_at: Set((state == State::Failed).then_some(now)),
            ..Default::default()
        };
        update(&tx, row, change).await?;
        decided.push((row, state, reason));
        tracing::info!(notification.id = %row.id, state = ?state, "notification.unsure_decided");
    }
    outbox::notifications(ctx, &tx, decided.into_iter(), now).await?;
    tx.commit().await?;
    for app_id in again {
        ctx.wake.delivery.ring(app_id);
    }
    Ok(rows.len())
}

async fn expire(ctx: &Context) -> Result<usize, Error> {
    let now = ctx.clock.now();
    let unlocked = too_late(now).limit(BATCH as u64).all(ctx.db.read()).await?;
    if unlocked.is_empty() {
        return Ok(0);
    }
    let tx = ctx.db.begin().await?;
    consent::hold(&tx, unlocked.iter()).await?;
    let still = too_late(now).filter(row::Column::Id.is_in(padded(unlocked.iter().map(|row| row.id))));
    let rows = locked(&tx, still).await?;
    for row in &rows {
        update(&tx, row, ended(row, now)).await?;
    }
    let released = consent::give_back(&tx, &rows.iter().collect::<Vec<_>>(), now).await?;
    let expired = rows.iter().map(|row| (row, State::Expired, reason_of_expiry(row)));
    outbox::notifications(ctx, &tx, expired, now).await?;
    tx.commit().await?;
    ctx.wake.delivery.ring_each(&released);
    Ok(rows.len())
}

fn reason_of_expiry(row: &row::Model) -> Option<Reason> {
    row.reason.filter(|reason| *reason == Reason::NoCredit)
}

fn ended(row: &row::Model, now: Timestamp) -> row::ActiveModel {
    row::ActiveModel {
        state: Set(State::Expired),
        reason: Set(reason_of_expiry(row)),
        credit: Set(if row.credit == Credit::Reserved { Credit::Returned } else { row.credit }),
        finished_at: Set(Some(now)),
        ..Default::default()
    }
}

/// Rows another node deals with at this moment are left to it.
async fn locked(tx: &DatabaseTransaction, query: Select<row::Entity>) -> Result<Vec<row::Model>, Error> {
    let query = query.limit(BATCH as u64);
    let query = match tx.get_database_backend() {
        DbBackend::Postgres => query.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked),
        _ => query,
    };
    Ok(query.all(tx).await?)
}

async fn update(tx: &DatabaseTransaction, row: &row::Model, change: row::ActiveModel) -> Result<(), Error> {
    row::Entity::update_many().set(change).filter(row::Column::Id.eq(row.id)).exec(tx).await?;
    Ok(())
}
