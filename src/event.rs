//! Events: facts that business systems tell once.
//!
//! ```text
//! event ─▶ known already? ─▶ the first answer again
//!   │ no
//!   ▼
//! rules of its type ─▶ recipients ─▶ identities ─▶ fields rendered ─▶ credits reserved
//!   ─▶ event + notifications + ledger entries in one transaction ─▶ worker woken ─▶ one outcome each
//! ```

mod apply;
mod body_hash;
pub mod direct;
pub mod fan_out;
mod plan;
pub mod preview;
mod progress;
mod reach;
mod store;
pub mod unreached;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use entity::{
    EventId, NotificationId, RuleId, Timestamp, UserId, event as row,
    notification::{Reason, State},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    context::Context,
    database::{Lock, again, rows::padded},
    error::{Code, Error, FieldError},
    group::{Group, Limits},
    pause,
    revision::{self, Revisions},
    rule,
};

/// How often an acceptance is tried again when another node takes the same event at the same moment.
const RACES: usize = 4;

use body_hash::body_hash;
pub use progress::{Progress, get_in};
use store::Batch;

/// An event as a business system tells it (CloudEvents 1.0 names). What it serialises to is what a repeat must
/// say again.
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
    /// The only apps whose rules apply: those of the key that tells it. It is no part of what is told.
    #[serde(skip)]
    pub app_ids: Option<Vec<String>>,
    /// When its messages are to be sent, instead of at once or after the rule's delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<Timestamp>,
    /// How long they are worth sending, instead of what the rule says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// How urgent they are, instead of what the rule says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Set when it is a message without a rule; made from `data`. Boxed, because few are.
    #[serde(skip)]
    pub direct: Option<Box<direct::Direct>>,
}

/// What became of an event for one rule and recipient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<NotificationId>,
    /// None for a direct notification.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule_id: Option<RuleId>,
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
    /// Set when the worker notifies more people than were notified at once.
    pub fan_out: Option<fan_out::Progress>,
}

/// An event with what its request knows.
struct Told {
    event: Incoming,
    revisions: Option<Revisions>,
}

/// Events that are accepted together.
#[derive(Default)]
struct Events(Arc<Group<Told, Accepted>>);

/// Events of one transaction at most: with more of them everybody waits for the same one, and nothing else is done.
const MOST_TOGETHER: usize = 32;
/// Transactions at the same time: while one is written the next one reads. More of them are smaller, and cost more.
const AT_ONCE: usize = 3;
/// Events that wait while others are accepted, before a transaction of their own begins beside that.
const WORTH_ANOTHER: usize = 16;

/// Accepts events; the answers are in their order. Events that wait at the same time share a
/// transaction, whoever sent them.
pub async fn accept(ctx: &Context, events: Vec<Incoming>) -> Vec<Result<Accepted, Error>> {
    let now = ctx.clock.now();
    let checked: Vec<_> = events.iter().map(|event| check(event, now)).collect();
    let apps: Vec<_> = events.iter().map(|event| event.app_ids.clone().filter(|_| event.direct.is_none())).collect();
    let revisions = revision::looked();
    let sound = events.into_iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
    let mut told = Vec::with_capacity(checked.len());
    told.extend(sound.map(|(event, _)| Told { event, revisions: revisions.clone() }));
    let writer = ctx.clone();
    let write = move |told: Vec<Arc<Told>>| {
        let ctx = writer.clone();
        async move { accept_together(&ctx, &told).await }
    };
    let limits = Limits { most: MOST_TOGETHER, at_once: AT_ONCE, worth_another: WORTH_ANOTHER };
    let mut answers = ctx.memory::<Events>().0.join_all(told, limits, write).await.into_iter();
    let next = |checked: Result<(), Error>| {
        checked.and_then(|()| answers.next().unwrap_or_else(|| Err(Error::new(Code::Internal))))
    };
    let mut answers: Vec<_> = checked.into_iter().map(next).collect();
    for (answer, apps) in answers.iter_mut().zip(apps) {
        if answer.as_ref().is_ok_and(|accepted| accepted.duplicate) {
            *answer = Box::pin(as_a_repeat(ctx, answer.clone(), apps.as_deref())).await;
        }
    }
    answers
}

