//! What the nodes share about an app. Its configuration, secrets included, is in the config file.

use sea_orm::entity::prelude::*;

use crate::Timestamp;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "app")]
pub struct Model {
    /// WeChat's AppID.
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: String,
    /// No message of this app is claimed before this instant.
    pub paused_until: Option<Timestamp>,
    /// Why, in words for the operator.
    pub paused_because: Option<String>,
    /// What ends the pause, besides its time; none when a person or a fault of the account set it.
    pub paused_by: Option<PausedBy>,
    /// When WeChat last told what became of a message of this app.
    pub last_receipt_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}

/// What an app waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(20))", rename_all = "snake_case")]
pub enum PausedBy {
    /// The quota of the day is gone; ends when WeChat shows room.
    Quota,
    /// No access token is to be had; ends when the apps are loaded again, too.
    Token,
}
