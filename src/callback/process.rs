//! What a stored callback changes. Doing it again changes nothing more: what it makes has ids that
//! follow from the callback's own.

use entity::{
    CallbackId, ConsentId, IdentityId, ReceiptId, Timestamp, callback as row, identity, receipt as receipt_row,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};
use uuid::Uuid;

use crate::{
    audit,
    consent::{
        self,
        popup::{self, Popup},
        withdrawal::{self, Withdrawal},
    },
    context::Context,
    database::again,
    error::{Code, Error},
    follower,
    notification::settle,
    receipt,
    user::erase,
    wechat::callback::{self, Push, SentEntry},
};

/// Callbacks looked at in one round.
const BATCH: u64 = 200;

/// Processes stored callbacks, oldest first; gives how many. One that fails holds up no other.
pub async fn process_stored(ctx: &Context) -> Result<usize, Error> {
    let waiting = row::Entity::find()
        .filter(row::Column::ProcessedAt.is_null())
        .filter(row::Column::Event.is_not_in(follower::EVENTS))
        .order_by_asc(row::Column::ReceivedAt)
        .limit(BATCH)
        .all(ctx.db.read())
        .await?;
    let mut processed = 0;
    for stored in waiting {
        match again(|| first_time(ctx, &stored)).await {
            Ok(ours) => processed += usize::from(ours),
            Err(error) if error.code == Code::DatabaseUnavailable => return Err(error),
            Err(error) => tracing::error!(callback.id = %stored.id, %error, "callback.failed"),
        }
    }
    Ok(processed + follower::process_stored(ctx).await?)
}

/// Whether this node deals with a stored callback, rather than another that was faster.
pub async fn take(tx: &DatabaseTransaction, stored: &row::Model, now: Timestamp) -> Result<bool, Error> {
    let taken = row::Entity::update_many()
        .col_expr(row::Column::ProcessedAt, Expr::value(now))
        .filter(row::Column::Id.eq(stored.id))
        .filter(row::Column::ProcessedAt.is_null())
        .exec(tx)
        .await?;
    Ok(taken.rows_affected == 1)
}

/// One callback in one transaction; false when another node was faster.
async fn first_time(ctx: &Context, stored: &row::Model) -> Result<bool, Error> {
    let tx = ctx.db.begin().await?;
    if !take(&tx, stored, ctx.clock.now()).await? {
        return Ok(false);
    }
    let released = apply(ctx, &tx, stored).await?;
    tx.commit().await?;
    ring(ctx, stored, released);
    Ok(true)
}

/// Processes a callback once more, for instance after a fault of ours was mended.
pub async fn replay(ctx: &Context, app_id: &str, id: CallbackId) -> Result<row::Model, Error> {
    again(|| once_more(ctx, app_id, id)).await
}

async fn once_more(ctx: &Context, app_id: &str, id: CallbackId) -> Result<row::Model, Error> {
    let tx = ctx.db.begin().await?;
    // The write comes first: it locks the row.
    row::Entity::update_many()
        .col_expr(row::Column::ProcessedAt, Expr::value(ctx.clock.now()))
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::AppId.eq(app_id))
        .exec(&tx)
        .await?;
    let stored = row::Entity::find_by_id(id).filter(row::Column::AppId.eq(app_id)).one(&tx).await?;
    let stored = stored.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no callback {id}.")))?;
    if stored.body.is_empty() {
        let why = "What it said was erased with the person it was about.";
        return Err(Error::new(Code::StateConflict).detail(why));
    }
    let released = apply(ctx, &tx, &stored).await?;
    tx.commit().await?;
    ring(ctx, &stored, released);
    tracing::info!(callback.id = %id, app.id = app_id, "callback.replayed");
    Ok(stored)
}

/// Messages that waited may go.
fn ring(ctx: &Context, stored: &row::Model, released: bool) {
    if released {
        ctx.wake.delivery.ring(&stored.app_id);
    }
}

/// Whether messages were released by it.
async fn apply(ctx: &Context, tx: &DatabaseTransaction, stored: &row::Model) -> Result<bool, Error> {
    let push = match callback::parse(stored.body.as_bytes()) {
        Ok(push) => push,
        Err(error) => {
            tracing::error!(callback.id = %stored.id, %error, "callback.unreadable");
            return Ok(false);
        }
    };
    let known = identity_of(tx, stored, &push).await?;
    let released = if push.event == "subscribe_msg_popup_event" {
        tapped(ctx, tx, stored, &push, known).await?
    } else {
        change(ctx, tx, stored, &push, known).await?;
        false
    };
    // Of somebody who was erased, or never logged in: nothing reads it again, so nothing of it is kept.
    if known.is_none() && (push.openid.is_some() || is_receipt(&push)) {
        erase::stranger(tx, stored.id).await?;
    }
    Ok(released)
}

fn is_receipt(push: &Push) -> bool {
    matches!(push.event.as_str(), "subscribe_msg_sent_event" | "templatesendjobfinish")
}

