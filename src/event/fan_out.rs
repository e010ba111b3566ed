//! Events for many people: more than a hundred recipients, or everybody who agreed to a template.
//!
//! ```text
//! accept ─▶ fan_out row + the named recipients in portions ─▶ 202 with progress
//!   worker: row locked ─▶ a portion ─▶ notifications, credits, progress in one transaction ─▶ … ─▶ done
//!                            running ⇄ paused;  running | paused ─▶ cancelling ─▶ cancelled
//! ```
//!
//! What a portion makes and how far the fan-out is are one commit, so a crash neither loses nor doubles anybody.

pub mod act;
mod forget;
mod portion;

use std::collections::HashMap;

use entity::{
    EventId, FanOutId, Timestamp, credit,
    fan_out::{self as row, State},
    fan_out_portion as portions, identity,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
    JoinType, PaginatorTrait, QueryFilter, QuerySelect, Select,
};
use uuid::Uuid;

use super::{Incoming, apply::Applied};
use crate::{error::Error, rule::compiled::Message};

pub use forget::{forget_events, forget_names};
pub use portion::step;

/// Recipients of one transaction.
const PORTION: usize = 500;
/// Portions of one insert.
const PORTIONS_A_STATEMENT: usize = 32;

/// How far the event is with its many recipients, over all its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: i32,
    pub total: i32,
    /// Of those dealt with the ones whom nobody knows, or who have never used the app.
    pub unreached: i32,
    /// Of what is not done yet.
    pub state: State,
}

/// Stores the crowds of the events; gives the progress by the event's place.
pub(super) async fn store(
    tx: &DatabaseTransaction,
    applied: &[Applied<'_>],
    events: &[(EventId, &Incoming)],
    now: Timestamp,
) -> Result<HashMap<usize, Progress>, Error> {
    let mut stored = HashMap::new();
    for one in applied {
        let Some(crowd) = &one.crowd else { continue };
        let (event_id, event) = events[one.event];
        let consented = if crowd.consented { agreed(tx, one).await? } else { 0 };
        let total = i32::try_from(crowd.named.len()).unwrap_or(i32::MAX).saturating_add(consented);
        let fan_out = model(one, (event_id, event), total, now);
        row::Entity::insert(fan_out.clone().into_active_model()).exec_without_returning(tx).await?;
        let named = crowd.named.chunks(PORTION).zip(0..);
        let rows: Vec<_> = named
            .map(|(named, place)| portions::ActiveModel {
                fan_out_id: Set(fan_out.id),
                place: Set(place),
                recipients: Set(portions::References(named.to_vec())),
            })
            .collect();
        for rows in crate::database::rows::portions(rows, PORTIONS_A_STATEMENT) {
            portions::Entity::insert_many(rows).exec_without_returning(tx).await?;
        }
        add(stored.entry(one.event).or_insert(NOTHING), &fan_out);
    }
    Ok(stored)
}

const NOTHING: Progress = Progress { done: 0, total: 0, unreached: 0, state: State::Done };

fn add(sum: &mut Progress, fan_out: &row::Model) {
    sum.done += fan_out.done;
    sum.total += fan_out.total;
    sum.unreached += fan_out.unreached;
    if sum.state == State::Done {
        sum.state = fan_out.state;
    }
}

fn model(applied: &Applied<'_>, (event_id, event): (EventId, &Incoming), total: i32, now: Timestamp) -> row::Model {
    let (policy, Message { fields, page, url, miniprogram, .. }) = (applied.policy, applied.message.clone());
    let delay = std::time::Duration::from_secs(policy.delay_seconds.unwrap_or(0).unsigned_abs());
    row::Model {
        id: FanOutId(Uuid::now_v7()),
        event_id,
        rule_id: applied.rule_id,
        app_id: policy.app_id.clone(),
        template_id: policy.template_id.clone(),
        message: row::Message {
            fields,
            page,
            url,
            miniprogram,
            no_credit: policy.no_credit,
            unsure: policy.unsure,
            priority: event.priority.unwrap_or(policy.priority),
            due_at: event.deliver_at.unwrap_or(now + delay),
            ttl_seconds: event.ttl_seconds.or(policy.ttl_seconds),
        },
        consented: applied.crowd.as_ref().is_some_and(|crowd| crowd.consented),
        state: State::Running,
        done: 0,
        total,
        unreached: 0,
        cursor: None,
        created_at: now,
        updated_at: now,
    }
}

/// How many agree now.
async fn agreed(tx: &DatabaseTransaction, one: &Applied<'_>) -> Result<i32, Error> {
    let count = consented(&one.policy.app_id, &one.policy.template_id).count(tx).await?;
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Everybody who will take a message of the template.
fn consented(app_id: &str, template_id: &str) -> Select<identity::Entity> {
    let with_credit = sea_orm::RelationDef::from(
        identity::Entity::belongs_to(credit::Entity).from(identity::Column::Id).to(credit::Column::IdentityId),
    );
    identity::Entity::find()
        .join(JoinType::InnerJoin, with_credit)
        .filter(identity::Column::AppId.eq(app_id))
        .filter(credit::Column::TemplateId.eq(template_id))
        .filter(credit::Column::Credits.gt(0))
}

fn in_apps(app_ids: Option<&[String]>) -> Condition {
    let all = Condition::all();
    app_ids.map_or(all.clone(), |app_ids| all.add(row::Column::AppId.is_in(app_ids)))
}

/// The event's progress, in these apps only (None for all); None when it is for few people.
pub async fn progress(
    db: &impl ConnectionTrait,
    event_id: EventId,
    app_ids: Option<&[String]>,
) -> Result<Option<Progress>, Error> {
    let query = row::Entity::find().filter(row::Column::EventId.eq(event_id)).filter(in_apps(app_ids));
    let rows = query.all(db).await?;
    let mut sum = NOTHING;
    for row in &rows {
        add(&mut sum, row);
    }
    Ok((!rows.is_empty()).then_some(sum))
}
