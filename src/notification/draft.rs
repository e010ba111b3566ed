//! A new notification's row.

use std::time::Duration;

use entity::{
    NotificationId, Timestamp,
    notification::{self, Credit, FieldValues, Reason, State},
    rule,
};
use sea_orm::{ActiveValue::NotSet, IntoActiveModel};

use crate::{database::insert::Insert, recipient::Identity};

/// What decides the life of a new notification.
pub struct Draft<'a> {
    pub id: NotificationId,
    pub identity: &'a Identity,
    pub template_id: &'a str,
    pub no_credit: rule::NoCredit,
    pub unsure: rule::Unsure,
    pub priority: i32,
    /// When it may be sent.
    pub due_at: Timestamp,
    /// How long after `due_at` it is still worth sending.
    pub time_to_live: Duration,
    pub now: Timestamp,
}

/// A row that is ready to be sent, without its text; one that has failed already when the user has left
/// the service account.
pub fn draft(of: Draft<'_>) -> notification::Model {
    let left = of.identity.has_left;
    notification::Model {
        id: of.id,
        event_id: None,
        rule_id: None,
        user_id: of.identity.user_id,
        identity_id: of.identity.id,
        app_id: of.identity.app_id.clone(),
        openid: of.identity.openid.clone(),
        template_id: of.template_id.to_owned(),
        state: if left { State::Failed } else { State::Pending },
        reason: left.then_some(Reason::NotFollowing),
        detail: None,
        fields: FieldValues::default(),
        page: None,
        url: None,
        miniprogram: None,
        no_credit: of.no_credit,
        unsure: of.unsure,
        credit: Credit::None,
        priority: of.priority,
        attempt_number: 0,
        attempts_used: 0,
        replays: 0,
        first_attempt_at: None,
        attempt_at: None,
        attempt_ms: None,
        due_at: of.due_at,
        expires_at: of.due_at + of.time_to_live,
        lease_token: None,
        lease_until: None,
        message_id: None,
        created_at: of.now,
        sent_at: None,
        delivered_at: None,
        finished_at: left.then_some(of.now),
    }
}

/// How new notifications are stored. Those of one rule share what it says, and those of one moment how they begin.
pub const NEW: Insert<notification::Entity> = Insert {
    shared: {
        use notification::Column as C;
        &[
            &[C::RuleId, C::AppId, C::TemplateId, C::NoCredit, C::Unsure, C::Priority, C::DueAt, C::ExpiresAt],
            &[
                C::State,
                C::Credit,
                C::AttemptNumber,
                C::AttemptsUsed,
                C::Replays,
                C::FirstAttemptAt,
                C::AttemptAt,
                C::LeaseToken,
                C::LeaseUntil,
                C::CreatedAt,
            ],
        ]
    },
    only_if: "",
    suffix: "",
};

/// The same on SQLite, where the people were read before the transaction: of one who was erased meanwhile, or has become
/// one with another user, nothing is stored. (PostgreSQL looks at all of them first, and holds them.)
pub const NEW_OF_WHO_IS_THERE: Insert<notification::Entity> = Insert {
    only_if: "EXISTS (SELECT 1 FROM identity WHERE identity.id = v.identity_id AND identity.user_id = v.user_id)",
    ..NEW
};

/// Rows as they are inserted, without their fields. What no new row has is left out: each bound value costs both sides.
pub fn inserted(rows: Vec<notification::Model>) -> Vec<notification::ActiveModel> {
    let none = |empty: fn(&notification::Model) -> bool| rows.iter().all(empty);
    let without_page = none(|row| row.page.is_none());
    let without_link = none(|row| row.url.is_none() && row.miniprogram.is_none());
    let without_end = none(|row| row.reason.is_none() && row.detail.is_none() && row.finished_at.is_none());
    let insert = |row: notification::Model| {
        let mut row = row.into_active_model();
        (row.fields, row.message_id) = (NotSet, NotSet);
        (row.sent_at, row.delivered_at, row.attempt_ms) = (NotSet, NotSet, NotSet);
        if without_page {
            row.page = NotSet;
        }
        if without_link {
            (row.url, row.miniprogram) = (NotSet, NotSet);
        }
        if without_end {
            (row.reason, row.detail, row.finished_at) = (NotSet, NotSet, NotSet);
        }
        row
    };
    rows.into_iter().map(insert).collect()
}
