//! The audit log: what was done to somebody's data. It outlives the data, so it holds none of it.

use entity::{AuditId, Timestamp, UserId, audit as row};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};
use serde_json::Value;
use uuid::Uuid;

use crate::error::Error;

/// Who acts when WeChat says that a person wants it.
pub const WECHAT: &str = "wechat";

/// Something that was done.
pub struct Entry<'a> {
    /// [`WECHAT`], or the id of a key or a user.
    pub actor: &'a str,
    /// `user.erased`, `user.data_revoked`.
    pub action: &'a str,
    pub app_id: Option<&'a str>,
    pub subject: Option<UserId>,
    /// Counts and kinds, no personal data.
    pub detail: Value,
}

/// Writes an entry, in the transaction of what was done.
pub async fn record(db: &impl ConnectionTrait, entry: Entry<'_>, now: Timestamp) -> Result<(), Error> {
    let model = row::ActiveModel {
        id: Set(AuditId(Uuid::now_v7())),
        at: Set(now),
        actor: Set(entry.actor.to_owned()),
        action: Set(entry.action.to_owned()),
        app_id: Set(entry.app_id.map(str::to_owned)),
        subject: Set(entry.subject),
        detail: Set(entry.detail),
    };
    row::Entity::insert(model).exec_without_returning(db).await?;
    Ok(())
}
