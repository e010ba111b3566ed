//! What an operator would enter in the WeChat console: apps, templates and message push.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// How a simulator is started.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The apps that exist from the start.
    pub apps: Vec<App>,
    /// Where users, credits, tokens and messages survive a restart; without it all is in memory.
    pub state_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), apps: vec![crate::demo_app()], state_file: None }
    }
}

/// One WeChat app as its owner sees it in the console (`开发管理 → 开发设置`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct App {
    pub app_id: String,
    pub kind: Kind,
    pub secret: String,
    /// The account's original id (`gh_…`), the `ToUserName` of every push.
    pub original_id: String,
    /// Message push; without it nothing is posted.
    pub callback: Option<Callback>,
    pub templates: Vec<Template>,
}

/// The two account types the simulator knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    MiniProgram,
    ServiceAccount,
}

/// Message push configuration (`消息推送`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Callback {
    pub url: String,
    pub token: String,
    /// 43 characters; needed for the compatible and the secure mode.
    pub encoding_aes_key: Option<String>,
    pub mode: Mode,
    /// Ignored for a service account, which always gets XML.
    pub format: Format,
}

/// `消息加解密方式`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Plain,
    Compatible,
    Secure,
}

/// `数据格式`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    #[default]
    Json,
    Xml,
}

/// A template of the app, as `gettemplate` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    pub id: String,
    pub title: String,
    /// Lines such as `订单号:{{character_string1.DATA}}\n`.
    pub content: String,
    pub example: String,
    /// 2 one-time, 3 long-term.
    pub kind: i64,
    /// Keyword (`enum_string2`) and the values it may take.
    pub enum_values: Vec<(String, Vec<String>)>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            id: String::new(),
            title: String::new(),
            content: String::new(),
            example: String::new(),
            kind: ONE_TIME,
            enum_values: Vec::new(),
        }
    }
}

/// `type` of a one-time subscription template.
pub(crate) const ONE_TIME: i64 = 2;
/// `type` of a long-term subscription template.
pub(crate) const LONG_TERM: i64 = 3;

impl Template {
    /// The keywords named in the content, in order.
    pub(crate) fn keywords(&self) -> Vec<&str> {
        self.content
            .split("{{")
            .skip(1)
            .filter_map(|rest| rest.split_once(".DATA}}").map(|(keyword, _)| keyword.trim()))
            .collect()
    }

    /// The values an enumerated keyword may take, if the template limits them.
    pub(crate) fn values_of(&self, keyword: &str) -> Option<&[String]> {
        self.enum_values
            .iter()
            .find(|(name, _)| name.trim_end_matches(".DATA") == keyword)
            .map(|(_, values)| values.as_slice())
    }
}

impl App {
    /// What the console would refuse to save.
    pub(crate) fn complaint(&self) -> Option<String> {
        if self.app_id.is_empty() {
            return Some("app_id is missing".into());
        }
        let callback = self.callback.as_ref()?;
        if !(callback.url.starts_with("http://") || callback.url.starts_with("https://")) {
            return Some(format!("{}: the callback URL must start with http:// or https://", self.app_id));
        }
        let token = &callback.token;
        if !(3..=32).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Some(format!("{}: the callback token must be 3 to 32 letters or digits", self.app_id));
        }
        let key_is_good = callback
            .encoding_aes_key
            .as_ref()
            .map(|key| key.len() == 43 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        match (key_is_good, callback.mode) {
            (Some(false), _) => Some(format!("{}: encoding_aes_key must be 43 characters of A-Z a-z 0-9", self.app_id)),
            (None, Mode::Compatible | Mode::Secure) => {
                Some(format!("{}: this callback mode needs an encoding_aes_key", self.app_id))
            }
            _ => None,
        }
    }

    /// The format pushes are written in; service accounts have no choice.
    pub(crate) fn push_format(&self) -> Format {
        match (self.kind, &self.callback) {
            (Kind::MiniProgram, Some(callback)) => callback.format,
            (Kind::MiniProgram, None) => Format::Json,
            (Kind::ServiceAccount, _) => Format::Xml,
        }
    }
}
