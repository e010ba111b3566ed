//! A person's name in an event that became no notification for them: what an erasure finds the event by.

use sea_orm::entity::prelude::*;

use crate::EventId;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event_name")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub event_id: EventId,
    /// The openid, unionid or external id alone, or our own id of the user.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
}

impl ActiveModelBehavior for ActiveModel {}