async fn change(
    ctx: &Context,
    tx: &DatabaseTransaction,
    stored: &row::Model,
    push: &Push,
    known: Option<IdentityId>,
) -> Result<(), Error> {
    let now = ctx.clock.now();
    let openid = push.openid.clone().unwrap_or_default();
    let of = (stored.app_id.as_str(), openid.as_str());
    match push.event.as_str() {
        "subscribe_msg_sent_event" => sent(ctx, tx, stored, (push, known), push.sent_entries(), now).await,
        "templatesendjobfinish" => sent(ctx, tx, stored, (push, known), push.job_finished(), now).await,
        "subscribe_msg_change_event" => changed(ctx, tx, stored, (push, known), now).await,
        "user_authorization_revoke" => erase::revoke(tx, of, &push.revoked_codes(), audit::WECHAT, now).await,
        "user_authorization_cancellation" if !openid.is_empty() => erase::in_app(ctx, tx, of, audit::WECHAT, now).await,
        // Kept for later use and for the operator to see.
        event => {
            tracing::debug!(app.id = %stored.app_id, callback.event = event, "callback.stored");
            Ok(())
        }
    }
}

async fn sent(
    ctx: &Context,
    tx: &DatabaseTransaction,
    stored: &row::Model,
    (push, known): (&Push, Option<IdentityId>),
    entries: impl IntoIterator<Item = SentEntry>,
    now: Timestamp,
) -> Result<(), Error> {
    // A receipt may come after its message's person was erased.
    let openid = push.openid.clone().filter(|_| known.is_some()).unwrap_or_default();
    for (place, entry) in entries.into_iter().enumerate() {
        let receipt = receipt_row::Model {
            id: ReceiptId(nth(stored.id, place)),
            app_id: stored.app_id.clone(),
            openid: openid.clone(),
            template_id: entry.template_id,
            message_id: entry.message_id,
            status: entry.status,
            errcode: entry.errcode,
            callback_id: stored.id,
            notification_id: None,
            received_at: now,
        };
        receipt::take(ctx, tx, receipt).await?;
    }
    Ok(())
}

/// WeChat's telling of a tap that the front end reports, too.
async fn tapped(
    ctx: &Context,
    tx: &DatabaseTransaction,
    stored: &row::Model,
    push: &Push,
    known: Option<IdentityId>,
) -> Result<bool, Error> {
    let now = ctx.clock.now();
    let Some(identity_id) = known else { return Ok(false) };
    if !consent::hold_person(tx, identity_id).await? {
        // Erased at this moment.
        erase::stranger(tx, stored.id).await?;
        return Ok(false);
    }
    let mut released = false;
    for (place, entry) in by_template(push.popup_entries(), |entry| &entry.template_id) {
        let popup = Popup {
            id: ConsentId(nth(stored.id, place)),
            app_id: &stored.app_id,
            identity_id,
            template_id: &entry.template_id,
            accepted: entry.accepted,
            // Nobody tapped later than we heard of it.
            tapped_at: said_at(stored, push).min(stored.received_at),
        };
        released |= popup::take(ctx, tx, &popup, now).await?;
    }
    Ok(released)
}

/// Each entry with its place, in the order in which balances are locked.
fn by_template<T>(entries: impl IntoIterator<Item = T>, template_id: impl Fn(&T) -> &str) -> Vec<(usize, T)> {
    let mut placed: Vec<_> = entries.into_iter().enumerate().collect();
    placed.sort_by(|(_, a), (_, b)| template_id(a).cmp(template_id(b)));
    placed
}

fn said_at(stored: &row::Model, push: &Push) -> Timestamp {
    push.create_time.map_or(stored.received_at, |seconds| Timestamp(seconds.saturating_mul(1000)))
}

/// The user refuses a template from now on, so what waits to be sent does not go either.
async fn changed(
    ctx: &Context,
    tx: &DatabaseTransaction,
    stored: &row::Model,
    (push, known): (&Push, Option<IdentityId>),
    now: Timestamp,
) -> Result<(), Error> {
    let Some(identity_id) = known else { return Ok(()) };
    let said_at = said_at(stored, push);
    for (place, entry) in by_template(push.change_entries(), |entry| &entry.template_id) {
        if !entry.rejected {
            continue;
        }
        let template_id = entry.template_id.as_str();
        let id = ConsentId(nth(stored.id, place));
        if withdrawal::withdraw(ctx, tx, &Withdrawal { id, identity_id, template_id, said_at }, now).await? {
            settle::stop_others(ctx, tx, std::iter::once((identity_id, template_id)), now).await?;
        }
    }
    Ok(())
}

async fn identity_of(tx: &DatabaseTransaction, stored: &row::Model, push: &Push) -> Result<Option<IdentityId>, Error> {
    let Some(openid) = push.openid.clone() else { return Ok(None) };
    let identity = identity::Entity::of_app(&stored.app_id, [openid]).one(tx).await?;
    Ok(identity.map(|identity| identity.id))
}

/// The id of what the entry at this place of a callback makes.
fn nth(id: CallbackId, place: usize) -> Uuid {
    Uuid::from_u128(id.0.as_u128().wrapping_add(place as u128))
}
