//! Signed requests (Standard Webhooks): who signed, and whether the same was answered before.
//!
//! ```text
//! webhook-id . webhook-timestamp . body ─▶ HMAC-SHA256 under the key's secret ─▶ the key
//!   ─▶ (key, webhook-id) unknown ─▶ claimed ─▶ answered ─▶ the answer is kept
//!                        known ─▶ the first answer again; with another body it is refused
//! ```
//!
//! What is kept lies in the database, so a repeat may come to another node.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use entity::{ApiKeyId, Timestamp, api_key, signed_request as row};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, TryInsertResult,
    sea_query::{Expr, OnConflict},
};
use subtle::ConstantTimeEq;

use crate::{
    api_key as keys,
    context::Context,
    error::{Code, Error},
    secret::{hmac_sha256, sha256},
};

/// How far `webhook-timestamp` may lie from our clock, either way.
pub const WINDOW: Duration = Duration::from_mins(5);
/// How long answers are kept: longer than a repeat can pass the window.
pub const KEPT_FOR: Duration = Duration::from_hours(1);
/// Secrets tried when no key is named.
const MOST_SECRETS: usize = 16;
/// Signatures looked at: two secrets in rotation make two.
const MOST_SIGNATURES: usize = 16;
const LONGEST_ID: usize = 255;

/// What a signed request says of itself.
pub struct Given<'a> {
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`
    pub signatures: &'a str,
    /// `X-Magpie-Key`
    pub prefix: Option<&'a str>,
    pub body: &'a [u8],
}

/// The key whose secret signed it.
pub async fn verify(ctx: &Context, given: &Given<'_>) -> Result<Arc<api_key::Model>, Error> {
    let refused = |detail: &str| Error::new(Code::InvalidSignature).detail(detail);
    if given.id.is_empty() || given.id.len() > LONGEST_ID || !given.id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("webhook-id is missing or not 1 to 255 visible ASCII characters."));
    }
    let now = ctx.clock.now();
    let told = given.timestamp.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp);
    let told = told.ok_or_else(|| refused("webhook-timestamp must be seconds since 1970."))?;
    if now.since(told).max(told.since(now)) > WINDOW {
        return Err(refused("webhook-timestamp is more than five minutes away from the server's clock."));
    }
    let known = keys::known(ctx).await?;
    let mut live: Vec<_> = known.values().filter(|key| keys::is_live(key, now)).collect();
    match given.prefix {
        Some(prefix) => live.retain(|key| key.prefix == prefix),
        None => live.sort_unstable_by_key(|key| std::cmp::Reverse(key.id)),
    }
    live.truncate(MOST_SECRETS);
    let signed = [given.id.as_bytes(), given.timestamp.as_bytes(), given.body].join(&b'.');
    let mut found = None;
    for key in live {
        let secret = ctx.keys.open(&keys::signing_secret_context(key.id), &key.signing_secret)?;
        if matches(&hmac_sha256(&secret, &signed), given.signatures) {
            found = found.or(Some(key));
        }
    }
    let key = found.ok_or_else(|| refused("No live key signed this id, timestamp and body."))?;
    keys::note_use(ctx, key).await?;
    Ok(key.clone())
}

/// Whether one of `v1,BASE64 v1,BASE64 …` is the tag, in constant time.
fn matches(tag: &[u8; 32], signatures: &str) -> bool {
    let told = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
    told.take(MOST_SIGNATURES)
        .filter_map(|text| STANDARD.decode(text).ok())
        .fold(false, |found, told| found | bool::from(told.as_slice().ct_eq(tag)))
}

/// An answer as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The HTTP status.
    pub status: i32,
    pub body: String,
}

/// Claims the id for this body. Gives the first answer if there is one; an id that another request is
/// still answering may be answered too: events count once anyway.
pub async fn begin(ctx: &Context, key_id: ApiKeyId, id: &str, body: &[u8]) -> Result<Option<Answered>, Error> {
    let body_hash = sha256(body).to_vec();
    let claim = row::ActiveModel {
        key_id: Set(key_id),
        message_id: Set(id.to_owned()),
        body_hash: Set(body_hash.clone()),
        status: Set(None),
        answer: Set(None),
        at: Set(ctx.clock.now()),
    };
    let claimed = row::Entity::insert(claim)
        .on_conflict(OnConflict::columns([row::Column::KeyId, row::Column::MessageId]).do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(ctx.db.write())
        .await?;
    if matches!(claimed, TryInsertResult::Inserted(1)) {
        return Ok(None);
    }
    match find(ctx, key_id, id).await? {
        Some(row) if row.body_hash != body_hash => Err(Error::new(Code::SignedIdReused)),
        row => Ok(row.and_then(answered)),
    }
}

/// Keeps the answer, and gives the one that counts: another request may have been faster.
pub async fn keep(ctx: &Context, key_id: ApiKeyId, id: &str, answer: Answered) -> Result<Answered, Error> {
    let kept = row::Entity::update_many()
        .col_expr(row::Column::Status, Expr::value(answer.status))
        .col_expr(row::Column::Answer, Expr::value(answer.body.clone()))
        .filter(row::Column::KeyId.eq(key_id))
        .filter(row::Column::MessageId.eq(id))
        .filter(row::Column::Status.is_null())
        .exec(ctx.db.write())
        .await?;
    if kept.rows_affected > 0 {
        return Ok(answer);
    }
    Ok(find(ctx, key_id, id).await?.and_then(answered).unwrap_or(answer))
}

/// What was refused may be sent again under its id, corrected or later.
pub async fn release(ctx: &Context, key_id: ApiKeyId, id: &str) -> Result<(), Error> {
    row::Entity::delete_many()
        .filter(row::Column::KeyId.eq(key_id))
        .filter(row::Column::MessageId.eq(id))
        .filter(row::Column::Status.is_null())
        .exec(ctx.db.write())
        .await?;
    Ok(())
}

/// Forgets the answers from before; gives how many.
pub async fn forget(ctx: &Context, before: Timestamp) -> Result<u64, Error> {
    let gone = row::Entity::delete_many().filter(row::Column::At.lt(before)).exec(ctx.db.write()).await?;
    Ok(gone.rows_affected)
}

/// Forgets the answers that name one of these: the events behind them stay what they are.
pub async fn forget_about(tx: &DatabaseTransaction, names: impl Iterator<Item = String>) -> Result<(), Error> {
    for name in names {
        row::Entity::delete_many().filter(row::Column::Answer.contains(name)).exec(tx).await?;
    }
    Ok(())
}

async fn find(ctx: &Context, key_id: ApiKeyId, id: &str) -> Result<Option<row::Model>, Error> {
    Ok(row::Entity::find_by_id((key_id, id.to_owned())).one(ctx.db.read()).await?)
}

fn answered(row: row::Model) -> Option<Answered> {
    Some(Answered { status: row.status?, body: row.answer? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_public_example_matches() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let tag = hmac_sha256(&secret, br#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert!(matches(&tag, signature));
        assert!(matches(&tag, &format!("v1,AAAA v1a,AAAA {signature}")));
        assert!(!matches(&tag, &signature.replace("v1,g", "v1,h")));
        assert!(!matches(&tag, &signature.replace("v1,", "v2,")));
        assert!(!matches(&tag, ""));
    }
}
