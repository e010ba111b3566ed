//! The loop that tells endpoints what happened: claims what is due of each, calls, settles. An endpoint has calls of
//! its own, so one that is slow holds up nobody else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use entity::WebhookId;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Stopwatch,
    context::{Context, Rung},
    error::Error,
    webhook::{
        self,
        claim::{self, Claimed},
        settle,
    },
};

/// How long an endpoint for which nothing waits is left alone: its bell may have been lost, or another node died.
const PERIOD: Duration = Duration::from_secs(10);
/// How often the loop asks for new endpoints, and tries again when the database is away.
const BREATH: Duration = Duration::from_secs(1);
/// A bell rings before the commit it tells of: what was not there yet is looked for again so soon, one time after
/// the other.
const AGAIN: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];

/// The calls of one endpoint.
struct Line {
    free: Arc<Semaphore>,
    /// Since the last look, and how long until the next.
    looked: Stopwatch,
    pause: Duration,
    /// Looks since the bell.
    looks: usize,
}

impl Line {
    fn left(&self) -> Duration {
        self.pause.saturating_sub(self.looked.elapsed())
    }
}

/// The loop. After `stop` nothing more is claimed; calls in flight have the stop allowance to end.
pub async fn run(ctx: &Context, stop: &CancellationToken) {
    let (calls, mut lines) = (TaskTracker::new(), HashMap::new());
    while !stop.is_cancelled() {
        let rung = ctx.wake.webhooks.take();
        let pause = match round(ctx, &mut lines, &calls, &rung).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(%error, "webhook.claim_failed");
                BREATH
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = ctx.wake.webhooks.heard() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    calls.close();
    if tokio::time::timeout(ctx.config.delivery.stop_allowance, calls.wait()).await.is_err() {
        tracing::warn!(calls = calls.len(), "webhook.stopped_with_calls_in_flight");
    }
}

/// A look for each endpoint that was rung for or whose time has come; gives how long until the next one.
async fn round(
    ctx: &Context,
    lines: &mut HashMap<WebhookId, Line>,
    calls: &TaskTracker,
    rung: &Rung,
) -> Result<Duration, Error> {
    let listeners = webhook::current(ctx).await?;
    lines.retain(|id, _| listeners.iter().any(|listener| listener.id == *id));
    for listener in listeners.iter() {
        let line = lines.entry(listener.id).or_insert_with(|| Line {
            free: Arc::new(Semaphore::new(ctx.config.webhooks.concurrency)),
            looked: Stopwatch::start(),
            pause: Duration::ZERO,
            looks: AGAIN.len(),
        });
        if rung.all || rung.apps.contains(&listener.id.to_string()) {
            (line.pause, line.looks) = (Duration::ZERO, 0);
        }
        if line.left().is_zero() {
            look(ctx, listener.id, line, calls).await?;
        }
    }
    Ok(lines.values().map(Line::left).min().unwrap_or(BREATH).min(BREATH))
}

async fn look(ctx: &Context, id: WebhookId, line: &mut Line, calls: &TaskTracker) -> Result<(), Error> {
    let later = AGAIN.get(line.looks).copied().unwrap_or(PERIOD.mul_f64(0.9 + 0.2 * rand::random::<f64>()));
    (line.looked, line.pause) = (Stopwatch::start(), later);
    line.looks = (line.looks + 1).min(AGAIN.len());
    let free = line.free.available_permits();
    if free == 0 {
        // The end of a call rings.
        return Ok(());
    }
    let found = claim::claim(ctx, id, free).await?;
    if let Some(due) = found.next_due {
        line.pause = line.pause.min(due.since(ctx.clock.now()));
    }
    let more = found.rows.len() == free;
    for claimed in found.rows {
        begin(ctx, line, calls, (claimed, more));
    }
    Ok(())
}

/// Begins a call; where `more` is due than could be claimed, its end rings.
fn begin(ctx: &Context, line: &Line, calls: &TaskTracker, (claimed, more): (Claimed, bool)) {
    let permit = line.free.clone().try_acquire_owned();
    let ctx = ctx.clone();
    calls.spawn(async move {
        let id = claimed.row.webhook_id.to_string();
        if let Err(error) = settle::call_and_settle(&ctx, &claimed).await {
            tracing::error!(%error, webhook.id = %id, "webhook.call_failed");
        }
        drop(permit);
        if more {
            ctx.wake.webhooks.ring_app_here(&id);
        }
    });
}
