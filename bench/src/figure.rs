//! The figures. Each is measured in rounds, floor and Magpie by turns, so that both meet the same machine.

pub mod growth;
pub mod idle;
pub mod killed;
pub mod logins;
pub mod pushes;

use std::time::Duration;

use crate::{
    Result,
    contender::Contender,
    database::{Cluster, Database, Kind},
    table::{Measure, Table},
    upstream::Upstream,
    usage,
};

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Size {
    pub rounds: usize,
    pub users: usize,
    pub events: usize,
    pub connections: usize,
    /// Logins a second of the open loop.
    pub rate: f64,
    /// How long logins are measured in a round.
    pub span: Duration,
}

/// Two contenders on databases of one kind, and where their figures go.
pub struct Run<'a> {
    pub kind: Kind,
    pub size: Size,
    pub upstream: &'a Upstream,
    pub cluster: Option<&'a Cluster>,
    pub table: &'a mut Table,
}

impl Run<'_> {
    pub async fn database(&self) -> Result<Database> {
        match self.cluster {
            Some(cluster) => cluster.create().await,
            None => Database::sqlite(),
        }
    }

    fn enter(&mut self, measure: &Measure, contender: &Contender, value: f64) {
        self.enter_as(measure, contender.name(), value);
    }

    fn enter_as(&mut self, measure: &Measure, column: &str, value: f64) {
        eprintln!("  {:<10} {column:<7} {:<60} {value:.*}", self.kind.name(), measure.name, measure.digits);
        self.table.enter(self.kind.name(), measure, column, value);
    }

    /// Shows what Magpie had its database do, where that is counted.
    pub async fn show_statements(&self, contenders: &[Contender]) -> Result<()> {
        let Some(cluster) = self.cluster.filter(|cluster| cluster.counts_statements) else { return Ok(()) };
        for contender in contenders.iter().filter(|contender| contender.name() == "magpie") {
            eprintln!("{}", contender.database.costliest_statements(cluster).await?);
        }
        Ok(())
    }

    fn meter(&self, contender: &Contender) -> Meter {
        Meter::start(contender.pid(), self.cluster.and_then(|cluster| cluster.pid))
    }
}

/// CPU time from now on.
struct Meter {
    server: u32,
    database: Option<u32>,
    before: (f64, f64),
}

impl Meter {
    fn start(server: u32, database: Option<u32>) -> Self {
        let mut meter = Self { server, database, before: (0.0, 0.0) };
        meter.before = meter.seconds();
        meter
    }

    /// Of the server and of PostgreSQL.
    fn seconds(&self) -> (f64, f64) {
        let (server, database) = self.before;
        let used = |pid| usage::cpu_seconds(pid);
        (used(self.server) - server, self.database.map_or(0.0, used) - database)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 of anything")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "memory and nanoseconds of one run")]
fn as_float(count: u64) -> f64 {
    count as f64
}
