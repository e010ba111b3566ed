//! One portion of a fan-out: notifications, credits and progress in one transaction.

use std::collections::{BTreeMap, HashSet};

use entity::{
    EventId, IdentityId, RuleId, Timestamp,
    fan_out::{self as row, State},
    fan_out_portion as portions, identity, notification,
    rule::{self, FieldExpressions, Overflow},
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
    sea_query::{Expr, ExprTrait, LockBehavior, LockType},
};
use serde_json::Value;
use uuid::Uuid;

use super::{PORTION, act, consented};
use crate::{
    context::Context,
    database::{Lock, rows::padded},
    error::{Code, Error},
    event::{
        Incoming,
        apply::Applied,
        plan,
        store::{insert_rows, tell_ended},
    },
    notification::draft,
    recipient::{self, Recipient},
    rule::compiled::Message,
};

/// Deals with one portion of the fan-out that waited longest, so that a small one does not wait for a large one
/// to end; gives how many recipients that were, and 0 when nothing is to be done. One that another node deals
/// with is left to it.
pub async fn step(ctx: &Context) -> Result<usize, Error> {
    if to_do().one(ctx.db.read()).await?.is_none() {
        return Ok(0);
    }
    let tx = ctx.db.begin().await?;
    let mut query = to_do();
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    }
    let Some(fan_out) = query.one(&tx).await? else { return Ok(0) };
    let id = fan_out.id;
    let done = one(ctx, tx, fan_out).await;
    if done.as_ref().is_err_and(|error| error.code != Code::DatabaseUnavailable) {
        // What fails does not hold up the others: it goes to the end of the row.
        let change = row::ActiveModel { updated_at: Set(ctx.clock.now()), ..Default::default() };
        row::Entity::update_many().set(change).filter(row::Column::Id.eq(id)).exec(ctx.db.write()).await?;
    }
    done
}

async fn one(ctx: &Context, tx: DatabaseTransaction, fan_out: row::Model) -> Result<usize, Error> {
    let now = ctx.clock.now();
    if fan_out.state == State::Cancelling {
        return act::cancel_some(ctx, tx, &fan_out, now).await;
    }
    let (references, next) = next(&tx, &fan_out).await?;
    let taken = references.len();
    let unreached = notify(ctx, &tx, &fan_out, references, now).await?;
    let done = fan_out.done + i32::try_from(taken).unwrap_or(i32::MAX);
    let change = row::ActiveModel {
        // Who agreed since the event came, or no longer does, changes the number.
        done: Set(if next == Next::End { done } else { std::cmp::Ord::min(done, fan_out.total) }),
        total: Set(if next == Next::End { done } else { fan_out.total }),
        unreached: Set(fan_out.unreached + unreached),
        state: Set(if next == Next::End { State::Done } else { State::Running }),
        cursor: Set(if let Next::After(id) = next { Some(id) } else { fan_out.cursor }),
        updated_at: Set(now),
        ..Default::default()
    };
    row::Entity::update_many().set(change).filter(row::Column::Id.eq(fan_out.id)).exec(&tx).await?;
    tx.commit().await?;
    ctx.wake.delivery.ring(&fan_out.app_id);
    if next == Next::End {
        tracing::info!(event.id = %fan_out.event_id, done, unreached = fan_out.unreached + unreached, "fan_out.done");
    }
    // The last portion may have been empty.
    Ok(taken.max(1))
}

fn to_do() -> sea_orm::Select<row::Entity> {
    // The states are part of the text: bound ones hide from the database that the partial index fits.
    let states = ["running", "cancelling"].map(|state| Expr::Constant(state.into()));
    row::Entity::find()
        .filter(row::Column::State.into_expr().is_in(states))
        .order_by_asc(row::Column::UpdatedAt)
        .order_by_asc(row::Column::Id)
        .limit(1)
}

/// Where a fan-out goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// More are named.
    Named,
    /// With those who agreed, after this one.
    After(IdentityId),
    End,
}

/// The next recipients: those who are named first, then those who agreed.
async fn next(tx: &DatabaseTransaction, fan_out: &row::Model) -> Result<(Vec<String>, Next), Error> {
    let of_it = || portions::Entity::find().filter(portions::Column::FanOutId.eq(fan_out.id));
    let mut named = of_it().order_by_asc(portions::Column::Place).limit(2).all(tx).await?.into_iter();
    if let Some(portion) = named.next() {
        portions::Entity::delete_by_id((fan_out.id, portion.place)).exec(tx).await?;
        let more = named.next().is_some() || fan_out.consented;
        return Ok((portion.recipients.0, if more { Next::Named } else { Next::End }));
    }
    if !fan_out.consented {
        return Ok((Vec::new(), Next::End));
    }
    let mut query = consented(&fan_out.app_id, &fan_out.template_id)
        .order_by_asc(identity::Column::Id)
        .limit(u64::try_from(PORTION).unwrap_or(u64::MAX));
    if let Some(cursor) = fan_out.cursor {
        query = query.filter(identity::Column::Id.gt(cursor));
    }
    let found = query.all(tx).await?;
    let next = match found.last() {
        Some(last) if found.len() == PORTION => Next::After(last.id),
        _ => Next::End,
    };
    let reference = |row: identity::Model| format!("openid:{}/{}", row.app_id, row.openid);
    Ok((found.into_iter().map(reference).collect(), next))
}

