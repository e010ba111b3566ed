//! One message to an endpoint. The row is the job.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{NotificationId, Timestamp, UserId, WebhookDeliveryId, WebhookId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_delivery")]
pub struct Model {
    /// `webhook-id`: the same however often it is sent.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WebhookDeliveryId,
    pub webhook_id: WebhookId,
    pub event_type: String,
    /// The app it is about; none for all of a person's.
    pub app_id: Option<String>,
    /// The person it is about.
    pub user_id: Option<UserId>,
    pub notification_id: Option<NotificationId>,
    /// The body to the letter; empty once the person was erased.
    #[sea_orm(column_type = "Text")]
    pub body: String,
    pub state: State,
    /// Calls begun.
    pub attempts: i32,
    /// When a `pending` row may be claimed. While a call is under way it is the end of the lease.
    pub due_at: Timestamp,
    /// Guards the settle: only who holds the lease may write the outcome.
    pub lease_token: Option<Uuid>,
    /// The HTTP status of the last answer.
    pub status: Option<i32>,
    /// Why the last call did not count as received.
    pub problem: Option<Problem>,
    /// How long the last call took.
    pub duration_ms: Option<i32>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize, Deserialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(12))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// To be sent, for the first time or again.
    Pending,
    /// The endpoint answered 2xx.
    Delivered,
    /// Given up.
    Failed,
}

/// Why a call did not count as received, or was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(20))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// The status is not 2xx.
    Status,
    TimedOut,
    /// No connection, no TLS, or no answer.
    Unreachable,
    /// The host leads to an address that is not public.
    AddressRefused,
    /// The endpoint was switched off while it waited.
    EndpointDisabled,
    /// The person it was about was erased.
    Erased,
}
