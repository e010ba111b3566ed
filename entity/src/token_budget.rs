//! How many forced refreshes of an app's access token the nodes have used today.

use sea_orm::entity::prelude::*;

use crate::Timestamp;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "token_budget")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: String,
    /// The number of the day in China that `used` counts.
    pub day: i64,
    pub used: i32,
    pub last_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}
