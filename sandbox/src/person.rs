//! A person as one app knows them.

use std::collections::{BTreeMap, VecDeque};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// WeChat does not say how long a session key lives; three days is what developers report.
const SESSION_LIFE: i64 = 3 * 86_400;
/// Logins of one user that WeChat takes within a minute.
const LOGINS_A_MINUTE: usize = 100;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Person {
    pub unionid: Option<String>,
    /// Base64 of 16 bytes; empty before the first login.
    pub session_key: String,
    pub session_expires_at: i64,
    #[serde(skip)]
    recent_logins: VecDeque<i64>,
    /// What the person agreed to receive, by template id.
    pub credits: BTreeMap<String, Credit>,
    /// Set while the person follows the service account.
    pub follow: Option<Follow>,
    /// `client_msg_id` → (time, msgid) of template messages, for WeChat's ten-minute memory.
    #[serde(skip)]
    pub client_messages: BTreeMap<String, (i64, u64)>,
}

/// The right to send one template to one person, which no API tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Credit {
    pub one_time: u32,
    pub long_term: bool,
    /// Set by a refusal in the message settings, cleared by the next acceptance.
    pub refused: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Follow {
    pub since: i64,
    pub scene: String,
    pub qr_scene_str: String,
}

impl Person {
    /// A new login rotates the session key.
    pub(crate) fn log_in(&mut self, now: i64) {
        self.session_key = new_session_key();
        self.session_expires_at = now + SESSION_LIFE;
        self.recent_logins.push_back(now);
    }

    pub(crate) fn logs_in_too_often(&mut self, now: i64) -> bool {
        while self.recent_logins.front().is_some_and(|at| now - at >= 60) {
            self.recent_logins.pop_front();
        }
        self.recent_logins.len() >= LOGINS_A_MINUTE
    }

    pub(crate) fn has_session(&self, now: i64) -> bool {
        !self.session_key.is_empty() && now < self.session_expires_at
    }

    pub(crate) fn credit(&mut self, template_id: &str) -> &mut Credit {
        self.credits.entry(template_id.to_owned()).or_default()
    }
}

pub(crate) fn new_session_key() -> String {
    STANDARD.encode(rand::random::<[u8; 16]>())
}
