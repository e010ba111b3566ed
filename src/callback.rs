//! Callbacks: anything WeChat posts to us. Stored once, acknowledged, processed afterwards.
//!
//! ```text
//! POST ─▶ signature ─▶ callback row (unique by what was said) ─▶ "success" ─▶ bell
//!                                                                   worker ─▶ receipts …
//! ```

use std::sync::Arc;

use entity::{CallbackId, ReceiptId, Timestamp, callback as row, receipt as receipt_row};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    config::{App, CallbackMode},
    context::Context,
    error::{Code, Error},
    follower, receipt,
    secret::sha256,
    wechat::callback::{self, Push, SentEntry, cipher},
};

/// What WeChat signs of every request.
pub struct Signed<'a> {
    pub signature: &'a str,
    pub timestamp: &'a str,
    pub nonce: &'a str,
}

/// Whether WeChat may use this address: the check made when it is entered in the console.
pub fn check_url(ctx: &Context, app_id: &str, signed: &Signed<'_>) -> Result<(), Error> {
    let (_, token) = signed_app(ctx, app_id)?;
    if callback::signature_matches(&token, &[signed.timestamp, signed.nonce], signed.signature) {
        Ok(())
    } else {
        Err(Error::new(Code::CallbackRefused))
    }
}

/// Checks a push, opens it and stores it. Nothing is acknowledged before it is stored.
pub async fn receive(
    ctx: &Context,
    app_id: &str,
    signed: &Signed<'_>,
    msg_signature: Option<&str>,
    body: &[u8],
) -> Result<(), Error> {
    let (app, token) = signed_app(ctx, app_id)?;
    let refused = |problem: String| Error::new(Code::CallbackRefused).detail(problem);
    let text = match (app.callback_mode, &app.encoding_aes_key) {
        (CallbackMode::Plain, _) => {
            if !callback::signature_matches(&token, &[signed.timestamp, signed.nonce], signed.signature) {
                return Err(Error::new(Code::CallbackRefused));
            }
            body.to_vec()
        }
        // The clear half of the compatible mode is not signed, so only the sealed half counts.
        (CallbackMode::Compatible | CallbackMode::Secure, Some(key)) => {
            let sealed = callback::sealed_part(body).map_err(|error| refused(format!("{error}.")))?;
            let signature = msg_signature.unwrap_or_default();
            if !callback::signature_matches(&token, &[signed.timestamp, signed.nonce, &sealed], signature) {
                return Err(Error::new(Code::CallbackRefused));
            }
            cipher::open(key, &app.app_id, &sealed).map_err(|error| refused(format!("{error}.")))?
        }
        (_, None) => return Err(Error::new(Code::CallbackRefused)),
    };
    let push = callback::parse(&text).map_err(|error| Error::new(Code::MalformedJson).detail(format!("{error}.")))?;
    store(ctx, &app, &push, &String::from_utf8_lossy(&text)).await
}

fn signed_app(ctx: &Context, app_id: &str) -> Result<(Arc<App>, SecretString), Error> {
    let app = ctx.app(app_id).ok_or(Error::new(Code::AppNotFound))?;
    let token = app.callback_token.clone();
    let token = token.ok_or(Error::new(Code::CallbackRefused).detail("The app has no callback_token configured."))?;
    Ok((app, token))
}

/// Stores a push unless it is here already: WeChat repeats what was not acknowledged in time, and the
/// same push may reach two nodes. Two different events of one second differ in what they say.
async fn store(ctx: &Context, app: &App, push: &Push, body: &str) -> Result<(), Error> {
    let model = row::ActiveModel {
        id: Set(CallbackId(Uuid::now_v7())),
        app_id: Set(app.app_id.clone()),
        dedup_key: Set(sha256(format!("{}\n{body}", app.app_id).as_bytes()).to_vec()),
        event: Set(push.event.clone()),
        openid: Set(push.openid.clone()),
        body: Set(body.to_owned()),
        received_at: Set(ctx.clock.now()),
        processed_at: Set(None),
    };
    row::Entity::insert(model)
        .on_conflict(OnConflict::column(row::Column::DedupKey).do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(ctx.db.write())
        .await?;
    ctx.wake.callbacks.notify_one();
    Ok(())
}

/// Processes stored callbacks, oldest first; gives how many.
pub async fn process_stored(ctx: &Context) -> Result<usize, Error> {
    let waiting = row::Entity::find()
        .filter(row::Column::ProcessedAt.is_null())
        .filter(row::Column::Event.is_not_in(follower::EVENTS))
        .order_by_asc(row::Column::ReceivedAt)
        .limit(200)
        .all(ctx.db.read())
        .await?;
    let mut processed = 0;
    for stored in waiting {
        processed += usize::from(process(ctx, &stored).await?);
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
async fn process(ctx: &Context, stored: &row::Model) -> Result<bool, Error> {
    let tx = ctx.db.begin().await?;
    if !take(&tx, stored, ctx.clock.now()).await? {
        return Ok(false);
    }
    match callback::parse(stored.body.as_bytes()) {
        Ok(push) if push.event == "subscribe_msg_sent_event" => {
            sent(ctx, &tx, stored, &push, push.sent_entries()).await?;
        }
        Ok(push) if push.event == "templatesendjobfinish" => {
            sent(ctx, &tx, stored, &push, push.job_finished()).await?;
        }
        // Kept for later use and for the operator to see.
        Ok(push) => tracing::debug!(app.id = %stored.app_id, callback.event = %push.event, "callback.stored"),
        Err(error) => tracing::error!(callback.id = %stored.id, %error, "callback.unreadable"),
    }
    tx.commit().await?;
    Ok(true)
}

async fn sent(
    ctx: &Context,
    tx: &DatabaseTransaction,
    stored: &row::Model,
    push: &Push,
    entries: impl IntoIterator<Item = SentEntry>,
) -> Result<(), Error> {
    for entry in entries {
        let receipt = receipt_row::Model {
            id: ReceiptId(Uuid::now_v7()),
            app_id: stored.app_id.clone(),
            openid: push.openid.clone().unwrap_or_default(),
            template_id: entry.template_id,
            message_id: entry.message_id,
            status: entry.status,
            errcode: entry.errcode,
            callback_id: stored.id,
            notification_id: None,
            received_at: ctx.clock.now(),
        };
        receipt::take(tx, receipt).await?;
    }
    Ok(())
}
