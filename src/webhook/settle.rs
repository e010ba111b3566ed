//! What comes of a call: received, to be sent again later, or given up; and what that says of the endpoint.

use std::time::Duration;

use entity::{
    Timestamp,
    webhook::{self, DisabledBecause},
    webhook_delivery::{self as row, Problem, State},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use super::{
    call::{self, Came, Message},
    claim::Claimed,
    endpoint,
};
use crate::{clock::Stopwatch, context::Context, error::Error};

/// Pauses after the first call, the second, and so on: about 28 hours in all, as Standard Webhooks advise.
const PAUSES: [Duration; 7] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(10),
];
/// The longest pause an endpoint may ask for by `Retry-After`.
const LONGEST_PAUSE: Duration = Duration::from_hours(10);
/// Calls for one delivery before its failures tell against the endpoint: one hiccup after a quiet week is none.
const CALLS_THAT_TELL: i32 = 3;
/// Pause before a settle is tried again when the database is away.
const AGAIN: Duration = Duration::from_millis(200);

/// What a delivery becomes.
#[derive(Debug, PartialEq, Eq)]
struct Next {
    state: State,
    due_at: Timestamp,
    status: Option<i32>,
    problem: Option<Problem>,
}

fn after(attempts: i32, came: Came, now: Timestamp, jitter: f64) -> Next {
    let (status, asked) = match came {
        Came::Answer { status, retry_after } => (Some(status), retry_after),
        Came::Nothing(_) => (None, None),
    };
    let problem = match came {
        Came::Answer { status: 200..=299, .. } => None,
        Came::Answer { .. } => Some(Problem::Status),
        Came::Nothing(problem) => Some(problem),
    };
    let pause = usize::try_from(attempts - 1).ok().and_then(|made| PAUSES.get(made));
    let (state, due_at) = match (problem, pause) {
        (None, _) => (State::Delivered, now),
        (Some(_), Some(pause)) if status != Some(410) => {
            // Messages that failed together do not come back together.
            let pause = pause.mul_f64(0.8 + 0.4 * jitter);
            (State::Pending, now + pause.max(asked.unwrap_or_default().min(LONGEST_PAUSE)))
        }
        _ => (State::Failed, now),
    };
    Next { state, due_at, status: status.map(i32::from), problem }
}

/// Calls the endpoint and writes down what came of it, unless the lease was lost meanwhile.
pub async fn call_and_settle(ctx: &Context, claimed: &Claimed) -> Result<(), Error> {
    let Claimed { endpoint, row } = claimed;
    let message = Message { id: row.id.to_string(), body: &row.body };
    let (came, duration_ms) = call::call(ctx, endpoint, &message).await?;
    let now = ctx.clock.now();
    let next = after(row.attempts, came, now, rand::random());
    let waited = Stopwatch::start();
    let ours = loop {
        match write(ctx, row, &next, duration_ms, now).await {
            Ok(ours) => break ours,
            // Past its lease the delivery is due again by itself.
            Err(error) if waited.elapsed() > super::LEASE_MARGIN => return Err(error),
            Err(error) => {
                tracing::error!(%error, "webhook.settle_failed");
                tokio::time::sleep(AGAIN).await;
            }
        }
    };
    let outcome = match (ours, next.state) {
        (false, _) => "lease_lost",
        (true, State::Delivered) => "delivered",
        (true, State::Pending) => "retry",
        (true, State::Failed) => "failed",
    };
    metrics::counter!("magpie_webhook_calls_total", "outcome" => outcome).increment(1);
    metrics::histogram!("magpie_webhook_call_duration_seconds")
        .record(Duration::from_millis(u64::from(duration_ms.unsigned_abs())));
    tracing::info!(
        webhook.id = %endpoint.id,
        delivery.id = %row.id,
        event.r#type = row.event_type,
        attempt.number = row.attempts,
        outcome,
        http.response.status_code = next.status,
        problem = next.problem.map(tracing::field::debug),
        duration_ms,
        "webhook.call"
    );
    if ours { judge(ctx, endpoint, row, &next, now).await } else { Ok(()) }
}

