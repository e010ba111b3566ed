//! Receipts: WeChat's later word on what became of a message.
//!
//! A receipt names the message where WeChat gave its id with the send; else it is matched by openid and
//! template, and only to a sole candidate. It may come before the settle of its own attempt: while a
//! candidate is still `sending` it is held. A missing receipt proves nothing.

use entity::{
    Timestamp,
    notification::{self, Reason, State},
    receipt as row,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, TryInsertResult,
    sea_query::{Condition, Expr, OnConflict},
};

use crate::{
    app_account,
    context::Context,
    database::rows::padded,
    error::Error,
    notification::{attempts::was_unsure, state::takes_receipt},
    webhook::outbox,
};

/// Candidates looked at for a receipt that names no message.
const MOST_CANDIDATES: u64 = 50;
/// Held receipts looked at in one round.
const MOST_HELD: u64 = 500;
/// How long a receipt is held for a message to fit it.
pub const HELD_FOR: std::time::Duration = std::time::Duration::from_hours(24);

/// Stores a receipt, unless the same one is here already, and applies it if its message can be told.
pub async fn take(ctx: &Context, tx: &DatabaseTransaction, receipt: row::Model) -> Result<(), Error> {
    let now = receipt.received_at;
    let inserted = row::Entity::insert(receipt.clone().into_active_model())
        .on_conflict(OnConflict::column(row::Column::Id).do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(tx)
        .await?;
    if matches!(inserted, TryInsertResult::Inserted(count) if count > 0) {
        app_account::receipt_came(tx, &receipt.app_id, now).await?;
    }
    apply(ctx, tx, &receipt, now).await?;
    Ok(())
}

/// Tries the held receipts of these openids again: their candidates may have settled.
pub async fn match_held_of<'a>(
    ctx: &Context,
    tx: &DatabaseTransaction,
    settled: impl Iterator<Item = (&'a str, &'a str)>,
    now: Timestamp,
) -> Result<(), Error> {
    let (mut apps, openids): (Vec<_>, Vec<_>) = settled.unzip();
    apps.sort_unstable();
    apps.dedup();
    if apps.is_empty() {
        return Ok(());
    }
    let of =
        Condition::all().add(row::Column::AppId.is_in(padded(apps))).add(row::Column::Openid.is_in(padded(openids)));
    for receipt in held(tx, of, now, MOST_HELD).await? {
        apply(ctx, tx, &receipt, now).await?;
    }
    Ok(())
}

/// Whether receipts wait for a message that can be told.
pub async fn is_any_held(ctx: &Context, now: Timestamp) -> Result<bool, Error> {
    Ok(!held(ctx.db.planned_once(), Condition::all(), now, 1).await?.is_empty())
}

/// Tries all held receipts again; gives how many found their message.
pub async fn match_held(ctx: &Context) -> Result<usize, Error> {
    let now = ctx.clock.now();
    if !is_any_held(ctx, now).await? {
        return Ok(0);
    }
    let tx = ctx.db.begin().await?;
    let mut matched = 0;
    for receipt in held(&tx, Condition::all(), now, MOST_HELD).await? {
        matched += usize::from(apply(ctx, &tx, &receipt, now).await?);
    }
    tx.commit().await?;
    Ok(matched)
}

async fn held(db: &impl ConnectionTrait, of: Condition, now: Timestamp, most: u64) -> Result<Vec<row::Model>, Error> {
    let rows = row::Entity::find()
        .filter(row::Column::NotificationId.is_null())
        .filter(row::Column::ReceivedAt.gt(now - HELD_FOR))
        .filter(of)
        .order_by_asc(row::Column::ReceivedAt)
        .limit(most)
        .all(db)
        .await?;
    Ok(rows)
}

/// Whether the receipt found its message.
async fn apply(ctx: &Context, tx: &DatabaseTransaction, receipt: &row::Model, now: Timestamp) -> Result<bool, Error> {
    let Some(message) = find(tx, receipt).await? else { return Ok(false) };
    row::Entity::update_many()
        .col_expr(row::Column::NotificationId, Expr::value(message.id))
        .filter(row::Column::Id.eq(receipt.id))
        .exec(tx)
        .await?;
    let was_unsure = message.state == State::Pending && was_unsure(tx, message.id).await?;
    if takes_receipt(message.state, message.reason, was_unsure) {
        write(ctx, tx, &message, receipt, now).await?;
    }
    Ok(true)
}

