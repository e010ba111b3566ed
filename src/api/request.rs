//! What every request goes through: an id, its bounds, the one shape of errors, one log line.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use metrics::Histogram;
use poem::{
    Endpoint, Error as PoemError, IntoResponse, Request, Response, Result,
    error::{MethodNotAllowedError, NotFoundError, ReadBodyError},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};
use poem_openapi::error::{
    AuthorizationError, ContentTypeError, ParseParamError, ParsePathError, ParseRequestPayloadError,
};
use uuid::Uuid;

use super::{bounds, operations, problem::Failure, signed};
use crate::{
    clock::Stopwatch,
    context::Context,
    error::{Code, Error, FieldError},
    revision,
};

const REQUEST_ID: &str = "X-Request-Id";
static METHODS: [Method; 7] =
    [Method::DELETE, Method::GET, Method::HEAD, Method::OPTIONS, Method::PATCH, Method::POST, Method::PUT];

/// What is known of the request that is being answered.
struct Facts {
    id: String,
    path: String,
    ctx: Option<Context>,
    chinese: bool,
    /// Who asks, once that is known.
    principal: RefCell<Option<String>>,
    limits: RefCell<Vec<Left>>,
}

/// What is left of a limit.
#[derive(Clone, Copy)]
pub struct Left {
    pub policy: &'static str,
    pub per_minute: u32,
    pub left: u32,
    /// Until all of it is there again, or until the next request may come if nothing is left.
    pub seconds: u64,
}

tokio::task_local! {
    static FACTS: Facts;
}

/// The id of the request being answered.
pub fn id() -> String {
    FACTS.try_with(|facts| facts.id.clone()).unwrap_or_default()
}

pub fn path() -> String {
    FACTS.try_with(|facts| facts.path.clone()).unwrap_or_default()
}

pub fn public_url() -> String {
    let configured = |facts: &Facts| facts.ctx.as_ref().map(|ctx| ctx.config.public_url.clone());
    FACTS.try_with(configured).ok().flatten().unwrap_or_default()
}

/// The English or the Chinese half of each pair, as the caller reads.
pub fn in_language<'a>(first: (&'a str, &'a str), second: (&'a str, &'a str)) -> (&'a str, &'a str) {
    if FACTS.try_with(|facts| facts.chinese).unwrap_or(false) { (first.1, second.1) } else { (first.0, second.0) }
}

/// Notes who asks, for the log line.
pub fn signed_in(principal: impl ToString) {
    let _ = FACTS.try_with(|facts| facts.principal.replace(Some(principal.to_string())));
}

/// Notes what is left of a limit, for the answer's headers.
pub fn note_limit(left: Left) {
    let _ = FACTS.try_with(|facts| facts.limits.borrow_mut().push(left));
}

/// Wraps everything else.
pub async fn handle<E: Endpoint>(next: Arc<E>, request: Request) -> Result<Response> {
    let ctx = request.data::<Context>().cloned();
    let facts = Facts {
        id: request_id(request.headers()),
        path: request.uri().path().to_owned(),
        ctx: ctx.clone(),
        chinese: reads_chinese(request.headers()),
        principal: RefCell::new(None),
        limits: RefCell::default(),
    };
    // Boxed at once, because each who passes it on would copy it.
    FACTS.scope(facts, revision::once(Box::pin(answer(next, request, ctx)))).await
}

