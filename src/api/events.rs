//! Events of business systems.

mod answer;
mod format;
mod preview;

use std::collections::BTreeMap;

use entity::{EventId, event as rows};
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Any};
use serde_json::Value;

use super::{
    Tag,
    body::Written,
    object::State,
    page,
    principal::{Key, Sender},
    problem::Failure,
    rate_limit,
    time::Time,
};
use crate::{
    context::Context,
    error::{Code, Error},
    event::{self, fan_out::act::Act},
};
pub use answer::{EventAnswer, one};
use answer::{EventOutcome, EventsAnswer, FanOut, outcome, several};
pub use format::Recipients;
use format::{EventBody, Given, only_one};
use preview::PreviewAnswer;

pub struct EventsApi;

#[derive(ApiResponse)]
enum EventResponse {
    /// Stored; the messages are on their way. Of several events each has its own answer.
    #[oai(status = 202)]
    Accepted(Written<EventsAnswer>),
}

/// A stored event and how far it is.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
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
    /// How far the event is with more than 100 recipients, or with an audience.
    fan_out: Option<FanOut>,
}

#[OpenApi(prefix_path = "/v1/events", tag = "Tag::Events")]
impl EventsApi {
    /// Tell what happened
    ///
    /// The rules for the event's type decide who gets which message. `source` and `id` together name the event:
    /// sending it again is safe and answered as `duplicate`; another body under the same name is refused (422).
    ///
    /// One event, or a list of 1 to 100 (a JSON array, or `application/cloudevents-batch+json`): then each is
    /// answered by itself in `data`, in their order, and one that is refused does not hold up the others. In
    /// CloudEvents' binary mode (`ce-specversion`, `ce-id`, `ce-source`, `ce-type`, … as headers) the JSON body
    /// is the event's `data`.
    ///
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
        let given = body.given(key.apps());
        rate_limit::events(ctx, &key.0.prefix, given.count())?;
        let answer = match given {
            Given::One(event) => {
                let accepted = event::accept(ctx, vec![*event]).await.pop();
                EventsAnswer::One(one(accepted.unwrap_or_else(|| Err(Error::new(Code::Internal)))?))
            }
            Given::Several(events) => {
                EventsAnswer::Several(several(Box::pin(event::accept_readable(ctx, events)).await))
            }
        };
        Ok(EventResponse::Accepted(Written(answer)))
    }

    /// What would happen if this were told now
    ///
    /// One event, as it would be told; nothing is stored, reserved or sent. Answers for each rule and recipient
    /// whether the message would be sent, wait or fail, with its text, what is wrong with it, and what to do
    /// about it. Needs `events:write`.
    #[oai(path = "/preview", method = "post", operation_id = "preview_event")]
    async fn preview(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        body: EventBody,
    ) -> Result<Json<PreviewAnswer>, Failure> {
        key.require("events:write")?;
        rate_limit::events(ctx, &key.0.prefix, 1)?;
        let event = only_one(body.given(key.apps()))?;
        Ok(Json(event::preview::preview(ctx, &event).await?.into()))
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
        let progress = event::get_in(ctx, key.apps().as_deref(), id).await?;
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
            fan_out: progress.fan_out.map(FanOut::from),
        }))
    }

    /// Hold the notifying of many recipients
    ///
    /// Nobody else is notified until it goes on; messages that are there already are sent. Needs `events:write`.
    #[oai(path = "/:event_id/pause", method = "post", operation_id = "pause_event")]
    async fn pause(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `evt_…`
        event_id: Path<String>,
    ) -> Result<Json<FanOut>, Failure> {
        act(ctx, &key, &event_id.0, Act::Pause).await
    }

    /// Let the notifying of many recipients go on
    ///
    /// Needs `events:write`.
    #[oai(path = "/:event_id/resume", method = "post", operation_id = "resume_event")]
    async fn resume(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `evt_…`
        event_id: Path<String>,
    ) -> Result<Json<FanOut>, Failure> {
        act(ctx, &key, &event_id.0, Act::Resume).await
    }

    /// Cancel the notifying of many recipients
    ///
    /// Nobody else is notified, and messages that were made and not sent yet are cancelled; their credits are given
    /// back. Needs `events:write`.
    #[oai(path = "/:event_id/cancel", method = "post", operation_id = "cancel_event")]
    async fn cancel(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `evt_…`
        event_id: Path<String>,
    ) -> Result<Json<FanOut>, Failure> {
        act(ctx, &key, &event_id.0, Act::Cancel).await
    }
}

async fn act(ctx: &Context, key: &Key, event_id: &str, act: Act) -> Result<Json<FanOut>, Failure> {
    key.require("events:write")?;
    let id: EventId = page::id(event_id, "event")?;
    Ok(Json(event::fan_out::act::act(ctx, (id, key.apps().as_deref()), act).await?.into()))
}