/// A repeat learns how far the event is by now, as far as it is about these apps (None for all): the first
/// answer may have been given to a key for others.
async fn as_a_repeat(
    ctx: &Context,
    answer: Result<Accepted, Error>,
    app_ids: Option<&[String]>,
) -> Result<Accepted, Error> {
    let accepted = answer?;
    let fan_out = fan_out::progress(ctx.db.read(), accepted.event_id, app_ids).await?;
    let outcomes = reach::within(ctx, app_ids, accepted.outcomes).await?;
    Ok(Accepted { outcomes, fan_out, ..accepted })
}

/// Accepts those that could be read; the answers are in the order of all.
pub async fn accept_readable(ctx: &Context, events: Vec<Result<Incoming, Error>>) -> Vec<Result<Accepted, Error>> {
    let mut faults = Vec::with_capacity(events.len());
    let mut readable = Vec::with_capacity(events.len());
    for event in events {
        match event {
            Ok(event) => {
                readable.push(event);
                faults.push(None);
            }
            Err(error) => faults.push(Some(error)),
        }
    }
    let mut answers = accept(ctx, readable).await.into_iter();
    let next = |fault: Option<Error>| match fault {
        Some(error) => Err(error),
        None => answers.next().unwrap_or_else(|| Err(Error::new(Code::Internal))),
    };
    faults.into_iter().map(next).collect()
}

async fn accept_together(ctx: &Context, told: &[Arc<Told>]) -> Result<Vec<Result<Accepted, Error>>, Error> {
    // The latest look came after the last of the requests.
    let looked: Option<Vec<_>> = told.iter().map(|told| told.revisions.clone()).collect();
    let revisions = match looked.and_then(|looked| looked.into_iter().reduce(Revisions::later)) {
        Some(revisions) => revisions,
        None => revision::now(ctx).await?,
    };
    let events: Vec<_> = told.iter().map(|told| &told.event).collect();
    // Most events are new, so they are looked for only when one turns out not to be.
    let mut carefully = false;
    for _ in 0..RACES {
        let answers = again(|| try_accept(ctx, &events, &revisions, carefully)).await?;
        if let Some(answers) = answers {
            return Ok(answers);
        }
        carefully = true;
    }
    Err(Error::new(Code::Internal)
        .because("the same events were told on other nodes at the same moment, again and again"))
}

/// None when it is to be done once more, carefully: an event is stored already, or something changed meanwhile.
async fn try_accept(
    ctx: &Context,
    events: &[&Incoming],
    revisions: &Revisions,
    carefully: bool,
) -> Result<Option<Vec<Result<Accepted, Error>>>, Error> {
    let now = ctx.clock.now();
    let (rules, pauses) = (rule::current(ctx, revisions).await?, pause::current(ctx, revisions).await?);
    let known = if carefully { known(ctx, events).await? } else { HashMap::new() };
    let mut first = HashMap::new();
    let mut fresh = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let key = key(event);
        if !known.contains_key(&key) && !first.contains_key(&key) {
            first.insert(key, (index, fresh.len()));
            fresh.push((EventId(Uuid::now_v7()), *event));
        }
    }
    // What needs no database is done before: SQLite has one writer, and others wait for it.
    let applied = apply::apply(&rules, &fresh);
    let rows: Vec<_> = fresh.iter().map(|(id, event)| model(*id, event, now)).collect();
    // People and balances, too, are read before, and nothing is locked: what has changed until all is stored comes to
    // light then.
    let (tx, proposed) = if carefully {
        let tx = ctx.db.begin().await?;
        let proposed = plan::propose(ctx, &tx, &applied, &fresh, (Lock::Held, now)).await?;
        (Some(tx), proposed)
    } else {
        let proposed = plan::propose(ctx, ctx.db.planned_once(), &applied, &fresh, (Lock::Open, now)).await?;
        if proposed.waits() {
            return Ok(None);
        }
        (None, proposed)
    };
    let mut planned = plan::begin(ctx, proposed.plans, &pauses, now);
    // Only an event that comes twice in the group is compared with itself.
    let mut twice = if fresh.len() < events.len() { rows.clone() } else { Vec::new() };
    for (row, plan) in twice.iter_mut().zip(&planned.plans) {
        row.outcomes = serde_json::to_value(&plan.outcomes).unwrap_or_default();
    }
    let plans = &mut planned.plans;
    let batch = Batch { events: &fresh, rows, applied: &applied, plans, reservations: proposed.reservations };
    let Some(crowds) = store::store(ctx, tx, batch, now).await? else { return Ok(None) };
    if !crowds.is_empty() {
        ctx.wake.fan_out.notify_one();
    }
    let planned_outcomes = planned.send(ctx);
    let mut outcomes: Vec<_> = planned_outcomes.into_iter().map(Some).collect();
    let answer = |(index, event): (usize, &&Incoming)| {
        if let Some(row) = known.get(&key(event)) {
            return repeat(row, event);
        }
        let (told_by, place) = first[&key(event)];
        match outcomes[place].take_if(|_| told_by == index) {
            Some(outcomes) => {
                let (event_id, fan_out) = (fresh[place].0, crowds.get(&place).copied());
                Ok(Accepted { event_id, duplicate: false, outcomes, fan_out })
            }
            // The second of two in one transaction finds the first already here.
            None => repeat(&twice[place], event),
        }
    };
    Ok(Some(events.iter().enumerate().map(answer).collect()))
}

