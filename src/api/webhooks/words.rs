//! What endpoints and deliveries look like.

use entity::{webhook as rows, webhook_delivery as delivery_rows};
use poem_openapi::{
    Enum, Object,
    types::{Any, Example, MaybeUndefined},
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{object::example_app_id, request, time::Time},
    webhook::{endpoint::Definition, sentence},
};

/// An endpoint to be made.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub struct WebhookBody {
    /// An address of the public Internet, with `https://`.
    url: String,
    /// For people.
    #[oai(default)]
    #[serde(default)]
    description: String,
    /// What it is told: `notification.failed`, `notification.*`, `user.*`, `*`. docs/webhooks.md lists all.
    #[oai(default = "everything")]
    #[serde(default = "everything")]
    event_types: Vec<String>,
    /// The only apps it is told about; all when missing.
    pub app_ids: Option<Vec<String>>,
    #[oai(default = "yes")]
    #[serde(default = "yes")]
    enabled: bool,
}

fn everything() -> Vec<String> {
    vec!["*".into()]
}

fn yes() -> bool {
    true
}

impl Example for WebhookBody {
    fn example() -> Self {
        Self {
            url: "https://shop.example.com/magpie".into(),
            description: "Order system".into(),
            event_types: vec!["notification.*".into()],
            app_ids: Some(vec![example_app_id()]),
            enabled: true,
        }
    }
}

impl From<WebhookBody> for Definition {
    fn from(body: WebhookBody) -> Self {
        let WebhookBody { url, description, event_types, app_ids, enabled } = body;
        Self { url, description, event_types, app_ids, enabled }
    }
}

/// What becomes of an endpoint (JSON Merge Patch): a missing part stays.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub struct WebhookChange {
    url: Option<String>,
    description: Option<String>,
    event_types: Option<Vec<String>>,
    /// `null` for all.
    #[serde(default)]
    app_ids: MaybeUndefined<Vec<String>>,
    /// `true` also after Magpie switched it off.
    enabled: Option<bool>,
}

impl Example for WebhookChange {
    fn example() -> Self {
        Self {
            url: None,
            description: None,
            event_types: None,
            app_ids: MaybeUndefined::Undefined,
            enabled: Some(true),
        }
    }
}

impl WebhookChange {
    /// The endpoint as it then is.
    pub fn of(self, known: Definition) -> Definition {
        Definition {
            url: self.url.unwrap_or(known.url),
            description: self.description.unwrap_or(known.description),
            event_types: self.event_types.unwrap_or(known.event_types),
            app_ids: match self.app_ids {
                MaybeUndefined::Undefined => known.app_ids,
                MaybeUndefined::Null => None,
                MaybeUndefined::Value(app_ids) => Some(app_ids),
            },
            enabled: self.enabled.unwrap_or(known.enabled),
        }
    }
}

/// How the secret is replaced.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub struct Rotation {
    /// How long the secret before goes on signing beside the new one: 0 to 604800; a day when missing.
    pub overlap_seconds: Option<u64>,
}

impl Example for Rotation {
    fn example() -> Self {
        Self { overlap_seconds: Some(86_400) }
    }
}

/// An endpoint.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Webhook {
    id: String,
    url: String,
    description: String,
    event_types: Vec<String>,
    /// The only apps it is told about; all when missing.
    app_ids: Option<Vec<String>>,
    enabled: bool,
    /// `gone`: it answered 410. `failing`: for days nothing but failures came from it. Missing when it was switched
    /// off by hand.
    disabled_because: Option<DisabledBecause>,
    /// The same in words, in the language asked for.
    disabled_text: Option<String>,
    /// Since when nothing but failures came from it.
    failing_since: Option<Time>,
    /// Until when the secret before signs, too.
    previous_secret_until: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

/// An endpoint with its secret.
#[derive(Object)]
pub struct WebhookWithSecret {
    #[oai(flatten)]
    pub shown: Webhook,
    /// `whsec_…`, to verify signatures with. Shown this once.
    pub secret: String,
}

/// A page of endpoints.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct WebhookList {
    pub data: Vec<Webhook>,
    pub next_cursor: Option<String>,
}

/// Why Magpie switched an endpoint off.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case")]
pub enum DisabledBecause {
    Gone,
    Failing,
}

