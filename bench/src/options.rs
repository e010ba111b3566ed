//! What the benchmark can be told.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{database::Kind, figure::Size};

/// Measures Magpie beside the least that the same work can cost, and prints one table
///
/// `MAGPIE_DATABASE_CONNECTIONS`, `RUST_LOG` and all other variables reach the server.
#[derive(Parser)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Which databases
    #[arg(long, value_enum, default_value = "both")]
    pub database: Databases,
    /// A PostgreSQL server whose user may create databases; without it one is started for the run
    #[arg(long)]
    pub database_url: Option<String>,
    /// After each figure, show which statements cost PostgreSQL the most (`pg_stat_statements`, which a server
    /// at --database-url must have loaded)
    #[arg(long)]
    pub statements: bool,
    /// A ready binary; without it the release server is built
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Only these figures, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Figure>,
    /// Also measure growth
    #[arg(long)]
    growth: bool,
    /// Users and finished messages that are stored for growth
    #[arg(long, default_value_t = 1_000_000)]
    pub growth_rows: usize,
    /// How often each figure is measured; the table shows the median
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also write every round to this file, as JSON
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// People with one credit or more
    #[arg(long, default_value_t = 20_000)]
    users: usize,
    /// Events of one round
    #[arg(long, default_value_t = 20_000)]
    events: usize,
    /// Keep-alive connections of the load
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Logins a second at the fixed rate
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Seconds that logins are measured in a round
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Subcommand)]
pub enum Command {
    #[command(hide = true)]
    Upstream,
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        upstream: SocketAddr,
        #[arg(long)]
        in_flight: usize,
        #[arg(long)]
        database: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Databases {
    Sqlite,
    Postgres,
    Both,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Logins on connections that are never idle
    Logins,
    /// Logins at a fixed rate
    Steady,
    /// Events that become pushes
    Pushes,
    /// One event at a time
    Idle,
    /// Pushes to an upstream that takes 100 ms
    Slow,
    /// The account after SIGKILL
    Killed,
    /// Pushes and logins with many rows stored; takes minutes, so only when it is named or with --growth
    Growth,
}

impl Databases {
    pub fn kinds(self) -> impl Iterator<Item = Kind> {
        let kinds = [(Kind::Postgres, Self::Postgres), (Kind::Sqlite, Self::Sqlite)];
        kinds.into_iter().filter(move |(_, only)| self == Self::Both || self == *only).map(|(kind, _)| kind)
    }
}

impl Options {
    pub fn wants(&self, figure: Figure) -> bool {
        match figure {
            Figure::Growth => self.growth || self.only.contains(&figure),
            _ => self.only.is_empty() || self.only.contains(&figure),
        }
    }

    /// Whether anything is wanted that floor and Magpie do side by side.
    pub fn wants_side_by_side(&self) -> bool {
        self.only.iter().any(|figure| *figure != Figure::Growth) || self.only.is_empty()
    }

    pub fn size(&self) -> Size {
        Size {
            rounds: self.rounds.max(1),
            users: self.users.max(1),
            events: self.events,
            connections: self.connections.max(1),
            rate: self.rate.max(1.0),
            span: Duration::from_secs_f64(self.seconds.clamp(0.1, 3600.0)),
        }
    }
}
