//! A person's data as one JSON document.

use entity::{callback, consent, credit, identity, notification, session};
use poem_openapi::{
    Object,
    types::{Any, ToJSON},
};
use serde_json::{Value, json};

use super::{
    object::{TemplateKind, word},
    time::Time,
};
use crate::{clock::rfc3339, user::export::Export};

/// Everything that is known of a person.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct UserExport {
    exported_at: Time,
    user: ExportedUser,
    /// The person in each app.
    identities: Vec<Any<Value>>,
    /// Credits left for each template.
    balances: Vec<Any<Value>>,
    /// Everything the person agreed to or refused, oldest first.
    ledger: Vec<Any<Value>>,
    /// Messages with what they said, oldest first.
    notifications: Vec<Any<Value>>,
    /// What WeChat posted about the person, as it was posted.
    callbacks: Vec<Any<Value>>,
    sessions: Vec<Any<Value>>,
}

/// The person.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct ExportedUser {
    id: String,
    external_id: Option<String>,
    /// E.164
    phone_number: Option<String>,
    phone_told_at: Option<Time>,
    nickname: Option<String>,
    avatar_url: Option<String>,
    language: Option<String>,
    banned_at: Option<Time>,
    banned_because: Option<String>,
    created_at: Time,
}

impl From<Export> for UserExport {
    fn from(export: Export) -> Self {
        let user = export.user;
        Self {
            exported_at: Time(export.at),
            user: ExportedUser {
                id: user.id.to_string(),
                external_id: user.external_id,
                phone_number: export.phone_number,
                phone_told_at: user.phone_at.map(Time),
                nickname: user.nickname,
                avatar_url: user.avatar_url,
                language: user.language,
                banned_at: user.banned_at.map(Time),
                banned_because: user.banned_because,
                created_at: Time(user.created_at),
            },
            identities: export.identities.into_iter().map(identity).map(Any).collect(),
            balances: export.balances.into_iter().map(balance).map(Any).collect(),
            ledger: export.ledger.into_iter().map(entry).map(Any).collect(),
            notifications: export.notifications.into_iter().map(message).map(Any).collect(),
            callbacks: export.callbacks.into_iter().map(posted).map(Any).collect(),
            sessions: export.sessions.into_iter().map(login).map(Any).collect(),
        }
    }
}

/// The `session_key` is WeChat's secret, not the person's data.
fn identity(row: identity::Model) -> Value {
    json!({
        "id": row.id, "app_id": row.app_id, "openid": row.openid, "unionid": row.unionid,
        "unfollowed_at": row.unfollowed_at.map(rfc3339), "created_at": rfc3339(row.created_at),
    })
}

fn balance(row: credit::Model) -> Value {
    json!({
        "identity_id": row.identity_id, "template_id": row.template_id,
        "kind": TemplateKind::from(row.kind).to_json(), "credits": row.credits,
        "last_result": word(&row.last_result), "updated_at": rfc3339(row.updated_at),
    })
}

fn entry(row: consent::Model) -> Value {
    json!({
        "identity_id": row.identity_id, "template_id": row.template_id, "kind": word(&row.kind), "delta": row.delta,
        "source": word(&row.source), "notification_id": row.notification_id, "at": rfc3339(row.created_at),
    })
}

fn message(row: notification::Model) -> Value {
    json!({
        "id": row.id, "app_id": row.app_id, "template_id": row.template_id, "event_id": row.event_id,
        "state": word(&row.state), "reason": row.reason.as_ref().map(word), "fields": row.fields.0, "page": row.page,
        "url": row.url, "created_at": rfc3339(row.created_at), "sent_at": row.sent_at.map(rfc3339),
        "delivered_at": row.delivered_at.map(rfc3339),
    })
}

fn posted(row: callback::Model) -> Value {
    json!({
        "id": row.id, "app_id": row.app_id, "event": row.event, "body": row.body,
        "received_at": rfc3339(row.received_at),
    })
}

fn login(row: session::Model) -> Value {
    json!({
        "id": row.id, "app_id": row.app_id, "created_at": rfc3339(row.created_at),
        "last_refreshed_at": rfc3339(row.rotated_at), "expires_at": rfc3339(row.expires_at),
        "revoked_at": row.revoked_at.map(rfc3339),
    })
}
