//! One WeChat account.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{ConfigError, read_secret_file, refused};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// WeChat's AppID, `wx…`.
    pub app_id: String,
    /// For people; the AppID when missing.
    #[serde(default)]
    pub name: Option<String>,
    pub kind: Kind,
    #[serde(default)]
    secret: SecretString,
    #[serde(default)]
    secret_file: Option<PathBuf>,
    /// The token of the callback signature.
    #[serde(default)]
    pub callback_token: Option<SecretString>,
    /// 43 characters; needed for the compatible and the secure mode.
    #[serde(default)]
    pub encoding_aes_key: Option<SecretString>,
    #[serde(default)]
    pub callback_mode: CallbackMode,
    #[serde(default)]
    pub miniprogram_state: MiniProgramState,
}

/// The kind of account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    MiniProgram,
    ServiceAccount,
}

/// How WeChat sends its callbacks, as chosen in its console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallbackMode {
    Plain,
    Compatible,
    #[default]
    Secure,
}

/// Which version of the Mini Program a message opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MiniProgramState {
    Developer,
    Trial,
    #[default]
    Formal,
}

impl App {
    /// The `AppSecret`.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// What to call the app when talking to people.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.app_id)
    }

    /// Takes the secret from its file, if it is kept in one.
    pub(super) fn read_secret(&mut self, key: &str) -> Result<(), ConfigError> {
        let Some(path) = &self.secret_file else { return Ok(()) };
        if !self.secret.expose_secret().is_empty() {
            return Err(refused(&format!("{key}.secret"), "give it or secret_file, not both"));
        }
        self.secret = read_secret_file(&format!("{key}.secret_file"), path)?;
        Ok(())
    }
}
