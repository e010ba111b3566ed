//! Everything WeChat knows: all apps, and what a test wants to go wrong.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{account::Account, config::App, fault::Faults, tally::Tally};

const FAILED_CALLS_KEPT: usize = 1_000;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct World {
    pub accounts: BTreeMap<String, Account>,
    /// So that saved times keep their meaning after a restart.
    pub clock_offset_ms: i64,
    #[serde(skip)]
    pub faults: Faults,
    #[serde(skip)]
    pub calls: Tally,
    /// What `openapi/rid/get` can explain.
    #[serde(skip)]
    failed_calls: VecDeque<FailedCall>,
}

/// A refused call, kept under its rid.
#[derive(Debug, Clone)]
pub(crate) struct FailedCall {
    pub rid: String,
    pub app_id: Option<String>,
    pub time: i64,
    pub description: Value,
}

impl World {
    /// Enters an app or gives a known one its new configuration; its users and credits stay.
    pub(crate) fn configure(&mut self, app: App) {
        if let Some(account) = self.accounts.get_mut(&app.app_id) {
            account.app = app;
            account.deleted.clear();
        } else {
            self.accounts.insert(app.app_id.clone(), Account::new(app));
        }
    }

    pub(crate) fn remember_failure(&mut self, call: FailedCall) {
        self.failed_calls.push_back(call);
        if self.failed_calls.len() > FAILED_CALLS_KEPT {
            self.failed_calls.pop_front();
        }
    }

    pub(crate) fn failed_call(&self, rid: &str) -> Option<&FailedCall> {
        self.failed_calls.iter().find(|call| call.rid == rid)
    }
}

/// The messages WeChat is handing over at this moment, by app and openid: a second one to the same
/// person meets 43108.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashSet<(String, String)>>);

/// Held while a message is being handed over.
pub(crate) struct Turn<'a> {
    line: &'a InFlight,
    whose: (String, String),
}

impl InFlight {
    /// `None` when somebody else has the turn.
    pub(crate) fn take(&self, app_id: &str, openid: &str) -> Option<Turn<'_>> {
        let whose = (app_id.to_owned(), openid.to_owned());
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A turn frees its place when dropped, so none may be made in vain.
        taken.insert(whose.clone()).then(|| Turn { line: self, whose })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.line.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.whose);
    }
}
