//! `POST /cgi-bin/stable_token`: the same token for every caller until it is nearly over.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{Client, Error, answer::required};

#[derive(Serialize)]
struct Request<'a> {
    grant_type: &'static str,
    appid: &'a str,
    secret: &'a str,
    force_refresh: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(deserialize_with = "required")]
    access_token: SecretString,
    expires_in: u64,
}

/// An access token and how much longer it works.
#[derive(Debug)]
pub struct StableToken {
    pub token: SecretString,
    /// What is left of its life, which may be far below two hours.
    pub expires_in: Duration,
}

impl Client {
    /// getStableAccessToken. `force` kills the previous token at once; WeChat allows it 20 times a
    /// day, 30 s apart.
    pub async fn stable_token(&self, app_id: &str, secret: &SecretString, force: bool) -> Result<StableToken, Error> {
        let body = Request {
            grant_type: "client_credential",
            appid: app_id,
            secret: secret.expose_secret(),
            force_refresh: force,
        };
        let answer: Answer = self.post("/cgi-bin/stable_token", &[], &body).await?;
        Ok(StableToken { token: answer.access_token, expires_in: Duration::from_secs(answer.expires_in) })
    }
}
