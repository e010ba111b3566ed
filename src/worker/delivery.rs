//! The delivery loop: claim what is due, call WeChat for each, settle the answers in groups.
//!
//! ```text
//! accepted with a free lane ─▶ handed over ─┐
//! bell, period, next due ─▶ claim ──────────┴▶ one task per call ─▶ answers
//!                                                     settler: takes what waits, one commit
//! ```
//!
//! A slot of a lane is held from the claim to the settle, so a slow database slows the calls, too.

mod settler;

use std::{collections::HashMap, sync::Arc, time::Duration};

use entity::{Timestamp, notification};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::push::push;
use crate::{
    config::App,
    context::{Context, Rung},
    error::Error,
    notification::{
        claim::{Found, claim},
        lane::{self, Claimed, Lanes},
        settle::Settlement,
        state::{Came, Hold},
    },
    pause::{self, Pauses},
    revision,
};
use settler::{Answer, settle_all, settle_and_log};

/// How long an idle loop waits for a bell that may have been lost.
const PERIOD: Duration = Duration::from_secs(2);
/// Rows of one claim and app; a larger backlog is claimed in turns.
const BATCH: usize = 256;

/// Claims, pushes and settles one round, whatever the lanes say; gives how many messages were dealt with.
pub async fn step(ctx: &Context) -> Result<usize, Error> {
    let mut done = 0;
    let pauses = pause::current(ctx, &revision::now(ctx).await?).await?;
    for app in ctx.apps().iter().filter(|app| pauses.is_awake(&app.app_id, ctx.clock.now())) {
        let found = claim(ctx, &app.app_id, ctx.config.calls_at_once(), &pauses.templates_of(&app.app_id)).await?;
        let calls = found.rows.into_iter().map(|row| {
            let ctx = ctx.clone();
            async move { push(&ctx, row).await }
        });
        let mut calls: JoinSet<_> = calls.collect();
        let mut settlements: Vec<Settlement> = Vec::new();
        while let Some(Ok(settlement)) = calls.join_next().await {
            settlements.push(settlement);
        }
        if !settlements.is_empty() {
            done += settlements.len();
            settle_and_log(ctx, &settlements.iter().collect::<Vec<_>>()).await?;
        }
    }
    Ok(done)
}

/// The loop. After `stop` nothing more is claimed; calls in flight have the stop allowance to end.
pub async fn run(ctx: &Context, stop: &CancellationToken) {
    let (answers, waiting) = mpsc::unbounded_channel();
    let lanes = lane::lanes(ctx);
    let calls = Calls { ctx: ctx.clone(), tasks: TaskTracker::new(), answers };
    let mut settler = tokio::spawn(settle_all(ctx.clone(), waiting));
    let mut taker = tokio::spawn(take_over(lanes.open(), calls.clone()));
    let mut looks = HashMap::new();
    ctx.wake.delivery.ring_all_here();
    while !stop.is_cancelled() {
        let rung = ctx.wake.delivery.take();
        let next = match round(ctx, &lanes, &calls, &rung, &mut looks).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "delivery.claim_failed");
                ctx.clock.now() + PERIOD / 2
            }
        };
        let pause = next.since(ctx.clock.now());
        tokio::select! {
            () = stop.cancelled() => break,
            // They only end by a panic while there is work for them; a worker without them must not go on.
            ended = &mut settler => ended.expect("the settler lives as long as the loop"),
            ended = &mut taker => ended.expect("new messages are taken over as long as the loop lives"),
            () = ctx.wake.delivery.heard() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    end(ctx, &lanes, calls, (settler, taker)).await;
}

/// Lets the calls in flight end and settle, within the allowance of a stop.
async fn end(ctx: &Context, lanes: &Lanes, calls: Calls, (settler, taker): (JoinHandle<()>, JoinHandle<()>)) {
    lanes.close();
    let all = async {
        lanes.all_back().await;
        calls.tasks.close();
        calls.tasks.wait().await;
        drop(calls);
        let _ = taker.await;
        let _ = settler.await;
    };
    if tokio::time::timeout(ctx.config.delivery.stop_allowance, all).await.is_err() {
        tracing::warn!(calls = lanes.in_flight(), "delivery.stopped_with_calls_in_flight");
    }
}

