//! What was posted to an app, try by try.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::letter::Letter;

const KEPT: usize = 10_000;

/// The pushes of one app, newest last, numbered from 1.
#[derive(Debug, Default)]
pub(crate) struct PostedLog {
    last: u64,
    entries: VecDeque<Posted>,
}

#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub n: u64,
    pub event: String,
    pub openid: String,
    pub letter: Letter,
    pub tries: Vec<Try>,
}

/// One try: the answer, or why there was none.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Try {
    pub time_ms: i64,
    pub duration_ms: u64,
    pub status: Option<u16>,
    pub answer: Option<String>,
    pub error: Option<String>,
    /// True when WeChat is content with it.
    pub accepted: bool,
}

impl PostedLog {
    pub(super) fn open(&mut self, event: &str, openid: &str, letter: Letter) -> u64 {
        self.last += 1;
        self.entries.push_back(Posted {
            n: self.last,
            event: event.to_owned(),
            openid: openid.to_owned(),
            letter,
            tries: Vec::new(),
        });
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
        self.last
    }

    pub(super) fn note(&mut self, n: u64, attempt: Try) {
        // The newest are the likeliest: a search from the front would be long in a load run.
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.n == n) {
            entry.tries.push(attempt);
        }
    }

    pub(super) fn letter(&self, n: u64) -> Option<Letter> {
        self.entries.iter().find(|entry| entry.n == n).map(|entry| entry.letter.clone())
    }

    pub(crate) fn describe(&self) -> Vec<Value> {
        self.entries.iter().map(Posted::describe).collect()
    }
}

impl Posted {
    fn describe(&self) -> Value {
        let query: Map<String, Value> =
            self.letter.query.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({
            "n": self.n,
            "event": self.event,
            "openid": self.openid,
            "url": self.letter.url,
            "query": query,
            "body": self.letter.body,
            "plain": self.letter.plain,
            "tries": self.tries,
            "delivered": self.tries.iter().any(|attempt| attempt.accepted),
        })
    }
}
