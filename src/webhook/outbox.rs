//! What is to be told, stored in the transaction of the change itself: neither is there without the other.
//!
//! Bodies are thin: ids, states, reasons, and the source and id under which the business system told us its event.
//! No openid, no phone number, nothing of what a message says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::{
    EventId, IdentityId, NotificationId, Timestamp, UserId, WebhookDeliveryId, event, identity,
    notification::{self, Reason, State},
    rule::NoCredit,
    webhook_delivery as row,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    QueryFilter, QuerySelect, sea_query::LockType,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Listener, current, kind::Kind, listeners};
use crate::{
    clock::rfc3339,
    context::Context,
    database::rows::{padded, portions},
    error::Error,
    notification::{claim::is_one_of, sentence},
};

/// Rows of one insert; a bound value per column stays far below what the databases take.
const ROWS_A_STATEMENT: usize = 256;

/// A notification with what it has become.
pub type Became<'a> = (&'a notification::Model, State, Option<Reason>);

/// Tells what notifications have become; those still on their way are passed over.
pub async fn notifications(
    ctx: &Context,
    tx: &DatabaseTransaction,
    became: impl Iterator<Item = Became<'_>>,
    now: Timestamp,
) -> Result<(), Error> {
    let listeners = listeners(ctx, tx).await?;
    if listeners.is_empty() {
        return Ok(());
    }
    let wanted: Vec<_> = became
        .filter_map(|became| Some((Kind::of(became.1)?, became)))
        .filter(|(kind, (row, ..))| listeners.iter().any(|listener| listener.wants(*kind, &[&row.app_id])))
        .collect();
    let events = events(tx, wanted.iter().filter_map(|(_, (row, ..))| row.event_id)).await?;
    let mut outbox = Outbox::of(&listeners, now);
    for (kind, (row, state, reason)) in wanted {
        let event = row.event_id.and_then(|id| events.get(&id));
        let about = About { app_id: Some(&row.app_id), user_id: Some(row.user_id), notification_id: Some(row.id) };
        outbox.add(kind, &[&row.app_id], about, || story(row, state, reason, event));
    }
    outbox.store(ctx, tx).await
}

/// Whether anybody is told when a notification becomes this.
pub async fn is_told_of(ctx: &Context, state: State) -> Result<bool, Error> {
    let Some(kind) = Kind::of(state) else { return Ok(false) };
    Ok(current(ctx).await?.iter().any(|listener| kind.is_one_of(&listener.event_types.0)))
}

/// Tells that these notifications, which are about to be changed, become this.
pub async fn all_of(
    ctx: &Context,
    tx: &DatabaseTransaction,
    which: Condition,
    (state, reason): (State, Reason),
    now: Timestamp,
) -> Result<(), Error> {
    if listeners(ctx, tx).await?.is_empty() {
        return Ok(());
    }
    let mut query = notification::Entity::find().filter(which);
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    let rows = query.all(tx).await?;
    notifications(ctx, tx, rows.iter().map(|row| (row, state, Some(reason))), now).await
}

/// Tells that what is pending of these templates for these people is about to fail, unless it may wait.
pub async fn stopped(
    ctx: &Context,
    tx: &DatabaseTransaction,
    by_template: &BTreeMap<&str, Vec<IdentityId>>,
    now: Timestamp,
) -> Result<(), Error> {
    use notification::Column;
    for (template_id, identities) in by_template {
        let which = Condition::all()
            .add(Column::IdentityId.is_in(padded(identities.iter().copied())))
            .add(Column::TemplateId.eq(*template_id))
            .add(is_one_of(&[State::Pending]))
            .add(Column::NoCredit.eq(NoCredit::Fail));
        all_of(ctx, tx, which, (State::Failed, Reason::NoCredit), now).await?;
    }
    Ok(())
}

/// Source, id and type of each event.
async fn events(
    tx: &DatabaseTransaction,
    ids: impl Iterator<Item = EventId>,
) -> Result<HashMap<EventId, (String, String, String)>, Error> {
    let ids: BTreeSet<_> = ids.collect();
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(EventId, String, String, String)> = event::Entity::find()
        .select_only()
        .columns([event::Column::Id, event::Column::Source, event::Column::SourceId, event::Column::EventType])
        .filter(event::Column::Id.is_in(padded(ids)))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(rows.into_iter().map(|(id, source, source_id, event_type)| (id, (source, source_id, event_type))).collect())
}

fn story(
    row: &notification::Model,
    state: State,
    reason: Option<Reason>,
    event: Option<&(String, String, String)>,
) -> Value {
    let mut data = json!({
        "notification_id": row.id, "state": state, "app_id": row.app_id, "template_id": row.template_id,
        "user_id": row.user_id,
    });
    if let Some(reason) = reason {
        let (en, zh) = sentence::of(reason);
        data["reason"] = json!(reason);
        data["reason_text"] = json!({ "en": en, "zh": zh });
    }
    if let Some(rule_id) = row.rule_id {
        data["rule_id"] = json!(rule_id);
    }
    if let (Some(event_id), Some((source, id, event_type))) = (row.event_id, event) {
        data["event"] = json!({ "event_id": event_id, "source": source, "id": id, "type": event_type });
    }
    data
}

