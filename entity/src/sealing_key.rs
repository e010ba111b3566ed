//! Which master keys have sealed something here, so that a lost one is noticed at start.

use sea_orm::entity::prelude::*;

use crate::Timestamp;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sealing_key")]
pub struct Model {
    /// The first bytes of the key's SHA-256, in hex.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: String,
    /// A known text sealed with it.
    pub proof: Vec<u8>,
    pub created_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}
