//! How long anything is kept: what is older than `[retention]` says is deleted, in small batches, so that
//! nothing else waits long.
//!
//! | what | when | what goes with it |
//! | --- | --- | --- |
//! | notification | it has ended | its attempts and receipts |
//! | event | none of its notifications is left | its id: a repeat counts as new; whom it was still to reach |
//! | callback | it is processed | receipts that nobody could match |
//! | session, audit entry | it has ended; it is old | – |
//! | delivery to a webhook | it has ended, or waits for an endpoint that is switched off or gone | – |
//! | signed request, signing key | a repeat or a token of it can no longer come | – |
//!
//! Rows are walked in the order of their ids, which is the order of time, up to the first that is too
//! young: no index is needed, and the young ones are not read.

use std::time::Duration;

use entity::{
    CallbackId, EventId, NotificationId, SessionId, Timestamp, WebhookDeliveryId, attempt, audit, callback, event,
    event_name,
    notification::{self, State},
    receipt, session, webhook_delivery,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, TryGetable, Value, sea_query::LockType,
};

use crate::{context::Context, error::Error, event::fan_out, signed_request, signing_key};

/// Rows of one transaction.
const BATCH: usize = 256;

/// Deletes what is too old; gives how many rows.
pub async fn clear(ctx: &Context) -> Result<u64, Error> {
    let (config, now) = (&ctx.config.retention, ctx.clock.now());
    let before = |span: Duration| (!span.is_zero()).then(|| now - span);
    let mut gone = 0;
    if let Some(before) = before(config.notifications) {
        gone += notifications(ctx, before).await?;
    }
    if let Some(before) = before(config.events) {
        gone += events(ctx, before).await?;
    }
    if let Some(before) = before(config.callbacks) {
        gone += callbacks(ctx, before).await?;
    }
    if let Some(before) = before(config.sessions) {
        gone += sessions(ctx, before).await?;
    }
    if let Some(before) = before(config.audit) {
        let old = audit::Entity::delete_many().filter(audit::Column::At.lt(before));
        gone += old.exec(ctx.db.write()).await?.rows_affected;
    }
    if let Some(before) = before(config.webhook_deliveries) {
        gone += webhook_deliveries(ctx, before).await?;
    }
    gone += signed_request::forget(ctx, now - signed_request::KEPT_FOR).await?;
    gone += signing_key::forget(ctx).await?;
    if gone > 0 {
        tracing::info!(rows = gone, "retention.cleared");
    }
    Ok(gone)
}

async fn notifications(ctx: &Context, before: Timestamp) -> Result<u64, Error> {
    use notification::Column;
    let ended = [State::Accepted, State::Delivered, State::Failed, State::Cancelled, State::Expired];
    let ended = Condition::all()
        .add(Column::State.is_in(ended))
        .add(Column::FinishedAt.is_null().or(Column::FinishedAt.lt(before)));
    let (mut walk, mut gone) = (Walk::<NotificationId>::new(before), 0);
    while let Some(old) = walk.next::<notification::Entity>(ctx, (Column::Id, Column::CreatedAt)).await? {
        let tx = ctx.db.begin().await?;
        let ids: Vec<NotificationId> = chosen::<notification::Entity, _>(&tx, Column::Id, &old, &ended).await?;
        attempt::Entity::delete_many()
            .filter(attempt::Column::NotificationId.is_in(ids.iter().copied()))
            .exec(&tx)
            .await?;
        receipt::Entity::delete_many()
            .filter(receipt::Column::NotificationId.is_in(ids.iter().copied()))
            .exec(&tx)
            .await?;
        gone += notification::Entity::delete_many().filter(Column::Id.is_in(ids)).exec(&tx).await?.rows_affected;
        tx.commit().await?;
    }
    Ok(gone)
}

async fn events(ctx: &Context, before: Timestamp) -> Result<u64, Error> {
    use event::Column;
    let (mut walk, mut gone) = (Walk::<EventId>::new(before), 0);
    while let Some(old) = walk.next::<event::Entity>(ctx, (Column::Id, Column::CreatedAt)).await? {
        let needed = notification::Entity::find()
            .select_only()
            .column(notification::Column::EventId)
            .filter(notification::Column::EventId.is_in(old.iter().copied()))
            .into_query();
        let tx = ctx.db.begin().await?;
        let unneeded = Condition::all().add(Column::Id.not_in_subquery(needed));
        let ids: Vec<EventId> = chosen::<event::Entity, _>(&tx, Column::Id, &old, &unneeded).await?;
        event_name::Entity::delete_many()
            .filter(event_name::Column::EventId.is_in(ids.iter().copied()))
            .exec(&tx)
            .await?;
        fan_out::forget_events(&tx, &ids).await?;
        gone += event::Entity::delete_many().filter(Column::Id.is_in(ids)).exec(&tx).await?.rows_affected;
        tx.commit().await?;
    }
    Ok(gone)
}

