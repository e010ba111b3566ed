//! What an integrator may do with a fan-out: pause it, let it go on, cancel it.

use entity::{
    EventId, Timestamp,
    fan_out::{self as row, State},
    fan_out_portion as portions,
    notification::{self, Credit, State as Notified},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter,
    QuerySelect, sea_query::LockType,
};

use super::{PORTION, Progress, in_apps, progress};
use crate::{
    consent,
    context::Context,
    database::rows::padded,
    error::{Code, Error},
    webhook::outbox,
};

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nobody else is notified until it goes on; what was made is sent.
    Pause,
    Resume,
    /// Nobody else is notified, and what was made and not sent yet is cancelled.
    Cancel,
}

/// Does it with all fan-outs of the event, or with those of these apps; gives the progress.
pub async fn act(
    ctx: &Context,
    (event_id, app_ids): (EventId, Option<&[String]>),
    act: Act,
) -> Result<Progress, Error> {
    let (from, to) = match act {
        Act::Pause => (vec![State::Running], State::Paused),
        Act::Resume => (vec![State::Paused], State::Running),
        Act::Cancel => (vec![State::Running, State::Paused, State::Done], State::Cancelling),
    };
    let tx = ctx.db.begin().await?;
    let change = row::ActiveModel { state: Set(to), updated_at: Set(ctx.clock.now()), ..Default::default() };
    row::Entity::update_many()
        .set(change)
        .filter(row::Column::EventId.eq(event_id))
        .filter(row::Column::State.is_in(from))
        .filter(in_apps(app_ids))
        .exec(&tx)
        .await?;
    let now = progress(&tx, event_id, app_ids).await?;
    tx.commit().await?;
    ctx.wake.fan_out.notify_one();
    now.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no fan-out of event {event_id}.")))
}

/// Cancels some of what was made and not sent yet; gives how many, and at least 1 until nothing is left.
pub(super) async fn cancel_some(
    ctx: &Context,
    tx: DatabaseTransaction,
    fan_out: &row::Model,
    now: Timestamp,
) -> Result<usize, Error> {
    portions::Entity::delete_many().filter(portions::Column::FanOutId.eq(fan_out.id)).exec(&tx).await?;
    let mut query = notification::Entity::find()
        .filter(notification::Column::EventId.eq(fan_out.event_id))
        .filter(notification::Column::State.is_in([Notified::Waiting, Notified::Pending]))
        .limit(u64::try_from(PORTION).unwrap_or(u64::MAX));
    query = match fan_out.rule_id {
        Some(rule_id) => query.filter(notification::Column::RuleId.eq(rule_id)),
        None => query.filter(notification::Column::RuleId.is_null()),
    };
    let mut rows = query.clone().all(&tx).await?;
    let is_last = rows.len() < PORTION;
    if tx.get_database_backend() == DbBackend::Postgres {
        consent::hold(&tx, rows.iter()).await?;
        let ids = padded(rows.iter().map(|row| row.id));
        rows = query.filter(notification::Column::Id.is_in(ids)).lock(LockType::Update).all(&tx).await?;
    }
    for (credit, becomes) in
        [(Credit::Reserved, Credit::Returned), (Credit::None, Credit::None), (Credit::Returned, Credit::Returned)]
    {
        let of_it = rows.iter().filter(|row| row.credit == credit).map(|row| row.id);
        let change = notification::ActiveModel {
            state: Set(Notified::Cancelled),
            reason: Set(None),
            credit: Set(becomes),
            finished_at: Set(Some(now)),
            ..Default::default()
        };
        let ids = padded(of_it);
        if !ids.is_empty() {
            notification::Entity::update_many()
                .set(change)
                .filter(notification::Column::Id.is_in(ids))
                .exec(&tx)
                .await?;
        }
    }
    let released = consent::give_back(&tx, &rows.iter().collect::<Vec<_>>(), now).await?;
    outbox::notifications(ctx, &tx, rows.iter().map(|row| (row, Notified::Cancelled, None)), now).await?;
    if is_last {
        let change = row::ActiveModel { state: Set(State::Cancelled), updated_at: Set(now), ..Default::default() };
        row::Entity::update_many().set(change).filter(row::Column::Id.eq(fan_out.id)).exec(&tx).await?;
        tracing::info!(event.id = %fan_out.event_id, "fan_out.cancelled");
    }
    tx.commit().await?;
    ctx.wake.delivery.ring_each(&released);
    Ok(rows.len().max(1))
}
