//! Events of business systems.

use std::collections::BTreeMap;

use entity::{EventId, event as rows};
use poem::web::Data;
use poem_openapi::{
    ApiRequest, ApiResponse, Enum, Object, OpenApi, Union,
    param::Path,
    payload::Json,
    types::{Any, Example},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Tag,
    body::Body,
    object::{Reason, State},
    page,
    principal::{Key, Sender},
    problem::Failure,
    rate_limit, request,
    time::Time,
};
use crate::{
    context::Context,
    error::{Code, Error},
    event::{self, Accepted, Incoming, Outcome},
    notification::sentence,
    rule::compiled::split_recipients,
};

pub struct EventsApi;

/// An event in plain JSON.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct PlainEvent {
    /// Who says it, such as `shop`.
    source: String,
    /// Your id of the event, unique in `source`: a repeat is answered as a duplicate.
    id: String,
    /// What happened, such as `order.shipped`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    event_type: String,
    /// When it happened; now when missing.
    time: Option<Time>,
    /// Whom to tell: one reference or a list of `usr_…`, `external:YOUR_ID`, `openid:APPID/OPENID`,
    /// `unionid:UNIONID`. Not needed when the rule computes its recipients.
    to: Option<Recipients>,
    /// What the rules' expressions see as `data`.
    data: Option<Any<Value>>,
}

impl Example for PlainEvent {
    fn example() -> Self {
        Self {
            source: "shop".into(),
            id: "order-42-shipped".into(),
            event_type: "order.shipped".into(),
            time: None,
            to: Some(Recipients::One("openid:wxdemo0000000001/oDemo00000000000000000000001".into())),
            data: Some(Any(serde_json::json!({
                "order_no": "NO.42", "item": "红富士苹果 5kg", "shipped_at": "2026年1月2日 11:04"
            }))),
        }
    }
}

/// One reference or a list of them.
#[derive(Union, Deserialize)]
#[serde(untagged, expecting = "one reference or a list of references")]
#[oai(one_of)]
enum Recipients {
    One(String),
    Several(Vec<String>),
}

/// An event in structured mode (CloudEvents 1.0, JSON format).
#[derive(Object, Deserialize)]
struct CloudEvent {
    /// `1.0`
    specversion: String,
    id: String,
    source: String,
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    event_type: String,
    time: Option<Time>,
    /// Whom to tell, when there is no `to`.
    subject: Option<String>,
    datacontenttype: Option<String>,
    data: Option<Any<Value>>,
    /// Extension attribute: whom to tell, separated by commas.
    to: Option<String>,
}

/// An event in one of its formats.
#[derive(ApiRequest)]
enum EventBody {
    #[oai(content_type = "application/json")]
    Plain(Body<PlainEvent>),
    #[oai(content_type = "application/cloudevents+json")]
    CloudEvent(Body<CloudEvent>),
}

#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum EventStatus {
    Accepted,
    /// It was here before; `notifications` is the first answer.
    Duplicate,
}

/// What became of an event.
#[derive(Object)]
struct EventAnswer {
    event_id: String,
    status: EventStatus,
    /// One outcome for each rule and recipient. Empty when no rule is for this type of event.
    notifications: Vec<EventOutcome>,
}

/// What became of an event for one rule and recipient.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct EventOutcome {
    /// Look it up at `GET /v1/notifications/{id}`; missing when there is nobody to send to.
    id: Option<String>,
    rule_id: String,
    /// The reference as it was given.
    recipient: String,
    user_id: Option<String>,
    state: State,
    reason: Option<Reason>,
    /// The reason in words.
    reason_text: Option<String>,
    detail: Option<String>,
}

#[derive(ApiResponse)]
enum EventResponse {
    /// Stored; the messages are on their way.
    #[oai(status = 202)]
    Accepted(Json<EventAnswer>),
}

/// A stored event and how far it is.
#[derive(Object)]
struct EventProgress {
    event_id: String,
    source: String,
    id: String,
    #[oai(rename = "type")]
    event_type: String,
    time: Time,
    received_at: Time,
    data: Any<Value>,
    /// Notifications by state, as they are now.
    states: BTreeMap<String, i64>,
    /// The outcomes as they were first answered.
    notifications: Vec<EventOutcome>,
}

