//! What a configuration must satisfy as a whole, each with the way out.

use std::{collections::HashSet, str::FromStr, time::Duration};

use sea_orm::sqlx::{postgres::PgConnectOptions, sqlite::SqliteConnectOptions};
use secrecy::{ExposeSecret, SecretString};

use super::{App, CallbackMode, Config, ConfigError, refused};

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    addresses(config)?;
    timing(config)?;
    periods(config)?;
    let mut seen = HashSet::new();
    for (index, entry) in config.apps.iter().enumerate() {
        let key = format!("apps[{index}]");
        if !seen.insert(&entry.app_id) {
            return Err(refused(&format!("{key}.app_id"), &format!("{} is there twice", entry.app_id)));
        }
        app(&key, entry)?;
    }
    Ok(())
}

fn addresses(config: &Config) -> Result<(), ConfigError> {
    let url = config.database_url.expose_secret();
    if !["sqlite:", "postgres:", "postgresql:"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(refused("database_url", "must begin with sqlite:// or postgres://"));
    }
    // The driver's own complaint would repeat the address, and with it the password.
    let readable = if config.is_sqlite() {
        SqliteConnectOptions::from_str(url).is_ok()
    } else {
        PgConnectOptions::from_str(url).is_ok()
    };
    if !readable {
        let why = "cannot be read; write sqlite://FILE or postgres://USER:PASSWORD@HOST:PORT/DATABASE, and in the \
                   password %2F for /, %3F for ?, %23 for #, %40 for @";
        return Err(refused("database_url", why));
    }
    // Bringing the schema up to date holds one connection for taking turns and works on another.
    if config.connections() < 2 {
        return Err(refused("database_connections", "must be at least 2"));
    }
    let fallback_url = config.wechat.fallback_url().unwrap_or(&config.wechat.base_url);
    let proxy = config.wechat.proxy.as_ref().map(ExposeSecret::expose_secret);
    if proxy.is_some_and(|url| !(url.starts_with("http://") || url.starts_with("https://"))) {
        return Err(refused("wechat.proxy", "must be an http:// or https:// address"));
    }
    for (key, url) in [
        ("public_url", config.public_url.as_str()),
        ("wechat.base_url", &config.wechat.base_url),
        ("wechat.fallback_url", fallback_url),
    ] {
        if !(url.starts_with("http://") || url.starts_with("https://")) || url.ends_with('/') {
            return Err(refused(key, "must be an http:// or https:// address without a slash at the end"));
        }
    }
    for (key, url) in [("wechat.base_url", config.wechat.base_url.as_str()), ("wechat.fallback_url", fallback_url)] {
        if url.starts_with("http://") && !is_loopback(url) {
            return Err(refused(key, "plain http is for a simulator on this machine; use https://"));
        }
    }
    Ok(())
}

fn is_loopback(url: &str) -> bool {
    let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// A call must end before its lease does, and a lease before an unknown outcome is decided:
/// otherwise two nodes may call for one message.
fn timing(config: &Config) -> Result<(), ConfigError> {
    let delivery = &config.delivery;
    if delivery.request_timeout >= delivery.lease {
        return Err(refused("delivery.lease", "must be longer than delivery.request_timeout"));
    }
    if delivery.lease >= delivery.unsure_deadline {
        return Err(refused("delivery.unsure_deadline", "must be longer than delivery.lease"));
    }
    if delivery.back_off_initial.is_zero() || delivery.back_off_initial > delivery.back_off_max {
        return Err(refused("delivery.back_off_initial", "must be above 0 and at most delivery.back_off_max"));
    }
    if delivery.max_attempts < 1 || delivery.concurrency == Some(0) {
        return Err(refused("delivery.max_attempts", "it and delivery.concurrency must be at least 1"));
    }
    let webhooks = &config.webhooks;
    if webhooks.timeout.is_zero() || webhooks.timeout > Duration::from_mins(1) {
        return Err(refused("webhooks.timeout", "must be above 0 and at most 1m"));
    }
    if webhooks.concurrency == 0 {
        return Err(refused("webhooks.concurrency", "must be at least 1"));
    }
    if webhooks.disable_after.is_zero() {
        return Err(refused("webhooks.disable_after", "must be above 0"));
    }
    let session = &config.session;
    if session.access_token_ttl < Duration::from_secs(30) {
        return Err(refused("session.access_token_ttl", "must be at least 30s"));
    }
    if session.refresh_token_ttl <= session.access_token_ttl {
        return Err(refused("session.refresh_token_ttl", "must be longer than session.access_token_ttl"));
    }
    if !session.longest.is_zero() && session.longest < session.access_token_ttl {
        return Err(refused("session.longest", "must be longer than session.access_token_ttl, or 0s for no end"));
    }
    for (key, span) in
        [("limits.read_timeout", config.limits.read_timeout), ("limits.head_timeout", config.limits.head_timeout)]
    {
        if span.is_zero() {
            return Err(refused(key, "must be above 0"));
        }
    }
    if config.limits.body_bytes < 64 * 1024 {
        return Err(refused("limits.body_bytes", "must be at least 65536: CloudEvents of 64 KiB must pass"));
    }
    if config.limits.events_body_bytes < config.limits.body_bytes {
        return Err(refused("limits.events_body_bytes", "must be at least limits.body_bytes"));
    }
    Ok(())
}

/// A repeat under the same `Idempotency-Key`, or of the same event, is known by the stored event.
const REPEATS_COME_WITHIN: Duration = Duration::from_hours(24);

fn periods(config: &Config) -> Result<(), ConfigError> {
    let events = config.retention.events;
    if !events.is_zero() && events < REPEATS_COME_WITHIN {
        let why = "must be at least 24h, or 0s for ever: a repeat of an event that is gone, also one with the same \
                   Idempotency-Key, would be sent a second time";
        return Err(refused("retention.events", why));
    }
    Ok(())
}

fn app(key: &str, app: &App) -> Result<(), ConfigError> {
    if app.app_id.is_empty() || !app.app_id.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(refused(
            &format!("{key}.app_id"),
            "must be the AppID from WeChat's console, wx and 16 letters or digits",
        ));
    }
    let secret = app.secret().expose_secret();
    if secret.len() < 16 || is_placeholder(secret) {
        return Err(refused(
            &format!("{key}.secret"),
            "is missing or too short; copy the AppSecret from WeChat's console, or name secret_file",
        ));
    }
    if let Some(token) = &app.callback_token {
        let token = token.expose_secret();
        if !(3..=32).contains(&token.len()) || !token.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(refused(
                &format!("{key}.callback_token"),
                "must be the 3 to 32 letters and digits entered in WeChat's console",
            ));
        }
        if app.callback_mode != CallbackMode::Plain && !is_encoding_aes_key(app.encoding_aes_key.as_ref()) {
            return Err(refused(
                &format!("{key}.encoding_aes_key"),
                "the secure and compatible modes need the 43 letters and digits from WeChat's console; or set callback_mode = \"plain\"",
            ));
        }
    }
    Ok(())
}

fn is_encoding_aes_key(key: Option<&SecretString>) -> bool {
    key.is_some_and(|key| {
        let key = key.expose_secret();
        key.len() == 43 && key.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

fn is_placeholder(secret: &str) -> bool {
    let first = secret.chars().next();
    secret.chars().all(|c| Some(c) == first) || secret.to_ascii_lowercase().contains("changeme")
}
