//! API keys of business systems and operators: opaque, hashed at rest, with scopes, perhaps for some apps only.
//!
//! A key is replaced by making a second one, giving it to the system, and revoking the first: both work
//! meanwhile. Revoking counts at once on every node (see [`revision`]).

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use entity::{
    ApiKeyId, Timestamp,
    api_key::{self as row, AppIds, Scopes},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, TryInsertResult,
    sea_query::OnConflict,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use uuid::Uuid;

use crate::{
    audit::{self, Entry},
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

/// A key to be made.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What it is for.
    pub name: String,
    pub scopes: Vec<String>,
    /// The only apps it may use; all when missing.
    pub app_ids: Option<Vec<String>>,
    pub expires_at: Option<Timestamp>,
}

/// A key that was just made: the only time it is shown.
pub struct NewKey {
    pub row: row::Model,
    /// `mk_…`, for `Authorization: Bearer`.
    pub key: SecretString,
    /// `whsec_…`, for signed requests (Standard Webhooks).
    pub signing_secret: SecretString,
}

/// Makes a key with these scopes for all apps, at the command line.
pub async fn create(
    ctx: &Context,
    name: &str,
    scopes: &[String],
    expires_at: Option<Timestamp>,
) -> Result<NewKey, Error> {
    let wanted = Wanted { name: name.to_owned(), scopes: scopes.to_vec(), app_ids: None, expires_at };
    make(ctx, &wanted, audit::COMMAND_LINE).await
}

/// Makes a key; `actor` is who wants it.
pub async fn make(ctx: &Context, wanted: &Wanted, actor: &str) -> Result<NewKey, Error> {
    check(ctx, wanted)?;
    insert(ctx, ApiKeyId(Uuid::now_v7()), &random(), wanted, actor).await
}

/// The same key at every call with the same name, derived from the master key: for `magpie dev`,
/// where a restart must not sign anybody out.
pub async fn create_derived(ctx: &Context, name: &str, scopes: &[String]) -> Result<NewKey, Error> {
    let seed = ctx.keys.mac("derived api key", name.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hmac_sha256(&seed, b"id")[..16]);
    let id = ApiKeyId(uuid::Builder::from_random_bytes(id).into_uuid());
    let wanted = Wanted { name: name.to_owned(), scopes: scopes.to_vec(), ..Wanted::default() };
    insert(ctx, id, &seed, &wanted, audit::COMMAND_LINE).await
}

async fn insert(ctx: &Context, id: ApiKeyId, seed: &[u8; 32], wanted: &Wanted, actor: &str) -> Result<NewKey, Error> {
    let prefix = format!("mk_{}", hex(&hmac_sha256(seed, b"prefix")[..5]));
    let key = SecretString::from(format!("{prefix}_{}", base64_url(&hmac_sha256(seed, b"key"))));
    let signing = hmac_sha256(seed, b"signing secret");
    let row = row::Model {
        id,
        name: wanted.name.clone(),
        prefix,
        hash: sha256(key.expose_secret().as_bytes()).to_vec(),
        signing_secret: ctx.keys.seal(&signing_secret_context(id), &signing),
        scopes: Scopes(wanted.scopes.clone()),
        app_ids: wanted.app_ids.clone().map(AppIds),
        created_at: ctx.clock.now(),
        expires_at: wanted.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    let tx = ctx.db.begin().await?;
    let inserted = row::Entity::insert(row.clone().into_active_model())
        .on_conflict(OnConflict::column(row::Column::Id).do_nothing().to_owned())
        .try_insert()
        .exec_without_returning(&tx)
        .await?;
    if matches!(inserted, TryInsertResult::Inserted(1)) {
        revision::raise(&tx, Of::ApiKey).await?;
        let detail = json!({
            "key_id": id, "prefix": row.prefix, "scopes": wanted.scopes, "app_ids": wanted.app_ids,
        });
        let entry = Entry { actor, action: "key.created", app_id: None, subject: None, detail };
        audit::record(&tx, entry, row.created_at).await?;
    }
    tx.commit().await?;
    // Standard Webhooks: the prefix and the secret in standard base64.
    let signing_secret = {
        use base64::{Engine, engine::general_purpose::STANDARD};
        SecretString::from(format!("whsec_{}", STANDARD.encode(signing)))
    };
    Ok(NewKey { row, key, signing_secret })
}

/// The context a signing secret is sealed with: it opens for its own key only.
pub fn signing_secret_context(id: ApiKeyId) -> String {
    format!("signing secret of {id}")
}

fn check(ctx: &Context, wanted: &Wanted) -> Result<(), Error> {
    if wanted.name.trim().is_empty() || wanted.name.chars().count() > 200 || wanted.name.chars().any(char::is_control) {
        return Err(Error::field("/name", "must be 1 to 200 characters"));
    }
    if wanted.expires_at.is_some_and(|end| end <= ctx.clock.now()) {
        return Err(Error::field("/expires_at", "must be in the future"));
    }
    // Each is known, so that nothing is there twice bounds both lists.
    let lists = [("scopes", wanted.scopes.as_slice()), ("app_ids", wanted.app_ids.as_deref().unwrap_or_default())];
    let twice = |(list, items)| {
        repeated(items).map(move |at| FieldError::new(format!("/{list}/{at}"), "is in the list already"))
    };
    let repeated: Vec<_> = lists.into_iter().flat_map(twice).collect();
    if !repeated.is_empty() {
        return Err(Error::fields(Code::InvalidRequest, repeated));
    }
    if let Some(app_ids) = &wanted.app_ids {
        let unknown = app_ids.iter().enumerate().filter(|(_, id)| ctx.app(id).is_none());
        let faults: Vec<_> = unknown
            .map(|(at, _)| FieldError::new(format!("/app_ids/{at}"), "is no app of the configuration"))
            .collect();
        if !faults.is_empty() {
            return Err(Error::fields(Code::InvalidRequest, faults));
        }
        if app_ids.is_empty() {
            return Err(Error::field("/app_ids", "name at least one app, or leave it out for all"));
        }
    }
    check_scopes(&wanted.scopes)
}

/// The places of what stands further in front already.
fn repeated(items: &[String]) -> impl Iterator<Item = usize> {
    let mut seen = HashSet::new();
    items.iter().enumerate().filter(move |(_, item)| !seen.insert(*item)).map(|(at, _)| at)
}

/// Keys older than `before`, newest first, the ended ones too.
pub async fn list(ctx: &Context, before: Option<ApiKeyId>, limit: u64) -> Result<Vec<row::Model>, Error> {
    let mut query = row::Entity::find().order_by_desc(row::Column::Id).limit(limit);
    if let Some(before) = before {
        query = query.filter(row::Column::Id.lt(before));
    }
    Ok(query.all(ctx.db.read()).await?)
}

/// Ends a key at once, on every node. Ending it again changes nothing.
pub async fn revoke(ctx: &Context, id: ApiKeyId, actor: &str) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    let row = row::Entity::find_by_id(id).one(&tx).await?;
    let row = row.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no key {id}.")))?;
    let now = ctx.clock.now();
    let revoked = row::Entity::update_many()
        .set(row::ActiveModel { revoked_at: Set(Some(now)), ..Default::default() })
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::RevokedAt.is_null())
        .exec(&tx)
        .await?;
    if revoked.rows_affected > 0 {
        revision::raise(&tx, Of::ApiKey).await?;
        let detail = json!({ "key_id": id, "prefix": row.prefix });
        audit::record(&tx, Entry { actor, action: "key.revoked", app_id: None, subject: None, detail }, now).await?;
    }
    Ok(tx.commit().await?)
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
pub type Keys = HashMap<Vec<u8>, Arc<row::Model>>;

/// When this node last wrote down that a key was used.
#[derive(Default)]
struct Used(Mutex<HashMap<ApiKeyId, Timestamp>>);

/// The key's row, if it is known, not expired and not revoked on any node.
pub async fn authenticate(ctx: &Context, key: &str) -> Result<Arc<row::Model>, Error> {
    let keys = known(ctx).await?;
    let found = keys.get(sha256(key.as_bytes()).as_slice());
    let found = found.filter(|row| is_live(row, ctx.clock.now())).ok_or(Error::new(Code::InvalidApiKey))?;
    note_use(ctx, found).await?;
    Ok(found.clone())
}

/// Every key, live or not, as it is now.
pub async fn known(ctx: &Context) -> Result<Arc<Keys>, Error> {
    let revisions = revision::now(ctx).await?;
    ctx.memory::<Remembered<Keys>>().get((Of::ApiKey, &revisions), || all(ctx)).await
}

/// Whether the key works at this time.
pub fn is_live(key: &row::Model, now: Timestamp) -> bool {
    key.revoked_at.is_none() && key.expires_at.is_none_or(|end| end > now)
}

/// Writes down that the key is used, about once a minute.
pub async fn note_use(ctx: &Context, found: &row::Model) -> Result<(), Error> {
    let now = ctx.clock.now();
    if was_not_used_lately(ctx, found, now) {
        let used = row::Entity::update_many()
            .set(row::ActiveModel { last_used_at: Set(Some(now)), ..Default::default() })
            .filter(row::Column::Id.eq(found.id));
        Box::pin(used.exec(ctx.db.write())).await?;
    }
    Ok(())
}

async fn all(ctx: &Context) -> Result<Keys, Error> {
    let rows = row::Entity::find().all(ctx.db.read()).await?;
    Ok(rows.into_iter().map(|row| (row.hash.clone(), Arc::new(row))).collect())
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