/// Where a delivery stands: to be sent (again), answered 2xx, given up.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case")]
pub enum DeliveryState {
    Pending,
    Delivered,
    Failed,
}

/// Why a call did not count as received, or was not made: the status is not 2xx; no answer in time; no connection or
/// TLS; the host leads to an internal address; the endpoint was switched off; the person was erased.
#[derive(Clone, Copy, Debug, Enum)]
#[oai(rename_all = "snake_case")]
pub enum DeliveryProblem {
    Status,
    TimedOut,
    Unreachable,
    AddressRefused,
    EndpointDisabled,
    Erased,
}

/// One message to an endpoint.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Delivery {
    /// `webhook-id`: the same however often it is sent.
    id: String,
    webhook_id: String,
    #[oai(rename = "type")]
    event_type: String,
    state: DeliveryState,
    /// Calls begun.
    attempts: i32,
    /// When it is sent next.
    due_at: Option<Time>,
    /// The HTTP status of the last answer.
    status: Option<i32>,
    /// Why the last call did not count.
    problem: Option<DeliveryProblem>,
    /// The same in words, in the language asked for.
    problem_text: Option<String>,
    /// How long the last call took.
    duration_ms: Option<i32>,
    notification_id: Option<String>,
    user_id: Option<String>,
    /// What was sent; missing once the person was erased.
    body: Option<Any<Value>>,
    created_at: Time,
    finished_at: Option<Time>,
}

/// A page of deliveries, newest first.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct DeliveryList {
    pub data: Vec<Delivery>,
    pub next_cursor: Option<String>,
}

fn in_words(pair: (&'static str, &'static str)) -> String {
    request::in_language(pair, ("", "")).0.to_owned()
}

impl From<rows::Model> for Webhook {
    fn from(row: rows::Model) -> Self {
        Self {
            id: row.id.to_string(),
            url: row.url,
            description: row.description,
            event_types: row.event_types.0,
            app_ids: row.app_ids.map(|ids| ids.0),
            enabled: row.enabled,
            disabled_because: row.disabled_because.map(|because| match because {
                rows::DisabledBecause::Gone => DisabledBecause::Gone,
                rows::DisabledBecause::Failing => DisabledBecause::Failing,
            }),
            disabled_text: row.disabled_because.map(|because| in_words(sentence::disabled(because))),
            failing_since: row.failing_since.map(Time),
            previous_secret_until: row.previous_until.map(Time),
            created_at: Time(row.created_at),
            updated_at: Time(row.updated_at),
        }
    }
}

impl From<DeliveryState> for delivery_rows::State {
    fn from(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Pending => Self::Pending,
            DeliveryState::Delivered => Self::Delivered,
            DeliveryState::Failed => Self::Failed,
        }
    }
}

impl From<delivery_rows::State> for DeliveryState {
    fn from(state: delivery_rows::State) -> Self {
        match state {
            delivery_rows::State::Pending => Self::Pending,
            delivery_rows::State::Delivered => Self::Delivered,
            delivery_rows::State::Failed => Self::Failed,
        }
    }
}

impl From<delivery_rows::Problem> for DeliveryProblem {
    fn from(problem: delivery_rows::Problem) -> Self {
        use delivery_rows::Problem as P;
        match problem {
            P::Status => Self::Status,
            P::TimedOut => Self::TimedOut,
            P::Unreachable => Self::Unreachable,
            P::AddressRefused => Self::AddressRefused,
            P::EndpointDisabled => Self::EndpointDisabled,
            P::Erased => Self::Erased,
        }
    }
}

impl From<delivery_rows::Model> for Delivery {
    fn from(row: delivery_rows::Model) -> Self {
        Self {
            id: row.id.to_string(),
            webhook_id: row.webhook_id.to_string(),
            event_type: row.event_type,
            state: row.state.into(),
            attempts: row.attempts,
            due_at: (row.state == delivery_rows::State::Pending).then_some(Time(row.due_at)),
            status: row.status,
            problem: row.problem.map(Into::into),
            problem_text: row.problem.map(|problem| in_words(sentence::problem(problem))),
            duration_ms: row.duration_ms,
            notification_id: row.notification_id.map(|id| id.to_string()),
            user_id: row.user_id.map(|id| id.to_string()),
            body: serde_json::from_str(&row.body).ok().map(Any),
            created_at: Time(row.created_at),
            finished_at: row.finished_at.map(Time),
        }
    }
}
