//! The worker: everything that happens without a request.
//!
//! | duty | rung by | period |
//! | --- | --- | --- |
//! | `delivery.rs`: claim, push, settle | a new notification, a released one, the next due one | 2 s |
//! | `neighbours.rs`: wake the other nodes, be woken by them | a message to be claimed | – |
//! | `webhooks.rs`: tell business systems what happened | something to tell, its time | 10 s |
//! | callbacks: process what WeChat posted | a stored callback | 1 s |
//! | fan-out: notify the many recipients of an event | a stored event | 1 s |
//! | sweep: leases, unknown outcomes, expiry, held receipts | the earliest of their times | 1 s |
//! | quota: resume apps whose quota has room again | – | 5 s |
//! | templates: mirror them | start | 1 h |
//! | retention: delete what is too old | start | 1 h |
//! | clock: agree with PostgreSQL's | start | 30 s |
//!
//! Each duty takes no input and is safe at any time on any node, so what a crash leaves behind is
//! picked up the way everything else is. A duty that dies takes the process with it.

pub mod delivery;
pub mod neighbours;
mod push;
pub mod webhooks;

use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    callback, context::Context, error::Error, event, notification::sweep, quota, receipt, retention, template, webhook,
};

/// Runs all duties until `stop`; comes back when the calls in flight have settled.
pub async fn run(ctx: Context, stop: CancellationToken) {
    tokio::join!(
        delivery::run(&ctx, &stop),
        neighbours::run(&ctx, &stop, true),
        webhooks::run(&ctx, &stop),
        every(&stop, Duration::from_secs(1), Some(&ctx.wake.callbacks), || async {
            report("callbacks", callback::process_stored(&ctx).await.map(drop));
        }),
        every(&stop, Duration::from_secs(1), Some(&ctx.wake.fan_out), || async {
            report("fan_out", fan_out(&ctx, &stop).await);
        }),
        sweep_in_time(&ctx, &stop),
        every(&stop, Duration::from_secs(5), None, || async {
            report("quota", quota::resume_where_room(&ctx).await.map(drop));
        }),
        every(&stop, Duration::from_hours(1), None, || sync_templates(&ctx)),
        every(&stop, Duration::from_hours(1), None, || async {
            report("retention", retention::clear(&ctx).await.map(drop));
        }),
        every(&stop, Duration::from_secs(30), None, || agree_on_time(&ctx)),
    );
}

/// One round of everything that is due now; gives how much was done. Tests call it until nothing is
/// left.
pub async fn step(ctx: &Context) -> Result<usize, Error> {
    let callbacks = callback::process_stored(ctx).await?;
    let swept = sweep_once(ctx).await? + quota::resume_where_room(ctx).await?;
    let notified = event::fan_out::step(ctx).await?;
    let sent = delivery::step(ctx).await?;
    Ok(callbacks + swept + notified + sent + webhook::claim::step(ctx).await?)
}

/// One portion after the other until nothing is left to do.
async fn fan_out(ctx: &Context, stop: &CancellationToken) -> Result<(), Error> {
    while !stop.is_cancelled() && event::fan_out::step(ctx).await? > 0 {}
    Ok(())
}

/// Sweeps when something's time has come: nothing is written, and little read, while there is nothing.
async fn sweep_in_time(ctx: &Context, stop: &CancellationToken) {
    const PERIOD: Duration = Duration::from_secs(1);
    while !stop.is_cancelled() {
        let next = match sweep::next(ctx).await {
            Ok(next) => next,
            Err(error) => {
                report("sweep", Err(error));
                None
            }
        };
        let now = ctx.clock.now();
        if next.is_some_and(|at| at <= now) {
            report("sweep", sweep::sweep_all(ctx, stop).await);
        }
        report("receipts", receipt::match_held(ctx).await.map(drop));
        let pause = next.filter(|at| *at > now).map_or(PERIOD, |at| at.since(now).min(PERIOD));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause.max(Duration::from_millis(20)).mul_f64(0.9 + 0.2 * rand::random::<f64>())) => {}
        }
    }
}

async fn sweep_once(ctx: &Context) -> Result<usize, Error> {
    Ok(receipt::match_held(ctx).await? + sweep::sweep(ctx).await?.total())
}

/// Runs a duty at once, then whenever its bell rings and at least once a period, a little unevenly so
/// that nodes do not act in step.
async fn every<F, Fut>(stop: &CancellationToken, period: Duration, bell: Option<&Notify>, mut duty: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    let rung = async || match bell {
        Some(bell) => bell.notified().await,
        None => std::future::pending().await,
    };
    loop {
        duty().await;
        let pause = period.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        tokio::select! {
            () = stop.cancelled() => return,
            () = rung() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A duty that failed is tried again at its next turn: the database may be away.
fn report(duty: &'static str, result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::error!(duty, %error, "worker.duty_failed");
    }
}

async fn sync_templates(ctx: &Context) {
    for app in ctx.apps().iter() {
        if let Err(error) = template::sync(ctx, app).await {
            tracing::warn!(app.id = %app.app_id, %error, "template.sync_failed");
        }
    }
}

/// Leases are measured by the database's clock, so a node whose own clock is wrong does no harm.
pub async fn agree_on_time(ctx: &Context) {
    match ctx.db.now().await {
        Ok(Some(now)) => ctx.clock.agree_with(now),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "clock.database_unavailable"),
    }
}
