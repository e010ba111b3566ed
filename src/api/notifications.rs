//! What became of every message, and why.

mod direct;

use entity::{NotificationId, attempt, notification as rows};
use poem::web::Data;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path, Query},
    payload::Json,
};

use super::{
    Tag,
    body::Body,
    events::{self, EventAnswer},
    object::{Notification, NotificationList, Reason, State, word},
    page::{self, Page},
    principal::Key,
    problem::Failure,
    rate_limit,
    time::Time,
};
use crate::{
    context::Context,
    event,
    notification::{self, Filter, Story, act},
};

use direct::DirectNotification;

pub struct NotificationsApi;

#[derive(ApiResponse)]
enum Sent {
    /// Stored; the messages are on their way.
    #[oai(status = 202)]
    Accepted(
        Json<EventAnswer>,
        /// `true` when this is the first answer again: nothing new was stored.
        #[oai(header = "Idempotency-Replayed")]
        Option<bool>,
    ),
}

/// One call to WeChat.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Attempt {
    /// From 1.
    number: i32,
    started_at: Time,
    /// Missing while the call is under way.
    duration_ms: Option<i32>,
    /// What the answer meant: `accepted`, `retry`, `no_credit`, `unsure`, …
    outcome: Option<String>,
    /// WeChat's code; 0 is success.
    errcode: Option<i64>,
    errmsg: Option<String>,
    /// WeChat's request id, which explains the call for seven days.
    rid: Option<String>,
}

/// One moment in the life of a notification.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Moment {
    at: Time,
    /// `created`, `attempt`, `receipt`, `consent_reserved`, …
    what: String,
    detail: Option<String>,
}

/// A notification with everything that happened to it.
#[derive(Object)]
struct NotificationStory {
    #[oai(flatten)]
    notification: Notification,
    attempts: Vec<Attempt>,
    /// Oldest first.
    timeline: Vec<Moment>,
}

#[OpenApi(prefix_path = "/v1/notifications", tag = "Tag::Notifications")]
impl NotificationsApi {
    /// Send a message without a rule
    ///
    /// The values are checked against the template before anything is stored; `errors` names each fault. With an
    /// `Idempotency-Key` the request may be repeated: the same body gets the first answer again, on any node, as
    /// long as the event that stands for it is kept (at least 24 hours), another body is refused (422). `event_id`
    /// leads to its progress. Needs `notifications:write`.
    #[oai(path = "/", method = "post", operation_id = "send_notification")]
    async fn send(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// Your own name of this message, 1 to 200 visible ASCII characters.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        Body(body): Body<DirectNotification>,
    ) -> Result<Sent, Failure> {
        key.require_in("notifications:write", &body.app_id)?;
        rate_limit::events(ctx, &key.0.prefix, 1)?;
        let mut accepted = event::direct::send(ctx, key.0.id, idempotency_key.0, body.into()).await?;
        let again = std::mem::take(&mut accepted.duplicate).then_some(true);
        Ok(Sent::Accepted(Json(events::one(accepted)), again))
    }

    /// List notifications, newest first
    ///
    /// Needs `notifications:read`.
    #[oai(path = "/", method = "get", operation_id = "list_notifications")]
    #[expect(clippy::too_many_arguments, reason = "one argument for each filter of the contract")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        state: Query<Option<State>>,
        reason: Query<Option<Reason>>,
        /// `usr_…`
        user_id: Query<Option<String>>,
        app_id: Query<Option<String>>,
        template_id: Query<Option<String>>,
        /// `evt_…`
        event_id: Query<Option<String>>,
        created_after: Query<Option<Time>>,
        created_before: Query<Option<Time>>,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<NotificationList>, Failure> {
        match &app_id.0 {
            Some(app_id) => key.require_in("notifications:read", app_id)?,
            None => key.require("notifications:read")?,
        }
        let page = Page::<NotificationId>::parse(limit.0, cursor.0)?;
        let filter = Filter {
            state: state.0.map(Into::into),
            reason: reason.0.map(Into::into),
            user_id: page::filter_id("user_id", user_id.0)?,
            app_id: app_id.0,
            app_ids: key.apps(),
            template_id: template_id.0,
            event_id: page::filter_id("event_id", event_id.0)?,
            created_after: created_after.0.map(|time| time.0),
            created_before: created_before.0.map(|time| time.0),
        };
        let rows = notification::list(ctx, &filter, page.before, page.ask_for()).await?;
        let (data, next_cursor) = page.shown(rows, |row: &rows::Model| row.id.to_string());
        Ok(Json(NotificationList { data, next_cursor }))
    }

