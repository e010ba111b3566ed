//! One app on WeChat's side: its configuration and everything WeChat remembers about it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    config::{App, Template},
    knobs::Knobs,
    person::Person,
    push::{Event, PostedLog},
    quota::QuotaBook,
    tally::Tally,
    token_book::TokenBook,
};

/// Phones forget: enough for any test, and a bound for a load run.
const MESSAGES_KEPT: usize = 100_000;
const CODES_KEPT_MS: i64 = 3_600_000;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Account {
    pub app: App,
    /// Templates taken from the public library through the API.
    pub added: Vec<Template>,
    /// Configured templates deleted through the API.
    pub deleted: BTreeSet<String>,
    pub people: BTreeMap<String, Person>,
    pub login_codes: BTreeMap<String, Code>,
    pub phone_codes: BTreeMap<String, Code>,
    pub tokens: TokenBook,
    pub quota: QuotaBook,
    pub messages: VecDeque<Message>,
    pub messages_total: u64,
    last_msgid: u64,
    #[serde(skip)]
    codes_swept_ms: i64,
    #[serde(skip)]
    pub knobs: Knobs,
    #[serde(skip)]
    pub calls: Tally,
    #[serde(skip)]
    pub posted: PostedLog,
    /// The receipt that waits for a later one to overtake it.
    #[serde(skip)]
    pub held: Option<Event>,
}

/// A code of `wx.login` or of the phone-number button: five minutes, one use.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Code {
    pub openid: String,
    pub made_ms: i64,
    pub used: bool,
    /// Only of a phone code: the number without its country code.
    pub phone_number: String,
    pub country_code: String,
}

impl Code {
    pub(crate) fn expired(&self, now_ms: i64) -> bool {
        now_ms - self.made_ms > 300_000
    }
}

/// A message that arrived on a phone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    pub msgid: u64,
    pub openid: String,
    pub title: String,
    /// The card as the user reads it.
    pub text: String,
    pub time: i64,
    pub time_ms: i64,
    /// Every field of the request: `touser`, `template_id`, `data`, `page` …
    #[serde(flatten)]
    pub sent: Map<String, Value>,
}

impl Account {
    pub(crate) fn new(app: App) -> Self {
        Self { app, ..Self::default() }
    }

    /// The templates the app has at present: configured ones, then added ones.
    pub(crate) fn templates(&self) -> impl Iterator<Item = &Template> {
        self.app.templates.iter().filter(|template| !self.deleted.contains(&template.id)).chain(self.added.iter())
    }

    pub(crate) fn template(&self, id: &str) -> Option<&Template> {
        self.templates().find(|template| template.id == id)
    }

    /// Drops a template; false when there is none of that id.
    pub(crate) fn delete_template(&mut self, id: &str) -> bool {
        let known = self.template(id).is_some();
        self.added.retain(|template| template.id != id);
        if self.app.templates.iter().any(|template| template.id == id) {
            self.deleted.insert(id.to_owned());
        }
        known
    }

    pub(crate) fn person(&mut self, openid: &str) -> &mut Person {
        self.people.entry(openid.to_owned()).or_default()
    }

    /// 64-bit ids above 2^53, growing with time as WeChat's do.
    pub(crate) fn next_msgid(&mut self, now_ms: i64) -> u64 {
        let by_time = (u64::try_from(now_ms).unwrap_or_default() << 20) | u64::from(rand::random::<u32>() >> 12);
        self.last_msgid = by_time.max(self.last_msgid + 1);
        self.last_msgid
    }

    pub(crate) fn arrive(&mut self, mut message: Message) {
        // Members WeChat does not know must not pose as our own.
        for ours in ["msgid", "openid", "title", "text", "time", "time_ms"] {
            message.sent.shift_remove(ours);
        }
        self.messages_total += 1;
        self.messages.push_back(message);
        if self.messages.len() > MESSAGES_KEPT {
            self.messages.pop_front();
        }
    }

    /// Codes long dead are forgotten, after which they are merely unknown.
    pub(crate) fn forget_old_codes(&mut self, now_ms: i64) {
        // A look through all codes at every login would slow a load run down.
        if (now_ms - self.codes_swept_ms).abs() < 60_000 {
            return;
        }
        self.codes_swept_ms = now_ms;
        self.login_codes.retain(|_, code| now_ms - code.made_ms < CODES_KEPT_MS);
        self.phone_codes.retain(|_, code| now_ms - code.made_ms < CODES_KEPT_MS);
    }
}
