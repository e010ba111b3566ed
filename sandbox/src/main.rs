//! The simulator by itself.

use std::{io, net::SocketAddr, path::PathBuf};

use clap::Parser;
use tracing_subscriber::EnvFilter;
use wechat_sandbox::{App, Config, DEMO_APP_ID, DEMO_SECRET, Sandbox, demo_app};

/// A simulator of WeChat's server API.
#[derive(Parser)]
#[command(name = "wechat-sandbox", version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// JSON file with a list of apps, or an object with `apps`; a demo app without it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Keeps users, credits, tokens and messages over a restart.
    #[arg(long)]
    state_file: Option<PathBuf>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum ConfigFile {
    List(Vec<App>),
    Object { apps: Vec<App> },
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let arguments = Arguments::parse();
    let apps = match &arguments.config {
        None => vec![demo_app()],
        Some(path) => match serde_json::from_slice(&std::fs::read(path)?)? {
            ConfigFile::List(apps) | ConfigFile::Object { apps } => apps,
        },
    };
    let is_demo = arguments.config.is_none();
    let sandbox = Sandbox::start(Config { listen: arguments.listen, apps, state_file: arguments.state_file }).await?;
    println!("WeChat simulator on {}, control API on {}/sandbox", sandbox.url(), sandbox.url());
    if is_demo {
        println!("demo app {DEMO_APP_ID}, secret {DEMO_SECRET}");
    }
    end_of_service().await?;
    sandbox.stop().await;
    Ok(())
}

/// Ctrl-C, or the signal a service manager sends.
async fn end_of_service() -> io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
