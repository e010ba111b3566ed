//! Growth: the same work with a million users and finished messages stored before, and with none.
//!
//! The rows are copies of real ones, made by the database itself: what a flow wrote once is written once
//! for each user, with ids and keys of its own. So a new column needs no change here.

mod copies;

use super::{Run, pushes};
use crate::{
    Result,
    contender::Contender,
    database::Kind,
    load::{self, Until},
    table::Measure,
    work::Logins,
};

const PUSHES: Measure =
    Measure { name: "pushes/s with many rows stored (floor: Magpie with none)", digits: 0, reach: "≥ 0.85", aim: "" };
const LOGINS: Measure =
    Measure { name: "logins/s with many rows stored (floor: Magpie with none)", digits: 0, reach: "≥ 0.85", aim: "" };

/// Two servers, one of which has seen so many users and messages.
pub async fn measure(run: &mut Run<'_>, none: &Contender, many: &mut Contender, rows: usize) -> Result<()> {
    for contender in [none, &*many] {
        contender.seed(run.size.users).await?;
        // Real rows of every kind, to be copied; the other one is as warm.
        pushes::end_to_end(run, contender).await?;
    }
    many.stop();
    eprintln!("  {rows} users and messages are stored …");
    for statement in copies::statements(&many.database, rows).await? {
        many.database.execute(&statement).await?;
    }
    many.database.execute(tidy(run.kind)).await?;
    many.start_again().await?;
    for _ in 0..run.size.rounds {
        for (column, contender) in [("floor", none), ("magpie", &*many)] {
            let logins = std::sync::Arc::new(Logins::new(run.size.users));
            let until = Until::Passed(run.size.span);
            let load = load::closed(contender.address, run.size.connections, until, logins).await?.whole()?;
            run.enter_as(&LOGINS, column, load.per_second());
            run.enter_as(&PUSHES, column, pushes::end_to_end(run, contender).await?);
        }
    }
    Ok(())
}

/// What the database does by itself, sooner or later, after so many rows.
fn tidy(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "VACUUM ANALYZE",
        Kind::Sqlite => "PRAGMA wal_checkpoint(TRUNCATE)",
    }
}
