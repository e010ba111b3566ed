//! What was done to somebody's data, by whom: kept when the data itself is gone, so without any of it.

use sea_orm::entity::prelude::*;

use crate::{AuditId, Timestamp, UserId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditId,
    pub at: Timestamp,
    /// `wechat`, or the id of a key or a user.
    pub actor: String,
    /// `user.erased`, `user.data_revoked`.
    pub action: String,
    pub app_id: Option<String>,
    /// Our own id of the person it was done to.
    pub subject: Option<UserId>,
    #[sea_orm(column_type = "Json")]
    pub detail: Json,
}

impl ActiveModelBehavior for ActiveModel {}
