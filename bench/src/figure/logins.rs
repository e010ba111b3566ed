//! Logins: as many as go through, and the latency at a fixed rate that is not the most.

use std::sync::Arc;

use super::{Run, as_float};
use crate::{
    Result,
    contender::Contender,
    load::{self, Load, Until},
    table::Measure,
    work::Logins,
};

/// More than any fixed rate needs, so that a stall of the server does not stop the load.
const OPEN_CONNECTIONS: usize = 256;

const FIRST: Measure = Measure { name: "first logins/s", digits: 0, reach: "", aim: "" };
const LOGINS: Measure = Measure { name: "logins/s", digits: 0, reach: "≥ 0.75", aim: "≥ 1.0" };
const P50: Measure = Measure { name: "login p50, ms", digits: 2, reach: "", aim: "" };
const P99: Measure = Measure { name: "login p99, ms", digits: 2, reach: "", aim: "" };
const SERVER: Measure = Measure { name: "CPU-s per 1,000 logins, server", digits: 3, reach: "", aim: "" };
const DATABASE: Measure = Measure { name: "CPU-s per 1,000 logins, PostgreSQL", digits: 3, reach: "", aim: "" };
const BOTH: Measure = Measure { name: "CPU-s per 1,000 logins, together", digits: 3, reach: "≤ 2", aim: "≤ 1.3" };
const STEADY_P50: Measure = Measure { name: "login p50 at a fixed rate, ms", digits: 2, reach: "", aim: "" };
const STEADY_P99: Measure = Measure { name: "login p99 at a fixed rate, ms", digits: 2, reach: "", aim: "" };

/// The load that logged everybody in for the first time.
pub fn first(run: &mut Run<'_>, contender: &Contender, load: &Load) {
    run.enter(&FIRST, contender, load.per_second());
}

/// Connections that are never idle.
pub async fn busy(run: &mut Run<'_>, contenders: &[Contender]) -> Result<()> {
    for _ in 0..run.size.rounds {
        for contender in contenders {
            let meter = run.meter(contender);
            let logins = Arc::new(Logins::new(run.size.users));
            let until = Until::Passed(run.size.span);
            let load = load::closed(contender.address, run.size.connections, until, logins).await?.whole()?;
            let (server, database) = meter.seconds();
            let per_thousand = 1000.0 / as_float(load.latency.len());
            run.enter(&LOGINS, contender, load.per_second());
            run.enter(&P50, contender, load.milliseconds(0.5));
            run.enter(&P99, contender, load.milliseconds(0.99));
            run.enter(&SERVER, contender, server * per_thousand);
            if run.cluster.is_some() {
                run.enter(&DATABASE, contender, database * per_thousand);
                run.enter(&BOTH, contender, (server + database) * per_thousand);
            }
        }
    }
    Ok(())
}

/// The same rate for both.
pub async fn steady(run: &mut Run<'_>, contenders: &[Contender]) -> Result<()> {
    for _ in 0..run.size.rounds {
        for contender in contenders {
            let logins = Arc::new(Logins::new(run.size.users));
            let (rate, span) = (run.size.rate, run.size.span);
            let load = load::open(contender.address, OPEN_CONNECTIONS, rate, span, logins).await?.whole()?;
            run.enter(&STEADY_P50, contender, load.milliseconds(0.5));
            run.enter(&STEADY_P99, contender, load.milliseconds(0.99));
        }
    }
    Ok(())
}
