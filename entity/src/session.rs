//! A login of a user in an app: a family of refresh tokens.

use sea_orm::entity::prelude::*;

use crate::{IdentityId, SessionId, Timestamp, UserId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "session")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SessionId,
    pub user_id: UserId,
    pub identity_id: IdentityId,
    pub app_id: String,
    /// The generation of the refresh token that is valid now, from 1.
    pub generation: i32,
    /// When the current generation began.
    pub rotated_at: Timestamp,
    /// A MAC of the login code, so that the same code gives the same session for a minute.
    pub code_mac: Vec<u8>,
    pub created_at: Timestamp,
    /// When the session ends unless it is used before: every rotation moves it.
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub revoked_because: Option<RevokedBecause>,
}

impl ActiveModelBehavior for ActiveModel {}

/// Why a session ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(20))", rename_all = "snake_case")]
pub enum RevokedBecause {
    Logout,
    /// An old refresh token came back: somebody else may hold it (RFC 9700 section 4.14).
    Replay,
    Operator,
    /// The person was erased.
    Erased,
    /// The person was banned.
    Banned,
    /// The user ended it from another session.
    Closed,
}
