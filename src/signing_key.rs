//! The ES256 keys that sign access tokens: sealed in the database, shared by all nodes, public as a
//! JWKS (RFC 7517). The newest signs; all of them verify.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use entity::signing_key as row;
use sea_orm::{ActiveValue::Set, EntityTrait, QueryOrder, sea_query::OnConflict};
use serde::Serialize;

use crate::{
    context::Context,
    error::{Code, Error},
    secret::{base64_url, sha256},
};

const SEALED_FOR: &str = "signing key";

/// A key in use.
pub struct SigningKey {
    /// Its thumbprint (RFC 7638).
    pub kid: String,
    pub encoding: jsonwebtoken::EncodingKey,
    pub decoding: jsonwebtoken::DecodingKey,
    /// What the JWKS shows.
    pub jwk: Jwk,
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
struct Loaded(RwLock<Option<Arc<Vec<SigningKey>>>>);

/// All keys, newest first; the first call makes one when there is none.
pub async fn all(ctx: &Context) -> Result<Arc<Vec<SigningKey>>, Error> {
    let loaded = ctx.memory::<Loaded>();
    if let Some(keys) = loaded.0.read().unwrap_or_else(PoisonError::into_inner).clone() {
        return Ok(keys);
    }
    reload(ctx).await
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
    *ctx.memory::<Loaded>().0.write().unwrap_or_else(PoisonError::into_inner) = Some(keys.clone());
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
    Ok(SigningKey { kid: row.kid, encoding: jsonwebtoken::EncodingKey::from_ec_der(&pkcs8), decoding, jwk })
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