#[OpenApi(prefix_path = "/v1/events", tag = "Tag::Events")]
impl EventsApi {
    /// Tell what happened
    ///
    /// The rules for the event's type decide who gets which message. `source` and `id` together name the event:
    /// sending it again is safe and answered as `duplicate`; another body under the same name is refused (422).
    /// A signed request (Standard Webhooks) stands for a key. A key for some apps only sets off the rules of these
    /// apps. Needs `events:write`.
    #[oai(path = "/", method = "post", operation_id = "accept_event")]
    async fn accept(
        &self,
        Data(ctx): Data<&Context>,
        sender: Sender,
        body: EventBody,
    ) -> Result<EventResponse, Failure> {
        let key = sender.into_key();
        key.require("events:write")?;
        rate_limit::events(ctx, &key.0.prefix)?;
        let mut incoming = match body {
            EventBody::Plain(event) => plain(event.0),
            EventBody::CloudEvent(event) => cloud_event(event.0)?,
        };
        incoming.app_ids = key.apps();
        let accepted = event::accept(ctx, vec![incoming]).await.pop();
        let mut accepted = accepted.unwrap_or_else(|| Err(Error::new(Code::Internal)))?;
        if accepted.duplicate {
            // The first answer may have been given to a key for other apps.
            let apps = key.apps();
            accepted.outcomes = event::reach::within(ctx, apps.as_deref(), accepted.outcomes).await?;
        }
        Ok(EventResponse::Accepted(Json(answer(accepted))))
    }

    /// An event and its progress
    ///
    /// Needs `events:read`.
    #[oai(path = "/:event_id", method = "get", operation_id = "get_event")]
    async fn get(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `evt_…`
        event_id: Path<String>,
    ) -> Result<Json<EventProgress>, Failure> {
        key.require("events:read")?;
        let id: EventId = page::id(&event_id.0, "event")?;
        let progress = event::reach::progress(ctx, key.apps().as_deref(), id).await?;
        let rows::Model { id, source, source_id, event_type, time, data, created_at, .. } = progress.row;
        let word = |state: State| poem_openapi::types::ToJSON::to_json_string(&state).trim_matches('"').to_owned();
        Ok(Json(EventProgress {
            event_id: id.to_string(),
            source,
            id: source_id,
            event_type,
            time: Time(time),
            received_at: Time(created_at),
            data: Any(data),
            states: progress.states.into_iter().map(|(state, count)| (word(state.into()), count)).collect(),
            notifications: progress.outcomes.into_iter().map(outcome).collect(),
        }))
    }
}

fn plain(event: PlainEvent) -> Incoming {
    Incoming {
        source: event.source,
        id: event.id,
        event_type: event.event_type,
        time: event.time.map(|time| time.0),
        subject: None,
        to: match event.to {
            Some(Recipients::One(to)) => vec![to],
            Some(Recipients::Several(to)) => to,
            None => Vec::new(),
        },
        data: event.data.map_or(Value::Null, |data| data.0),
        app_ids: None,
    }
}

fn cloud_event(event: CloudEvent) -> Result<Incoming, Error> {
    if event.specversion != "1.0" {
        return Err(Error::field("/specversion", "must be 1.0"));
    }
    if event.datacontenttype.as_ref().is_some_and(|kind| !kind.contains("json")) {
        return Err(Error::field("/datacontenttype", "must be JSON"));
    }
    Ok(Incoming {
        source: event.source,
        id: event.id,
        event_type: event.event_type,
        time: event.time.map(|time| time.0),
        subject: event.subject,
        to: event.to.map(|to| split_recipients(&to)).unwrap_or_default(),
        data: event.data.map_or(Value::Null, |data| data.0),
        app_ids: None,
    })
}

fn answer(accepted: Accepted) -> EventAnswer {
    EventAnswer {
        event_id: accepted.event_id.to_string(),
        status: if accepted.duplicate { EventStatus::Duplicate } else { EventStatus::Accepted },
        notifications: accepted.outcomes.into_iter().map(outcome).collect(),
    }
}

fn outcome(outcome: Outcome) -> EventOutcome {
    let text = |reason| request::in_language(sentence::of(reason), ("", "")).0.to_owned();
    EventOutcome {
        id: outcome.id.map(|id| id.to_string()),
        rule_id: outcome.rule_id.to_string(),
        recipient: outcome.recipient,
        user_id: outcome.user_id.map(|id| id.to_string()),
        state: outcome.state.into(),
        reason: outcome.reason.map(Into::into),
        reason_text: outcome.reason.map(text),
        detail: outcome.detail,
    }
}