/// Whether the lease was still ours.
async fn write(ctx: &Context, row: &row::Model, next: &Next, duration_ms: i32, now: Timestamp) -> Result<bool, Error> {
    let written = row::Entity::update_many()
        .set(row::ActiveModel {
            state: Set(next.state),
            due_at: Set(next.due_at),
            lease_token: Set(None),
            status: Set(next.status),
            problem: Set(next.problem),
            duration_ms: Set(Some(duration_ms)),
            finished_at: Set((next.state != State::Pending).then_some(now)),
            ..Default::default()
        })
        .filter(row::Column::Id.eq(row.id))
        .filter(row::Column::LeaseToken.eq(row.lease_token))
        .exec(ctx.db.write())
        .await?;
    Ok(written.rows_affected > 0)
}

/// What the call says of the endpoint.
async fn judge(
    ctx: &Context,
    endpoint: &webhook::Model,
    row: &row::Model,
    next: &Next,
    now: Timestamp,
) -> Result<(), Error> {
    match (next.problem, endpoint.failing_since) {
        (None, None) => Ok(()),
        (None, Some(_)) => note_failing(ctx, endpoint, None).await,
        (Some(_), _) if next.status == Some(410) => endpoint::switch_off(ctx, endpoint, DisabledBecause::Gone).await,
        (Some(_), None) => note_failing(ctx, endpoint, Some(now)).await,
        (Some(_), Some(since)) => {
            let long = now.since(since) >= ctx.config.webhooks.disable_after;
            if long && row.attempts >= CALLS_THAT_TELL {
                return endpoint::switch_off(ctx, endpoint, DisabledBecause::Failing).await;
            }
            Ok(())
        }
    }
}

async fn note_failing(ctx: &Context, endpoint: &webhook::Model, since: Option<Timestamp>) -> Result<(), Error> {
    let mut query = webhook::Entity::update_many()
        .set(webhook::ActiveModel { failing_since: Set(since), ..Default::default() })
        .filter(webhook::Column::Id.eq(endpoint.id));
    if since.is_some() {
        query = query.filter(webhook::Column::FailingSince.is_null());
    }
    query.exec(ctx.db.write()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn answered(attempts: i32, status: u16, retry_after: Option<u64>) -> Next {
        let retry_after = retry_after.map(Duration::from_secs);
        after(attempts, Came::Answer { status, retry_after }, NOW, 0.5)
    }

    #[test]
    fn two_hundreds_are_received_and_nothing_else() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!((answered(1, status, None).state, answered(1, status, None).problem), (State::Delivered, None));
        }
        for status in [301, 302, 400, 401, 404, 429, 500, 503] {
            let next = answered(1, status, None);
            assert_eq!((next.state, next.problem), (State::Pending, Some(Problem::Status)), "{status}");
            assert_eq!(next.due_at, NOW + PAUSES[0]);
        }
        assert_eq!(answered(1, 410, Some(5)).state, State::Failed);
    }

    #[test]
    fn it_comes_later_and_later_and_at_last_not_any_more() {
        let mut at = NOW;
        for attempts in 1..=7 {
            let next = after(attempts, Came::Nothing(Problem::TimedOut), at, 0.5);
            assert_eq!((next.state, next.problem), (State::Pending, Some(Problem::TimedOut)));
            at = next.due_at;
        }
        assert_eq!(at.since(NOW), Duration::from_secs(5 + 35 * 60 + 27 * 3600));
        assert_eq!(after(8, Came::Nothing(Problem::TimedOut), at, 0.5).state, State::Failed);
        for jitter in [0.0, 1.0] {
            let pause = after(2, Came::Nothing(Problem::Unreachable), NOW, jitter).due_at.since(NOW);
            assert!((Duration::from_mins(4)..=Duration::from_mins(6)).contains(&pause));
        }
    }

    #[test]
    fn retry_after_is_obeyed_within_bounds() {
        assert_eq!(answered(1, 503, Some(600)).due_at, NOW + Duration::from_mins(10));
        assert_eq!(answered(2, 503, Some(1)).due_at, NOW + PAUSES[1], "not sooner than by itself");
        assert_eq!(answered(1, 429, Some(u64::MAX)).due_at, NOW + LONGEST_PAUSE);
    }
}
