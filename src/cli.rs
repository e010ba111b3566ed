//! The commands.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use secrecy::ExposeSecret;

use crate::{
    api, api_key,
    app::{self, Roles, StartError},
    clock::{self, Clock},
    config::Config,
    consent,
    context::Context,
    database::Database,
    doctor, telemetry, wechat,
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
    Key(KeyCommand),
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

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key and print it, once
    Create {
        #[arg(long, env = "MAGPIE_CONFIG")]
        config: Option<PathBuf>,
        /// What the key is for
        #[arg(long)]
        name: String,
        /// What it may do, such as events:write,events:read; `admin` is all
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// When it ends: a time (2027-01-01T00:00:00Z) or a span from now (90d)
        #[arg(long)]
        expires: Option<String>,
    },
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
        Command::Key(KeyCommand::Create { config, name, scopes, expires }) => {
            create_key(config, &name, &scopes, expires.as_deref()).await
        }
        Command::Openapi => {
            print!("{}", api::document());
            Ok(())
        }
    };
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
    let db = Database::connect(&file.load()?).await?;
    app::migrate(&db).await?;
    db.close().await?;
    println!("The schema is up to date.");
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

async fn create_key(
    config: Option<PathBuf>,
    name: &str,
    scopes: &[String],
    expires: Option<&str>,
) -> Result<(), StartError> {
    let ctx = app::build(Config::load(config.as_deref())?, Clock::system()).await?;
    let expires_at = expires.map(|text| expiry(&ctx.clock, text)).transpose()?;
    let made = api_key::create(&ctx, name, scopes, expires_at).await?;
    println!("id:             {}", made.id);
    println!("key:            {}", made.key.expose_secret());
    println!("signing secret: {}", made.signing_secret.expose_secret());
    println!("Both are shown this once; keep them now.");
    ctx.db.close().await?;
    Ok(())
}

fn expiry(clock: &Clock, text: &str) -> Result<entity::Timestamp, StartError> {
    let span = || humantime::parse_duration(text).ok().map(|span| clock.now() + span);
    clock::from_rfc3339(text).or_else(span).ok_or_else(|| {
        crate::error::Error::field("--expires", "must be a time (2027-01-01T00:00:00Z) or a span (90d)").into()
    })
}
