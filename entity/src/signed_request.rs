//! A signed request (Standard Webhooks) and what it was answered.

use sea_orm::entity::prelude::*;

use crate::{ApiKeyId, Timestamp};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signed_request")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: ApiKeyId,
    /// `webhook-id`
    #[sea_orm(primary_key, auto_increment = false)]
    pub message_id: String,
    /// SHA-256 of the body: the same id with another body is refused.
    pub body_hash: Vec<u8>,
    /// The HTTP status of the first answer; none while it is being made.
    pub status: Option<i32>,
    /// The first answer's body.
    #[sea_orm(column_type = "Text", nullable)]
    pub answer: Option<String>,
    pub at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}
