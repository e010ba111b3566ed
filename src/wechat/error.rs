//! What can go wrong in a call to WeChat, and the one table of WeChat's error codes.

mod table;

use entity::notification::Reason;

pub use table::{CreditEffect, Entry, Who, all};

/// Why a call did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// WeChat answered with an error code: a definite no.
    #[error("WeChat refused: {0}")]
    Refused(Refusal),
    /// The connection was never made: nothing was carried out. The cause, such as a certificate that is not to be
    /// trusted, is what the operator needs to know.
    #[error("WeChat cannot be reached: {}", cause(.0))]
    NotSent(#[source] reqwest::Error),
    /// The request may have been carried out, but no answer came.
    #[error("WeChat did not answer")]
    NoAnswer(#[source] reqwest::Error),
    /// An answer came that says nothing certain: a gateway's page, a cut JSON.
    #[error("WeChat's answer (status {status}) cannot be understood: {problem}")]
    Garbled { status: u16, problem: String },
}

/// The error at the bottom: those above only say which step failed.
fn cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
}

impl Error {
    /// Whether the time ran out, rather than the connection breaking.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::NotSent(error) | Self::NoAnswer(error) if error.is_timeout())
    }

    /// The code WeChat refused with.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// WeChat's definite no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{errcode} {errmsg}")]
pub struct Refusal {
    pub errcode: i64,
    /// WeChat's text without the request id.
    pub errmsg: String,
    /// Explains the call at `/cgi-bin/openapi/rid/get` for seven days.
    pub rid: Option<String>,
    /// The path that answered; empty when no single one did.
    pub api: &'static str,
}

impl Refusal {
    /// Splits the request id off WeChat's text: `… rid: 6201…`, formerly `… hint: [6201…]`.
    pub fn new(errcode: i64, errmsg: &str) -> Self {
        let (text, rid) = match errmsg.rsplit_once("rid: ") {
            Some((text, rid)) => (text, Some(rid)),
            None => match errmsg.rsplit_once("hint: [") {
                Some((text, hint)) => (text, hint.split([']', ' ']).find(|part| !part.is_empty())),
                None => (errmsg, None),
            },
        };
        let rid = rid.map(|rid| rid.trim().to_owned()).filter(|rid| !rid.is_empty());
        let text = text.trim().trim_end_matches(',');
        Self { errcode, errmsg: text.chars().take(300).collect(), rid, api: "" }
    }

    /// Notes which path answered: one code may mean different things at different APIs.
    #[must_use]
    pub fn at(self, api: &'static str) -> Self {
        Self { api, ..self }
    }

    /// What the table says about the code.
    pub fn entry(&self) -> &'static Entry {
        table::entry(self.api, self.errcode)
    }

    pub fn verdict(&self) -> Verdict {
        self.entry().verdict
    }
}

/// What an answer means for the message it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Transient: again after a pause.
    Retry,
    /// The token is refused: refresh it and repeat once.
    RefreshToken,
    /// The limit of the minute: later, and slower.
    SlowDown,
    /// Another message to the same user is under way: a little later.
    Snooze,
    /// The quota of the day is gone.
    PauseApp,
    /// The user will take no message of this template.
    NoCredit,
    /// Permanent for this user.
    DropUser(Reason),
    /// For all messages of this template, until somebody mends it in WeChat's console.
    PauseTemplate,
    /// This request can never succeed as it is.
    Reject(Reason),
    /// The account or its configuration is at fault.
    Operator,
}
