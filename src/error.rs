//! The domain error and the one table of stable codes. It knows no HTTP: `api/problem.rs` gives each
//! code its status.

mod code;

use std::{fmt, sync::Arc, time::Duration};

use sea_orm::{DbErr, RuntimeErr, sqlx::Error as Sqlx};

pub use code::Code;

/// What a use-case answers when it could not do what was asked. Everything in it may be shown to the
/// caller; the cause is for the log only.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: Code,
    /// What exactly is wrong this time; the code's own sentence when missing.
    pub detail: Option<String>,
    /// The parts of the request at fault.
    pub fields: Vec<FieldError>,
    /// WeChat's own words, where WeChat refused.
    pub wechat: Option<WeChatWords>,
    /// When it makes sense to ask again.
    pub retry_after: Option<Duration>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// One part of a request that is wrong, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// A JSON pointer (RFC 6901) into the body, or the name of a parameter.
    pub pointer: String,
    pub reason: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), reason: reason.into() }
    }
}

/// WeChat's answer, for the caller to look up or to show to WeChat's support.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeChatWords {
    pub errcode: i64,
    pub errmsg: String,
    pub rid: Option<String>,
}

impl Error {
    pub fn new(code: Code) -> Self {
        Self { code, detail: None, fields: Vec::new(), wechat: None, retry_after: None, cause: None }
    }

    /// An error of the request's body or parameters, one entry for each fault.
    pub fn fields(code: Code, fields: Vec<FieldError>) -> Self {
        Self { fields, ..Self::new(code) }
    }

    /// One fault of the request.
    pub fn field(pointer: &str, reason: impl Into<String>) -> Self {
        Self::fields(Code::InvalidRequest, vec![FieldError::new(pointer, reason)])
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn wechat(mut self, words: Option<WeChatWords>) -> Self {
        self.wechat = words;
        self
    }

    #[must_use]
    pub fn retry_after(mut self, span: Duration) -> Self {
        self.retry_after = Some(span);
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Whether PostgreSQL ended the transaction in favour of another one, so that it may simply be done again.
    pub fn is_collision(&self) -> bool {
        self.cause.as_deref().and_then(|cause| cause.downcast_ref()).is_some_and(is_collision)
    }

    /// The causes, outermost first, for the log.
    pub fn causes(&self) -> Option<String> {
        let mut error: Option<&(dyn std::error::Error + 'static)> = self.cause.as_deref().map(|cause| cause as _);
        let mut texts = Vec::new();
        while let Some(cause) = error {
            texts.push(cause.to_string());
            error = cause.source();
        }
        (!texts.is_empty()).then(|| texts.join(": "))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.as_str())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for field in &self.fields {
            write!(f, "; {} {}", field.pointer, field.reason)?;
        }
        self.causes().map_or(Ok(()), |causes| write!(f, " ({causes})"))
    }
}

impl std::error::Error for Error {}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        let busy = is_away(&error) || is_collision(&error);
        let code = if busy { Code::DatabaseUnavailable } else { Code::Internal };
        Self::new(code).because(error)
    }
}

/// Whether the database cannot be reached, is just going, or has no room: nothing is wrong with the request.
fn is_away(error: &DbErr) -> bool {
    if matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_)) {
        return true;
    }
    match driver(error) {
        Some(Sqlx::Io(_) | Sqlx::Tls(_) | Sqlx::PoolTimedOut | Sqlx::PoolClosed | Sqlx::WorkerCrashed) => true,
        // PostgreSQL: connection exceptions, insufficient resources, an operator's intervention.
        // SQLite (in the lower byte): busy, I/O error, full.
        Some(Sqlx::Database(error)) => error.code().is_some_and(|code| {
            let sqlite = code.parse::<i32>().is_ok_and(|code| code < 10_000 && [5, 10, 13].contains(&(code & 0xff)));
            sqlite || ["08", "53", "57P"].iter().any(|class| code.len() == 5 && code.starts_with(class))
        }),
        _ => false,
    }
}

/// Whether PostgreSQL ended the transaction because of another one: a deadlock, or an order that cannot be.
fn is_collision(error: &DbErr) -> bool {
    let Some(Sqlx::Database(error)) = driver(error) else { return false };
    error.code().is_some_and(|code| ["40P01", "40001"].contains(&&*code))
}

/// What the database's driver said.
fn driver(error: &DbErr) -> Option<&Sqlx> {
    match error {
        DbErr::Query(RuntimeErr::SqlxError(error)) | DbErr::Exec(RuntimeErr::SqlxError(error)) => Some(&**error),
        _ => None,
    }
}

impl From<crate::secret::Unsealable> for Error {
    fn from(error: crate::secret::Unsealable) -> Self {
        Self::new(Code::Internal).because(error)
    }
}
