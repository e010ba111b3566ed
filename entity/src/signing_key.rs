//! The keys that sign access tokens, shared by all nodes.

use sea_orm::entity::prelude::*;

use crate::Timestamp;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_key")]
pub struct Model {
    /// Names the key in the header of a token and in the JWKS.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: String,
    /// Counts the keys from 1; unique, so that nodes which start together agree on one.
    #[sea_orm(unique)]
    pub sequence: i32,
    /// PKCS#8, sealed under the master key.
    pub private_key: Vec<u8>,
    /// The uncompressed P-256 point.
    pub public_key: Vec<u8>,
    pub created_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}
