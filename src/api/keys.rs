//! API keys, for operators.

use entity::{ApiKeyId, api_key as rows};
use poem::web::Data;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    types::Example,
};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{
    Tag,
    body::Body,
    page::{self, Page},
    principal::Key,
    problem::Failure,
    time::Time,
};
use crate::{
    api_key::{self, Wanted},
    context::Context,
};

pub struct KeysApi;

/// A key to be made.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct KeyRequest {
    /// What it is for.
    name: String,
    /// Such as `events:write`; `admin` is all.
    scopes: Vec<String>,
    /// The only apps it may use; all when missing.
    app_ids: Option<Vec<String>>,
    /// When it ends; never when missing.
    expires_at: Option<Time>,
}

impl Example for KeyRequest {
    fn example() -> Self {
        let scopes = ["events:write", "notifications:read"].map(str::to_owned).to_vec();
        let app_ids = Some(vec![super::object::example_app_id()]);
        Self { name: "shop".into(), scopes, app_ids, expires_at: None }
    }
}

/// An API key. Its secrets are shown once, when it is made.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct ApiKey {
    id: String,
    /// The public beginning of the key: `X-Magpie-Key` of signed requests.
    prefix: String,
    name: String,
    scopes: Vec<String>,
    /// The only apps it may use; all when missing.
    app_ids: Option<Vec<String>>,
    created_at: Time,
    expires_at: Option<Time>,
    revoked_at: Option<Time>,
    /// To the minute.
    last_used_at: Option<Time>,
}

/// A page of keys, newest first, the ended ones too.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct KeyList {
    data: Vec<ApiKey>,
    next_cursor: Option<String>,
}

/// A key that was just made.
#[derive(Object)]
struct NewKey {
    #[oai(flatten)]
    shown: ApiKey,
    /// `mk_…`, for `Authorization: Bearer`. Shown this once.
    key: String,
    /// `whsec_…`, for signed requests (Standard Webhooks). Shown this once.
    signing_secret: String,
}

#[derive(ApiResponse)]
enum Made {
    /// Keep `key` and `signing_secret` now.
    #[oai(status = 201)]
    Key(Json<NewKey>),
}

#[derive(ApiResponse)]
enum Revoked {
    /// The key has ended, on every node.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/v1/keys", tag = "Tag::Keys")]
impl KeysApi {
    /// List the API keys
    ///
    /// Never their secrets. Needs `admin` and a key for all apps.
    #[oai(path = "/", method = "get", operation_id = "list_keys")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<KeyList>, Failure> {
        key.require_for_all("admin")?;
        let page = Page::<ApiKeyId>::parse(limit.0, cursor.0)?;
        let rows = api_key::list(ctx, page.before, page.ask_for()).await?;
        let (data, next_cursor) = page.shown(rows, |row| row.id.to_string());
        Ok(Json(KeyList { data, next_cursor }))
    }

    /// Make an API key
    ///
    /// To replace a key, make the second one first: both work until the first is revoked. Needs `admin` and a
    /// key for all apps.
    #[oai(path = "/", method = "post", operation_id = "create_key")]
    async fn create(&self, Data(ctx): Data<&Context>, key: Key, Body(body): Body<KeyRequest>) -> Result<Made, Failure> {
        key.require_for_all("admin")?;
        let expires_at = body.expires_at.map(|time| time.0);
        let wanted = Wanted { name: body.name, scopes: body.scopes, app_ids: body.app_ids, expires_at };
        let made = api_key::make(ctx, &wanted, &key.actor()).await?;
        Ok(Made::Key(Json(NewKey {
            shown: made.row.into(),
            key: made.key.expose_secret().to_owned(),
            signing_secret: made.signing_secret.expose_secret().to_owned(),
        })))
    }

    /// Revoke an API key
    ///
    /// It ends at once, on every node. Needs `admin` and a key for all apps.
    #[oai(path = "/:key_id", method = "delete", operation_id = "revoke_key")]
    async fn revoke(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `key_…`
        key_id: Path<String>,
    ) -> Result<Revoked, Failure> {
        key.require_for_all("admin")?;
        api_key::revoke(ctx, page::id(&key_id.0, "key")?, &key.actor()).await?;
        Ok(Revoked::Done)
    }
}

impl From<rows::Model> for ApiKey {
    fn from(row: rows::Model) -> Self {
        Self {
            id: row.id.to_string(),
            prefix: row.prefix,
            name: row.name,
            scopes: row.scopes.0,
            app_ids: row.app_ids.map(|ids| ids.0),
            created_at: Time(row.created_at),
            expires_at: row.expires_at.map(Time),
            revoked_at: row.revoked_at.map(Time),
            last_used_at: row.last_used_at.map(Time),
        }
    }
}
