//! How many more messages of a template an identity will take: derived from the ledger, kept
//! beside it so that one statement can reserve.

use sea_orm::entity::prelude::*;

use crate::{IdentityId, Timestamp, consent, template};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub identity_id: IdentityId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub template_id: String,
    pub kind: template::Kind,
    /// The number of messages left; for a long-term template 1 is on and 0 is off.
    pub credits: i32,
    /// The last thing the user said.
    pub last_result: consent::Kind,
    pub updated_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}
