//! Problems (RFC 9457): each code's HTTP status, and the one shape of every error body.

use poem::http::StatusCode;
use poem_openapi::{ApiResponse, Object, payload::Json};

use super::request;
use crate::error::{Code, Error};

/// A request whose every part is wrong is not answered with more than it held.
const MOST_PARTS: usize = 100;

/// What went wrong and what to do about it (RFC 9457).
#[derive(Clone, Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Problem {
    /// An address that explains `code`.
    #[oai(rename = "type")]
    pub kind: String,
    /// What is wrong, in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What exactly is wrong this time, and the way out.
    pub detail: String,
    /// The path that was asked.
    pub instance: String,
    /// Stable: branch on this.
    pub code: String,
    /// Give this to the operator.
    pub request_id: String,
    /// The parts of the request at fault.
    #[oai(skip_serializing_if_is_empty, default)]
    pub errors: Vec<ProblemPart>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// WeChat's own words, where WeChat refused.
    pub wechat: Option<WeChatProblem>,
}

/// One part of the request at fault.
#[derive(Clone, Debug, Object)]
pub struct ProblemPart {
    /// A JSON pointer (RFC 6901) into the body, or the name of a parameter.
    pub pointer: String,
    pub reason: String,
}

/// WeChat's answer.
#[derive(Clone, Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct WeChatProblem {
    pub errcode: i64,
    pub errmsg: String,
    /// Explains the call at WeChat for seven days.
    pub rid: Option<String>,
}

