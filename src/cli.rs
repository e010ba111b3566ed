//! The commands.

mod keys;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    api,
    app::{self, Roles, StartError},
    audit,
    clock::Clock,
    config::Config,
    consent,
    context::Context,
    database::Database,
    doctor, master_key, signing_key, telemetry, wechat,
};

/// A backend for WeChat Mini Programs: login, consent, and notifications that arrive.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server and the worker
    Serve {
        #[command(flatten)]
        file: ConfigFile,
        /// What this node does; several nodes on one PostgreSQL may share the work
        #[arg(long, env = "MAGPIE_ROLES", value_enum, value_delimiter = ',', default_value = "api,worker")]
        roles: Vec<Role>,
    },
    /// Run everything on this machine with a WeChat simulator; no configuration, no AppID needed
    #[cfg(feature = "sandbox")]
    Dev(crate::dev::Options),
    /// Bring the database's schema up to date
    Migrate(ConfigFile),
    /// Look for everything that keeps a message from arriving, and say how to mend it
    Doctor(ConfigFile),
    /// Bring the credits back to what the consent ledger adds up to, for instance after a restored backup
    RebuildCredits(ConfigFile),
    /// API keys of business systems
    #[command(subcommand)]
    Key(keys::KeyCommand),
    /// Make a new key for signing access tokens; it signs once it has been public for ten minutes
    RotateSigningKey(ConfigFile),
    /// Seal every secret in the database under the newest master key, so that the older can be taken away
    RotateMasterKey(ConfigFile),
    /// Print the OpenAPI document
    Openapi,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Answers requests
    Api,
    /// Sends messages, processes callbacks, sweeps; it listens for /healthz, /readyz and /metrics
    Worker,
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration file; the environment (MAGPIE_…) overrides it
    #[arg(long, env = "MAGPIE_CONFIG")]
    config: Option<PathBuf>,
    /// Listen here instead of at the configuration's `listen`
    #[arg(long)]
    listen: Option<SocketAddr>,
}

/// Runs the command of this process.
pub async fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Doctor(file) => {
            return doctor(file).await.unwrap_or_else(|error| {
                println!("FAIL  start: {error}");
                ExitCode::FAILURE
            });
        }
        Command::Serve { file, roles } => serve(file, &roles).await,
        #[cfg(feature = "sandbox")]
        Command::Dev(options) => crate::dev::run(options).await,
        Command::Migrate(file) => migrate(file).await,
        Command::RebuildCredits(file) => rebuild_credits(file).await,
        Command::Key(command) => keys::run(command).await,
        Command::RotateSigningKey(file) => rotate_signing_key(file).await,
        Command::RotateMasterKey(file) => rotate_master_key(file).await,
        Command::Openapi => {
            print!("{}", api::document());
            Ok(())
        }
    };
    // Before what is printed last.
    telemetry::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("magpie: {error}");
            ExitCode::FAILURE
        }
    }
}

impl ConfigFile {
    fn load(&self) -> Result<Config, StartError> {
        let mut config = Config::load(self.config.as_deref())?;
        config.listen = self.listen.unwrap_or(config.listen);
        Ok(config)
    }
}

async fn serve(file: ConfigFile, roles: &[Role]) -> Result<(), StartError> {
    telemetry::start();
    let ctx = app::build(file.load()?, Clock::system()).await?;
    app::stop_on_signal(&ctx)?;
    app::reload_on_hangup(&ctx, file.config)?;
    if ctx.apps().is_empty() {
        tracing::warn!("no app is configured: nobody can log in; add [[apps]] to the configuration");
    }
    let roles = Roles { api: roles.contains(&Role::Api), worker: roles.contains(&Role::Worker) };
    let running = app::start(ctx, roles).await?;
    let (address, version) = (running.address, env!("CARGO_PKG_VERSION"));
    tracing::info!(%address, version, roles.api, roles.worker, "serving");
    let ctx = running.ctx.clone();
    tokio::spawn(async move { doctor::app_secret::warn(&ctx).await });
    running.wait().await
}

async fn migrate(file: ConfigFile) -> Result<(), StartError> {
    let config = file.load()?;
    // No migration opens a secret, so the key need not be where the schema is changed.
    let keys = config.names_master_keys().then(|| config.master_keys()).transpose()?;
    let db = Database::connect(&config).await?;
    app::migrate(&db, keys.as_ref()).await?;
    db.close().await?;
    println!("The schema is up to date.");
    if keys.is_none() {
        println!("No master key is given, so nobody knows yet whether it opens this database's secrets.");
    }
    Ok(())
}

async fn rebuild_credits(file: ConfigFile) -> Result<(), StartError> {
    let ctx = app::build(file.load()?, Clock::system()).await?;
    let rebuilt = consent::rebuild::rebuild(&ctx).await?;
    println!("{} balances compared with the ledger, {} corrected.", rebuilt.balances, rebuilt.corrected);
    ctx.db.close().await?;
    Ok(())
}

async fn doctor(file: ConfigFile) -> Result<ExitCode, StartError> {
    let config = file.load()?;
    let (keys, wechat) = (config.master_keys()?, wechat::Client::new(&config)?);
    println!("ok    configuration: valid, with a master key");
    let db = Database::connect(&config).await?;
    let ctx = Context::new(db, wechat, Clock::system(), config, keys);
    let checks = doctor::examine(&ctx).await;
    for check in &checks {
        println!("{check}");
    }
    ctx.db.close().await?;
    let well = checks.iter().all(|check| check.found.is_ok());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn rotate_signing_key(file: ConfigFile) -> Result<(), StartError> {
    let ctx = app::build(file.load()?, Clock::system()).await?;
    let kid = signing_key::rotate(&ctx, audit::COMMAND_LINE).await?;
    ctx.db.close().await?;
    println!("The key {kid} is public from now on and signs in ten minutes. Tokens of the older ones stay valid.");
    Ok(())
}

async fn rotate_master_key(file: ConfigFile) -> Result<(), StartError> {
    let config = file.load()?;
    let kept = humantime::format_duration(config.session.refresh_token_ttl);
    let ctx = app::build(config, Clock::system()).await?;
    let done = master_key::rotate(&ctx, audit::COMMAND_LINE).await?;
    ctx.db.close().await?;
    println!("Sealed anew: {done}.");
    println!(
        "Older master keys are no longer needed. Whoever has not refreshed since the newest came into use logs in"
    );
    println!("again once they are gone; after {kept} that is nobody.");
    Ok(())
}
