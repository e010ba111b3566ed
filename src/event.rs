//! Events: facts that business systems tell once.
//!
//! ```text
//! event ─▶ known already? ─▶ the first answer again
//!   │ no
//!   ▼
//! rules of its type ─▶ recipients ─▶ identities ─▶ fields rendered ─▶ credits reserved
//!   ─▶ event + notifications + ledger entries in one transaction ─▶ worker woken ─▶ one outcome each
//! ```

mod plan;

use std::collections::{HashMap, HashSet};

use entity::{
    EventId, NotificationId, RuleId, Timestamp, UserId, event as row,
    notification::{self, Reason, State},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter,
    QuerySelect, SqlErr, sea_query::Condition,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    context::Context,
    error::{Code, Error, FieldError},
    rule,
    secret::sha256,
};

/// How often an acceptance is tried again when another node takes the same event at the same moment.
const RACES: usize = 3;

/// An event as a business system tells it (CloudEvents 1.0 names).
#[derive(Clone, Debug, Serialize)]
pub struct Incoming {
    pub source: String,
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    /// When it happened; part of the body, so a repeat must say the same.
    pub time: Option<Timestamp>,
    pub subject: Option<String>,
    /// References to the recipients, in the event's order.
    pub to: Vec<String>,
    pub data: Json,
}

/// What became of an event for one rule and recipient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<NotificationId>,
    pub rule_id: RuleId,
    pub recipient: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user_id: Option<UserId>,
    pub state: State,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

/// The answer to an event.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub event_id: EventId,
    /// Whether the event was here before: then the outcomes are those of the first time.
    pub duplicate: bool,
    pub outcomes: Vec<Outcome>,
}

/// Accepts events; the answers are in their order. Events that come together share one transaction.
pub async fn accept(ctx: &Context, events: &[Incoming]) -> Vec<Result<Accepted, Error>> {
    let mut race = 0;
    loop {
        match try_accept(ctx, events).await {
            Ok(answers) => {
                ctx.wake.delivery.notify_one();
                return answers;
            }
            Err(error) if race < RACES && is_race(&error) => race += 1,
            Err(error) => {
                let error: Error = error.into();
                return events.iter().map(|_| Err(error.clone())).collect();
            }
        }
    }
}

enum Failure {
    Database(sea_orm::DbErr),
    Other(Error),
}

impl From<sea_orm::DbErr> for Failure {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Database(error) => error.into(),
            Failure::Other(error) => error,
        }
    }
}

/// Another transaction inserted the same event between our look and our insert.
fn is_race(failure: &Failure) -> bool {
    matches!(failure, Failure::Database(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))))
}

async fn try_accept(ctx: &Context, events: &[Incoming]) -> Result<Vec<Result<Accepted, Error>>, Failure> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let known = known(&tx, events).await?;
    let mut answers: Vec<Option<Result<Accepted, Error>>> = Vec::with_capacity(events.len());
    let mut in_batch = HashSet::new();
    let mut fresh = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let key = (event.source.as_str(), event.id.as_str());
        if let Some(row) = known.get(&(event.source.clone(), event.id.clone())) {
            answers.push(Some(repeat(row, event)));
        } else if let Err(error) = check(event) {
            answers.push(Some(Err(error)));
        } else {
            answers.push(None);
            if in_batch.insert(key) {
                fresh.push((index, event));
            }
        }
    }
    let rules = rule::current(ctx, &tx).await?;
    let drafts: Vec<_> = fresh.iter().map(|(_, event)| (EventId(Uuid::now_v7()), *event)).collect();
    let planned = plan::plan(ctx, &tx, &rules, &drafts, now).await?;
    let mut event_rows = Vec::new();
    let mut notification_rows = Vec::new();
    for (((index, event), (id, _)), plan) in fresh.iter().zip(&drafts).zip(planned) {
        event_rows.push(model(*id, event, &plan.outcomes, now));
        notification_rows.extend(plan.notifications);
        answers[*index] = Some(Ok(Accepted { event_id: *id, duplicate: false, outcomes: plan.outcomes }));
    }
    insert(&tx, event_rows, notification_rows).await?;
    tx.commit().await?;
    Ok(answers.into_iter().enumerate().map(|(index, answer)| answer.unwrap_or_else(|| again(events, index))).collect())
}

