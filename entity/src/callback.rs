//! Anything WeChat posts to us, stored once.

use sea_orm::entity::prelude::*;

use crate::{CallbackId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "callback")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CallbackId,
    pub app_id: String,
    /// The same push posted again has the same key.
    #[sea_orm(unique)]
    pub dedup_key: Vec<u8>,
    /// The kind of push, such as `subscribe_msg_sent_event`.
    pub event: String,
    pub openid: Option<String>,
    /// The message in clear, as WeChat wrote it, in JSON or XML; empty when the person was erased.
    #[sea_orm(column_type = "Text")]
    pub body: String,
    pub received_at: Timestamp,
    pub processed_at: Option<Timestamp>,
}

impl ActiveModelBehavior for ActiveModel {}
