//! `POST /cgi-bin/openapi/quota/get`: how much of an API's day is left.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Client, Error};

/// The limits of one API. WeChat's counters may be off by about one per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub daily_limit: u64,
    pub used: u64,
    pub remain: u64,
    /// How long the short window lasts, where WeChat tells one.
    pub refresh: Option<Duration>,
}

#[derive(Serialize)]
struct Request<'a> {
    cgi_path: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    quota: Day,
    #[serde(default)]
    rate_limit: Option<Window>,
}

#[derive(Deserialize)]
struct Day {
    daily_limit: u64,
    used: u64,
    remain: u64,
}

#[derive(Deserialize)]
struct Window {
    #[serde(default)]
    refresh_second: u64,
}

impl Client {
    /// getApiQuota of the API at `path`, which begins with a slash.
    pub async fn quota(&self, token: &SecretString, path: &str) -> Result<Quota, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Answer = self.post("/cgi-bin/openapi/quota/get", &query, &Request { cgi_path: path }).await?;
        let Day { daily_limit, used, remain } = answer.quota;
        let refresh = answer.rate_limit.map(|window| Duration::from_secs(window.refresh_second));
        Ok(Quota { daily_limit, used, remain, refresh: refresh.filter(|span| !span.is_zero()) })
    }
}
