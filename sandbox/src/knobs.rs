//! The switches of one app that a test turns; not part of WeChat, never saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::quota::Limit;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Knobs {
    /// Callers of the token endpoints; `null` lets everybody in.
    pub ip_white_list: Option<Vec<String>>,
    /// Users who get 40226 at login, and 43019 from a service account's message.
    pub blocked_openids: Vec<String>,
    /// Pages the released version does not have: 41030.
    pub missing_pages: Vec<String>,
    /// Templates WeChat has banned: 43107.
    pub banned_templates: Vec<String>,
    /// Words that give 45168.
    pub sensitive_words: Vec<String>,
    /// Mini Programs a template message may jump to; `null` allows all.
    pub linked_mini_programs: Option<Vec<String>>,
    /// Leave `msgid` out of the answer of subscribe/send.
    pub omit_msgid: bool,
    pub receipt: Receipt,
    /// Life of tokens made from now on; 7200 unless told.
    pub token_life_seconds: Option<i64>,
    /// In its last minutes a stable token is not renewed; the same one comes back.
    pub renew_late: bool,
    /// The next so many calls with a token are refused with 40001.
    pub refuse_tokens: u32,
    /// Limits that differ from WeChat's, by path.
    pub quotas: BTreeMap<String, Limit>,
    /// Pause between the tries of one push; 1000 unless told.
    pub callback_retry_ms: Option<u64>,
    /// Write `CreateTime`, `MsgID`, `ErrorCode` and `PopupScene` as JSON numbers instead of text.
    pub numbers_in_callbacks: bool,
}

/// How the receipt of a message comes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Receipt {
    pub mode: ReceiptMode,
    /// 100 unless told; 10000 when late.
    pub delay_ms: Option<u64>,
    /// Of a failed receipt: `ErrorCode` and `ErrorStatus`, or a service account's `Status`.
    pub error_code: Option<i64>,
    pub error_status: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReceiptMode {
    #[default]
    Normal,
    /// Posted, and answered, before the send itself is answered.
    Early,
    Late,
    Twice,
    Lost,
    /// Held until the next one has been posted.
    OutOfOrder,
    /// WeChat took the message but could not deliver it.
    Fail,
}

impl Receipt {
    pub(crate) fn delay_ms(&self) -> u64 {
        self.delay_ms.unwrap_or(if self.mode == ReceiptMode::Late { 10_000 } else { 100 })
    }
}
