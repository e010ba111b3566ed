//! API keys of business systems and operators: opaque, hashed at rest, with scopes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use entity::{ApiKeyId, Timestamp, api_key as row, api_key::Scopes};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, sea_query::OnConflict};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use crate::{
    context::Context,
    error::{Code, Error, FieldError},
    revision::{self, Of, Remembered},
    secret::{base64_url, hex, hmac_sha256, random, sha256},
};

/// Everything a key may be allowed; `admin` is all of them.
pub const SCOPES: [&str; 17] = [
    "admin",
    "apps:read",
    "apps:write",
    "audit:read",
    "events:read",
    "events:write",
    "notifications:read",
    "notifications:write",
    "rules:read",
    "rules:write",
    "templates:read",
    "templates:write",
    "token:read",
    "users:read",
    "users:write",
    "webhooks:read",
    "webhooks:write",
];

/// How exact `last_used_at` is: a write per request would cost more than it tells.
const LAST_USED_STEP: std::time::Duration = std::time::Duration::from_mins(1);

/// A key that was just made: the only time it is shown.
pub struct NewKey {
    pub id: ApiKeyId,
    /// `mk_…`, for `Authorization: Bearer`.
    pub key: SecretString,
    /// `whsec_…`, for signed requests (Standard Webhooks).
    pub signing_secret: SecretString,
}

/// Makes a key with these scopes.
pub async fn create(
    ctx: &Context,
    name: &str,
    scopes: &[String],
    expires_at: Option<Timestamp>,
) -> Result<NewKey, Error> {
    let (id, seed) = (ApiKeyId(Uuid::now_v7()), random());
    insert(ctx, id, &seed, name, scopes, expires_at).await
}

/// The same key at every call with the same name, derived from the master key: for `magpie dev`,
/// where a restart must not sign anybody out.
pub async fn create_derived(ctx: &Context, name: &str, scopes: &[String]) -> Result<NewKey, Error> {
    let seed = ctx.keys.mac("derived api key", name.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hmac_sha256(&seed, b"id")[..16]);
    insert(ctx, ApiKeyId(uuid::Builder::from_random_bytes(id).into_uuid()), &seed, name, scopes, None).await
}

async fn insert(
    ctx: &Context,
    id: ApiKeyId,
    seed: &[u8; 32],
    name: &str,
    scopes: &[String],
    expires_at: Option<Timestamp>,
) -> Result<NewKey, Error> {
    check_scopes(scopes)?;
    let prefix = format!("mk_{}", hex(&hmac_sha256(seed, b"prefix")[..5]));
    let key = SecretString::from(format!("{prefix}_{}", base64_url(&hmac_sha256(seed, b"key"))));
    let signing = hmac_sha256(seed, b"signing secret");
    let model = row::ActiveModel {
        id: Set(id),
        name: Set(name.to_owned()),
        prefix: Set(prefix),
        hash: Set(sha256(key.expose_secret().as_bytes()).to_vec()),
        signing_secret: Set(ctx.keys.seal(&format!("signing secret of {id}"), &signing)),
        scopes: Set(Scopes(scopes.to_vec())),
        created_at: Set(ctx.clock.now()),
        expires_at: Set(expires_at),
        revoked_at: Set(None),
        last_used_at: Set(None),
    };
    let tx = ctx.db.begin().await?;
    row::Entity::insert(model)
        .on_conflict(OnConflict::column(row::Column::Id).do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(&tx)
        .await?;
    revision::raise(&tx, Of::ApiKey).await?;
    tx.commit().await?;
    // Standard Webhooks: the prefix and the secret in standard base64.
    let signing_secret = {
        use base64::{Engine, engine::general_purpose::STANDARD};
        SecretString::from(format!("whsec_{}", STANDARD.encode(signing)))
    };
    Ok(NewKey { id, key, signing_secret })
}

fn check_scopes(scopes: &[String]) -> Result<(), Error> {
    let unknown = scopes.iter().filter(|scope| !SCOPES.contains(&scope.as_str()));
    let faults: Vec<_> = unknown
        .map(|scope| FieldError::new("/scopes", format!("`{scope}` is no scope; known are {}", SCOPES.join(", "))))
        .collect();
    if !faults.is_empty() {
        return Err(Error::fields(Code::InvalidRequest, faults));
    }
    if scopes.is_empty() {
        return Err(Error::field("/scopes", format!("name at least one of {}", SCOPES.join(", "))));
    }
    Ok(())
}

/// Every key by its hash.
type Keys = HashMap<Vec<u8>, row::Model>;

/// When this node last wrote down that a key was used.
#[derive(Default)]
struct Used(Mutex<HashMap<ApiKeyId, Timestamp>>);

/// The key's row, if it is known, not expired and not revoked on any node.
pub async fn authenticate(ctx: &Context, key: &str) -> Result<row::Model, Error> {
    let now = ctx.clock.now();
    let revisions = revision::now(ctx).await?;
    let keys = ctx.memory::<Remembered<Keys>>().get((Of::ApiKey, &revisions), all(ctx)).await?;
    let found = keys
        .get(sha256(key.as_bytes()).as_slice())
        .filter(|row| row.revoked_at.is_none() && row.expires_at.is_none_or(|end| end > now))
        .ok_or(Error::new(Code::InvalidApiKey))?;
    if was_not_used_lately(ctx, found, now) {
        row::Entity::update_many()
            .set(row::ActiveModel { last_used_at: Set(Some(now)), ..Default::default() })
            .filter(row::Column::Id.eq(found.id))
            .exec(ctx.db.write())
            .await?;
    }
    Ok(found.clone())
}

async fn all(ctx: &Context) -> Result<Keys, Error> {
    Ok(row::Entity::find().all(ctx.db.read()).await?.into_iter().map(|row| (row.hash.clone(), row)).collect())
}

fn was_not_used_lately(ctx: &Context, key: &row::Model, now: Timestamp) -> bool {
    let used = ctx.memory::<Used>();
    let mut used = used.0.lock().unwrap_or_else(PoisonError::into_inner);
    let last = used.get(&key.id).copied().or(key.last_used_at);
    let lately = last.is_some_and(|at| now.since(at) < LAST_USED_STEP);
    if !lately {
        used.insert(key.id, now);
    }
    !lately
}

/// Whether the key may do what `scope` names.
pub fn allows(key: &row::Model, scope: &str) -> bool {
    key.scopes.0.iter().any(|held| held == scope || held == "admin")
}
