//! Measures Magpie beside the floor, the least that the same work can cost, and prints one table.
//!
//! ```text
//! load ─▶ floor, Magpie (by turns) ─▶ upstream stub (a process of its own)
//!            └──▶ PostgreSQL of the run, or SQLite files
//! ```
//!
//! | file | duty |
//! | --- | --- |
//! | `contender.rs`, `server.rs`, `floor.rs` | who is measured: the release server as shipped, and the floor |
//! | `upstream.rs` | a stand-in for WeChat that remembers what it saw |
//! | `database.rs` | PostgreSQL and SQLite for the time of the run |
//! | `work.rs`, `load.rs`, `http.rs` | the requests, how they are sent |
//! | `figure.rs`, `usage.rs` | what is measured: rates, latencies, CPU, memory, the account after a kill |
//! | `table.rs` | what is printed |
//! | `child.rs`, `clock.rs` | processes that end with this one; time |
//!
//! Everything is on loopback, and everything that was started or written is gone in the end, also after Ctrl-C.

mod child;
mod clock;
mod contender;
mod database;
mod figure;
mod floor;
mod http;
mod load;
mod options;
mod server;
mod table;
mod upstream;
mod usage;
mod work;

use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use contender::{Contender, Program};
use database::{Cluster, Kind};
use figure::{Run, growth, idle, killed, logins, pushes};
use floor::Floor;
use options::{Command, Figure, Options};
use server::Magpie;
use table::Table;
use upstream::Upstream;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.command {
        Some(Command::Upstream) => upstream::run(),
        Some(Command::Floor { upstream, in_flight, database }) => {
            with_runtime(floor::run(*upstream, *in_flight, database))
        }
        None => with_runtime(run(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("magpie-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn with_runtime(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(work)
}

/// What is dropped ends the processes and removes the files that belong to it.
async fn until_interrupted(work: impl Future<Output = Result<()>>) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

async fn run(options: &Options) -> Result<()> {
    let mut table = Table::default();
    let machine = usage::machine();
    let measured = until_interrupted(measure(options, &mut table)).await;
    // What was measured before something went wrong is no less true.
    println!("{}\nBefore the run: {machine}.", table.markdown());
    if let Some(file) = &options.json {
        std::fs::write(file, table.json()?)?;
    }
    measured
}

async fn measure(options: &Options, table: &mut Table) -> Result<()> {
    let binary = server::binary(options.server.clone())?;
    for kind in options.database.kinds() {
        let upstream = Upstream::start()?;
        let cluster = match kind {
            Kind::Postgres => Some(Cluster::find(options.database_url.as_deref(), options.statements).await?),
            Kind::Sqlite => None,
        };
        let cluster = cluster.as_ref();
        let mut run = Run { kind, size: options.size(), upstream: &upstream, cluster, table: &mut *table };
        if options.wants_side_by_side() {
            side_by_side(options, &binary, &mut run).await?;
        }
        if options.wants(Figure::Growth) {
            let (none, mut many) = (magpie(&binary, &run).await?, magpie(&binary, &run).await?);
            growth::measure(&mut run, &none, &mut many, options.growth_rows).await?;
        }
    }
    Ok(())
}

async fn side_by_side(options: &Options, binary: &std::path::Path, run: &mut Run<'_>) -> Result<()> {
    let mut contenders =
        [Contender::start(Program::Floor(floor(run)), run.database().await?).await?, magpie(binary, run).await?];
    for contender in &contenders {
        let load = contender.seed(run.size.users).await?;
        logins::first(run, contender, &load);
    }
    run.show_statements(&contenders).await?;
    for figure in [Figure::Logins, Figure::Steady, Figure::Pushes, Figure::Idle, Figure::Slow, Figure::Killed] {
        if !options.wants(figure) {
            continue;
        }
        match figure {
            Figure::Logins => logins::busy(run, &contenders).await?,
            Figure::Steady => logins::steady(run, &contenders).await?,
            Figure::Pushes => pushes::fast(run, &contenders).await?,
            Figure::Idle => idle::measure(run, &contenders).await?,
            Figure::Slow => pushes::slow(run, &mut contenders).await?,
            Figure::Killed => killed::measure(run, &mut contenders).await?,
            Figure::Growth => {}
        }
        run.show_statements(&contenders).await?;
    }
    Ok(())
}

fn floor(run: &Run<'_>) -> Floor {
    Floor { upstream: run.upstream.address, in_flight: pushes::FEW }
}

async fn magpie(binary: &std::path::Path, run: &Run<'_>) -> Result<Contender> {
    let database = run.database().await?;
    let magpie = Magpie::new(binary, run.upstream, &database)?;
    Contender::start(Program::Magpie(magpie), database).await
}
