//! The delivery loop: claim what is due, call WeChat for each, settle the answers in groups.
//!
//! ```text
//! bell or period ─▶ claim (as many as calls are free) ─▶ one task per call ─▶ answers
//!                                                              settler: takes what waits, one commit
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use entity::{attempt::Outcome, notification};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::push::push;
use crate::{
    app_account,
    config::App,
    context::Context,
    error::Error,
    notification::{
        claim::claim,
        settle::{self, Settlement},
        state::Came,
    },
};

/// How long an idle loop waits for a bell that may have been lost, or rung on another node.
const PERIOD: Duration = Duration::from_millis(500);
/// Answers settled in one transaction at most.
const SETTLE_BATCH: usize = 256;
/// Pause before a settle is tried again when the database is away.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);

/// Claims, pushes and settles one round; gives how many messages were dealt with.
pub async fn step(ctx: &Context) -> Result<usize, Error> {
    let mut done = 0;
    for app in awake_apps(ctx).await? {
        let claimed = claim(ctx, &app.app_id, ctx.config.delivery.concurrency).await?;
        let mut calls: JoinSet<_> = claimed.into_iter().map(|row| pushed(ctx.clone(), row)).collect();
        let mut settlements = Vec::new();
        while let Some(Ok(settlement)) = calls.join_next().await {
            settlements.push(settlement);
        }
        if !settlements.is_empty() {
            done += settlements.len();
            settle_and_log(ctx, &settlements).await?;
        }
    }
    Ok(done)
}

/// The loop. After `stop` nothing more is claimed; calls in flight have the stop allowance to end.
pub async fn run(ctx: &Context, stop: &CancellationToken) {
    let (answers, waiting) = mpsc::unbounded_channel();
    let calls = TaskTracker::new();
    let slots = Slots::new(ctx);
    let mut settler = tokio::spawn(settle_all(ctx.clone(), waiting));
    while !stop.is_cancelled() {
        let more = match round(ctx, &slots, &calls, &answers).await {
            Ok(more) => more,
            Err(error) => {
                tracing::error!(%error, "delivery.claim_failed");
                false
            }
        };
        let pause = if more { Duration::ZERO } else { PERIOD.mul_f64(0.9 + 0.2 * rand::random::<f64>()) };
        tokio::select! {
            () = stop.cancelled() => break,
            // It only ends by a panic while there is somebody to answer; a worker without it must not go on.
            ended = &mut settler => ended.expect("the settler lives as long as the loop"),
            () = ctx.wake.delivery.notified() => {}
            () = slots.freed.notified(), if !more => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    calls.close();
    if tokio::time::timeout(ctx.config.delivery.stop_allowance, calls.wait()).await.is_err() {
        tracing::warn!(calls = calls.len(), "delivery.stopped_with_calls_in_flight");
    }
    drop(answers);
    if tokio::time::timeout(ctx.config.delivery.stop_allowance, settler).await.is_err() {
        tracing::error!("delivery.stopped_before_all_was_settled");
    }
}

/// Free calls, by app: one app's slow WeChat does not hold up another's.
struct Slots {
    by_app: Mutex<HashMap<String, Arc<Semaphore>>>,
    per_app: usize,
    /// Rung when a call of an app with a backlog ends.
    freed: Arc<Notify>,
}

impl Slots {
    fn new(ctx: &Context) -> Self {
        Self { by_app: Mutex::default(), per_app: ctx.config.delivery.concurrency, freed: Arc::default() }
    }

    fn of(&self, app: &App) -> Arc<Semaphore> {
        let mut by_app = self.by_app.lock().unwrap_or_else(PoisonError::into_inner);
        by_app.entry(app.app_id.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.per_app))).clone()
    }
}

/// One claim for each app that has free calls; true when there may be more to claim at once.
async fn round(
    ctx: &Context,
    slots: &Slots,
    calls: &TaskTracker,
    answers: &mpsc::UnboundedSender<Settlement>,
) -> Result<bool, Error> {
    let mut more = false;
    for app in awake_apps(ctx).await? {
        let free = slots.of(&app);
        let most = free.available_permits();
        if most == 0 {
            continue;
        }
        let claimed = claim(ctx, &app.app_id, most).await?;
        more |= !claimed.is_empty() && claimed.len() < most;
        for row in claimed {
            if let Ok(slot) = free.clone().try_acquire_owned() {
                let call = call(ctx.clone(), row, slot, answers.clone(), slots.freed.clone());
                calls.spawn(call);
            }
        }
    }
    Ok(more)
}

async fn pushed(ctx: Context, row: notification::Model) -> Settlement {
    push(&ctx, row).await
}

async fn call(
    ctx: Context,
    row: notification::Model,
    slot: OwnedSemaphorePermit,
    answers: mpsc::UnboundedSender<Settlement>,
    freed: Arc<Notify>,
) {
    let settlement = push(&ctx, row).await;
    drop(slot);
    freed.notify_one();
    // The settler lives until every sender is gone.
    let _ = answers.send(settlement);
}

async fn awake_apps(ctx: &Context) -> Result<Vec<Arc<App>>, Error> {
    let now = ctx.clock.now();
    let apps = app_account::all(ctx).await?;
    Ok(apps.into_iter().filter(|(_, row)| app_account::is_awake(row, now)).map(|(app, _)| app).collect())
}

/// Settles what waits, in one transaction, without a timer: a single answer is settled at once.
async fn settle_all(ctx: Context, mut waiting: mpsc::UnboundedReceiver<Settlement>) {
    let mut batch = Vec::with_capacity(SETTLE_BATCH);
    while waiting.recv_many(&mut batch, SETTLE_BATCH).await > 0 {
        while let Err(error) = settle_and_log(&ctx, &batch).await {
            tracing::error!(%error, messages = batch.len(), "delivery.settle_failed");
            let now = ctx.clock.now();
            // Past their leases the sweep has them, and their attempts say that nobody knows.
            batch.retain(|settlement| settlement.row.lease_until.is_some_and(|until| until > now));
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
        batch.clear();
    }
}

async fn settle_and_log(ctx: &Context, settlements: &[Settlement]) -> Result<(), Error> {
    let results = settle::settle(ctx, settlements).await?;
    for (settlement, next) in settlements.iter().zip(results) {
        let row = &settlement.row;
        let errcode = match &settlement.came {
            Came::Accepted { .. } => Some(0),
            came => came.refusal().map(|refusal| refusal.errcode),
        };
        let outcome = next.as_ref().map(|next| next.outcome);
        metrics::counter!("magpie_pushes_total", "app_id" => row.app_id.clone(), "outcome" => outcome.map_or_else(|| "lease_lost".to_owned(), word))
            .increment(1);
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
    // A user's next message waits for the one before it.
    if !settlements.is_empty() {
        ctx.wake.delivery.notify_one();
    }
    Ok(())
}

/// An outcome as it is stored.
fn word(outcome: Outcome) -> String {
    serde_json::to_value(outcome).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}
