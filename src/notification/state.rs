//! The state machine of a notification, and nothing else: no database, no clock.
//!
//! ```text
//! waiting ─consent─▶ pending ─claim─▶ sending ─errcode 0─▶ accepted ─receipt─▶ delivered | failed
//!    ▲                 ▲  ▲              │
//!    └ no credit and   │  └ retry, snooze, paused, not called
//!      the rule waits  │                 ├ no_credit, drop_user, reject, attempts used up ─▶ failed
//!                      │                 └ no answer, garbled answer, lease ran out ─▶ unsure
//!                      │  unsure ─receipt─▶ delivered | failed
//!                      └─ unsure ─deadline, at least once─▶ pending   (at most once: failed)
//! service account: unsure is pending at once while WeChat recognises a repeat (`client_msg_id`)
//! late receipt: failed(unknown_outcome) | pending after unsure ─▶ delivered
//! waiting | pending ─▶ cancelled | expired
//! ```

use std::time::Duration;

use entity::{
    Timestamp,
    app::PausedBy,
    attempt::Outcome,
    notification::{Model, Reason, State},
    rule::{NoCredit, Unsure},
};

use crate::{
    clock::until_shanghai_midnight,
    config::Delivery,
    quota::Limit,
    wechat::{Refusal, Verdict},
};

/// How long an app rests after a fault that only its operator can mend.
const OPERATOR_PAUSE: Duration = Duration::from_mins(5);
/// A message behind another one to the same user waits about so long.
const SNOOZE: Duration = Duration::from_millis(500);
/// After the limit of the minute.
const SLOW_DOWN: Duration = Duration::from_secs(30);

/// A message that is known to WeChat by our id is repeated so long after its first call: WeChat
/// remembers the id for ten minutes.
const RECOGNISED_FOR: Duration = Duration::from_mins(9);

/// What came of one call.
#[derive(Debug)]
pub enum Came {
    /// errcode 0, with WeChat's id of the message where it told one.
    Accepted { message_id: Option<String> },
    /// A definite no.
    Refused { refusal: Refusal, verdict: Verdict },
    /// A quota is used up: the day's, or that of a short window.
    Limited { refusal: Refusal, limit: Limit },
    /// The connection was never made.
    NotSent,
    /// The request may have been carried out.
    Unknown {
        problem: String,
        /// Whether WeChat knows the message by an id of ours, so that a repeat makes no second one.
        recognised: bool,
    },
    /// There was no call: the lease was too short, the node is stopping, or there is no token.
    NotCalled { because: Hold },
}

impl Came {
    /// The id that WeChat gave the message, if it took it and gave one.
    pub fn message_id(&self) -> Option<&String> {
        match self {
            Self::Accepted { message_id } => message_id.as_ref(),
            _ => None,
        }
    }

    /// WeChat's no, if it said no.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } | Self::Limited { refusal, .. } => Some(refusal),
            _ => None,
        }
    }
}

/// Why a claimed message was not even tried.
#[derive(Debug)]
pub enum Hold {
    /// Again at once, by whoever claims it next.
    Released,
    /// The access token could not be had; only the operator can mend it when there is a time until
    /// which the app rests.
    Token { until: Option<Timestamp>, problem: String },
}

/// What a row becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    pub state: State,
    pub reason: Option<Reason>,
    pub outcome: Outcome,
    pub due_at: Timestamp,
    pub attempts_used: i32,
    pub credit: CreditEffect,
    pub pause: Option<Pause>,
}

/// What happens to the credit that is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditEffect {
    /// Spent, or still set aside.
    Keep,
    /// The message did not spend it.
    GiveBack,
    /// WeChat says that there is none: the whole balance is void.
    Zero,
}

/// What must rest until somebody acts or time passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pause {
    App { until: Timestamp, by: Option<PausedBy> },
    Template,
}

