//! The ES256 keys that sign access tokens: sealed in the database, shared by all nodes, public as a
//! JWKS (RFC 7517). All of them verify; the newest signs once it has been public for a while.
//!
//! ```text
//! rotate ─▶ public ─▶ 10 minutes later it signs ─▶ a successor signs ─▶ a day later it is gone
//! ```
//!
//! So no backend meets a token of a key it could not have known, and nobody is logged out.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use entity::{Timestamp, signing_key as row};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::OnConflict};
use serde::Serialize;

use crate::{
    audit::{self, Entry},
    context::Context,
    error::{Code, Error},
    secret::{base64_url, sha256},
};

/// The context a private key is sealed with.
pub const SEALED_FOR: &str = "signing key";
/// How long a new key is public before it signs: twice as long as a JWKS may be kept.
const PUBLIC_BEFORE: Duration = Duration::from_mins(10);
/// How long a node trusts what it has read: another node may have made a key.
const READ_EVERY: Duration = Duration::from_mins(1);
/// How long a key stays public after its successor began to sign, beyond the life of its last tokens.
const KEPT_AFTER: Duration = Duration::from_hours(24);

/// A key in use.
pub struct SigningKey {
    /// Its thumbprint (RFC 7638).
    pub kid: String,
    /// Read once: to read and check it takes longer than to sign.
    pair: EcdsaKeyPair,
    pub decoding: jsonwebtoken::DecodingKey,
    /// What the JWKS shows.
    pub jwk: Jwk,
    pub created_at: Timestamp,
}

impl SigningKey {
    /// The signature of a text by ES256 (RFC 7518 section 3.4).
    pub fn sign(&self, text: &str) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes());
        let signature = signature.map_err(|error| Error::new(Code::Internal).because(error))?;
        Ok(signature.as_ref().to_vec())
    }
}

/// A public P-256 key (RFC 7518 section 6.2).
#[derive(Clone, Debug, Serialize)]
pub struct Jwk {
    pub kty: &'static str,
    pub crv: &'static str,
    pub x: String,
    pub y: String,
    pub kid: String,
    pub alg: &'static str,
    #[serde(rename = "use")]
    pub usage: &'static str,
}

#[derive(Default)]
struct Loaded(RwLock<Option<(Timestamp, Arc<Vec<SigningKey>>)>>);

/// All keys, newest first; the first call makes one when there is none.
pub async fn all(ctx: &Context) -> Result<Arc<Vec<SigningKey>>, Error> {
    let loaded = ctx.memory::<Loaded>();
    let known = loaded.0.read().unwrap_or_else(PoisonError::into_inner).clone();
    match known {
        Some((read_at, keys)) if ctx.clock.now().since(read_at) < READ_EVERY => Ok(keys),
        _ => Box::pin(reload(ctx)).await,
    }
}

/// The key that signs now: the newest that has been public long enough, or the oldest if none has.
pub fn signer(newest_first: &[SigningKey], now: Timestamp) -> Option<&SigningKey> {
    let known = newest_first.iter().find(|key| now.since(key.created_at) >= PUBLIC_BEFORE);
    known.or(newest_first.last())
}

/// Makes a new key and gives its `kid`.
pub async fn rotate(ctx: &Context, actor: &str) -> Result<String, Error> {
    let newest = newest_first(ctx).await?.first().map_or(0, |row| row.sequence);
    create(ctx, newest + 1).await?;
    let keys = reload(ctx).await?;
    let kid = keys.first().map(|key| key.kid.clone()).unwrap_or_default();
    let detail = serde_json::json!({ "kid": kid });
    let entry = Entry { actor, action: "signing_key.rotated", app_id: None, subject: None, detail };
    audit::record(ctx.db.write(), entry, ctx.clock.now()).await?;
    Ok(kid)
}

/// Deletes the keys whose tokens have all ended; gives how many.
pub async fn forget(ctx: &Context) -> Result<u64, Error> {
    let kept_for = PUBLIC_BEFORE + ctx.config.session.access_token_ttl + KEPT_AFTER;
    let before = ctx.clock.now() - kept_for;
    let rows = newest_first(ctx).await?;
    // The newest that was made before then has signed ever since.
    let Some(signing) = rows.iter().find(|row| row.created_at <= before) else { return Ok(0) };
    let older = row::Column::Sequence.lt(signing.sequence);
    Ok(row::Entity::delete_many().filter(older).exec(ctx.db.write()).await?.rows_affected)
}

/// Reads the keys again: another node may have made a new one.
pub async fn reload(ctx: &Context) -> Result<Arc<Vec<SigningKey>>, Error> {
    let mut rows = newest_first(ctx).await?;
    if rows.is_empty() {
        create(ctx, 1).await?;
        rows = newest_first(ctx).await?;
    }
    let keys = rows.into_iter().map(|row| open(ctx, row)).collect::<Result<Vec<_>, _>>()?;
    let keys = Arc::new(keys);
    *ctx.memory::<Loaded>().0.write().unwrap_or_else(PoisonError::into_inner) = Some((ctx.clock.now(), keys.clone()));
    Ok(keys)
}

async fn newest_first(ctx: &Context) -> Result<Vec<row::Model>, Error> {
    Ok(row::Entity::find().order_by_desc(row::Column::Sequence).all(ctx.db.read()).await?)
}

/// Adds the key with this number unless another node was faster.
async fn create(ctx: &Context, sequence: i32) -> Result<(), Error> {
    let broken = |_| Error::new(Code::Internal).detail("a signing key cannot be made");
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(broken)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
        .map_err(|error| Error::new(Code::Internal).because(error.to_string()))?;
    let public_key = pair.public_key().as_ref().to_vec();
    let model = row::ActiveModel {
        kid: Set(thumbprint(&public_key)),
        sequence: Set(sequence),
        private_key: Set(ctx.keys.seal(SEALED_FOR, pkcs8.as_ref())),
        public_key: Set(public_key),
        created_at: Set(ctx.clock.now()),
    };
    row::Entity::insert(model)
        .on_conflict(OnConflict::column(row::Column::Sequence).do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(ctx.db.write())
        .await?;
    Ok(())
}

fn open(ctx: &Context, row: row::Model) -> Result<SigningKey, Error> {
    let pkcs8 = ctx.keys.open(SEALED_FOR, &row.private_key)?;
    let (x, y) = coordinates(&row.public_key);
    let jwk = Jwk { kty: "EC", crv: "P-256", x, y, kid: row.kid.clone(), alg: "ES256", usage: "sig" };
    let decoding = jsonwebtoken::DecodingKey::from_ec_components(&jwk.x, &jwk.y)
        .map_err(|error| Error::new(Code::Internal).because(error))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
        .map_err(|error| Error::new(Code::Internal).because(error.to_string()))?;
    Ok(SigningKey { kid: row.kid, pair, decoding, jwk, created_at: row.created_at })
}

/// The halves of an uncompressed point, `04 | x 32 | y 32`.
fn coordinates(point: &[u8]) -> (String, String) {
    let half = |from: usize| base64_url(point.get(from..from + 32).unwrap_or_default());
    (half(1), half(33))
}

fn thumbprint(point: &[u8]) -> String {
    let (x, y) = coordinates(point);
    base64_url(&sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes()))
}
