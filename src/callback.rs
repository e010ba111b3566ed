//! Callbacks: anything WeChat posts to us. Stored once, acknowledged, processed afterwards.
//!
//! ```text
//! POST ─▶ signature ─▶ callback row (unique by what was said) ─▶ "success" ─▶ bell
//!                                                                   worker ─▶ receipts …
//! ```

mod process;

use std::{sync::Arc, time::Duration};

use entity::{CallbackId, Timestamp, callback as row};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::OnConflict,
};
use secrecy::SecretString;
use uuid::Uuid;

use crate::{
    config::{App, CallbackMode},
    context::Context,
    error::{Code, Error},
    secret::sha256,
    wechat::callback::{self, Push, cipher},
};

pub use process::{process_stored, replay, take};

/// WeChat gives up on an answer after 5 s; a store that takes longer than this is answered with "try
/// again", and the push is repeated.
const STORE_DEADLINE: Duration = Duration::from_millis(3500);

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
    if callback::is_probe(body) {
        return Ok(());
    }
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
    // PostgreSQL keeps no NUL in a text, and neither format has a use for one.
    let text = String::from_utf8_lossy(&text).replace('\0', "");
    let stored = tokio::time::timeout(STORE_DEADLINE, store(ctx, &app, &push, &text)).await;
    stored.unwrap_or_else(|_| Err(Error::new(Code::DatabaseUnavailable)))
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

/// What to list.
#[derive(Default)]
pub struct Filter {
    pub event: Option<String>,
    pub openid: Option<String>,
    pub received_after: Option<Timestamp>,
    pub received_before: Option<Timestamp>,
    pub processed: Option<bool>,
}

/// The callbacks of an app older than `before`, newest first.
pub async fn list(
    ctx: &Context,
    app_id: &str,
    filter: &Filter,
    before: Option<CallbackId>,
    limit: u64,
) -> Result<Vec<row::Model>, Error> {
    use row::Column::{AppId, Event, Id, Openid, ProcessedAt, ReceivedAt};
    ctx.app(app_id).ok_or(Error::new(Code::AppNotFound))?;
    let mut query = row::Entity::find().filter(AppId.eq(app_id)).order_by_desc(Id).limit(limit);
    let conditions = [
        before.map(|id| Id.lt(id)),
        filter.event.as_ref().map(|event| Event.eq(event.to_ascii_lowercase())),
        filter.openid.as_ref().map(|openid| Openid.eq(openid)),
        filter.received_after.map(|at| ReceivedAt.gte(at)),
        filter.received_before.map(|at| ReceivedAt.lt(at)),
        filter.processed.map(|processed| if processed { ProcessedAt.is_not_null() } else { ProcessedAt.is_null() }),
    ];
    for condition in conditions.into_iter().flatten() {
        query = query.filter(condition);
    }
    Ok(query.all(ctx.db.read()).await?)
}
