//! What was told: listed, sent again by hand, tried out; and forgotten when its time or its person is gone.

use entity::{
    Timestamp, UserId, WebhookDeliveryId, WebhookId, webhook,
    webhook_delivery::{self as row, Problem, State},
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, sea_query::Expr,
};
use serde_json::json;

use super::{
    kind::Kind,
    outbox::{self, About},
};
use crate::{
    context::Context,
    error::{Code, Error},
};

/// Rows deleted in one statement.
const BATCH: u64 = 1000;

/// Deliveries of an endpoint older than `before`, newest first.
pub async fn list(
    ctx: &Context,
    id: WebhookId,
    state: Option<State>,
    before: Option<WebhookDeliveryId>,
    limit: u64,
) -> Result<Vec<row::Model>, Error> {
    let mut query =
        row::Entity::find().filter(row::Column::WebhookId.eq(id)).order_by_desc(row::Column::Id).limit(limit);
    if let Some(state) = state {
        query = query.filter(row::Column::State.eq(state));
    }
    if let Some(before) = before {
        query = query.filter(row::Column::Id.lt(before));
    }
    Ok(query.all(ctx.db.read()).await?)
}

/// Sends a test message, whatever the endpoint wants to know.
pub async fn test(ctx: &Context, endpoint: &webhook::Model) -> Result<row::Model, Error> {
    must_be_on(endpoint)?;
    let now = ctx.clock.now();
    let data = json!({ "webhook_id": endpoint.id, "text": "A test of Magpie's webhooks. 喜鹊 webhook 测试。" });
    let body = outbox::body(Kind::Test, now, &data);
    let row = outbox::new(endpoint.id, Kind::Test, About::default(), body, now);
    let row = row::Entity::insert(row).exec_with_returning(ctx.db.write()).await?;
    ctx.wake.webhooks.ring(&endpoint.id.to_string());
    Ok(row)
}

/// Sends a delivery once more, under the same `webhook-id` and with a fresh count of attempts.
pub async fn again(ctx: &Context, endpoint: &webhook::Model, id: WebhookDeliveryId) -> Result<row::Model, Error> {
    must_be_on(endpoint)?;
    let of_it = || row::Entity::find_by_id(id).filter(row::Column::WebhookId.eq(endpoint.id)).one(ctx.db.write());
    let unknown = || Error::new(Code::NotFound).detail(format!("There is no delivery {id} to {}.", endpoint.id));
    let known = of_it().await?.ok_or_else(unknown)?;
    if known.body.is_empty() {
        return Err(Error::new(Code::StateConflict).detail("The person it was about was erased."));
    }
    let now = ctx.clock.now();
    let changed = row::Entity::update_many()
        .set(row::ActiveModel {
            state: Set(State::Pending),
            attempts: Set(0),
            due_at: Set(now),
            lease_token: Set(None),
            finished_at: Set(None),
            ..Default::default()
        })
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::Body.ne(""))
        // Of a call under way the outcome is awaited.
        .filter(Condition::any().add(row::Column::LeaseToken.is_null()).add(row::Column::DueAt.lte(now)))
        .exec(ctx.db.write())
        .await?;
    if changed.rows_affected == 0 {
        return Err(Error::new(Code::StateConflict).detail("It is being sent at this moment."));
    }
    ctx.wake.webhooks.ring(&endpoint.id.to_string());
    of_it().await?.ok_or_else(unknown)
}

fn must_be_on(endpoint: &webhook::Model) -> Result<(), Error> {
    if endpoint.enabled {
        return Ok(());
    }
    let detail = format!("{} is switched off; switch it on with PATCH {{\"enabled\": true}}.", endpoint.id);
    Err(Error::new(Code::StateConflict).detail(detail))
}

/// What was told of a person in this app, or in all of theirs, is emptied; what was still to be told is not.
pub async fn forget_person(
    tx: &DatabaseTransaction,
    user_id: UserId,
    app_id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let theirs = Condition::all()
        .add(row::Column::UserId.eq(user_id))
        .add(Condition::any().add(row::Column::AppId.eq(app_id)).add(row::Column::AppId.is_null()));
    row::Entity::update_many()
        .set(row::ActiveModel {
            state: Set(State::Failed),
            problem: Set(Some(Problem::Erased)),
            lease_token: Set(None),
            finished_at: Set(Some(now)),
            ..Default::default()
        })
        .filter(theirs.clone())
        .filter(row::Column::State.eq(State::Pending))
        .exec(tx)
        .await?;
    row::Entity::update_many().col_expr(row::Column::Body, Expr::value("")).filter(theirs).exec(tx).await?;
    Ok(())
}

/// Of two users that turned out to be one person, what was told of either is told of the survivor.
pub async fn carry_over(tx: &DatabaseTransaction, from: UserId, into: UserId) -> Result<(), Error> {
    row::Entity::update_many()
        .col_expr(row::Column::UserId, Expr::value(into))
        .filter(row::Column::UserId.eq(from))
        .exec(tx)
        .await?;
    Ok(())
}

/// All that was told to an endpoint that is no more.
pub(super) async fn forget_all_of(ctx: &Context, id: WebhookId) -> Result<(), Error> {
    loop {
        let some = row::Entity::find()
            .select_only()
            .column(row::Column::Id)
            .filter(row::Column::WebhookId.eq(id))
            .limit(BATCH);
        let gone = row::Entity::delete_many()
            .filter(row::Column::Id.in_subquery(some.into_query()))
            .exec(ctx.db.write())
            .await?;
        if gone.rows_affected < BATCH {
            return Ok(());
        }
    }
}
