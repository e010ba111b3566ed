//! One message for one identity. The row is the job.

use std::{collections::BTreeMap, sync::Arc};

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{EventId, IdentityId, NotificationId, RuleId, Timestamp, UserId, rule};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: NotificationId,
    /// Unique together with `rule_id` and `identity_id`; none for a direct notification.
    pub event_id: Option<EventId>,
    pub rule_id: Option<RuleId>,
    pub user_id: UserId,
    pub identity_id: IdentityId,
    pub app_id: String,
    /// The identity's openid, so that a push needs no further query.
    pub openid: String,
    pub template_id: String,
    pub state: State,
    pub reason: Option<Reason>,
    /// What exactly, such as the field that was refused.
    pub detail: Option<String>,
    #[sea_orm(column_type = "Json")]
    pub fields: FieldValues,
    pub page: Option<String>,
    pub url: Option<String>,
    #[sea_orm(column_type = "Json", nullable)]
    pub miniprogram: Option<rule::MiniProgramLink>,
    pub no_credit: rule::NoCredit,
    pub unsure: rule::Unsure,
    /// Whether a credit is set aside for this message.
    pub credit: Credit,
    pub priority: i32,
    /// Calls begun, all of them.
    pub attempt_number: i32,
    /// Attempts that count against the limit: a snooze, a pause or a stop costs none.
    pub attempts_used: i32,
    /// How often an operator had it sent again.
    pub replays: i32,
    /// When the first call was begun. A replay starts anew: WeChat then knows the message by another id.
    pub first_attempt_at: Option<Timestamp>,
    /// When the latest call was begun. While it is under way, and when WeChat took the message, this row is all
    /// that is kept of it: only what came to anything else has a row in `attempt`.
    pub attempt_at: Option<Timestamp>,
    /// How long the call took that WeChat took the message in, in milliseconds.
    pub attempt_ms: Option<i32>,
    /// When a `pending` row may be claimed, or an `unsure` one must be decided.
    pub due_at: Timestamp,
    /// When a row that was not sent by then is given up.
    pub expires_at: Timestamp,
    /// Guards the settle: only who holds the lease may write the outcome.
    pub lease_token: Option<Uuid>,
    pub lease_until: Option<Timestamp>,
    /// WeChat's `msgid`.
    pub message_id: Option<String>,
    pub created_at: Timestamp,
    pub sent_at: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    /// When a final state was reached.
    pub finished_at: Option<Timestamp>,
}

impl ActiveModelBehavior for ActiveModel {}

/// The values sent, by template field; shared by all messages that say the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct FieldValues(pub Arc<BTreeMap<String, String>>);

/// Where a notification stands. The transitions are drawn and decided in `src/notification/state.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(12))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// For the user's consent.
    Waiting,
    Pending,
    Sending,
    /// WeChat took it; its later word is missing.
    Accepted,
    Delivered,
    /// Nobody knows whether WeChat took it.
    Unsure,
    Failed,
    Cancelled,
    Expired,
}

/// Why a notification failed; stable, with a sentence beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(24))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    NoCredit,
    Refused,
    NotFollowing,
    Blocked,
    BadOpenid,
    BadTemplate,
    BadData,
    BadPage,
    SensitiveText,
    AttemptsExhausted,
    UnknownOutcome,
    AppError,
    SystemFailure,
    UnknownRecipient,
    NoIdentity,
}

/// What happened to the credit of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(12))", rename_all = "snake_case")]
pub enum Credit {
    /// None is needed, or none was there.
    None,
    /// Set aside; spent by success.
    Reserved,
    /// Given back, or void because the balance was zeroed.
    Returned,
}