/// What it takes to begin a call.
#[derive(Clone)]
struct Calls {
    ctx: Context,
    tasks: TaskTracker,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Calls {
    fn begin(&self, Claimed { row, ticket }: Claimed) {
        let (ctx, answers) = (self.ctx.clone(), self.answers.clone());
        self.tasks.spawn(async move {
            let settlement = push(&ctx, row).await;
            ticket.ended(&settlement.came);
            // The settler lives until every sender is gone.
            let _ = answers.send(Answer { settlement, ticket: Some(ticket) });
        });
    }

    fn release(&self, row: notification::Model) {
        let came = Came::NotCalled { because: Hold::Released };
        let _ = self.answers.send(Answer { settlement: Settlement { row, came, duration_ms: 0 }, ticket: None });
    }
}

/// Begins the calls of messages that were accepted with a free lane.
async fn take_over(mut handed_over: mpsc::UnboundedReceiver<Claimed>, calls: Calls) {
    while let Some(claimed) = handed_over.recv().await {
        calls.begin(claimed);
    }
}

/// One claim for each app it was rung for or whose time has come; gives when the next one comes.
async fn round(
    ctx: &Context,
    lanes: &Arc<Lanes>,
    calls: &Calls,
    rung: &Rung,
    looks: &mut HashMap<String, Timestamp>,
) -> Result<Timestamp, Error> {
    let pauses = pause::current(ctx, &revision::now(ctx).await?).await?;
    let apps = ctx.apps();
    looks.retain(|app_id, _| apps.iter().any(|app| app.app_id == *app_id));
    for app in apps.iter() {
        let now = ctx.clock.now();
        let due = looks.get(&app.app_id).is_none_or(|at| *at <= now);
        if due || rung.all || rung.apps.contains(&app.app_id) {
            let next = look(ctx, lanes, calls, app, &pauses).await?;
            looks.insert(app.app_id.clone(), next);
        }
    }
    let unevenly = PERIOD.mul_f64(0.9 + 0.2 * rand::random::<f64>());
    Ok(looks.values().copied().min().unwrap_or(ctx.clock.now() + unevenly))
}

/// One claim for an app; gives when to look again.
async fn look(
    ctx: &Context,
    lanes: &Arc<Lanes>,
    calls: &Calls,
    app: &App,
    pauses: &Pauses,
) -> Result<Timestamp, Error> {
    let now = ctx.clock.now();
    let later = now + PERIOD.mul_f64(0.9 + 0.2 * rand::random::<f64>());
    let lane = lanes.of(&app.app_id);
    if !pauses.is_awake(&app.app_id, now) {
        return Ok(pauses.ends_at(&app.app_id, now).unwrap_or(later).min(later));
    }
    let room = lane.room(ctx, BATCH);
    if room == 0 {
        lane.set_backlog(true);
        lane.set_pending(true);
        return Ok(lane.room_in().map_or(later, |span| now + span).min(later));
    }
    let found = claim(ctx, &app.app_id, room, &pauses.templates_of(&app.app_id)).await;
    let Found { rows, any_pending, next_due } = found.inspect_err(|_| lane.found_nothing())?;
    let full = rows.len() >= room;
    lane.set_backlog(full);
    lane.set_pending(any_pending);
    if rows.is_empty() {
        lane.found_nothing();
    }
    for row in rows {
        if let Some(ticket) = lanes.take(&lane, row.identity_id) {
            calls.begin(Claimed { row, ticket });
        } else {
            // A message to the same user was handed over at this moment.
            calls.release(row);
        }
    }
    Ok(if full { now } else { next_due.map_or(later, |due| due.min(later)) })
}
