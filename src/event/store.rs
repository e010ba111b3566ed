//! Storing events with what they lead to: all of it or nothing.
//!
//! ```text
//! read ahead, nothing locked ─▶ written alone: what has changed meanwhile comes to light by a row that is not written
//! read in a transaction, locked ─▶ written in it, with what else hangs on it
//! ```

use std::collections::HashMap;

use entity::{
    EventId, Timestamp, event as row,
    notification::{self, State},
};
use sea_orm::{ActiveValue::NotSet, DatabaseTransaction, IntoActiveModel};
use serde::Serialize;

use super::{Incoming, apply::Applied, fan_out, plan::Plan, unreached};
use crate::{
    consent::Reservations,
    context::Context,
    database::{insert::Insert, is_taken, rows::Rows, writes::Writes},
    error::Error,
    notification::draft,
    webhook::outbox,
};

/// Events that are accepted together, with what they lead to.
pub(super) struct Batch<'a> {
    pub events: &'a [(EventId, &'a Incoming)],
    /// Without what the events say and what became of them.
    pub rows: Vec<row::Model>,
    pub applied: &'a [Applied<'a>],
    /// Their notifications are taken.
    pub plans: &'a mut [Plan],
    pub reservations: Reservations,
}

/// The crowds that are notified later, by their events' places.
pub(super) type Crowds = HashMap<usize, fan_out::Progress>;

/// Stores it; `tx` is the transaction in which people and balances were read and locked, if they were. None when it is to be
/// done once more, carefully: an event is stored already, or something changed meanwhile.
pub(super) async fn store(
    ctx: &Context,
    tx: Option<DatabaseTransaction>,
    batch: Batch<'_>,
    now: Timestamp,
) -> Result<Option<Crowds>, Error> {
    let Batch { events, rows, applied, plans, reservations } = batch;
    let rows_of = plans.iter_mut().flat_map(|plan| std::mem::take(&mut plan.notifications)).collect::<Vec<_>>();
    let mut writes = ctx.db.writes();
    if tx.is_none() {
        only_if_new(&rows, &mut writes)?;
        only_if_there(&rows_of, &mut writes)?;
    }
    reservations.write_with(&mut writes, now)?;
    let (new_events, new) = match (tx.is_none(), ctx.db.is_sqlite()) {
        (true, true) => (EVENTS, draft::NEW_OF_WHO_IS_THERE),
        (true, false) => (NEW_EVENTS, draft::NEW),
        (false, _) => (EVENTS, draft::NEW),
    };
    insert_events(rows, (events, plans), &new_events, &mut writes)?;
    let ended = insert_rows(rows_of, &new, &mut writes)?;
    let unreached = plans.iter().flat_map(|plan| &plan.outcomes).any(|outcome| outcome.id.is_none());
    let alone = ended.is_empty() && !unreached && applied.iter().all(|one| one.crowd.is_none());
    let tx = match tx {
        None if alone => return Ok(ctx.db.write_alone(writes).await?.then(Crowds::new)),
        None => ctx.db.begin().await?,
        Some(tx) => tx,
    };
    match writes.exec(&tx).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) if is_taken(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    tell_ended(ctx, &tx, &ended, now).await?;
    unreached::remember(&tx, events.iter().zip(&*plans).map(|((id, _), plan)| (*id, &*plan.outcomes))).await?;
    let crowds = fan_out::store(&tx, applied, events, now).await?;
    tx.commit().await?;
    Ok(Some(crowds))
}

/// One that is stored already is left out.
const EVENTS: Insert<row::Entity> = Insert {
    shared: &[&[row::Column::Source, row::Column::EventType], &[row::Column::Time, row::Column::CreatedAt]],
    only_if: "",
    suffix: "ON CONFLICT (source, source_id) DO NOTHING",
};

/// Where those that are stored were looked for in the same statement. To leave one out costs PostgreSQL a tenth of an
/// accept; one that another node stores in this moment ends the statement.
const NEW_EVENTS: Insert<row::Entity> = Insert { suffix: "", ..EVENTS };

/// Each row with what its event says and what became of it.
fn insert_events(
    rows: Vec<row::Model>,
    (events, plans): (&[(EventId, &Incoming)], &[Plan]),
    new: &Insert<'_, row::Entity>,
    writes: &mut Writes,
) -> Result<(), Error> {
    let mut rows: Vec<_> = rows.into_iter().zip(events.iter().zip(plans)).collect();
    // In one order, so that two transactions wait for each other instead of deadlocking.
    rows.sort_unstable_by(|(a, _), (b, _)| (&a.source, &a.source_id).cmp(&(&b.source, &b.source_id)));
    let data = rows.iter().map(|(_, ((_, event), _))| json(&event.data)).collect();
    let outcomes = rows.iter().map(|(_, (_, plan))| json(&plan.outcomes)).collect();
    let insert = |(row, _): (row::Model, _)| {
        let mut row = row.into_active_model();
        (row.data, row.outcomes) = (NotSet, NotSet);
        row
    };
    let rows = rows.into_iter().map(insert).collect();
    Ok(writes.insert_with(new, rows, vec![(row::Column::Data, data), (row::Column::Outcomes, outcomes)])?)
}

/// What can always be written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Nothing is written when any of the events is stored already.
fn only_if_new(events: &[row::Model], writes: &mut Writes) -> Result<(), Error> {
    let mut rows = Rows::of(&["v_source_id", "v_source"]);
    for event in events {
        rows.push([event.source_id.as_str().into(), event.source.as_str().into()]);
    }
    let stored = "SELECT 1 FROM event JOIN v ON source_id = v_source_id AND source = v_source";
    Ok(writes.only_if(rows, stored, 0)?)
}

/// Nothing is written when any of the people was erased or has become one with another user; they stay until the
/// notifications are stored.
fn only_if_there(notifications: &[notification::Model], writes: &mut Writes) -> Result<(), Error> {
    let mut people: Vec<_> = notifications.iter().map(|row| (row.identity_id, row.user_id)).collect();
    // In one order, as with all locks.
    people.sort_unstable();
    people.dedup();
    let (mut rows, found) = (Rows::of(&["v_id", "v_user_id"]), people.len());
    for (id, user_id) in people {
        rows.push([id.into(), user_id.into()]);
    }
    let there = "SELECT 1 FROM identity JOIN v ON id = v_id AND user_id = v_user_id FOR KEY SHARE OF identity";
    Ok(writes.only_if(rows, there, found)?)
}

/// Gives those that fail as they come to be, of which is to be told once they are stored.
pub(super) fn insert_rows(
    rows: Vec<notification::Model>,
    new: &Insert<'_, notification::Entity>,
    writes: &mut Writes,
) -> Result<Vec<notification::Model>, Error> {
    let ended = rows.iter().filter(|row| row.state == State::Failed).cloned().collect();
    let fields = rows.iter().map(|row| json(&row.fields)).collect();
    writes.insert_with(new, draft::inserted(rows), vec![(notification::Column::Fields, fields)])?;
    Ok(ended)
}

pub(super) async fn tell_ended(
    ctx: &Context,
    tx: &DatabaseTransaction,
    ended: &[notification::Model],
    now: Timestamp,
) -> Result<(), Error> {
    outbox::notifications(ctx, tx, ended.iter().map(|row| (row, row.state, row.reason)), now).await
}
