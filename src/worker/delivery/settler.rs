//! Settles the answers as they come, in groups. The answer of the only call is settled at once; while others are
//! under way it waits a moment for theirs, after the message itself has long been sent.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use entity::{attempt::Outcome, notification::State};
use tokio::sync::mpsc;

use crate::{
    context::Context,
    error::{Code, Error},
    notification::{
        lane::{Ticket, lanes},
        settle::{self, Settlement},
        state::{Came, Next},
    },
};

/// Answers settled in one transaction at most.
const BATCH: usize = 256;
/// How long answers are gathered at most while more calls are under way, and how long until it is looked again.
const GATHER: Duration = Duration::from_millis(16);
const STEP: Duration = Duration::from_millis(4);
/// Nothing is waited for once this share of the calls that one app may have is under way, whoever's they are: each that
/// waits keeps another one from beginning.
const SHARE: usize = 3;
/// Pause before a settle is tried again when the database is away.
const AGAIN: Duration = Duration::from_millis(200);

/// What came of a call; its slot is free once that is settled.
pub(super) struct Answer {
    pub settlement: Settlement,
    /// None for a row that was given back without a call.
    #[expect(dead_code, reason = "it is held, and given back when the answer is dropped")]
    pub ticket: Option<Ticket>,
}

/// Settles what waits, in one transaction.
pub(super) async fn settle_all(ctx: Context, mut waiting: mpsc::UnboundedReceiver<Answer>) {
    let mut batch = Vec::with_capacity(BATCH);
    let lanes = lanes(&ctx);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let mut waited = Duration::ZERO;
        while waited < GATHER && is_worth_a_wait(batch.len(), lanes.in_flight(), ctx.config.calls_at_once()) {
            tokio::time::sleep(STEP).await;
            waited += STEP;
            while batch.len() < BATCH
                && let Ok(answer) = waiting.try_recv()
            {
                batch.push(answer);
            }
        }
        while let Err(error) = settle_batch(&ctx, &batch).await {
            tracing::error!(%error, messages = batch.len(), "delivery.settle_failed");
            // While the database is away nobody else can decide, and what is known is kept however long that takes. A
            // fault of ours must not hold up the rest: past their leases the sweep has them.
            if error.code != Code::DatabaseUnavailable {
                let now = ctx.clock.now();
                batch.retain(|answer: &Answer| answer.settlement.row.lease_until.is_some_and(|until| until > now));
            }
            tokio::time::sleep(AGAIN).await;
        }
        batch.clear();
    }
}

/// Whether more answers may come soon, and nobody waits for a call until then.
fn is_worth_a_wait(gathered: usize, in_flight: usize, at_once: usize) -> bool {
    gathered < in_flight && gathered < BATCH && in_flight < at_once / SHARE
}

async fn settle_batch(ctx: &Context, batch: &[Answer]) -> Result<(), Error> {
    if batch.is_empty() {
        return Ok(());
    }
    let settlements: Vec<_> = batch.iter().map(|answer| &answer.settlement).collect();
    let results = settle_and_log(ctx, &settlements).await?;
    // A user's next message waits for the one before it, and what is sent again has a new time.
    let mut rung = HashSet::new();
    for (settlement, next) in settlements.iter().zip(&results) {
        let app_id = settlement.row.app_id.as_str();
        let again = next.as_ref().is_some_and(|next| next.state == State::Pending);
        if !rung.contains(app_id) && (again || lanes(ctx).of(app_id).has_pending()) {
            rung.insert(app_id);
            ctx.wake.delivery.ring_app_here(app_id);
        }
    }
    Ok(())
}

/// Settles, and tells the log and the metrics.
pub(super) async fn settle_and_log(ctx: &Context, settlements: &[&Settlement]) -> Result<Vec<Option<Next>>, Error> {
    let results = settle::settle(ctx, settlements).await?;
    let mut counts: BTreeMap<(&str, &'static str), u64> = BTreeMap::new();
    for (settlement, next) in settlements.iter().zip(&results) {
        let row = &settlement.row;
        let errcode = match &settlement.came {
            Came::Accepted { .. } => Some(0),
            came => came.refusal().map(|refusal| refusal.errcode),
        };
        let outcome = next.as_ref().map_or("lease_lost", |next| word(next.outcome));
        *counts.entry((&row.app_id, outcome)).or_default() += 1;
        let Some(next) = next else {
            tracing::warn!(notification.id = %row.id, wechat.errcode = errcode, "notification.lease_lost");
            continue;
        };
        tracing::info!(
            notification.id = %row.id,
            app.id = %row.app_id,
            user.id = %row.user_id,
            attempt.number = row.attempt_number,
            outcome = ?next.outcome,
            state = ?next.state,
            wechat.errcode = errcode,
            duration_ms = settlement.duration_ms,
            "notification.push"
        );
    }
    for ((app_id, outcome), count) in counts {
        metrics::counter!("magpie_pushes_total", "app_id" => app_id.to_owned(), "outcome" => outcome).increment(count);
    }
    Ok(results)
}

/// An outcome as it is stored.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Retry => "retry",
        Outcome::RefreshToken => "refresh_token",
        Outcome::Snooze => "snooze",
        Outcome::SlowDown => "slow_down",
        Outcome::PauseApp => "pause_app",
        Outcome::Operator => "operator",
        Outcome::PauseTemplate => "pause_template",
        Outcome::NoCredit => "no_credit",
        Outcome::DropUser => "drop_user",
        Outcome::Reject => "reject",
        Outcome::Unsure => "unsure",
        Outcome::NotCalled => "not_called",
    }
}

#[cfg(test)]
mod tests {
    use super::{BATCH, is_worth_a_wait};

    #[test]
    fn others_are_waited_for_unless_that_keeps_calls_from_beginning() {
        assert!(is_worth_a_wait(1, 2, 288), "another call is under way");
        assert!(!is_worth_a_wait(1, 1, 288), "it is the only one");
        assert!(is_worth_a_wait(60, 95, 288));
        assert!(!is_worth_a_wait(60, 96, 288), "a third is taken");
        assert!(!is_worth_a_wait(BATCH, BATCH + 1, 10_000), "no more fit in");
        assert!(!is_worth_a_wait(1, 2, 4), "few at once");
    }
}
