//! Signed requests on their way in: verified over the whole body, answered as the first time.

use std::sync::Arc;

use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderMap, Method, StatusCode, header},
};

use super::{problem::Failure, request};
use crate::{
    context::Context,
    error::Error,
    signed_request::{self, Answered, Given},
};

/// Where a signature stands for a key.
const SIGNED: [&str; 1] = ["/v1/events"];

/// The key that signed the request.
#[derive(Clone)]
pub struct Verified(pub Arc<entity::api_key::Model>);

/// Lets a request pass; a signed one only when it is genuine and was not answered before.
pub async fn pass<E: Endpoint>(ctx: &Context, next: &E, request: Request) -> Result<Response> {
    let path = request.uri().path().trim_end_matches('/');
    let signed = request.headers().contains_key("webhook-signature")
        && !request.headers().contains_key(header::AUTHORIZATION)
        && request.method() == Method::POST
        && SIGNED.contains(&path);
    if signed {
        return Box::pin(verified(ctx, next, request)).await;
    }
    Ok(next.call(request).await?.into_response())
}

async fn verified<E: Endpoint>(ctx: &Context, next: &E, mut request: Request) -> Result<Response> {
    let body = request.take_body().into_bytes().await?;
    let id = text(request.headers(), "webhook-id").to_owned();
    let given = Given {
        id: &id,
        timestamp: text(request.headers(), "webhook-timestamp"),
        signatures: text(request.headers(), "webhook-signature"),
        prefix: request.headers().get("x-magpie-key").map(|value| value.to_str().unwrap_or_default()),
        body: &body,
    };
    // Attributes in headers would be outside the signature.
    if let Some(name) = request.headers().keys().find(|name| name.as_str().starts_with("ce-")) {
        let reason = "a signature covers the body only: send the event in structured mode";
        return Err(Failure::from(Error::field(name.as_str(), reason)).into());
    }
    let key = signed_request::verify(ctx, &given).await.map_err(Failure::from)?;
    request::signed_in(&key.prefix);
    let key_id = key.id;
    if let Some(first) = signed_request::begin(ctx, key_id, &id, &body).await.map_err(Failure::from)? {
        return Ok(show(first));
    }
    request.set_body(body);
    request.extensions_mut().insert(Verified(key));
    let outcome = next.call(request).await.map(IntoResponse::into_response);
    match outcome {
        Ok(mut response) if response.status().is_success() => {
            let answer = response.take_body().into_string().await?;
            let answer = Answered { status: i32::from(response.status().as_u16()), body: answer };
            let counts = signed_request::keep(ctx, key_id, &id, answer).await.map_err(Failure::from)?;
            response.set_body(counts.body);
            Ok(response)
        }
        refused => {
            signed_request::release(ctx, key_id, &id).await.map_err(Failure::from)?;
            refused
        }
    }
}

fn show(first: Answered) -> Response {
    let status = u16::try_from(first.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    Response::builder()
        .status(status.unwrap_or(StatusCode::ACCEPTED))
        .content_type("application/json; charset=utf-8")
        .body(first.body)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
