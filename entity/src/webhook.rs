//! An endpoint of a business system that is told what happens (Standard Webhooks).

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Timestamp, WebhookId, api_key::AppIds};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WebhookId,
    #[sea_orm(column_type = "Text")]
    pub url: String,
    #[sea_orm(column_type = "Text")]
    pub description: String,
    #[sea_orm(column_type = "Json")]
    pub event_types: EventTypes,
    /// The only apps it is told about; none means all.
    #[sea_orm(column_type = "Json", nullable)]
    pub app_ids: Option<AppIds>,
    /// What signs its messages, sealed under the master key.
    pub secret: Vec<u8>,
    /// The secret before, which signs too until `previous_until`.
    pub previous_secret: Option<Vec<u8>>,
    pub previous_until: Option<Timestamp>,
    pub enabled: bool,
    /// Why it was switched off; none when somebody did it by hand.
    pub disabled_because: Option<DisabledBecause>,
    /// Since when nothing but failures came from it.
    pub failing_since: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}

/// Names of events: `notification.failed`, or `notification.*` for a family, or `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct EventTypes(pub Vec<String>);

/// Why an endpoint was switched off by Magpie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(12))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum DisabledBecause {
    /// It answered 410.
    Gone,
    /// For days nothing but failures came from it.
    Failing,
}
