//! WeChat's later word on what became of a message.

use sea_orm::entity::prelude::*;

use crate::{CallbackId, NotificationId, ReceiptId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "receipt")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReceiptId,
    pub app_id: String,
    pub openid: String,
    pub template_id: Option<String>,
    /// WeChat's `MsgID`; the same as the `msgid` of the send where that was given.
    pub message_id: Option<String>,
    /// `success`, or WeChat's text of the failure.
    pub status: String,
    pub errcode: i64,
    pub callback_id: CallbackId,
    /// The message it was matched to; none while it is held.
    pub notification_id: Option<NotificationId>,
    pub received_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}
