//! What a request may hold: how long its head, how large its body, and how long that may take to arrive.
//!
//! What is sent to a connection before there is a request is bounded by `app/door.rs`.

use poem::{
    Request, Result,
    http::{HeaderMap, HeaderValue, Method, header},
};

use super::{nul, problem::Failure};
use crate::{
    api_key as keys,
    config::Limits,
    context::Context,
    error::{Code, Error},
};

/// Bytes of the address and of all headers, names included. Access tokens and cookies of a shop's domain fit
/// many times.
const LARGEST_HEAD: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;

/// Where one request may name many people, and the scope that lets it.
const LONG_LISTS: [(&str, &str); 3] = [
    ("/v1/events", "events:write"),
    ("/v1/events/preview", "events:write"),
    ("/v1/notifications", "notifications:write"),
];

/// The request with its body read, refused when it is too large whatever its headers say.
pub async fn bounded(mut request: Request, ctx: &Context) -> Result<Request> {
    check_head(&request).and_then(|()| nul::check_head(&request)).map_err(Failure::from)?;
    let most = largest_body(&request, ctx).await;
    let body = request.take_body().into_bytes_limit(most);
    // Who sends a byte now and then must not hold a connection for ever.
    let Ok(body) = tokio::time::timeout(ctx.config.limits.read_timeout, body).await else {
        return Err(Failure::from(Error::new(Code::RequestTimeout)).into());
    };
    let body = body?;
    nul::check_body(&request, &body).map_err(Failure::from)?;
    request.set_body(body);
    without_charset(request.headers_mut());
    Ok(request)
}

fn check_head(request: &Request) -> Result<(), Error> {
    let headers = request.headers();
    let address = request.uri().path_and_query().map_or(0, |address| address.as_str().len());
    let size = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>() + address;
    if headers.len() > MOST_HEADERS || size > LARGEST_HEAD {
        let detail = format!(
            "The address and {} headers take {size} bytes; at most {MOST_HEADERS} headers and {LARGEST_HEAD} bytes.",
            headers.len()
        );
        return Err(Error::new(Code::HeadersTooLarge).detail(detail));
    }
    Ok(())
}

/// A list of 100,000 recipients takes some megabytes. Only who shows a key that may send one is listened to for so
/// long; the signature of a signed request is known only when its body is here.
async fn largest_body(request: &Request, ctx: &Context) -> usize {
    let Limits { body_bytes, events_body_bytes, .. } = ctx.config.limits;
    let headers = request.headers();
    let told = text(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<usize>().ok());
    // Nearly all requests end here, without a look at their key.
    if told.is_some_and(|length| length <= body_bytes) {
        return body_bytes;
    }
    let path = request.uri().path().trim_end_matches('/');
    let scope = LONG_LISTS.iter().find(|(long, _)| *long == path).filter(|_| request.method() == Method::POST);
    let key = text(headers, header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    // The scheme's case does not matter (RFC 9110, 11.1).
    let key = key.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key);
    let (Some((_, scope)), Some(key)) = (scope, key) else { return body_bytes };
    match Box::pin(keys::authenticate(ctx, key.trim())).await {
        Ok(key) if keys::allows(&key, scope) => events_body_bytes.max(body_bytes),
        _ => body_bytes,
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// poem-openapi compares the media types of alternatives to the letter, so `; charset=utf-8`, which JSON
/// implies anyway (RFC 8259), is taken off.
fn without_charset(headers: &mut HeaderMap) {
    let plain = text(headers, header::CONTENT_TYPE).and_then(|kind| {
        let (kind, parameter) = kind.split_once(';')?;
        let utf8 = ["charset=utf-8", "charset=\"utf-8\""].contains(&parameter.trim().to_ascii_lowercase().as_str());
        HeaderValue::from_str(kind.trim()).ok().filter(|_| utf8)
    });
    if let Some(plain) = plain {
        headers.insert(header::CONTENT_TYPE, plain);
    }
}