/// What a call makes of its row. `jitter` is a random number from 0 to 1.
pub fn after_call(row: &Model, came: &Came, now: Timestamp, delivery: &Delivery, jitter: f64) -> Next {
    let stay = |outcome, after: Duration| Next {
        state: State::Pending,
        reason: None,
        outcome,
        due_at: now + after,
        attempts_used: row.attempts_used,
        credit: CreditEffect::Keep,
        pause: None,
    };
    let fail = |outcome, reason| Next {
        state: State::Failed,
        reason: Some(reason),
        credit: CreditEffect::GiveBack,
        attempts_used: row.attempts_used + 1,
        ..stay(outcome, Duration::ZERO)
    };
    let rest = |span: Duration| Pause::App { until: now + span, by: None };
    match came {
        Came::Accepted { .. } => Next {
            state: State::Accepted,
            attempts_used: row.attempts_used + 1,
            ..stay(Outcome::Accepted, Duration::ZERO)
        },
        Came::Unknown { recognised, .. } => {
            let unsure = || Next { state: State::Unsure, ..stay(Outcome::Unsure, delivery.unsure_deadline) };
            recognised.then(|| repeat(row, now, delivery, jitter)).flatten().unwrap_or_else(unsure)
        }
        Came::NotSent => retry(row, Outcome::Retry, now, delivery, jitter),
        Came::NotCalled { because: Hold::Released } => stay(Outcome::NotCalled, Duration::ZERO),
        Came::NotCalled { because: Hold::Token { until: Some(until), .. } } => {
            let pause = Pause::App { until: *until, by: Some(PausedBy::Token) };
            Next { pause: Some(pause), ..stay(Outcome::Operator, Duration::ZERO) }
        }
        Came::Limited { limit: Limit::Day, .. } => {
            // Counters are cleared at midnight in China, or by hand before.
            let pause = Pause::App { until: now + until_shanghai_midnight(now), by: Some(PausedBy::Quota) };
            Next { pause: Some(pause), ..stay(Outcome::PauseApp, Duration::ZERO) }
        }
        Came::Limited { limit: Limit::Window(refresh), .. } => {
            stay(Outcome::SlowDown, refresh.mul_f64(1.0 + 0.5 * jitter))
        }
        Came::NotCalled { because: Hold::Token { until: None, .. } } => {
            stay(Outcome::NotCalled, back_off(row.attempts_used + 1, delivery, jitter))
        }
        Came::Refused { verdict, .. } => match verdict {
            Verdict::Retry => retry(row, Outcome::Retry, now, delivery, jitter),
            Verdict::Snooze => stay(Outcome::Snooze, SNOOZE.mul_f64(0.5 + jitter)),
            Verdict::SlowDown => stay(Outcome::SlowDown, SLOW_DOWN.mul_f64(0.5 + jitter)),
            Verdict::PauseApp => Next { pause: Some(rest(OPERATOR_PAUSE)), ..stay(Outcome::PauseApp, Duration::ZERO) },
            // A second refusal of a fresh token is a fault of the account.
            Verdict::Operator | Verdict::RefreshToken => {
                Next { pause: Some(rest(OPERATOR_PAUSE)), ..stay(Outcome::Operator, Duration::ZERO) }
            }
            Verdict::PauseTemplate => {
                Next { pause: Some(Pause::Template), ..stay(Outcome::PauseTemplate, Duration::ZERO) }
            }
            Verdict::NoCredit => {
                Next { credit: CreditEffect::Zero, ..without_credit(row, stay(Outcome::NoCredit, Duration::ZERO)) }
            }
            Verdict::DropUser(reason) => fail(Outcome::DropUser, *reason),
            Verdict::Reject(reason) => fail(Outcome::Reject, *reason),
        },
    }
}

/// The same message once more after an unknown outcome, while WeChat still recognises it.
fn repeat(row: &Model, now: Timestamp, delivery: &Delivery, jitter: f64) -> Option<Next> {
    let again = retry(row, Outcome::Unsure, now, delivery, jitter);
    (again.state == State::Pending && is_recognised(row, again.due_at)).then_some(again)
}

/// Whether WeChat still knows a service account's message by its `client_msg_id` at this time.
pub fn is_recognised(row: &Model, at: Timestamp) -> bool {
    row.first_attempt_at.is_some_and(|first| at < first + RECOGNISED_FOR)
}

/// Whether one more call could make a second message of one that may have been sent already, against
/// the rule's policy. A replay is wanted, and known to WeChat by another id.
pub fn is_too_late_to_repeat(row: &Model, now: Timestamp) -> bool {
    row.attempt_number > 1 && row.replays == 0 && row.unsure == Unsure::AtMostOnce && !is_recognised(row, now)
}

fn retry(row: &Model, outcome: Outcome, now: Timestamp, delivery: &Delivery, jitter: f64) -> Next {
    let attempts_used = row.attempts_used + 1;
    let exhausted = attempts_used >= delivery.max_attempts;
    Next {
        state: if exhausted { State::Failed } else { State::Pending },
        reason: exhausted.then_some(Reason::AttemptsExhausted),
        outcome,
        due_at: now + back_off(attempts_used, delivery, jitter),
        attempts_used,
        credit: if exhausted { CreditEffect::GiveBack } else { CreditEffect::Keep },
        pause: None,
    }
}

fn without_credit(row: &Model, stay: Next) -> Next {
    let state = match row.no_credit {
        NoCredit::Fail => State::Failed,
        NoCredit::Wait => State::Waiting,
    };
    Next { state, reason: Some(Reason::NoCredit), attempts_used: row.attempts_used + 1, ..stay }
}

/// Exponential with full jitter: a random part of the doubled pause, so that many messages that
/// failed together do not come back together.
fn back_off(attempts_used: i32, delivery: &Delivery, jitter: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(attempts_used.saturating_sub(1).clamp(0, 30).unsigned_abs());
    delivery.back_off_initial.saturating_mul(doubled).min(delivery.back_off_max).mul_f64(jitter.clamp(0.05, 1.0))
}

/// What an unknown outcome becomes at its deadline: the state and, for a final one, its reason.
pub fn at_unsure_deadline(row: &Model, delivery: &Delivery) -> (State, Option<Reason>) {
    let may_repeat = row.unsure == Unsure::AtLeastOnce && row.attempts_used + 1 < delivery.max_attempts;
    if may_repeat { (State::Pending, None) } else { (State::Failed, Some(Reason::UnknownOutcome)) }
}

/// Whether WeChat's word on a message can change a row. `was_unsure` tells of a row that waits to be
/// sent again after an unknown outcome.
pub fn takes_receipt(state: State, reason: Option<Reason>, was_unsure: bool) -> bool {
    match state {
        State::Accepted | State::Unsure => true,
        State::Pending => was_unsure,
        State::Failed => reason == Some(Reason::UnknownOutcome),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
