//! `magpie key …`

use std::path::PathBuf;

use clap::Subcommand;
use entity::{ApiKeyId, Timestamp, api_key as rows};
use secrecy::ExposeSecret;

use crate::{
    api_key::{self, Wanted},
    app::{self, StartError},
    audit,
    clock::{self, Clock},
    config::Config,
    context::Context,
    error::Error,
};

/// Rows of one read.
const PAGE: u64 = 200;

#[derive(Subcommand)]
pub enum KeyCommand {
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
        /// The only apps it may use; all when missing
        #[arg(long, value_delimiter = ',')]
        apps: Option<Vec<String>>,
        /// When it ends: a time (2027-01-01T00:00:00Z) or a span from now (90d)
        #[arg(long)]
        expires: Option<String>,
    },
    /// List all keys, newest first, without their secrets
    List {
        #[arg(long, env = "MAGPIE_CONFIG")]
        config: Option<PathBuf>,
    },
    /// End a key at once, on every node
    Revoke {
        #[arg(long, env = "MAGPIE_CONFIG")]
        config: Option<PathBuf>,
        /// `key_…`, as `magpie key list` shows it
        id: String,
    },
}

pub async fn run(command: KeyCommand) -> Result<(), StartError> {
    match command {
        KeyCommand::Create { config, name, scopes, apps, expires } => {
            let ctx = context(config).await?;
            let expires_at = expires.map(|text| expiry(&ctx.clock, &text)).transpose()?;
            let wanted = Wanted { name, scopes, app_ids: apps, expires_at };
            let made = api_key::make(&ctx, &wanted, audit::COMMAND_LINE).await?;
            println!("id:             {}", made.row.id);
            println!("key:            {}", made.key.expose_secret());
            println!("signing secret: {}", made.signing_secret.expose_secret());
            println!("Both are shown this once; keep them now.");
            Ok(ctx.db.close().await?)
        }
        KeyCommand::List { config } => {
            let ctx = context(config).await?;
            let mut before = None;
            loop {
                let rows = api_key::list(&ctx, before, PAGE).await?;
                let Some(last) = rows.last() else { break };
                before = Some(last.id);
                for row in &rows {
                    println!("{}", line(row, ctx.clock.now()));
                }
            }
            Ok(ctx.db.close().await?)
        }
        KeyCommand::Revoke { config, id } => {
            let id: ApiKeyId = id.parse().map_err(|_| Error::field("id", "must be a key's id, key_…"))?;
            let ctx = context(config).await?;
            api_key::revoke(&ctx, id, audit::COMMAND_LINE).await?;
            println!("{id} has ended.");
            Ok(ctx.db.close().await?)
        }
    }
}

async fn context(config: Option<PathBuf>) -> Result<Context, StartError> {
    app::build(Config::load(config.as_deref())?, Clock::system()).await
}

fn line(row: &rows::Model, now: Timestamp) -> String {
    let state = match (row.revoked_at, row.expires_at) {
        (Some(at), _) => format!("revoked {}", clock::rfc3339(at)),
        (None, Some(at)) if at <= now => format!("expired {}", clock::rfc3339(at)),
        (None, Some(at)) => format!("until {}", clock::rfc3339(at)),
        (None, None) => "live".to_owned(),
    };
    let used = row.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("used {}", clock::rfc3339(at)));
    let apps = row.app_ids.as_ref().map_or_else(|| "all apps".to_owned(), |ids| ids.0.join(","));
    format!("{}  {}  {}  {}  {apps}  {state}  {used}", row.id, row.prefix, row.name, row.scopes.0.join(","))
}

fn expiry(clock: &Clock, text: &str) -> Result<Timestamp, StartError> {
    let span = || humantime::parse_duration(text).ok().map(|span| clock.now() + span);
    clock::from_rfc3339(text)
        .or_else(span)
        .ok_or_else(|| Error::field("--expires", "must be a time (2027-01-01T00:00:00Z) or a span (90d)").into())
}