async fn find(tx: &DatabaseTransaction, receipt: &row::Model) -> Result<Option<notification::Model>, Error> {
    if let Some(message_id) = &receipt.message_id {
        let named = notification::Entity::find()
            .filter(notification::Column::MessageId.eq(message_id))
            .filter(notification::Column::AppId.eq(&receipt.app_id))
            .one(tx)
            .await?;
        if named.is_some() {
            return Ok(named);
        }
    }
    let candidates = candidates(tx, receipt).await?;
    if candidates.iter().any(|row| row.state == State::Sending) {
        return Ok(None);
    }
    let mut fitting = Vec::new();
    for row in candidates {
        let was_unsure = row.state == State::Pending && was_unsure(tx, row.id).await?;
        if takes_receipt(row.state, row.reason, was_unsure) {
            fitting.push(row);
        }
    }
    Ok(if fitting.len() == 1 { fitting.pop() } else { None })
}

/// Messages without an id of their own that this receipt could be about.
async fn candidates(tx: &DatabaseTransaction, receipt: &row::Model) -> Result<Vec<notification::Model>, Error> {
    use notification::Column::{IdentityId, MessageId, State as StateColumn, TemplateId};
    let identity = entity::identity::Entity::of_app(&receipt.app_id, [receipt.openid.clone()]).one(tx).await?;
    let Some(identity) = identity else { return Ok(Vec::new()) };
    let mut query = notification::Entity::find()
        .filter(IdentityId.eq(identity.id))
        .filter(StateColumn.is_in([State::Sending, State::Accepted, State::Unsure, State::Pending, State::Failed]))
        .filter(MessageId.is_null())
        .order_by_desc(notification::Column::Id)
        .limit(MOST_CANDIDATES);
    if let Some(template_id) = &receipt.template_id {
        query = query.filter(TemplateId.eq(template_id));
    }
    Ok(query.all(tx).await?)
}

/// WeChat's words: `failed:user block`, `failed: system failed`, and others that begin with `failed`.
fn reason_of(status: &str) -> Reason {
    if status.contains("user block") { Reason::Blocked } else { Reason::SystemFailure }
}

async fn write(
    ctx: &Context,
    tx: &DatabaseTransaction,
    message: &notification::Model,
    receipt: &row::Model,
    now: Timestamp,
) -> Result<(), Error> {
    let delivered = receipt.errcode == 0 && receipt.status == "success";
    let mut change =
        notification::ActiveModel { finished_at: Set(Some(now)), lease_token: Set(None), ..Default::default() };
    if message.sent_at.is_none() {
        change.sent_at = Set(Some(now));
    }
    if message.message_id.is_none() {
        change.message_id = Set(receipt.message_id.clone());
    }
    let (state, reason) =
        if delivered { (State::Delivered, None) } else { (State::Failed, Some(reason_of(&receipt.status))) };
    change.state = Set(state);
    change.reason = Set(reason);
    if delivered {
        change.detail = Set(None);
        change.delivered_at = Set(Some(receipt.received_at));
    } else {
        // A service account's receipt has no code.
        change.detail = Set(Some(match receipt.errcode {
            0 => receipt.status.clone(),
            errcode => format!("{errcode} {}", receipt.status),
        }));
    }
    // The state may have changed since it was read; what is settled stays settled.
    let written = notification::Entity::update_many()
        .set(change)
        .filter(notification::Column::Id.eq(message.id))
        .filter(notification::Column::State.eq(message.state))
        .exec(tx)
        .await?;
    if written.rows_affected > 0 {
        outbox::notifications(ctx, tx, std::iter::once((message, state, reason)), now).await?;
    }
    tracing::info!(
        notification.id = %message.id, app.id = %receipt.app_id, delivered, receipt.errcode, "notification.receipt"
    );
    Ok(())
}