/// The same event twice in one batch: the caller is asked to send the second one by itself.
fn again(events: &[Incoming], index: usize) -> Result<Accepted, Error> {
    let event = &events[index];
    Err(Error::field("/id", format!("{} of {} is in this batch twice", event.id, event.source)))
}

async fn insert(
    tx: &DatabaseTransaction,
    events: Vec<row::ActiveModel>,
    notifications: Vec<notification::Model>,
) -> Result<(), sea_orm::DbErr> {
    if !events.is_empty() {
        row::Entity::insert_many(events).exec_without_returning(tx).await?;
    }
    if !notifications.is_empty() {
        let rows = notifications.into_iter().map(IntoActiveModel::into_active_model);
        notification::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

async fn known(
    tx: &DatabaseTransaction,
    events: &[Incoming],
) -> Result<HashMap<(String, String), row::Model>, sea_orm::DbErr> {
    let any = events.iter().fold(Condition::any(), |any, event| {
        any.add(row::Column::Source.eq(&event.source).and(row::Column::SourceId.eq(&event.id)))
    });
    let rows = row::Entity::find().filter(any).all(tx).await?;
    Ok(rows.into_iter().map(|row| ((row.source.clone(), row.source_id.clone()), row)).collect())
}

fn repeat(row: &row::Model, event: &Incoming) -> Result<Accepted, Error> {
    if row.body_hash != body_hash(event) {
        let detail = format!("{} is stored with another body for {} {}.", row.id, event.source, event.id);
        return Err(Error::new(Code::EventConflict).detail(detail));
    }
    let outcomes = serde_json::from_value(row.outcomes.clone());
    let outcomes = outcomes.map_err(|error| Error::new(Code::Internal).because(error))?;
    Ok(Accepted { event_id: row.id, duplicate: true, outcomes })
}

fn check(event: &Incoming) -> Result<(), Error> {
    let mut faults = Vec::new();
    for (pointer, text) in [("/source", &event.source), ("/id", &event.id), ("/type", &event.event_type)] {
        if text.is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
            faults.push(FieldError::new(pointer, "must be 1 to 200 characters"));
        }
    }
    faults.extend(plan::check_recipients(&event.to));
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

fn body_hash(event: &Incoming) -> Vec<u8> {
    // serde_json keeps the order of keys, so the order is taken out: it means nothing in JSON.
    fn sorted(value: &Json) -> Json {
        match value {
            Json::Object(map) => {
                let sorted_map: std::collections::BTreeMap<_, _> =
                    map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
                Json::Object(sorted_map.into_iter().collect())
            }
            Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    let body = serde_json::to_value(event).map(|value| sorted(&value).to_string()).unwrap_or_default();
    sha256(body.as_bytes()).to_vec()
}

fn model(id: EventId, event: &Incoming, outcomes: &[Outcome], now: Timestamp) -> row::ActiveModel {
    row::ActiveModel {
        id: Set(id),
        source: Set(event.source.clone()),
        source_id: Set(event.id.clone()),
        event_type: Set(event.event_type.clone()),
        time: Set(event.time.unwrap_or(now)),
        data: Set(event.data.clone()),
        body_hash: Set(body_hash(event)),
        outcomes: Set(serde_json::to_value(outcomes).unwrap_or_default()),
        created_at: Set(now),
    }
}

/// A stored event and how far its notifications are.
pub struct Progress {
    pub row: row::Model,
    pub outcomes: Vec<Outcome>,
    /// Notifications by state.
    pub states: Vec<(State, i64)>,
}

/// An event with its progress.
pub async fn get(ctx: &Context, id: EventId) -> Result<Progress, Error> {
    let db = ctx.db.read();
    let row = row::Entity::find_by_id(id).one(db).await?;
    let row = row.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no event {id}.")))?;
    let states = notification::Entity::find()
        .select_only()
        .column(notification::Column::State)
        .column_as(notification::Column::Id.count(), "count")
        .filter(notification::Column::EventId.eq(id))
        .group_by(notification::Column::State)
        .into_tuple()
        .all(db)
        .await?;
    let outcomes = serde_json::from_value(row.outcomes.clone());
    let outcomes = outcomes.map_err(|error| Error::new(Code::Internal).because(error))?;
    Ok(Progress { row, outcomes, states })
}
