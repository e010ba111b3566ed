//! `GET /sns/jscode2session`: a login code for the user's openid and `session_key`.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Client, Error, answer::required};

/// code2Session's answer.
#[derive(Debug, Deserialize)]
pub struct CodeSession {
    #[serde(deserialize_with = "required")]
    pub openid: String,
    /// Never leaves this server.
    #[serde(deserialize_with = "required")]
    pub session_key: SecretString,
    /// Present when the app is bound to an Open Platform account; may appear later.
    #[serde(default, deserialize_with = "non_empty")]
    pub unionid: Option<String>,
}

impl Client {
    /// code2Session. A code lives five minutes and works once; no access token is needed.
    pub async fn code_to_session(&self, app_id: &str, secret: &SecretString, code: &str) -> Result<CodeSession, Error> {
        let query = [
            ("appid", app_id),
            ("secret", secret.expose_secret()),
            ("js_code", code),
            ("grant_type", "authorization_code"),
        ];
        self.get("/sns/jscode2session", &query).await
    }
}

fn non_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}
