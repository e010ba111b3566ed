//! Endpoints of business systems that are told what happens.

mod words;

use std::time::Duration;

use entity::{WebhookDeliveryId, WebhookId, webhook as rows, webhook_delivery as delivery_rows};
use poem::web::Data;
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use secrecy::ExposeSecret;

use super::{
    Tag,
    body::Body,
    page::{self, Page},
    principal::Key,
    problem::Failure,
};
use crate::{
    context::Context,
    error::{Code, Error},
    webhook::{
        deliveries,
        endpoint::{self, OVERLAP},
    },
};
use words::{
    Delivery, DeliveryList, DeliveryState, Rotation, Webhook, WebhookBody, WebhookChange, WebhookList,
    WebhookWithSecret,
};

pub struct WebhooksApi;

#[derive(ApiResponse)]
enum Made {
    /// Keep `secret` now.
    #[oai(status = 201)]
    Webhook(Json<WebhookWithSecret>),
}

#[derive(ApiResponse)]
enum Deleted {
    /// Gone, with all its deliveries.
    #[oai(status = 204)]
    Done,
}

#[derive(ApiResponse)]
enum Queued {
    /// It is on its way; the list of deliveries says what became of it.
    #[oai(status = 202)]
    Delivery(Json<Delivery>),
}

#[OpenApi(prefix_path = "/v1/webhooks", tag = "Tag::Webhooks")]
impl WebhooksApi {
    /// List the endpoints, newest first
    ///
    /// Never their secrets. A key for some apps only sees the endpoints that are for no others. Needs
    /// `webhooks:read`.
    #[oai(path = "/", method = "get", operation_id = "list_webhooks")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<WebhookList>, Failure> {
        key.require("webhooks:read")?;
        let page = Page::<WebhookId>::parse(limit.0, cursor.0)?;
        let mut rows = endpoint::all_in(ctx, key.apps().as_deref()).await?;
        rows.retain(|row| page.before.is_none_or(|before| row.id < before));
        let (data, next_cursor) = page.shown(rows, |row| row.id.to_string());
        Ok(Json(WebhookList { data, next_cursor }))
    }

    /// Make an endpoint
    ///
    /// From then on it is told what `event_types` name, as signed messages (Standard Webhooks), each at least once
    /// and in no promised order. A key for some apps only makes endpoints for these. Needs `webhooks:write`.
    #[oai(path = "/", method = "post", operation_id = "create_webhook")]
    async fn create(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        Body(mut body): Body<WebhookBody>,
    ) -> Result<Made, Failure> {
        key.require("webhooks:write")?;
        body.app_ids = within(&key, body.app_ids)?;
        let (row, secret) = endpoint::create(ctx, body.into(), &key.actor()).await?;
        Ok(Made::Webhook(Json(WebhookWithSecret { shown: row.into(), secret: secret.expose_secret().to_owned() })))
    }

    /// One endpoint
    ///
    /// Needs `webhooks:read`.
    #[oai(path = "/:webhook_id", method = "get", operation_id = "get_webhook")]
    async fn get(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `whk_…`
        webhook_id: Path<String>,
    ) -> Result<Json<Webhook>, Failure> {
        key.require("webhooks:read")?;
        Ok(Json(seen(ctx, &key, &webhook_id.0).await?.into()))
    }

    /// Change an endpoint; switch it off or on
    ///
    /// What happens while it is off is not told; what waited when it was switched off by hand goes once it is on.
    /// Needs `webhooks:write`.
    #[oai(path = "/:webhook_id", method = "patch", operation_id = "change_webhook")]
    async fn change(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `whk_…`
        webhook_id: Path<String>,
        Body(body): Body<WebhookChange>,
    ) -> Result<Json<Webhook>, Failure> {
        key.require("webhooks:write")?;
        let known = seen(ctx, &key, &webhook_id.0).await?;
        let id = known.id;
        let mut definition = body.of(known.into());
        definition.app_ids = within(&key, definition.app_ids)?;
        Ok(Json(endpoint::change(ctx, id, definition, &key.actor()).await?.into()))
    }

    /// Delete an endpoint
    ///
    /// With all its deliveries, also those that still wait. Needs `webhooks:write`.
    #[oai(path = "/:webhook_id", method = "delete", operation_id = "delete_webhook")]
    async fn delete(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `whk_…`
        webhook_id: Path<String>,
    ) -> Result<Deleted, Failure> {
        key.require("webhooks:write")?;
        endpoint::delete(ctx, seen(ctx, &key, &webhook_id.0).await?.id, &key.actor()).await?;
        Ok(Deleted::Done)
    }

    /// Send a test message
    ///
    /// A `webhook.test`, whatever `event_types` say. Needs `webhooks:write`.
    #[oai(path = "/:webhook_id/test", method = "post", operation_id = "test_webhook")]
    async fn test(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `whk_…`
        webhook_id: Path<String>,
    ) -> Result<Queued, Failure> {
        key.require("webhooks:write")?;
        let row = deliveries::test(ctx, &seen(ctx, &key, &webhook_id.0).await?).await?;
        Ok(Queued::Delivery(Json(row.into())))
    }

    /// Replace the secret
    ///
    /// Both secrets sign for `overlap_seconds`, so that the receiver can be changed meanwhile; one that was replaced
    /// before ends at once. Needs `webhooks:write`.
    #[oai(path = "/:webhook_id/rotate-secret", method = "post", operation_id = "rotate_webhook_secret")]
    async fn rotate_secret(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `whk_…`
        webhook_id: Path<String>,
        Body(body): Body<Rotation>,
    ) -> Result<Json<WebhookWithSecret>, Failure> {
        key.require("webhooks:write")?;
        let id = seen(ctx, &key, &webhook_id.0).await?.id;
        let overlap = body.overlap_seconds.map_or(OVERLAP, Duration::from_secs);
        let (row, secret) = endpoint::rotate_secret(ctx, id, overlap, &key.actor()).await?;
        Ok(Json(WebhookWithSecret { shown: row.into(), secret: secret.expose_secret().to_owned() }))
    }

    /// What was told to the endpoint, newest first
    ///
    /// Needs `webhooks:read`.
    #[oai(path = "/:webhook_id/deliveries", method = "get", operation_id = "list_webhook_deliveries")]
    async fn deliveries(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `whk_…`
        webhook_id: Path<String>,
        state: Query<Option<DeliveryState>>,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<DeliveryList>, Failure> {
        key.require("webhooks:read")?;
        let page = Page::<WebhookDeliveryId>::parse(limit.0, cursor.0)?;
        let id = seen(ctx, &key, &webhook_id.0).await?.id;
        let state = state.0.map(delivery_rows::State::from);
        let rows = deliveries::list(ctx, id, state, page.before, page.ask_for()).await?;
        let (data, next_cursor) = page.shown(rows, |row| row.id.to_string());
        Ok(Json(DeliveryList { data, next_cursor }))
    }

    /// Send a delivery once more
    ///
    /// Under the same `webhook-id`, with a fresh count of attempts. Needs `webhooks:write`.
    #[oai(path = "/:webhook_id/deliveries/:delivery_id/redeliver", method = "post", operation_id = "redeliver_webhook")]
    async fn redeliver(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        /// `whk_…`
        webhook_id: Path<String>,
        /// `whd_…`
        delivery_id: Path<String>,
    ) -> Result<Queued, Failure> {
        key.require("webhooks:write")?;
        let endpoint = seen(ctx, &key, &webhook_id.0).await?;
        let row = deliveries::again(ctx, &endpoint, page::id(&delivery_id.0, "delivery")?).await?;
        Ok(Queued::Delivery(Json(row.into())))
    }
}

/// The endpoint, if it is for no other apps than those the key may use.
async fn seen(ctx: &Context, key: &Key, id: &str) -> Result<rows::Model, Failure> {
    let row = endpoint::get(ctx, page::id(id, "webhook")?).await?;
    if endpoint::is_within(&row, key.apps().as_deref()) {
        return Ok(row);
    }
    Err(Error::new(Code::NotFound).detail(format!("There is no webhook {id}.")).into())
}

/// The apps of an endpoint that this key makes: its own ones where none are named.
fn within(key: &Key, wanted: Option<Vec<String>>) -> Result<Option<Vec<String>>, Failure> {
    let wanted = wanted.or_else(|| key.apps());
    for app_id in wanted.iter().flatten() {
        key.require_in("webhooks:write", app_id)?;
    }
    Ok(wanted)
}