async fn callbacks(ctx: &Context, before: Timestamp) -> Result<u64, Error> {
    use callback::Column;
    let (mut walk, mut gone) = (Walk::<CallbackId>::new(before), 0);
    while let Some(old) = walk.next::<callback::Entity>(ctx, (Column::Id, Column::ReceivedAt)).await? {
        let tx = ctx.db.begin().await?;
        let processed = Condition::all().add(Column::ProcessedAt.is_not_null());
        let ids: Vec<CallbackId> = chosen::<callback::Entity, _>(&tx, Column::Id, &old, &processed).await?;
        receipt::Entity::delete_many()
            .filter(receipt::Column::CallbackId.is_in(ids.iter().copied()))
            .filter(receipt::Column::NotificationId.is_null())
            .exec(&tx)
            .await?;
        gone += callback::Entity::delete_many().filter(Column::Id.is_in(ids)).exec(&tx).await?.rows_affected;
        tx.commit().await?;
    }
    Ok(gone)
}

async fn sessions(ctx: &Context, before: Timestamp) -> Result<u64, Error> {
    use session::Column;
    let (mut walk, mut gone) = (Walk::<SessionId>::new(before), 0);
    while let Some(old) = walk.next::<session::Entity>(ctx, (Column::Id, Column::CreatedAt)).await? {
        let ended = session::Entity::delete_many()
            .filter(Column::Id.is_in(old))
            .filter(Column::RevokedAt.lt(before).or(Column::ExpiresAt.lt(before)));
        gone += ended.exec(ctx.db.write()).await?.rows_affected;
    }
    Ok(gone)
}

async fn webhook_deliveries(ctx: &Context, before: Timestamp) -> Result<u64, Error> {
    use webhook_delivery::Column;
    let (mut walk, mut gone) = (Walk::<WebhookDeliveryId>::new(before), 0);
    while let Some(old) = walk.next::<webhook_delivery::Entity>(ctx, (Column::Id, Column::CreatedAt)).await? {
        // Of what is still to be told the next time lies ahead.
        let ended = webhook_delivery::Entity::delete_many()
            .filter(Column::Id.is_in(old))
            .filter(Column::State.ne(webhook_delivery::State::Pending).or(Column::DueAt.lt(before)));
        gone += ended.exec(ctx.db.write()).await?.rows_affected;
    }
    Ok(gone)
}

/// A walk through a table's old rows, a batch at a time.
struct Walk<Id> {
    before: Timestamp,
    after: Option<Id>,
    over: bool,
}

impl<Id: TryGetable + Into<Value> + Copy> Walk<Id> {
    fn new(before: Timestamp) -> Self {
        Self { before, after: None, over: false }
    }

    /// The ids of the next old rows; None at the end.
    async fn next<E: EntityTrait>(
        &mut self,
        ctx: &Context,
        (id, at): (E::Column, E::Column),
    ) -> Result<Option<Vec<Id>>, Error> {
        if self.over {
            return Ok(None);
        }
        let mut query = E::find().select_only().column(id).column(at).order_by_asc(id).limit(BATCH as u64);
        if let Some(after) = self.after {
            query = query.filter(id.gt(after));
        }
        let page: Vec<(Id, Timestamp)> = query.into_tuple().all(ctx.db.read()).await?;
        self.after = page.last().map(|(id, _)| *id);
        self.over = page.len() < BATCH || page.last().is_none_or(|(_, at)| *at >= self.before);
        Ok(Some(page.into_iter().filter(|(_, at)| *at < self.before).map(|(id, _)| id).collect()))
    }
}

/// Those of the rows that may go, locked, so that nobody brings one back to life meanwhile.
async fn chosen<E: EntityTrait, Id: TryGetable + Into<Value> + Copy>(
    tx: &DatabaseTransaction,
    id: E::Column,
    old: &[Id],
    may_go: &Condition,
) -> Result<Vec<Id>, Error> {
    let mut query = E::find().select_only().column(id).filter(id.is_in(old.iter().copied())).filter(may_go.clone());
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    let rows: Vec<(Id,)> = query.into_tuple().all(tx).await?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}