async fn answer<E: Endpoint>(next: Arc<E>, request: Request, ctx: Option<Context>) -> Result<Response> {
    let stopwatch = Stopwatch::start();
    let method = request.method().clone();
    let outcome = match &ctx {
        Some(ctx) => match operations::check_query(&request) {
            Ok(()) => match bounds::bounded(request, ctx).await {
                Ok(request) => signed::pass(ctx, &*next, request).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(Failure::from(error).into()),
        },
        None => Err(Failure::from(Error::new(Code::Internal)).into()),
    };
    let mut response = match outcome {
        Ok(response) => response,
        Err(error) if error.is_from_response() => error.into_response(),
        Err(error) => failure(&error).into_response(),
    };
    let refused_method = response.status() == StatusCode::METHOD_NOT_ALLOWED;
    let headers = response.headers_mut();
    if let Some(methods) = refused_method.then(|| operations::allow(&path())).flatten() {
        headers.insert(header::ALLOW, methods);
    }
    tell_limits(headers);
    if let Ok(Ok(id)) = FACTS.try_with(|facts| HeaderValue::from_str(&facts.id)) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    let status = response.status().as_u16();
    durations(&method, status).record(stopwatch.elapsed());
    let _ = FACTS.try_with(|facts| {
        tracing::info!(
            request.id = facts.id,
            http.request.method = %method,
            url.path = facts.path,
            http.response.status_code = status,
            principal = facts.principal.borrow().as_deref(),
            duration_ms = stopwatch.millis(),
            "request"
        );
    });
    Ok(response)
}

/// Where the duration of such a request is entered; looked up by its names once.
fn durations(method: &Method, status: u16) -> Histogram {
    static KNOWN: RwLock<BTreeMap<(&str, u16), Histogram>> = RwLock::new(BTreeMap::new());
    // Whoever asks may make up methods, and each would be kept for ever.
    let method = METHODS.iter().find(|known| method == *known).map_or("_OTHER", Method::as_str);
    if let Some(known) = KNOWN.read().unwrap_or_else(PoisonError::into_inner).get(&(method, status)) {
        return known.clone();
    }
    let made = metrics::histogram!(
        "http_server_request_duration_seconds",
        "http_request_method" => method,
        "http_response_status_code" => status.to_string()
    );
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    known.entry((method, status)).or_insert(made).clone()
}

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
fn tell_limits(headers: &mut HeaderMap) {
    let limits = FACTS.try_with(|facts| facts.limits.borrow().clone()).unwrap_or_default();
    let mut tell = |name: &'static str, text: fn(&Left) -> String| {
        let texts: Vec<_> = limits.iter().map(text).collect();
        if let Some(value) = HeaderValue::from_str(&texts.join(", ")).ok().filter(|_| !texts.is_empty()) {
            headers.insert(name, value);
        }
    };
    tell("RateLimit", |left| format!("\"{}\";r={};t={}", left.policy, left.left, left.seconds));
    tell("RateLimit-Policy", |left| format!("\"{}\";q={};w=60", left.policy, left.per_minute));
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given
        .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()))
        .map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned)
}

fn reads_chinese(headers: &HeaderMap) -> bool {
    let languages = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut languages = languages.split(',').map(|part| part.trim().to_ascii_lowercase());
    languages
        .find(|language| language.starts_with("zh") || language.starts_with("en"))
        .is_some_and(|l| l.starts_with("zh"))
}

/// What poem itself refused, in our own shape.
fn failure(error: &PoemError) -> Failure {
    our_error(error).into()
}

fn our_error(error: &PoemError) -> Error {
    if let Some(error) = error.downcast_ref::<ParseRequestPayloadError>() {
        return Error::new(Code::MalformedJson).detail(format!("{}.", error.reason));
    }
    if let Some(error) = error.downcast_ref::<ParseParamError>() {
        // `failed to parse "State": Expect a valid value (occurred while parsing …)`
        let reason = error.reason.split(" (occurred while").next().unwrap_or_default();
        return Error::fields(Code::InvalidRequest, vec![FieldError::new(error.name, reason)]);
    }
    if let Some(error) = error.downcast_ref::<ParsePathError>() {
        return Error::fields(Code::InvalidRequest, vec![FieldError::new(error.name, error.reason.clone())]);
    }
    if let Some(error) = error.downcast_ref::<ContentTypeError>() {
        return Error::new(Code::UnsupportedMediaType).detail(format!("{error}."));
    }
    if error.is::<AuthorizationError>() {
        return Error::new(Code::MissingCredentials);
    }
    if error.is::<NotFoundError>() {
        return Error::new(Code::RouteNotFound);
    }
    if error.is::<MethodNotAllowedError>() {
        return Error::new(Code::MethodNotAllowed);
    }
    if let Some(ReadBodyError::PayloadTooLarge) = error.downcast_ref::<ReadBodyError>() {
        return Error::new(Code::PayloadTooLarge);
    }
    match error.status() {
        StatusCode::UNAUTHORIZED => Error::new(Code::MissingCredentials),
        StatusCode::NOT_FOUND => Error::new(Code::RouteNotFound),
        StatusCode::PAYLOAD_TOO_LARGE => Error::new(Code::PayloadTooLarge),
        status if status.is_client_error() => Error::new(Code::InvalidRequest).detail(format!("{error}.")),
        _ => Error::new(Code::Internal).because(error.to_string()),
    }
}
