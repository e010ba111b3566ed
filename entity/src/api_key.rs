//! A key of a business system or an operator.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{ApiKeyId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApiKeyId,
    pub name: String,
    /// The public beginning of the key, by which it is recognised.
    #[sea_orm(unique)]
    pub prefix: String,
    /// SHA-256 of the whole key, which has 256 random bits: no slow hash is needed.
    #[sea_orm(unique)]
    pub hash: Vec<u8>,
    /// The secret of signed requests, sealed under the master key.
    pub signing_secret: Vec<u8>,
    #[sea_orm(column_type = "Json")]
    pub scopes: Scopes,
    /// The apps it may use; none means all.
    #[sea_orm(column_type = "Json", nullable)]
    pub app_ids: Option<AppIds>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

impl ActiveModelBehavior for ActiveModel {}

/// What a key may do, such as `events:write`; `admin` is all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Scopes(pub Vec<String>);

/// The apps a key may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct AppIds(pub Vec<String>);

impl Model {
    /// Whether the key may use this app.
    pub fn reaches(&self, app_id: &str) -> bool {
        self.app_ids.as_ref().is_none_or(|apps| apps.0.iter().any(|known| known == app_id))
    }
}