/// Any error answer.
#[derive(ApiResponse)]
pub enum Failure {
    /// The request is not valid; `errors` names what to correct.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// Nobody is signed in, or the token or key is not valid.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>, #[oai(header = "WWW-Authenticate")] String),
    /// The caller may not do this.
    #[oai(status = 403, content_type = "application/problem+json")]
    Forbidden(Json<Problem>, #[oai(header = "WWW-Authenticate")] Option<String>),
    /// There is no such thing.
    #[oai(status = 404, content_type = "application/problem+json")]
    NotFound(Json<Problem>),
    /// The address does not take this method.
    #[oai(status = 405, content_type = "application/problem+json")]
    MethodNotAllowed(Json<Problem>),
    /// The body did not arrive in time.
    #[oai(status = 408, content_type = "application/problem+json")]
    RequestTimeout(Json<Problem>),
    /// The state of the thing does not allow it.
    #[oai(status = 409, content_type = "application/problem+json")]
    Conflict(Json<Problem>),
    /// The body is too large.
    #[oai(status = 413, content_type = "application/problem+json")]
    PayloadTooLarge(Json<Problem>),
    /// The body's media type is not supported.
    #[oai(status = 415, content_type = "application/problem+json")]
    UnsupportedMediaType(Json<Problem>),
    /// The request is well formed, but cannot work.
    #[oai(status = 422, content_type = "application/problem+json")]
    Unprocessable(Json<Problem>),
    /// Too many requests.
    #[oai(status = 429, content_type = "application/problem+json")]
    TooManyRequests(Json<Problem>, #[oai(header = "Retry-After")] Option<u64>),
    /// The address and headers are too large, or the headers too many.
    #[oai(status = 431, content_type = "application/problem+json")]
    HeadersTooLarge(Json<Problem>),
    /// A fault of Magpie's.
    #[oai(status = 500, content_type = "application/problem+json")]
    Internal(Json<Problem>),
    /// WeChat cannot be reached, refuses the app, or answers with nonsense.
    #[oai(status = 502, content_type = "application/problem+json")]
    BadGateway(Json<Problem>),
    /// WeChat or the database is busy.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(Json<Problem>, #[oai(header = "Retry-After")] Option<u64>),
    /// WeChat did not answer in time.
    #[oai(status = 504, content_type = "application/problem+json")]
    GatewayTimeout(Json<Problem>),
}

/// The HTTP status of each code.
pub fn status(code: Code) -> StatusCode {
    use Code as C;
    match code {
        C::InvalidRequest | C::MalformedJson | C::LoginCodeInvalid | C::PhoneCodeInvalid | C::PhoneCodeOfOtherApp => {
            StatusCode::BAD_REQUEST
        }
        C::MissingCredentials
        | C::InvalidToken
        | C::InvalidApiKey
        | C::InvalidSignature
        | C::InvalidRefreshToken
        | C::SessionEnded => StatusCode::UNAUTHORIZED,
        C::InsufficientScope | C::AppNotAllowed | C::UserBanned | C::LoginRefused | C::CallbackRefused => {
            StatusCode::FORBIDDEN
        }
        C::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        C::RouteNotFound | C::NotFound | C::AppNotFound => StatusCode::NOT_FOUND,
        C::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        C::LoginCodeUsed | C::StateConflict | C::SessionKeyStale => StatusCode::CONFLICT,
        C::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        C::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        C::EventConflict
        | C::SignedIdReused
        | C::IdempotencyKeyReused
        | C::FieldsInvalid
        | C::RuleInvalid
        | C::TemplateNotFound
        | C::WechatRefused
        | C::UserDataRefused => StatusCode::UNPROCESSABLE_ENTITY,
        C::RateLimited | C::LoginTooOften | C::PhoneTooOften => StatusCode::TOO_MANY_REQUESTS,
        C::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        C::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        C::WechatUnreachable | C::WechatBadAnswer | C::WechatAppError => StatusCode::BAD_GATEWAY,
        C::WechatBusy | C::DatabaseUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        C::WechatTimeout => StatusCode::GATEWAY_TIMEOUT,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = status(error.code);
        if status.is_server_error() {
            tracing::error!(request.id = request::id(), %error, "request.failed");
        }
        let retry_after = error.retry_after.map(|span| span.as_secs().max(1));
        let challenge = challenge(error.code).map(str::to_owned);
        let body = Json(problem(error, status));
        match status {
            StatusCode::BAD_REQUEST => Self::BadRequest(body),
            StatusCode::UNAUTHORIZED => Self::Unauthorized(body, challenge.unwrap_or_default()),
            StatusCode::FORBIDDEN => Self::Forbidden(body, challenge),
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout(body),
            StatusCode::NOT_FOUND => Self::NotFound(body),
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed(body),
            StatusCode::CONFLICT => Self::Conflict(body),
            StatusCode::PAYLOAD_TOO_LARGE => Self::PayloadTooLarge(body),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType(body),
            StatusCode::UNPROCESSABLE_ENTITY => Self::Unprocessable(body),
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyRequests(body, retry_after),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Self::HeadersTooLarge(body),
            StatusCode::BAD_GATEWAY => Self::BadGateway(body),
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable(body, retry_after),
            StatusCode::GATEWAY_TIMEOUT => Self::GatewayTimeout(body),
            _ => Self::Internal(body),
        }
    }
}

/// RFC 6750 section 3: no error code where no credentials were sent, or others than a bearer token.
fn challenge(code: Code) -> Option<&'static str> {
    match code {
        Code::MissingCredentials | Code::InvalidSignature | Code::InvalidRefreshToken => Some("Bearer"),
        Code::InvalidToken | Code::InvalidApiKey | Code::SessionEnded => Some("Bearer error=\"invalid_token\""),
        Code::InsufficientScope => Some("Bearer error=\"insufficient_scope\""),
        _ => None,
    }
}

/// A problem that is a part of an answer.
pub fn of(error: Error) -> Problem {
    let status = status(error.code);
    if status.is_server_error() {
        tracing::error!(request.id = request::id(), %error, "request.failed");
    }
    problem(error, status)
}

fn problem(error: Error, status: StatusCode) -> Problem {
    let code = error.code;
    let (title, help) = request::in_language(code.title(), code.help());
    let parts = error
        .fields
        .into_iter()
        .take(MOST_PARTS)
        .map(|part| ProblemPart { pointer: part.pointer, reason: part.reason });
    Problem {
        kind: format!("{}/problems/{}", request::public_url(), code.as_str()),
        title: title.into(),
        status: status.as_u16(),
        detail: error.detail.map_or_else(|| help.to_owned(), |detail| format!("{detail} {help}")),
        instance: request::path(),
        code: code.as_str().into(),
        request_id: request::id(),
        errors: parts.collect(),
        retryable: code.retryable(),
        wechat: error.wechat.map(|words| WeChatProblem {
            errcode: words.errcode,
            errmsg: words.errmsg,
            rid: words.rid,
        }),
    }
}
