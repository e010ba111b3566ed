//! A system with nothing else to do: from an event posted until its message is seen upstream.

use std::{collections::HashMap, time::Duration};

use super::Run;
use crate::{
    Result, clock,
    contender::Contender,
    http::Connection,
    load::{self, Work},
    table::Measure,
    work::Events,
};

const EVENTS: usize = 200;
const APART: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(30);

const P50: Measure = Measure { name: "idle: event → push p50, ms", digits: 2, reach: "≤ 4 ms", aim: "≤ 2.2 ms" };
const P99: Measure = Measure { name: "idle: event → push p99, ms", digits: 2, reach: "≤ 12 ms", aim: "≤ 5 ms" };

pub async fn measure(run: &mut Run<'_>, contenders: &[Contender]) -> Result<()> {
    for _ in 0..run.size.rounds {
        for contender in contenders {
            contender.credit_everybody().await?;
            run.upstream.reset(Duration::ZERO).await?;
            let mut latency = load::histogram()?;
            for micros in latencies(run, contender).await? {
                latency.saturating_record(micros);
            }
            let milliseconds = |quantile| super::as_float(latency.value_at_quantile(quantile)) / 1000.0;
            run.enter(&P50, contender, milliseconds(0.5));
            run.enter(&P99, contender, milliseconds(0.99));
        }
    }
    Ok(())
}

/// Microseconds, one for each event.
async fn latencies(run: &Run<'_>, contender: &Contender) -> Result<Vec<u64>> {
    let work = Events::new(contender, run.size.users);
    let mut connection = Connection::open(contender.address).await?;
    let mut sent_at = HashMap::new();
    // The first one opens connections that were closed for being idle.
    for index in 0..=EVENTS {
        let began = clock::now();
        let request = work.request(index);
        sent_at.insert(work.label(index), clock::unix_nanos());
        let answer = connection.post(&request.path, request.bearer.as_deref(), request.body).await?;
        work.answered(index, &answer)?;
        tokio::time::sleep(APART.saturating_sub(began.elapsed())).await;
    }
    sent_at.remove(&work.label(0));
    run.upstream.wait_for(EVENTS + 1, PATIENCE).await?;
    let pushes = run.upstream.pushes().await?;
    Ok(pushes.iter().filter_map(|push| Some(push.at.saturating_sub(*sent_at.get(&push.label)?) / 1000)).collect())
}
