//! Every key of the configuration, read from the compiled-in defaults, an optional file and the
//! environment, in this order. `config.default.toml` explains each key.

mod app;
mod check;
mod webhooks;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};

pub use app::{App, CallbackMode, Kind, MiniProgramState};
pub use webhooks::Webhooks;

use crate::secret::MasterKeys;

const DEFAULTS: &str = include_str!("config.default.toml");

/// Variables that start like ours and are none of the configuration's keys.
const NOT_KEYS: [&str; 5] = ["config", "log_format", "log_spans", "test_postgres_url", "test_require_postgres"];

/// What is wrong with the configuration, in one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}")]
    Unreadable(Box<figment::Error>),
    #[error("`{key}`: {problem}")]
    Refused { key: String, problem: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub listen: SocketAddr,
    pub public_url: String,
    #[serde(deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// May hold a password, so it is never printed.
    pub database_url: SecretString,
    #[serde(default)]
    database_connections: Option<u32>,
    #[serde(default)]
    master_key: Option<SecretString>,
    #[serde(default)]
    master_key_file: Option<PathBuf>,
    pub wechat: WeChat,
    #[serde(default)]
    pub apps: Vec<App>,
    pub delivery: Delivery,
    pub session: Session,
    pub webhooks: Webhooks,
    pub limits: Limits,
    pub retention: Retention,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeChat {
    pub base_url: String,
    #[serde(default)]
    fallback_url: Option<String>,
    /// May hold a password, so it is never printed.
    #[serde(default)]
    pub proxy: Option<SecretString>,
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub fallback_for: Duration,
}

/// WeChat's own host and its twin in another site.
const WECHAT_URL: &str = "https://api.weixin.qq.com";
const WECHAT_TWIN_URL: &str = "https://api2.weixin.qq.com";

impl WeChat {
    /// Where a call goes when no connection to `base_url` can be made: a simulator has no twin unless
    /// one is named.
    pub fn fallback_url(&self) -> Option<&str> {
        match &self.fallback_url {
            Some(url) => Some(url.as_str()).filter(|url| !url.is_empty()),
            None => (self.base_url == WECHAT_URL).then_some(WECHAT_TWIN_URL),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    #[serde(deserialize_with = "duration")]
    pub unsure_deadline: Duration,
    #[serde(deserialize_with = "duration")]
    pub back_off_initial: Duration,
    #[serde(deserialize_with = "duration")]
    pub back_off_max: Duration,
    pub max_attempts: i32,
    /// None for what suits the database, see `Config::calls_at_once`.
    #[serde(default)]
    pub concurrency: Option<usize>,
    #[serde(deserialize_with = "duration")]
    pub time_to_live: Duration,
    #[serde(deserialize_with = "duration")]
    pub stop_allowance: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    #[serde(deserialize_with = "duration")]
    pub access_token_ttl: Duration,
    #[serde(deserialize_with = "duration")]
    pub refresh_token_ttl: Duration,
    /// Zero for none.
    #[serde(deserialize_with = "duration")]
    pub longest: Duration,
}

/// How long each kind of data is kept; zero for ever.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    #[serde(deserialize_with = "duration")]
    pub notifications: Duration,
    #[serde(deserialize_with = "duration")]
    pub events: Duration,
    #[serde(deserialize_with = "duration")]
    pub callbacks: Duration,
    #[serde(deserialize_with = "duration")]
    pub sessions: Duration,
    #[serde(deserialize_with = "duration")]
    pub audit: Duration,
    #[serde(deserialize_with = "duration")]
    pub webhook_deliveries: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub body_bytes: usize,
    pub events_body_bytes: usize,
    #[serde(deserialize_with = "duration")]
    pub head_timeout: Duration,
    #[serde(deserialize_with = "duration")]
    pub read_timeout: Duration,
    pub login_per_ip: u32,
    pub login_per_app: u32,
    pub me_per_user: u32,
    pub events_per_key: u32,
}

impl Config {
    /// Defaults, then the file if one is named, then the environment; checked as a whole.
    pub fn load(file: Option<&std::path::Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        Self::from_figment(figment.merge(Env::prefixed("MAGPIE_").ignore(&NOT_KEYS).split("__")))
    }

    /// Defaults overridden by a TOML text; nothing is taken from the environment.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::from_figment(Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(text)))
    }

    fn from_figment(figment: Figment) -> Result<Self, ConfigError> {
        let mut config: Self = figment.extract().map_err(|error| ConfigError::Unreadable(Box::new(redacted(error))))?;
        for (index, app) in config.apps.iter_mut().enumerate() {
            app.read_secret(&format!("apps[{index}]"))?;
        }
        check::check(&config)?;
        Ok(config)
    }

    /// Whether master keys are given at all.
    pub fn names_master_keys(&self) -> bool {
        self.master_key.is_some() || self.master_key_file.is_some()
    }

    /// The master keys, newest first.
    pub fn master_keys(&self) -> Result<MasterKeys, ConfigError> {
        let keys = match (&self.master_key, &self.master_key_file) {
            (Some(_), Some(_)) => return Err(refused("master_key", "give it or master_key_file, not both")),
            (Some(text), None) => MasterKeys::parse(text),
            (None, Some(path)) => MasterKeys::parse(&read_secret_file("master_key_file", path)?),
            (None, None) => MasterKeys::parse(&SecretString::default()),
        };
        keys.map_err(|error| refused("master_key", &error.to_string()))
    }

    /// Connections to PostgreSQL, or readers of SQLite.
    pub fn connections(&self) -> u32 {
        self.database_connections.unwrap_or(if self.is_sqlite() { 4 } else { 12 })
    }

    /// Calls to WeChat at once, for each app. Each takes some 40 KB; beside SQLite, which is in the same process, fewer
    /// stay within the same memory.
    pub fn calls_at_once(&self) -> usize {
        self.delivery.concurrency.unwrap_or(if self.is_sqlite() { 288 } else { 512 })
    }

    /// Whether the database is the embedded one.
    pub fn is_sqlite(&self) -> bool {
        self.database_url.expose_secret().starts_with("sqlite:")
    }
}

/// figment quotes the offending value, and TOML's parser the offending line; neither may bring a secret to a
/// terminal or a log.
fn redacted(mut error: figment::Error) -> figment::Error {
    use figment::error::{Actual, Kind};
    let secret = error.path.iter().any(|part| {
        let hidden = ["apps", "database_url", "proxy"].contains(&part.as_str());
        hidden || part.contains("secret") || part.contains("key") || part.contains("token")
    });
    if let Kind::Message(text) = &mut error.kind {
        *text = without_quotes(text);
    }
    if secret {
        match &mut error.kind {
            Kind::InvalidType(actual, _) | Kind::InvalidValue(actual, _) => {
                *actual = Actual::Other("a hidden value".into());
            }
            _ => {}
        }
    }
    error
}

/// `9 | secret = "…` and the marks above and below it are left out.
fn without_quotes(text: &str) -> String {
    let is_quote = |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let kept: Vec<_> = text.lines().filter(|line| !is_quote(line)).map(str::trim).collect();
    kept.join(": ")
}

fn refused(key: &str, problem: &str) -> ConfigError {
    ConfigError::Refused { key: key.into(), problem: problem.into() }
}

fn read_secret_file(key: &str, path: &std::path::Path) -> Result<SecretString, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned().into()),
        Err(error) => Err(refused(key, &format!("cannot read {}: {error}", path.display()))),
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|error| de::Error::custom(format!("{error}; write a duration as \"500ms\", \"30s\", \"10m\"")))
}

/// Networks such as `10.1.0.0/16`, or single addresses.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let read = |text: String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| de::Error::custom(format!("`{text}` is no network; write it as \"10.1.0.0/16\"")))
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests;