/// Something about a person, in one app or (None) in all of those named in `app_ids`.
pub struct Person<'a> {
    pub user_id: UserId,
    pub app_id: Option<&'a str>,
    pub app_ids: &'a [&'a str],
}

/// Tells something about a person; `more` is what the body says beside the ids.
pub async fn person(
    ctx: &Context,
    tx: &DatabaseTransaction,
    kind: Kind,
    of: &Person<'_>,
    more: Value,
    now: Timestamp,
) -> Result<(), Error> {
    let listeners = listeners(ctx, tx).await?;
    let mut outbox = Outbox::of(&listeners, now);
    outbox.add_person(kind, of, &more);
    outbox.store(ctx, tx).await
}

/// Tells of people who came to an app for the first time, each with whether the user is new, too.
pub async fn came(
    ctx: &Context,
    tx: &DatabaseTransaction,
    identities: impl Iterator<Item = (&identity::Model, bool)>,
    now: Timestamp,
) -> Result<(), Error> {
    let listeners = listeners(ctx, tx).await?;
    if listeners.is_empty() {
        return Ok(());
    }
    let mut outbox = Outbox::of(&listeners, now);
    for (identity, is_new) in identities {
        let app_id = identity.app_id.as_str();
        let of = Person { user_id: identity.user_id, app_id: Some(app_id), app_ids: &[app_id] };
        outbox.add_person(Kind::UserCreated, &of, &json!({ "is_new": is_new }));
    }
    outbox.store(ctx, tx).await
}

/// Tells that somebody agreed to messages of a template, or refuses them from now on.
pub async fn consent(
    ctx: &Context,
    tx: &DatabaseTransaction,
    (identity_id, template_id): (IdentityId, &str),
    kind: Kind,
    now: Timestamp,
) -> Result<(), Error> {
    if listeners(ctx, tx).await?.is_empty() {
        return Ok(());
    }
    let Some(identity) = identity::Entity::find_by_id(identity_id).one(tx).await? else { return Ok(()) };
    let app_id = identity.app_id.as_str();
    let of = Person { user_id: identity.user_id, app_id: Some(app_id), app_ids: &[app_id] };
    person(ctx, tx, kind, &of, json!({ "template_id": template_id }), now).await
}

/// What a delivery is about, so that it is found again when that must go.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub app_id: Option<&'a str>,
    pub user_id: Option<UserId>,
    pub notification_id: Option<NotificationId>,
}

/// Rows to be stored together.
struct Outbox<'a> {
    listeners: &'a [Listener],
    now: Timestamp,
    rows: Vec<row::ActiveModel>,
}

impl<'a> Outbox<'a> {
    fn of(listeners: &'a [Listener], now: Timestamp) -> Self {
        Self { listeners, now, rows: Vec::new() }
    }

    fn add_person(&mut self, kind: Kind, of: &Person<'_>, more: &Value) {
        let about = About { app_id: of.app_id, user_id: Some(of.user_id), notification_id: None };
        self.add(kind, of.app_ids, about, || {
            let mut data = json!({ "user_id": of.user_id });
            if let Some(app_id) = of.app_id {
                data["app_id"] = json!(app_id);
            }
            for (name, value) in more.as_object().into_iter().flatten() {
                data[name] = value.clone();
            }
            data
        });
    }

    fn add(&mut self, kind: Kind, app_ids: &[&str], about: About<'_>, data: impl FnOnce() -> Value) {
        let mut wanting = self.listeners.iter().filter(|listener| listener.wants(kind, app_ids)).peekable();
        if wanting.peek().is_none() {
            return;
        }
        let body = body(kind, self.now, &data());
        let rows = wanting.map(|listener| new(listener.id, kind, about, body.clone(), self.now));
        self.rows.extend(rows);
    }

    async fn store(self, ctx: &Context, tx: &DatabaseTransaction) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        for portion in portions(self.rows, ROWS_A_STATEMENT) {
            row::Entity::insert_many(portion).exec_without_returning(tx).await?;
        }
        // The commit follows; who looks before it finds nothing and looks again soon.
        for listener in self.listeners {
            ctx.wake.webhooks.ring(&listener.id.to_string());
        }
        Ok(())
    }
}

/// The body to the letter, as it is signed.
pub(super) fn body(kind: Kind, at: Timestamp, data: &Value) -> String {
    json!({ "type": kind.as_str(), "timestamp": rfc3339(at), "data": data }).to_string()
}

/// A delivery that is due at once.
pub(super) fn new(
    webhook_id: entity::WebhookId,
    kind: Kind,
    about: About<'_>,
    body: String,
    now: Timestamp,
) -> row::ActiveModel {
    row::ActiveModel {
        id: Set(WebhookDeliveryId(Uuid::now_v7())),
        webhook_id: Set(webhook_id),
        event_type: Set(kind.as_str().to_owned()),
        app_id: Set(about.app_id.map(str::to_owned)),
        user_id: Set(about.user_id),
        notification_id: Set(about.notification_id),
        body: Set(body),
        state: Set(row::State::Pending),
        attempts: Set(0),
        due_at: Set(now),
        lease_token: Set(None),
        status: Set(None),
        problem: Set(None),
        duration_ms: Set(None),
        created_at: Set(now),
        finished_at: Set(None),
    }
}
