//! Builds everything once, runs the server and the worker, stops them in order.
//!
//! ```text
//! signal ─▶ not ready ─▶ door closed, requests end ─▶ claiming stops, calls settle ─▶ database closed
//! ```

mod door;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use migration::{Migrator, MigratorTrait};
use poem::Endpoint;
use sea_orm::{ConnectionTrait, DbErr, TransactionTrait};
use sea_orm_migration::SchemaManager;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};

use crate::{
    api, app_account,
    clock::Clock,
    config::{Config, ConfigError},
    context::Context,
    database::Database,
    doctor,
    error::Error,
    sealing_key,
    secret::MasterKeys,
    signing_key, telemetry, wechat, worker,
};
use door::Times;

/// Why the server did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    #[error("database: {0}")]
    Database(#[from] DbErr),
    #[error("{0}")]
    Refused(#[from] Error),
    #[error("HTTP client: {0}")]
    Client(#[from] wechat::ClientError),
    #[error("cannot listen on {address}: {error}; choose another address with `listen`")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("{0} ended by itself")]
    Died(&'static str),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a node does.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// Answers requests; without it the node only tells how it is.
    pub api: bool,
    /// Sends messages and does everything else that happens without a request.
    pub worker: bool,
}

impl Roles {
    pub const ALL: Self = Self { api: true, worker: true };
}

/// Connects, brings the schema up to date and checks the keys; nothing runs yet.
pub async fn build(config: Config, clock: Clock) -> Result<Context, StartError> {
    let keys = config.master_keys()?;
    let wechat = wechat::Client::new(&config)?;
    let db = Database::connect(&config).await?;
    migrate(&db, Some(&keys)).await?;
    let ctx = Context::new(db, wechat, clock, config, keys);
    worker::agree_on_time(&ctx).await;
    sealing_key::check(&ctx).await?;
    signing_key::all(&ctx).await?;
    app_account::register(&ctx, &ctx.config.apps).await?;
    Ok(ctx)
}

/// Brings the schema up to date. Nodes that start together take turns. With master keys nothing is changed in a
/// database whose secrets they do not open: it is another one, or a key is lost.
pub async fn migrate(db: &Database, keys: Option<&MasterKeys>) -> Result<(), StartError> {
    if db.is_sqlite() {
        return bring_up_to_date(db, keys).await;
    }
    let turn = db.write().begin().await?;
    turn.execute_unprepared("SELECT pg_advisory_xact_lock(7305804402)").await?;
    let migrated = bring_up_to_date(db, keys).await;
    turn.commit().await?;
    migrated
}

async fn bring_up_to_date(db: &Database, keys: Option<&MasterKeys>) -> Result<(), StartError> {
    if let Some(keys) = keys
        && SchemaManager::new(db.write()).has_table("sealing_key").await?
    {
        sealing_key::verify(db, keys).await?;
    }
    Ok(Migrator::up(db.write(), None).await?)
}

/// A node that is up.
pub struct Running {
    pub ctx: Context,
    /// Where it listens.
    pub address: SocketAddr,
    server: Option<JoinHandle<io::Result<()>>>,
    worker: Option<JoinHandle<()>>,
}

/// Starts the server and the worker, as the roles say.
pub async fn start(ctx: Context, roles: Roles) -> Result<Running, StartError> {
    let (address, server) =
        if roles.api { serve(&ctx, api::endpoint(&ctx)).await? } else { serve(&ctx, api::probes(&ctx)).await? };
    let worker = {
        let (ctx, stop) = (ctx.clone(), ctx.stop.clone());
        tokio::spawn(async move {
            if roles.worker {
                Box::pin(worker::run(ctx, stop)).await;
            } else {
                worker::neighbours::run(&ctx, &stop, false).await;
                stop.cancelled().await;
            }
        })
    };
    let stop = ctx.stop.clone();
    tokio::spawn(async move { stop.run_until_cancelled(telemetry::add_up()).await });
    Ok(Running { ctx, address, server: Some(server), worker: Some(worker) })
}

async fn serve(
    ctx: &Context,
    endpoint: impl Endpoint + 'static,
) -> Result<(SocketAddr, JoinHandle<io::Result<()>>), StartError> {
    let wanted = ctx.config.listen;
    let refused = |error| StartError::Listen { address: wanted, error };
    let listener = TcpListener::bind(wanted).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    let times = Times { head: ctx.config.limits.head_timeout, stop: ctx.config.delivery.stop_allowance };
    Ok((bound, tokio::spawn(door::keep(listener, endpoint, times, ctx.stop.clone()))))
}

impl Running {
    /// Stops as a signal would and waits for the end.
    pub async fn stop(self) -> Result<(), StartError> {
        self.ctx.stop.cancel();
        self.wait().await
    }

    /// Waits for the end: of a stop, or of a part that died, which takes the others with it.
    pub async fn wait(mut self) -> Result<(), StartError> {
        let mut died = None;
        tokio::select! {
            () = self.ctx.stop.cancelled() => {}
            () = ended(&mut self.server) => died = Some("the server"),
            () = ended(&mut self.worker) => died = Some("the worker"),
        }
        let died = died.filter(|_| !self.ctx.stop.is_cancelled());
        self.ctx.stop.cancel();
        if let Some(server) = self.server.take_if(|task| !task.is_finished()) {
            let _ = server.await;
        }
        if let Some(worker) = self.worker.take_if(|task| !task.is_finished()) {
            let _ = worker.await;
        }
        self.ctx.db.close().await?;
        died.map_or(Ok(()), |part| Err(StartError::Died(part)))
    }
}

async fn ended<T>(task: &mut Option<JoinHandle<T>>) {
    match task {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Cancels at the first SIGTERM or SIGINT; a second one ends the process at once and leaves the leases
/// to expire.
pub fn stop_on_signal(ctx: &Context) -> io::Result<()> {
    let stop = ctx.stop.clone();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping");
        stop.cancel();
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::warn!("stopped at once");
        telemetry::flush();
        std::process::exit(130);
    });
    Ok(())
}

/// Reads the apps of the configuration again at each SIGHUP: a rotated `AppSecret` or a new app needs no
/// restart. A configuration that is refused changes nothing.
pub fn reload_on_hangup(ctx: &Context, file: Option<PathBuf>) -> io::Result<()> {
    let ctx = ctx.clone();
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match reload(&ctx, file.as_deref()).await {
                Ok(apps) => {
                    tracing::info!(apps, "apps.reloaded");
                    doctor::app_secret::warn(&ctx).await;
                }
                Err(error) => tracing::error!(%error, "apps.not_reloaded"),
            }
        }
    });
    Ok(())
}

async fn reload(ctx: &Context, file: Option<&Path>) -> Result<usize, StartError> {
    let config = Config::load(file)?;
    // The rows first: an app without one is not seen, and the database may be away.
    app_account::register(ctx, &config.apps).await?;
    ctx.replace_apps(&config.apps);
    app_account::retry_tokens(ctx).await?;
    Ok(config.apps.len())
}
