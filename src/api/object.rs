//! The shapes that several resources share.

use std::{collections::BTreeMap, sync::Arc};

use entity::{consent, notification as rows, rule as rule_rows, template};
use poem_openapi::{Enum, Object};

use serde::{Deserialize, Serialize};

use super::{request, time::Time};
use crate::notification::sentence;

/// Maps a stored enum to its word in the API: they are the same words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident = $row:ty { $($(#[$of:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Deserialize, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[oai(rename_all = "snake_case")]
        pub enum $name { $($(#[$of])* $variant),* }

        impl From<$row> for $name {
            fn from(row: $row) -> Self {
                match row { $(<$row>::$variant => Self::$variant),* }
            }
        }

        impl From<$name> for $row {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => Self::$variant),* }
            }
        }
    };
}

words!(
    /// Where a notification stands: `waiting` for consent, `pending`, `sending`, `accepted` by WeChat,
    /// `delivered` to the phone, `unsure` whether WeChat took it, or ended.
    State = rows::State { Waiting, Pending, Sending, Accepted, Delivered, Unsure, Failed, Cancelled, Expired }
);
words!(
    /// Why a notification failed or waits.
    Reason = rows::Reason {
        NoCredit, Refused, NotFollowing, Blocked, BadOpenid, BadTemplate, BadData, BadPage, SensitiveText,
        AttemptsExhausted, UnknownOutcome, AppError, SystemFailure, UnknownRecipient, NoIdentity,
    }
);
words!(
    /// What to do with a message the user has no credit for: let it fail, or keep it until the user accepts.
    #[derive(Default)]
    NoCredit = rule_rows::NoCredit { #[default] Fail, Wait }
);
words!(
    /// What to do when nobody knows whether WeChat took a message: give it up, or send it again.
    #[derive(Default)]
    Unsure = rule_rows::Unsure { #[default] AtMostOnce, AtLeastOnce }
);
words!(
    /// What to do with a value that is too long for its field.
    Overflow = rule_rows::Overflow { Truncate, Refuse }
);
words!(
    /// `one_time`: each acceptance is worth one message. `long_term`: any number until the user refuses.
    TemplateKind = template::Kind { OneTime, LongTerm, ServiceAccount }
);
words!(
    /// `paused`: WeChat refused the template, so nothing of it is sent until the templates are fetched again,
    /// hourly or by hand, and it is still in the account. `deleted`: gone from the account.
    TemplateState = template::State { Active, Paused, Deleted }
);
words!(
    /// What a ledger entry says.
    ConsentKind = consent::Kind { Accept, Reject, Ban, Filter, Cancel, Reserved, Returned, Zeroed, Expired }
);

/// Where a service account's message leads.
#[derive(Clone, Debug, Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields)]
pub struct MiniProgramLink {
    /// The AppID of a Mini Program that is linked to the service account.
    pub app_id: String,
    pub page: String,
}

impl From<rule_rows::MiniProgramLink> for MiniProgramLink {
    fn from(link: rule_rows::MiniProgramLink) -> Self {
        Self { app_id: link.app_id, page: link.page }
    }
}

impl From<MiniProgramLink> for rule_rows::MiniProgramLink {
    fn from(link: MiniProgramLink) -> Self {
        Self { app_id: link.app_id, page: link.page }
    }
}

/// A notification in a list.
#[derive(Clone, Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Notification {
    pub id: String,
    pub event_id: Option<String>,
    pub rule_id: Option<String>,
    pub user_id: String,
    pub app_id: String,
    pub template_id: String,
    pub state: State,
    /// Stable: branch on this.
    pub reason: Option<Reason>,
    /// The reason in words, in the language asked for.
    pub reason_text: Option<String>,
    /// What exactly, such as the field at fault or WeChat's answer.
    pub detail: Option<String>,
    /// The values sent, by template field.
    pub fields: BTreeMap<String, String>,
    pub page: Option<String>,
    pub created_at: Time,
    /// When it may be sent next, or when its unknown outcome is decided.
    pub due_at: Time,
    pub expires_at: Time,
    pub sent_at: Option<Time>,
    pub delivered_at: Option<Time>,
    /// WeChat's `msgid`.
    pub message_id: Option<String>,
}

impl From<rows::Model> for Notification {
    fn from(row: rows::Model) -> Self {
        let text = |reason| request::in_language(sentence::of(reason), ("", "")).0.to_owned();
        Self {
            id: row.id.to_string(),
            event_id: row.event_id.map(|id| id.to_string()),
            rule_id: row.rule_id.map(|id| id.to_string()),
            user_id: row.user_id.to_string(),
            app_id: row.app_id,
            template_id: row.template_id,
            state: row.state.into(),
            reason: row.reason.map(Into::into),
            reason_text: row.reason.map(text),
            detail: row.detail,
            fields: Arc::unwrap_or_clone(row.fields.0),
            page: row.page,
            created_at: Time(row.created_at),
            due_at: Time(row.due_at),
            expires_at: Time(row.expires_at),
            sent_at: row.sent_at.map(Time),
            delivered_at: row.delivered_at.map(Time),
            message_id: row.message_id,
        }
    }
}

/// A page of notifications, newest first.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct NotificationList {
    pub data: Vec<Notification>,
    /// Pass it as `cursor` for the next page; missing on the last one.
    pub next_cursor: Option<String>,
}

/// The simulator's demo app, so that "Try it out" works as it stands.
pub fn example_app_id() -> String {
    "wxdemo0000000001".into()
}

/// An enum as its word in the API.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
