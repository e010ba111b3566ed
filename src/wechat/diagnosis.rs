//! What tells an operator why nothing works: WeChat's clock, and the way from WeChat to our callback.

use reqwest::header;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Client, Error};

#[derive(Serialize)]
struct Check {
    action: &'static str,
    check_operator: &'static str,
}

/// What WeChat found on the way to the callback address.
#[derive(Debug, Deserialize)]
pub struct CallbackCheck {
    #[serde(default)]
    pub dns: Vec<Value>,
    #[serde(default)]
    pub ping: Vec<Ping>,
}

/// One ping from WeChat to the callback's host.
#[derive(Debug, Deserialize)]
pub struct Ping {
    #[serde(default)]
    pub ip: String,
    /// `0%`
    #[serde(default)]
    pub package_loss: String,
}

impl Client {
    /// The `Date` of any answer of WeChat; None when it sends none.
    pub async fn date(&self) -> Result<Option<String>, Error> {
        let response = self.send("/cgi-bin/get_api_domain_ip", |address| self.http.get(address)).await?;
        let date = response.headers().get(header::DATE);
        Ok(date.and_then(|date| date.to_str().ok()).map(str::to_owned))
    }

    /// callbackCheck: WeChat resolves and pings the callback address set in its console.
    pub async fn check_callback(&self, token: &SecretString) -> Result<CallbackCheck, Error> {
        let query = [("access_token", token.expose_secret())];
        let check = Check { action: "all", check_operator: "DEFAULT" };
        self.post("/cgi-bin/callback/check", &query, &check).await
    }
}