/// Notifies those who are not notified yet; gives how many could not be reached.
async fn notify(
    ctx: &Context,
    tx: &DatabaseTransaction,
    fan_out: &row::Model,
    references: Vec<String>,
    now: Timestamp,
) -> Result<i32, Error> {
    let to = without_notified(tx, fan_out, references).await?;
    if to.is_empty() {
        return Ok(0);
    }
    let policy = policy(fan_out);
    let row::Message { fields, page, url, miniprogram, .. } = fan_out.message.clone();
    let message = Message { fields, page, url, miniprogram, violations: Vec::new() };
    let applied = [Applied { event: 0, policy: &policy, rule_id: fan_out.rule_id, to, crowd: None, message }];
    let event = incoming(fan_out);
    let mut proposed = plan::propose(ctx, tx, &applied, &[(fan_out.event_id, &event)], (Lock::Held, now)).await?;
    let plan = proposed.plans.pop().unwrap_or_default();
    let unreached = plan.outcomes.iter().filter(|outcome| outcome.id.is_none()).count();
    let mut writes = ctx.db.writes();
    proposed.reservations.write_with(&mut writes, now)?;
    let ended = insert_rows(plan.notifications, &draft::NEW, &mut writes)?;
    writes.exec(tx).await?;
    tell_ended(ctx, tx, &ended, now).await?;
    Ok(i32::try_from(unreached).unwrap_or(i32::MAX))
}

/// A person may be named twice, or named and agree.
async fn without_notified(
    tx: &DatabaseTransaction,
    fan_out: &row::Model,
    references: Vec<String>,
) -> Result<Vec<String>, Error> {
    let parsed: Vec<_> = references.iter().map(|reference| Recipient::parse(reference).ok()).collect();
    let people = recipient::resolve(
        tx,
        parsed.iter().flatten().map(|recipient| (recipient, fan_out.app_id.as_str())),
        Lock::Held,
    )
    .await?;
    let identity_of = |recipient: &Recipient| {
        let of_app = people.get(recipient)?.identities.iter().rfind(|identity| identity.app_id == fan_out.app_id)?;
        Some(of_app.id)
    };
    let ids: Vec<_> = parsed.iter().map(|recipient| recipient.as_ref().and_then(identity_of)).collect();
    let notified = notified(tx, (fan_out.event_id, fan_out.rule_id), ids.iter().flatten().copied()).await?;
    let is_new = |id: &Option<IdentityId>| id.is_none_or(|id| !notified.contains(&id));
    Ok(references.into_iter().zip(&ids).filter(|(_, id)| is_new(id)).map(|(reference, _)| reference).collect())
}

async fn notified(
    tx: &DatabaseTransaction,
    (event_id, rule_id): (EventId, Option<RuleId>),
    ids: impl Iterator<Item = IdentityId>,
) -> Result<HashSet<IdentityId>, Error> {
    let ids = padded(ids);
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let mut told = notification::Entity::find()
        .select_only()
        .column_as(notification::Column::Id.count(), "told")
        .filter(notification::Column::EventId.eq(event_id))
        .filter(notification::Column::IdentityId.into_expr().equals((identity::Entity, identity::Column::Id)));
    told = match rule_id {
        Some(rule_id) => told.filter(notification::Column::RuleId.eq(rule_id)),
        None => told.filter(notification::Column::RuleId.is_null()),
    };
    // A number is looked up for each person, by the unique index. Of a list, or of EXISTS, PostgreSQL makes one scan of
    // all that the event has made so far while it still believes that this is little: each portion would cost more
    // than the one before it.
    let told = Expr::SubQuery(None, Box::new(told.into_query().into()));
    let query = identity::Entity::find()
        .select_only()
        .column(identity::Column::Id)
        .filter(identity::Column::Id.is_in(ids))
        .filter(told.gt(0));
    let found: Vec<IdentityId> = query.into_tuple().all(tx).await?;
    Ok(found.into_iter().collect())
}

/// What is known of the event as far as it decides the messages.
fn incoming(fan_out: &row::Model) -> Incoming {
    Incoming {
        source: String::new(),
        id: String::new(),
        event_type: String::new(),
        time: None,
        subject: None,
        to: Vec::new(),
        data: Value::Null,
        deliver_at: Some(fan_out.message.due_at),
        ttl_seconds: fan_out.message.ttl_seconds,
        priority: Some(fan_out.message.priority),
        direct: None,
        app_ids: None,
    }
}

/// The rule as it was when the event came.
fn policy(fan_out: &row::Model) -> rule::Model {
    let message = &fan_out.message;
    rule::Model {
        id: fan_out.rule_id.unwrap_or(RuleId(Uuid::nil())),
        name: String::new(),
        event_type: String::new(),
        app_id: fan_out.app_id.clone(),
        template_id: fan_out.template_id.clone(),
        fields: FieldExpressions(BTreeMap::new()),
        page: None,
        url: None,
        miniprogram: None,
        when: None,
        recipients: None,
        no_credit: message.no_credit,
        unsure: message.unsure,
        overflow: Overflow::Refuse,
        ttl_seconds: message.ttl_seconds,
        delay_seconds: None,
        priority: message.priority,
        enabled: true,
        paused_because: None,
        created_at: fan_out.created_at,
        updated_at: fan_out.created_at,
    }
}
