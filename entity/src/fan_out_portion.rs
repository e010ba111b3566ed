//! Recipients of a fan-out who are still to be notified; gone once they are.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::FanOutId;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "fan_out_portion")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub fan_out_id: FanOutId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub place: i32,
    #[sea_orm(column_type = "Json")]
    pub recipients: References,
}

impl ActiveModelBehavior for ActiveModel {}

/// References as they were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct References(pub Vec<String>);
