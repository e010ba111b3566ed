//! What is answered to events.

use entity::fan_out as fan_out_rows;
use poem_openapi::{Enum, Object, Union, types::ToJSON};
use serde::{Serialize, Serializer};

use crate::{
    api::{
        object::{Reason, State},
        problem::{self, Problem},
        request,
    },
    error::Error,
    event::{Accepted, Outcome, fan_out},
    notification::sentence,
};

use super::format::at_place;

#[derive(Clone, Copy, Enum, Serialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
pub enum EventStatus {
    Accepted,
    /// It was here before; `notifications` is the first answer.
    Duplicate,
}

/// Where the notifying of many recipients stands.
#[derive(Clone, Copy, Enum, Serialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
enum FanOutState {
    Running,
    Paused,
    /// What was made and not sent yet is being cancelled.
    Cancelling,
    Cancelled,
    Done,
}

/// How far the event is with its many recipients.
#[derive(Clone, Copy, Object, Serialize)]
pub struct FanOut {
    /// Recipients dealt with.
    done: i32,
    total: i32,
    /// Of those dealt with the ones whom nobody knows, or who have never used the app.
    unreached: i32,
    state: FanOutState,
}

impl From<fan_out::Progress> for FanOut {
    fn from(progress: fan_out::Progress) -> Self {
        let state = match progress.state {
            fan_out_rows::State::Running => FanOutState::Running,
            fan_out_rows::State::Paused => FanOutState::Paused,
            fan_out_rows::State::Cancelling => FanOutState::Cancelling,
            fan_out_rows::State::Cancelled => FanOutState::Cancelled,
            fan_out_rows::State::Done => FanOutState::Done,
        };
        Self { done: progress.done, total: progress.total, unreached: progress.unreached, state }
    }
}

/// What became of an event.
#[derive(Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct EventAnswer {
    pub event_id: String,
    pub status: EventStatus,
    /// One outcome for each rule and recipient. Empty when no rule is for this type of event.
    pub notifications: Vec<EventOutcome>,
    /// More than 100 recipients, or an audience, are notified one portion after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fan_out: Option<FanOut>,
}

/// What became of an event for one rule and recipient.
#[derive(Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub struct EventOutcome {
    /// Look it up at `GET /v1/notifications/{id}`; missing when there is nobody to send to.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Missing for a direct notification.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_id: Option<String>,
    /// The reference as it was given.
    recipient: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    /// The reason in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum ItemStatus {
    Accepted,
    /// It was here before; `notifications` is the first answer.
    Duplicate,
    /// Nothing was stored of it; see `problem`.
    Refused,
}

/// What became of one event of several.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct ItemAnswer {
    event_id: Option<String>,
    status: ItemStatus,
    notifications: Option<Vec<EventOutcome>>,
    fan_out: Option<FanOut>,
    problem: Option<Problem>,
}

/// One answer an event, in their order.
#[derive(Object)]
pub struct SeveralAnswers {
    data: Vec<ItemAnswer>,
}

/// What became of the event, or of each of several.
#[derive(Union)]
#[oai(one_of)]
pub enum EventsAnswer {
    One(EventAnswer),
    Several(SeveralAnswers),
}

impl Serialize for EventsAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(answer) => answer.serialize(serializer),
            Self::Several(answers) => answers.to_json().serialize(serializer),
        }
    }
}

pub fn one(accepted: Accepted) -> EventAnswer {
    EventAnswer {
        event_id: accepted.event_id.to_string(),
        status: if accepted.duplicate { EventStatus::Duplicate } else { EventStatus::Accepted },
        notifications: accepted.outcomes.into_iter().map(outcome).collect(),
        fan_out: accepted.fan_out.map(FanOut::from),
    }
}

pub fn several(answers: Vec<Result<Accepted, Error>>) -> SeveralAnswers {
    let item = |(place, answer): (usize, Result<Accepted, Error>)| match answer {
        Ok(accepted) => ItemAnswer {
            event_id: Some(accepted.event_id.to_string()),
            status: if accepted.duplicate { ItemStatus::Duplicate } else { ItemStatus::Accepted },
            notifications: Some(accepted.outcomes.into_iter().map(outcome).collect()),
            fan_out: accepted.fan_out.map(FanOut::from),
            problem: None,
        },
        Err(error) => ItemAnswer {
            event_id: None,
            status: ItemStatus::Refused,
            notifications: None,
            fan_out: None,
            problem: Some(problem::of(at_place(error, place))),
        },
    };
    SeveralAnswers { data: answers.into_iter().enumerate().map(item).collect() }
}

pub fn outcome(outcome: Outcome) -> EventOutcome {
    let text = |reason| request::in_language(sentence::of(reason), ("", "")).0.to_owned();
    EventOutcome {
        id: outcome.id.map(|id| id.to_string()),
        rule_id: outcome.rule_id.map(|id| id.to_string()),
        recipient: outcome.recipient,
        user_id: outcome.user_id.map(|id| id.to_string()),
        state: outcome.state.into(),
        reason: outcome.reason.map(Into::into),
        reason_text: outcome.reason.map(text),
        detail: outcome.detail,
    }
}
