//! One call to WeChat for a notification that came to anything but a message taken.
//!
//! A call is written down before it is made: in the notification's own row, where one that succeeds stays.

use sea_orm::entity::prelude::*;
use serde::Serialize;

use crate::{NotificationId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "attempt")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub notification_id: NotificationId,
    /// From 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    pub started_at: Timestamp,
    pub duration_ms: Option<i32>,
    /// None while the call is under way.
    pub outcome: Option<Outcome>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    /// WeChat's request id, which explains the call for seven days.
    pub rid: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}

/// What an answer of WeChat, or its absence, meant for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum, Serialize)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(16))", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Accepted,
    Retry,
    RefreshToken,
    SlowDown,
    Snooze,
    PauseApp,
    PauseTemplate,
    NoCredit,
    DropUser,
    Reject,
    Operator,
    Unsure,
    /// The call was not made: the lease was too short or the node stopped.
    NotCalled,
}
