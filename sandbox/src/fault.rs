//! Faults a test orders: wrong answers, delays, closed connections.

use serde::{Deserialize, Serialize};

/// One ordered fault. Several effects may be combined, e.g. `delay_ms` with `drop`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fault {
    /// Given by the simulator.
    pub id: u64,
    /// Given by the address it was ordered at; without it, calls of all apps are met.
    pub app_id: Option<String>,
    /// A path, a prefix ending in `*`, or `*`.
    #[serde(default = "everywhere")]
    pub path: String,
    /// Only calls whose query or body contains this text.
    pub contains: Option<String>,
    /// Let so many calls pass first.
    pub skip: u64,
    /// How many calls it meets; 0 until removed.
    #[serde(default = "once")]
    pub times: u64,
    /// It ends after so many seconds of the simulator's clock.
    pub for_seconds: Option<i64>,
    pub errcode: Option<i64>,
    pub errmsg: Option<String>,
    pub status: Option<u16>,
    /// Raw answer text, such as a gateway's HTML or broken JSON.
    pub body: Option<String>,
    pub delay_ms: Option<u64>,
    pub drop: Option<Drop>,
    /// Send only so many bytes of the true answer, then close.
    pub truncate: Option<usize>,
    /// How many calls it met so far.
    pub hits: u64,
    #[serde(skip)]
    ends_at: Option<i64>,
}

fn once() -> u64 {
    1
}

fn everywhere() -> String {
    "*".to_owned()
}

/// Close the connection without an answer, before or after the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Drop {
    Before,
    After,
}

impl Fault {
    /// True when the call is not to be worked on but answered as told.
    pub(crate) fn answers_itself(&self) -> bool {
        self.errcode.is_some() || self.status.is_some() || self.body.is_some()
    }

    fn only_delays(&self) -> bool {
        !self.answers_itself() && self.drop.is_none() && self.truncate.is_none()
    }

    pub(crate) fn has_no_effect(&self) -> bool {
        self.only_delays() && self.delay_ms.is_none()
    }

    /// A call that names no known app meets the faults of every app.
    fn meets(&self, path: &str, app_id: Option<&str>, text: &str, now: i64) -> bool {
        let path_fits = match self.path.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => self.path == path,
        };
        let app_fits = app_id.is_none() || self.app_id.is_none() || self.app_id.as_deref() == app_id;
        path_fits
            && app_fits
            && self.contains.as_ref().is_none_or(|wanted| text.contains(wanted.as_str()))
            && self.ends_at.is_none_or(|end| now < end)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
    last_id: u64,
}

/// What one call meets: all delays together, and at most one other fault.
#[derive(Debug, Default)]
pub(crate) struct Drawn {
    pub delay_ms: u64,
    pub fault: Option<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, mut fault: Fault, now: i64) -> Fault {
        self.last_id += 1;
        fault.id = self.last_id;
        fault.hits = 0;
        fault.ends_at = fault.for_seconds.map(|seconds| now + seconds);
        if fault.for_seconds.is_some() {
            fault.times = 0;
        }
        self.list.push(fault.clone());
        fault
    }

    pub(crate) fn draw(&mut self, path: &str, app_id: Option<&str>, text: &str, now: i64) -> Drawn {
        let mut drawn = Drawn::default();
        for fault in &mut self.list {
            let taken = drawn.fault.is_some() && !fault.only_delays();
            if taken || !fault.meets(path, app_id, text, now) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.hits += 1;
            drawn.delay_ms += fault.delay_ms.unwrap_or_default();
            if !fault.only_delays() {
                drawn.fault = Some(fault.clone());
            }
        }
        self.list.retain(|fault| {
            (fault.times == 0 || fault.hits < fault.times) && fault.ends_at.is_none_or(|end| now < end)
        });
        drawn
    }

    pub(crate) fn list(&self) -> &[Fault] {
        &self.list
    }

    /// Removes those; tells how many.
    pub(crate) fn remove(&mut self, which: impl Fn(&Fault) -> bool) -> usize {
        let before = self.list.len();
        self.list.retain(|fault| !which(fault));
        before - self.list.len()
    }
}
