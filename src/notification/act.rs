//! What an operator or an integrator may do with a notification: cancel it, have it sent again.

use entity::{
    NotificationId,
    notification::{self as row, Credit, State},
    rule::NoCredit,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter,
    QuerySelect, Select, sea_query::LockType,
};

use super::attempts;
use crate::{
    consent::{self, Granted, Want},
    context::Context,
    database::again,
    error::{Code, Error},
    webhook::outbox,
};

/// Stops a message that is not on its way yet and gives its credit back.
pub async fn cancel(ctx: &Context, id: NotificationId) -> Result<row::Model, Error> {
    again(|| cancel_once(ctx, id)).await
}

async fn cancel_once(ctx: &Context, id: NotificationId) -> Result<row::Model, Error> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let found = locked(&tx, id).await?;
    if !matches!(found.state, State::Waiting | State::Pending) {
        return Err(conflict(&found, "only a waiting or pending notification can be cancelled"));
    }
    let change = row::ActiveModel {
        state: Set(State::Cancelled),
        reason: Set(None),
        credit: Set(if found.credit == Credit::Reserved { Credit::Returned } else { found.credit }),
        finished_at: Set(Some(now)),
        ..Default::default()
    };
    write(&tx, id, change).await?;
    let released = consent::give_back(&tx, &[&found], now).await?;
    outbox::notifications(ctx, &tx, std::iter::once((&found, State::Cancelled, None)), now).await?;
    let row = finish(tx, id).await?;
    ctx.wake.delivery.ring_each(&released);
    Ok(row)
}

/// Sends a message that ended without arriving once more: the same row, a new credit, a fresh count of
/// attempts and a fresh time to live.
pub async fn replay(ctx: &Context, id: NotificationId) -> Result<row::Model, Error> {
    again(|| replay_once(ctx, id)).await
}

async fn replay_once(ctx: &Context, id: NotificationId) -> Result<row::Model, Error> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let found = locked(&tx, id).await?;
    if !matches!(found.state, State::Failed | State::Expired | State::Cancelled) {
        return Err(conflict(&found, "only a failed, expired or cancelled notification can be sent again"));
    }
    if found.openid.is_empty() {
        return Err(conflict(&found, "the person it was for is erased"));
    }
    if found.fields.0.is_empty() {
        return Err(conflict(&found, "it has no text: correct the rule and tell the event under a new id"));
    }
    let want = Want { identity_id: found.identity_id, template_id: found.template_id.clone(), notification_id: id };
    let granted = consent::reserve(&tx, &[want], now).await?.into_iter().next().unwrap_or(Granted::No);
    let (state, credit) = match (granted, found.no_credit) {
        (Granted::Reserved, _) => (State::Pending, Credit::Reserved),
        (Granted::Standing, _) => (State::Pending, Credit::None),
        (Granted::No, NoCredit::Wait) => (State::Waiting, Credit::None),
        (Granted::No, NoCredit::Fail) => {
            return Err(conflict(&found, "the user has no credit left; ask with wx.requestSubscribeMessage first"));
        }
    };
    let change = row::ActiveModel {
        state: Set(state),
        reason: Set((state == State::Waiting).then_some(row::Reason::NoCredit)),
        detail: Set(None),
        credit: Set(credit),
        attempts_used: Set(0),
        replays: Set(found.replays + 1),
        due_at: Set(now),
        expires_at: Set(now + ctx.config.delivery.time_to_live),
        lease_token: Set(None),
        message_id: Set(None),
        sent_at: Set(None),
        delivered_at: Set(None),
        finished_at: Set(None),
        first_attempt_at: Set(None),
        attempt_ms: Set(None),
        ..Default::default()
    };
    // The row's place for a call that was taken is needed for the next one.
    attempts::write(&tx, attempts::latest(&found).into_iter().collect()).await?;
    write(&tx, id, change).await?;
    let row = finish(tx, id).await?;
    ctx.wake.delivery.ring(&row.app_id);
    Ok(row)
}

/// The row, which nobody else changes until the transaction ends, nor its balance.
async fn locked(tx: &DatabaseTransaction, id: NotificationId) -> Result<row::Model, Error> {
    let query = row::Entity::find_by_id(id);
    if tx.get_database_backend() != DbBackend::Postgres {
        return read(tx, query, id).await;
    }
    let unlocked = read(tx, query.clone(), id).await?;
    consent::hold(tx, std::iter::once(&unlocked)).await?;
    read(tx, query.lock(LockType::Update), id).await
}

async fn read(tx: &DatabaseTransaction, query: Select<row::Entity>, id: NotificationId) -> Result<row::Model, Error> {
    let found = query.one(tx).await?;
    found.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no notification {id}.")))
}

async fn write(tx: &DatabaseTransaction, id: NotificationId, change: row::ActiveModel) -> Result<(), Error> {
    row::Entity::update_many().set(change).filter(row::Column::Id.eq(id)).exec(tx).await?;
    Ok(())
}

async fn finish(tx: DatabaseTransaction, id: NotificationId) -> Result<row::Model, Error> {
    let row = read(&tx, row::Entity::find_by_id(id), id).await?;
    tx.commit().await?;
    Ok(row)
}

fn conflict(found: &row::Model, rule: &str) -> Error {
    let state = serde_json::to_value(found.state).unwrap_or_default();
    let state = state.as_str().unwrap_or_default().to_owned();
    Error::new(Code::StateConflict).detail(format!("It is {state}; {rule}."))
}
