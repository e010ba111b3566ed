//! The audit log: what was done to somebody's data. It outlives the data, so it holds none of it.

use entity::{AuditId, Timestamp, UserId, audit as row};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::Value;
use uuid::Uuid;

use crate::{context::Context, error::Error};

/// Who acts when WeChat says that a person wants it.
pub const WECHAT: &str = "wechat";

/// Who acts at the command line of the server.
pub const COMMAND_LINE: &str = "command line";

/// Who acts when Magpie itself decides.
pub const MAGPIE: &str = "magpie";

/// Something that was done.
pub struct Entry<'a> {
    /// [`WECHAT`], [`COMMAND_LINE`], [`MAGPIE`], or the id of a key or a user.
    pub actor: &'a str,
    /// [`ACTIONS`]
    pub action: &'a str,
    pub app_id: Option<&'a str>,
    pub subject: Option<UserId>,
    /// Counts and kinds, no personal data.
    pub detail: Value,
}

/// Everything that is written down.
pub const ACTIONS: [&str; 16] = [
    "user.erased",
    "user.data_revoked",
    "user.exported",
    "user.banned",
    "user.unbanned",
    "key.created",
    "key.revoked",
    "app.paused",
    "app.resumed",
    "signing_key.rotated",
    "master_key.rotated",
    "webhook.created",
    "webhook.changed",
    "webhook.deleted",
    "webhook.secret_rotated",
    "webhook.disabled",
];

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

/// What to look for; everything given must fit.
#[derive(Default)]
pub struct Filter {
    pub actor: Option<String>,
    pub action: Option<String>,
    pub subject: Option<UserId>,
    /// Only entries about these apps.
    pub app_ids: Option<Vec<String>>,
    pub after: Option<Timestamp>,
    pub before: Option<Timestamp>,
}

/// Entries older than `older_than`, newest first. There is no way to change or delete one by hand.
pub async fn list(
    ctx: &Context,
    filter: &Filter,
    older_than: Option<AuditId>,
    limit: u64,
) -> Result<Vec<row::Model>, Error> {
    use row::Column::{Action, Actor, AppId, At, Id, Subject};
    let mut query = row::Entity::find().order_by_desc(Id).limit(limit);
    let conditions = [
        older_than.map(|id| Id.lt(id)),
        filter.actor.as_ref().map(|actor| Actor.eq(actor)),
        filter.action.as_ref().map(|action| Action.eq(action)),
        filter.subject.map(|id| Subject.eq(id)),
        filter.app_ids.as_ref().map(|ids| AppId.is_in(ids)),
        filter.after.map(|at| At.gte(at)),
        filter.before.map(|at| At.lt(at)),
    ];
    for condition in conditions.into_iter().flatten() {
        query = query.filter(condition);
    }
    Ok(query.all(ctx.db.read()).await?)
}
