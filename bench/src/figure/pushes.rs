//! Events that become messages: from the first event posted until the upstream has seen the last message.

use std::{sync::Arc, time::Duration};

use super::{Run, as_f64, as_float};
use crate::{
    Result,
    contender::{Contender, Program},
    load::{self, Until},
    table::Measure,
    usage,
    work::Events,
};

/// The longest a backlog may take to be sent, and to be settled after that.
const PATIENCE: Duration = Duration::from_mins(5);
/// What an upstream like WeChat takes.
const SLOW: Duration = Duration::from_millis(100);
/// Calls in flight of the floor: as many as a fast upstream keeps busy, and as many as Magpie has by default.
pub const FEW: usize = 64;
const MANY: usize = 512;

const EVENTS: Measure = Measure { name: "events accepted/s", digits: 0, reach: "", aim: "" };
const PUSHES: Measure = Measure { name: "pushes/s, end to end", digits: 0, reach: "≥ 0.45", aim: "≥ 0.6" };
const SERVER: Measure = Measure { name: "CPU-s per 1,000 pushes, server", digits: 3, reach: "", aim: "" };
const DATABASE: Measure = Measure { name: "CPU-s per 1,000 pushes, PostgreSQL", digits: 3, reach: "", aim: "" };
const BOTH: Measure = Measure { name: "CPU-s per 1,000 pushes, together", digits: 3, reach: "≤ 3", aim: "≤ 2" };
const MEMORY: Measure =
    Measure { name: "peak memory under pushes, MB", digits: 1, reach: "≤ 64 MB", aim: "≤ 40 MB" };
const SLOW_PUSHES: Measure =
    Measure { name: "pushes/s, upstream takes 100 ms", digits: 0, reach: "≥ 2,000", aim: "≥ 4,000" };
const SLOW_MEMORY: Measure =
    Measure { name: "peak memory, upstream takes 100 ms, MB", digits: 1, reach: "≤ 64 MB", aim: "≤ 40 MB" };

/// What one round came to.
struct Round {
    events_per_second: f64,
    pushes_per_second: f64,
    cpu: (f64, f64),
    /// Bytes.
    peak_memory: Option<u64>,
}

/// An upstream that answers at once.
pub async fn fast(run: &mut Run<'_>, contenders: &[Contender]) -> Result<()> {
    let per_thousand = 1000.0 / as_f64(run.size.events);
    for contender in contenders {
        warm_up(run, contender).await?;
    }
    for _ in 0..run.size.rounds {
        for contender in contenders {
            let round = round(run, contender, Duration::ZERO).await?;
            let (server, database) = round.cpu;
            run.enter(&EVENTS, contender, round.events_per_second);
            run.enter(&PUSHES, contender, round.pushes_per_second);
            run.enter(&SERVER, contender, server * per_thousand);
            if run.cluster.is_some() {
                run.enter(&DATABASE, contender, database * per_thousand);
                run.enter(&BOTH, contender, (server + database) * per_thousand);
            }
            enter_memory(run, &MEMORY, contender, &round);
        }
    }
    Ok(())
}

/// An upstream that takes its time.
pub async fn slow(run: &mut Run<'_>, contenders: &mut [Contender]) -> Result<()> {
    in_flight(contenders, MANY).await?;
    for _ in 0..run.size.rounds {
        for contender in &*contenders {
            let round = round(run, contender, SLOW).await?;
            run.enter(&SLOW_PUSHES, contender, round.pushes_per_second);
            enter_memory(run, &SLOW_MEMORY, contender, &round);
        }
    }
    in_flight(contenders, FEW).await
}

/// Connections are opened, plans are made, code is read from the disk.
async fn warm_up(run: &Run<'_>, contender: &Contender) -> Result<()> {
    let events = run.size.events.div_ceil(20);
    round_of(run, contender, Duration::ZERO, events).await.map(drop)
}

/// Pushes a second, without anything else.
pub async fn end_to_end(run: &Run<'_>, contender: &Contender) -> Result<f64> {
    Ok(round(run, contender, Duration::ZERO).await?.pushes_per_second)
}

fn enter_memory(run: &mut Run<'_>, measure: &Measure, contender: &Contender, round: &Round) {
    if let Some(bytes) = round.peak_memory {
        run.enter(measure, contender, as_float(bytes) / 1e6);
    }
}

async fn in_flight(contenders: &mut [Contender], calls: usize) -> Result<()> {
    for contender in contenders {
        if let Program::Floor(floor) = &mut contender.program {
            floor.in_flight = calls;
            contender.start_again().await?;
        }
    }
    Ok(())
}

async fn round(run: &Run<'_>, contender: &Contender, latency: Duration) -> Result<Round> {
    round_of(run, contender, latency, run.size.events).await
}

async fn round_of(run: &Run<'_>, contender: &Contender, latency: Duration, events: usize) -> Result<Round> {
    contender.credit_everybody().await?;
    run.upstream.reset(latency).await?;
    usage::forget_peak(contender.pid());
    let meter = run.meter(contender);
    let work = Arc::new(Events::new(contender, run.size.users));
    let posted = load::closed(contender.address, run.size.connections, Until::Requests(events), work).await?.whole()?;
    let last = run.upstream.wait_for(events, PATIENCE).await?;
    // What is settled after the last push belongs to the cost.
    contender.settled(PATIENCE).await?;
    let cpu = meter.seconds();
    Ok(Round {
        events_per_second: posted.per_second(),
        pushes_per_second: as_f64(events) / (as_float(last.saturating_sub(posted.began_at)) / 1e9),
        cpu,
        peak_memory: usage::peak_memory(contender.pid()),
    })
}
