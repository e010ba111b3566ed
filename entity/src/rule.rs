//! Event type → template, recipients, field expressions, condition, page, policy.

use std::collections::BTreeMap;

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{RuleId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "rule")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RuleId,
    pub name: String,
    pub event_type: String,
    pub app_id: String,
    pub template_id: String,
    #[sea_orm(column_type = "Json")]
    pub fields: FieldExpressions,
    pub page: Option<String>,
    pub url: Option<String>,
    #[sea_orm(column_type = "Json", nullable)]
    pub miniprogram: Option<MiniProgramLink>,
    /// The condition: an expression that must be true.
    pub when: Option<String>,
    /// An expression that computes the recipients instead of the event naming them.
    pub recipients: Option<String>,
    pub no_credit: NoCredit,
    pub unsure: Unsure,
    pub overflow: Overflow,
    pub ttl_seconds: Option<i64>,
    pub delay_seconds: Option<i64>,
    pub priority: i32,
    pub enabled: bool,
    /// Set while the template is not what the rule was written for.
    pub paused_because: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}

/// Template field → MiniJinja expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct FieldExpressions(pub BTreeMap<String, String>);

/// Where a service account's message leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct MiniProgramLink {
    pub app_id: String,
    pub page: String,
}

/// What to do with a message the user has no credit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum NoCredit {
    Fail,
    /// Keep it until the user accepts, or its time to live ends.
    Wait,
}

/// What to do with a message of which nobody knows whether it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Unsure {
    AtMostOnce,
    AtLeastOnce,
}

/// What to do with a value that is too long for its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    Truncate,
    Refuse,
}
