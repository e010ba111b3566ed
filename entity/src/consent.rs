//! The ledger: one dated entry for everything that gave, took or used a user's consent.

use sea_orm::entity::prelude::*;
use serde::Serialize;

use crate::{ConsentId, IdentityId, NotificationId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "consent")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ConsentId,
    pub identity_id: IdentityId,
    pub template_id: String,
    pub kind: Kind,
    /// What this entry adds to the credits: the balance is the sum.
    pub delta: i32,
    pub source: Source,
    /// The front end's own id of its report; unique for identity and template.
    pub report_id: Option<String>,
    /// The other telling of the same tap: of a report the popup event, and the other way round. Only the first
    /// that came counts.
    pub twin: Option<ConsentId>,
    /// The message that reserved, returned or proved the credit.
    pub notification_id: Option<NotificationId>,
    /// When the user tapped, as far as known.
    pub tapped_at: Timestamp,
    pub created_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(12))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Accept,
    Reject,
    /// The template or the ability is banned by the platform.
    Ban,
    /// Dropped by the client because another template of the request has the same title.
    Filter,
    /// The user withdrew in the message settings.
    Cancel,
    /// Set aside for a notification.
    Reserved,
    /// Given back because the notification did not spend it.
    Returned,
    /// WeChat or the user said that nothing is left.
    Zeroed,
    Expired,
}

/// Who says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(12))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The front end, after `wx.requestSubscribeMessage`.
    Report,
    /// WeChat's `subscribe_msg_popup_event`.
    Popup,
    /// WeChat's `subscribe_msg_change_event`.
    Change,
    /// WeChat's answer to a push.
    Answer,
    /// Magpie itself: a reservation or its return.
    Delivery,
    Operator,
}