fn key(event: &Incoming) -> (&str, &str) {
    (&event.source, &event.id)
}

async fn known<'a>(ctx: &Context, events: &[&'a Incoming]) -> Result<HashMap<(&'a str, &'a str), row::Model>, Error> {
    let sources = padded(events.iter().map(|event| event.source.as_str()).collect::<BTreeSet<_>>());
    let rows = row::Entity::find()
        .filter(row::Column::Source.is_in(sources))
        .filter(row::Column::SourceId.is_in(padded(events.iter().map(|event| event.id.as_str()))))
        .all(ctx.db.write())
        .await?;
    let find = |event: &&'a Incoming| {
        let row = rows.iter().find(|row| (row.source.as_str(), row.source_id.as_str()) == key(event))?;
        Some((key(event), row.clone()))
    };
    Ok(events.iter().filter_map(find).collect())
}

fn repeat(row: &row::Model, event: &Incoming) -> Result<Accepted, Error> {
    if row.body_hash != body_hash(event) {
        let detail = format!("{} is stored with another body for {} {}.", row.id, event.source, event.id);
        return Err(Error::new(Code::EventConflict).detail(detail));
    }
    let outcomes = serde_json::from_value(row.outcomes.clone());
    let outcomes = outcomes.map_err(|error| Error::new(Code::Internal).because(error))?;
    Ok(Accepted { event_id: row.id, duplicate: true, outcomes, fan_out: None })
}

fn check(event: &Incoming, now: Timestamp) -> Result<(), Error> {
    let mut faults = Vec::new();
    for (pointer, text) in [("/source", &event.source), ("/id", &event.id), ("/type", &event.event_type)] {
        if text.is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
            faults.push(FieldError::new(pointer, "must be 1 to 200 characters"));
        }
    }
    if event.direct.is_none() && event.source.starts_with(direct::SOURCE) {
        faults.push(FieldError::new("/source", format!("must not begin with {}", direct::SOURCE)));
    }
    faults.extend(apply::check_recipients(&event.to));
    faults.extend(rule::check::lifetime(event.ttl_seconds, event.priority));
    faults.extend(check_time(event.deliver_at, now));
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

/// Faults of the time at which messages are to be sent; one that has passed means now.
fn check_time(deliver_at: Option<Timestamp>, now: Timestamp) -> Option<FieldError> {
    let latest = now + Duration::from_secs(rule::check::MOST_SECONDS.unsigned_abs());
    deliver_at.filter(|at| *at > latest).map(|_| FieldError::new("/deliver_at", "must be within the next 30 days"))
}

/// The event's row, without what it says and what became of it.
fn model(id: EventId, event: &Incoming, now: Timestamp) -> row::Model {
    row::Model {
        id,
        source: event.source.clone(),
        source_id: event.id.clone(),
        event_type: event.event_type.clone(),
        time: event.time.unwrap_or(now),
        data: Json::Null,
        body_hash: body_hash(event),
        outcomes: Json::Null,
        created_at: now,
    }
}