    /// One notification with its attempts and timeline
    ///
    /// Tells at any time why a message did or did not arrive. Needs `notifications:read`.
    #[oai(path = "/:notification_id", method = "get", operation_id = "get_notification")]
    async fn get(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `ntf_…`
        notification_id: Path<String>,
    ) -> Result<Json<NotificationStory>, Failure> {
        key.require("notifications:read")?;
        let story = notification::get(ctx, page::id(&notification_id.0, "notification")?).await?;
        key.sees(&story.row.app_id, format_args!("notification {}", notification_id.0))?;
        let timeline = timeline(&story);
        Ok(Json(NotificationStory {
            notification: story.row.into(),
            attempts: story.attempts.into_iter().map(attempt_of).collect(),
            timeline,
        }))
    }

    /// Cancel a message that is not on its way yet
    ///
    /// Its credit is given back. Needs `notifications:write`.
    #[oai(path = "/:notification_id/cancel", method = "post", operation_id = "cancel_notification")]
    async fn cancel(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `ntf_…`
        notification_id: Path<String>,
    ) -> Result<Json<Notification>, Failure> {
        key.require("notifications:write")?;
        Ok(Json(act::cancel(ctx, seen(ctx, &key, &notification_id.0).await?).await?.into()))
    }

    /// Send a message that failed, expired or was cancelled once more
    ///
    /// Takes a new credit. The same notification, new attempts. Needs `notifications:write`.
    #[oai(path = "/:notification_id/replay", method = "post", operation_id = "replay_notification")]
    async fn replay(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `ntf_…`
        notification_id: Path<String>,
    ) -> Result<Json<Notification>, Failure> {
        key.require("notifications:write")?;
        Ok(Json(act::replay(ctx, seen(ctx, &key, &notification_id.0).await?).await?.into()))
    }
}

/// The id, if it is of an app that the key may use.
async fn seen(ctx: &Context, key: &Key, id: &str) -> Result<NotificationId, Failure> {
    let parsed = page::id(id, "notification")?;
    if key.apps().is_some() {
        key.sees(&notification::get(ctx, parsed).await?.row.app_id, format_args!("notification {id}"))?;
    }
    Ok(parsed)
}

fn attempt_of(row: attempt::Model) -> Attempt {
    Attempt {
        number: row.number,
        started_at: Time(row.started_at),
        duration_ms: row.duration_ms,
        outcome: row.outcome.as_ref().map(word),
        errcode: row.errcode,
        errmsg: row.errmsg,
        rid: row.rid,
    }
}

fn timeline(story: &Story) -> Vec<Moment> {
    let row = &story.row;
    let moment = |at, what: &str, detail| Moment { at: Time(at), what: what.to_owned(), detail };
    let mut moments = vec![moment(row.created_at, "created", None)];
    for entry in &story.consents {
        let detail = Some(format!("{:+} ({})", entry.delta, word(&entry.source)));
        moments.push(moment(entry.created_at, &format!("consent_{}", word(&entry.kind)), detail));
    }
    for attempt in &story.attempts {
        let outcome = attempt.outcome.as_ref().map_or_else(|| "under way".to_owned(), word);
        let detail = format!("attempt {}: {outcome}", attempt.number);
        moments.push(moment(attempt.started_at, "attempt", Some(detail)));
    }
    if let Some(at) = row.sent_at {
        moments.push(moment(at, "accepted", row.message_id.as_ref().map(|id| format!("msgid {id}"))));
    }
    for receipt in &story.receipts {
        moments.push(moment(receipt.received_at, "receipt", Some(format!("{} {}", receipt.errcode, receipt.status))));
    }
    if let Some(at) = row.finished_at {
        moments.push(moment(at, &word(&row.state), row.reason.as_ref().map(word)));
    }
    moments.sort_by_key(|moment| moment.at.0);
    moments
}
