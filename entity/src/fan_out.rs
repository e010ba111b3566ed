//! An event on its way to more people than one transaction takes.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{EventId, FanOutId, IdentityId, RuleId, Timestamp, notification::FieldValues, rule};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "fan_out")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: FanOutId,
    pub event_id: EventId,
    /// None for a direct notification.
    pub rule_id: Option<RuleId>,
    pub app_id: String,
    pub template_id: String,
    /// What everybody is told, as it was when the event came.
    #[sea_orm(column_type = "Json")]
    pub message: Message,
    /// Whether everybody is meant who agreed to the template, after those who are named.
    pub consented: bool,
    pub state: State,
    /// Recipients dealt with.
    pub done: i32,
    pub total: i32,
    /// Of those the ones whom nobody knows or who have never used the app.
    pub unreached: i32,
    /// The last identity dealt with of those who agreed.
    pub cursor: Option<IdentityId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}

/// What everybody is told, and what decides the life of the messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Message {
    pub fields: FieldValues,
    pub page: Option<String>,
    pub url: Option<String>,
    pub miniprogram: Option<rule::MiniProgramLink>,
    pub no_credit: rule::NoCredit,
    pub unsure: rule::Unsure,
    pub priority: i32,
    pub due_at: Timestamp,
    pub ttl_seconds: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(12))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum State {
    Running,
    Paused,
    /// What it made and what was not sent yet is being cancelled.
    Cancelling,
    Cancelled,
    Done,
}
