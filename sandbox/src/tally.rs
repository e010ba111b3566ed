//! Counts of the calls an app made.

use std::collections::BTreeMap;

use serde_json::{Value, json};

#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    total: u64,
    by_path: BTreeMap<String, u64>,
    /// Answers by errcode; calls that were cut off have none.
    by_errcode: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn call(&mut self, path: &str) {
        self.total += 1;
        *self.by_path.entry(path.to_owned()).or_default() += 1;
    }

    pub(crate) fn answer(&mut self, errcode: i64) {
        *self.by_errcode.entry(errcode.to_string()).or_default() += 1;
    }

    pub(crate) fn describe(&self) -> Value {
        json!({ "total": self.total, "by_path": self.by_path, "by_errcode": self.by_errcode })
    }
}
