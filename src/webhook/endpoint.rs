//! Endpoints: made, changed, switched off and on, deleted; their secrets rotated with an overlap.

use std::time::Duration;

use entity::{
    WebhookId,
    api_key::AppIds,
    webhook::{self as row, DisabledBecause, EventTypes},
    webhook_delivery::{self as deliveries, Problem, State},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{MOST_ENDPOINTS, address, kind, signature};
use crate::{
    audit::{self, Entry},
    context::Context,
    error::{Code, Error, FieldError},
    revision::{self, Of},
};

/// How long a replaced secret goes on signing, if nothing else is said, and at most.
pub const OVERLAP: Duration = Duration::from_hours(24);
pub const LONGEST_OVERLAP: Duration = Duration::from_hours(24 * 7);

/// What an endpoint is.
#[derive(Clone, Debug)]
pub struct Definition {
    pub url: String,
    /// For people.
    pub description: String,
    /// What it is told: `notification.failed`, `notification.*`, `*`.
    pub event_types: Vec<String>,
    /// The only apps it is told about; all when missing.
    pub app_ids: Option<Vec<String>>,
    pub enabled: bool,
}

impl From<row::Model> for Definition {
    fn from(row: row::Model) -> Self {
        Self {
            url: row.url,
            description: row.description,
            event_types: row.event_types.0,
            app_ids: row.app_ids.map(|ids| ids.0),
            enabled: row.enabled,
        }
    }
}

/// Makes an endpoint; gives its secret, which is shown this once.
pub async fn create(ctx: &Context, definition: Definition, actor: &str) -> Result<(row::Model, SecretString), Error> {
    check(ctx, &definition, None).await?;
    let (id, now) = (WebhookId(Uuid::now_v7()), ctx.clock.now());
    let (secret, shown) = signature::new_secret(ctx, id);
    let row = row::Model {
        id,
        url: definition.url,
        description: definition.description,
        event_types: EventTypes(definition.event_types),
        app_ids: definition.app_ids.map(AppIds),
        secret,
        previous_secret: None,
        previous_until: None,
        enabled: definition.enabled,
        disabled_because: None,
        failing_since: None,
        created_at: now,
        updated_at: now,
    };
    let tx = ctx.db.begin().await?;
    if row::Entity::find().count(&tx).await? >= MOST_ENDPOINTS {
        let detail = format!("There are {MOST_ENDPOINTS} endpoints already; delete one that is not needed.");
        return Err(Error::new(Code::StateConflict).detail(detail));
    }
    row::Entity::insert(row.clone().into_active_model()).exec_without_returning(&tx).await?;
    done(
        ctx,
        tx,
        ("webhook.created", actor),
        (id, json!({ "event_types": row.event_types.0, "app_ids": row.app_ids.as_ref().map(|ids| &ids.0) })),
    )
    .await?;
    Ok((row, shown))
}

/// Replaces what is given of `definition`. Switched on again it begins with a clean slate; what waited for it goes.
pub async fn change(ctx: &Context, id: WebhookId, definition: Definition, actor: &str) -> Result<row::Model, Error> {
    let known = get(ctx, id).await?;
    check(ctx, &definition, Some(&known)).await?;
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let known = locked(&tx, id).await?;
    let begins_anew = definition.enabled && (!known.enabled || definition.url != known.url);
    let row = row::Model {
        url: definition.url,
        description: definition.description,
        event_types: EventTypes(definition.event_types),
        app_ids: definition.app_ids.map(AppIds),
        disabled_because: known.disabled_because.filter(|_| !definition.enabled),
        failing_since: known.failing_since.filter(|_| !begins_anew),
        enabled: definition.enabled,
        updated_at: now,
        ..known
    };
    row::Entity::update_many()
        .set(row.clone().into_active_model().reset_all())
        .filter(row::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    done(ctx, tx, ("webhook.changed", actor), (id, json!({ "enabled": row.enabled }))).await?;
    ctx.wake.webhooks.ring(&id.to_string());
    Ok(row)
}

/// A new secret. The one before goes on signing beside it for `overlap`; an older one ends at once.
pub async fn rotate_secret(
    ctx: &Context,
    id: WebhookId,
    overlap: Duration,
    actor: &str,
) -> Result<(row::Model, SecretString), Error> {
    if overlap > LONGEST_OVERLAP {
        let reason = format!("must be at most {}", LONGEST_OVERLAP.as_secs());
        return Err(Error::field("/overlap_seconds", reason));
    }
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let known = locked(&tx, id).await?;
    let (secret, shown) = signature::new_secret(ctx, id);
    let row = row::Model {
        previous_secret: (!overlap.is_zero()).then_some(known.secret),
        previous_until: (!overlap.is_zero()).then_some(now + overlap),
        secret,
        updated_at: now,
        ..known
    };
    row::Entity::update_many()
        .set(row::ActiveModel {
            secret: Set(row.secret.clone()),
            previous_secret: Set(row.previous_secret.clone()),
            previous_until: Set(row.previous_until),
            updated_at: Set(now),
            ..Default::default()
        })
        .filter(row::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    done(ctx, tx, ("webhook.secret_rotated", actor), (id, json!({ "overlap_seconds": overlap.as_secs() }))).await?;
    Ok((row, shown))
}

/// Deletes an endpoint with all that was and is to be told to it.
pub async fn delete(ctx: &Context, id: WebhookId, actor: &str) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    locked(&tx, id).await?;
    row::Entity::delete_by_id(id).exec(&tx).await?;
    done(ctx, tx, ("webhook.deleted", actor), (id, json!({}))).await?;
    super::deliveries::forget_all_of(ctx, id).await
}

/// Magpie gives an endpoint up; what waits for it has failed.
pub(super) async fn switch_off(ctx: &Context, endpoint: &row::Model, because: DisabledBecause) -> Result<(), Error> {
    let (id, now) = (endpoint.id, ctx.clock.now());
    let tx = ctx.db.begin().await?;
    let known = locked(&tx, id).await?;
    // Somebody may have given it another address while the call was under way.
    if !known.enabled || known.url != endpoint.url {
        return Ok(());
    }
    row::Entity::update_many()
        .set(row::ActiveModel {
            enabled: Set(false),
            disabled_because: Set(Some(because)),
            updated_at: Set(now),
            ..Default::default()
        })
        .filter(row::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    deliveries::Entity::update_many()
        .set(deliveries::ActiveModel {
            state: Set(State::Failed),
            problem: Set(Some(Problem::EndpointDisabled)),
            lease_token: Set(None),
            finished_at: Set(Some(now)),
            ..Default::default()
        })
        .filter(deliveries::Column::WebhookId.eq(id))
        .filter(deliveries::Column::State.eq(State::Pending))
        .exec(&tx)
        .await?;
    tracing::warn!(webhook.id = %id, because = ?because, "webhook.disabled");
    done(ctx, tx, ("webhook.disabled", audit::MAGPIE), (id, json!({ "because": because }))).await
}

pub async fn get(ctx: &Context, id: WebhookId) -> Result<row::Model, Error> {
    let row = row::Entity::find_by_id(id).one(ctx.db.read()).await?;
    row.ok_or_else(|| unknown(id))
}

/// All endpoints that are for no other apps than these (None for all), newest first.
pub async fn all_in(ctx: &Context, app_ids: Option<&[String]>) -> Result<Vec<row::Model>, Error> {
    let rows = row::Entity::find().order_by_desc(row::Column::Id).all(ctx.db.read()).await?;
    Ok(rows.into_iter().filter(|row| is_within(row, app_ids)).collect())
}

/// Whether it is told about no other apps than these (None for all).
pub fn is_within(row: &row::Model, app_ids: Option<&[String]>) -> bool {
    let Some(app_ids) = app_ids else { return true };
    row.app_ids.as_ref().is_some_and(|mine| mine.0.iter().all(|id| app_ids.contains(id)))
}

fn unknown(id: WebhookId) -> Error {
    Error::new(Code::NotFound).detail(format!("There is no webhook {id}."))
}

/// The endpoint, which nobody else changes until the transaction ends.
async fn locked(tx: &DatabaseTransaction, id: WebhookId) -> Result<row::Model, Error> {
    let mut query = row::Entity::find_by_id(id);
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    query.one(tx).await?.ok_or_else(|| unknown(id))
}

/// Writes down what was done and commits; from then on it counts, on other nodes within a second.
async fn done(
    ctx: &Context,
    tx: DatabaseTransaction,
    (action, actor): (&str, &str),
    (id, mut detail): (WebhookId, Value),
) -> Result<(), Error> {
    detail["webhook_id"] = json!(id);
    audit::record(&tx, Entry { actor, action, app_id: None, subject: None, detail }, ctx.clock.now()).await?;
    revision::raise(&tx, Of::Webhook).await?;
    tx.commit().await?;
    revision::look(ctx).await?;
    Ok(())
}

async fn check(ctx: &Context, definition: &Definition, known: Option<&row::Model>) -> Result<(), Error> {
    let mut faults = Vec::new();
    // An address that was checked once need not be reachable for the rest to be changed.
    if known.is_none_or(|known| known.url != definition.url || (definition.enabled && !known.enabled))
        && let Err(reason) = address::check(&ctx.config.webhooks, &definition.url).await
    {
        faults.push(FieldError::new("/url", reason));
    }
    if definition.description.chars().count() > 200 || definition.description.chars().any(char::is_control) {
        faults.push(FieldError::new("/description", "must be at most 200 characters in one line"));
    }
    if definition.event_types.is_empty() || definition.event_types.len() > 50 {
        faults.push(FieldError::new("/event_types", format!("name 1 to 50 of {}", names())));
    }
    let unknown = definition.event_types.iter().enumerate().filter(|(_, name)| !kind::is_known(name));
    faults.extend(unknown.map(|(at, _)| {
        FieldError::new(format!("/event_types/{at}"), format!("is nothing that is told; known are {}", names()))
    }));
    if let Some(app_ids) = &definition.app_ids {
        let unknown = app_ids.iter().enumerate().filter(|(_, id)| ctx.app(id).is_none());
        faults
            .extend(unknown.map(|(at, _)| FieldError::new(format!("/app_ids/{at}"), "is no app of the configuration")));
        if app_ids.is_empty() {
            faults.push(FieldError::new("/app_ids", "name at least one app, or leave it out for all"));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

fn names() -> String {
    let all: Vec<_> = kind::Kind::ALL.iter().map(|kind| kind.as_str()).collect();
    format!("*, notification.*, user.*, {}", all.join(", "))
}
