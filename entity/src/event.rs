//! A fact told to us once by a business system.

use sea_orm::entity::prelude::*;

use crate::{EventId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EventId,
    /// Who says it; unique together with `source_id` (CloudEvents 1.0 `source` and `id`).
    pub source: String,
    pub source_id: String,
    pub event_type: String,
    /// When it happened, as the business system says.
    pub time: Timestamp,
    #[sea_orm(column_type = "Json")]
    pub data: Json,
    /// SHA-256 of what the event says: the same id with another body is refused.
    pub body_hash: Vec<u8>,
    /// The first answer, which a repeat is given again.
    #[sea_orm(column_type = "Json")]
    pub outcomes: Json,
    pub created_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}
