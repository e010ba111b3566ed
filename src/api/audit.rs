//! The audit log, for operators.

use entity::AuditId;
use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Tag,
    page::{self, Page},
    principal::Key,
    problem::Failure,
    time::Time,
};
use crate::{
    audit::{self, Filter},
    context::Context,
};

pub struct AuditApi;

/// Something that was done. It holds no personal data, and nobody can change or delete it.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditEntry {
    id: String,
    at: Time,
    /// `wechat`, `command line`, `magpie`, or the id of a key or a user.
    actor: String,
    /// `user.erased` `user.data_revoked` `user.exported` `user.banned` `user.unbanned` `key.created` `key.revoked`
    /// `app.paused` `app.resumed` `signing_key.rotated` `master_key.rotated` `webhook.created`
    /// `webhook.changed` `webhook.deleted` `webhook.secret_rotated` `webhook.disabled`
    action: String,
    app_id: Option<String>,
    /// The user it was done to.
    subject: Option<String>,
    /// Counts and kinds.
    detail: Any<Value>,
}

/// A page of entries, newest first.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditList {
    data: Vec<AuditEntry>,
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/v1/audit", tag = "Tag::Audit")]
impl AuditApi {
    /// What operators, users and WeChat did to keys, apps and people's data, newest first
    ///
    /// Everything given must fit. A key for some apps only sees the entries that name one of these. Needs
    /// `audit:read`.
    #[oai(path = "/", method = "get", operation_id = "list_audit")]
    #[expect(clippy::too_many_arguments, reason = "one argument for each filter of the contract")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `key_…`, `usr_…`, `wechat`, `command line` or `magpie`.
        actor: Query<Option<String>>,
        /// Such as `user.erased`.
        action: Query<Option<String>>,
        /// `usr_…`
        subject: Query<Option<String>>,
        after: Query<Option<Time>>,
        before: Query<Option<Time>>,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<AuditList>, Failure> {
        key.require("audit:read")?;
        let page = Page::<AuditId>::parse(limit.0, cursor.0)?;
        let filter = Filter {
            actor: actor.0,
            action: action.0,
            subject: page::filter_id("subject", subject.0)?,
            app_ids: key.apps(),
            after: after.0.map(|time| time.0),
            before: before.0.map(|time| time.0),
        };
        let mut rows = audit::list(ctx, &filter, page.before, page.ask_for()).await?;
        let next_cursor = page.cut(&mut rows, |row| row.id.to_string());
        let show = |row: entity::audit::Model| AuditEntry {
            id: row.id.to_string(),
            at: Time(row.at),
            actor: row.actor,
            action: row.action,
            app_id: row.app_id,
            subject: row.subject.map(|id| id.to_string()),
            detail: Any(row.detail),
        };
        Ok(Json(AuditList { data: rows.into_iter().map(show).collect(), next_cursor }))
    }
}
