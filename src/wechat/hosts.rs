//! WeChat's host and its twin in another site: which one a call tries first.
//!
//! ```text
//! first host ─ no connection ─▶ the twin, for this call and all others of a while
//!      ▲                                   │ the while is over
//!      └──── a connection ◀── one call tries the first host again
//! ```

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use url::{ParseError, Url};

use super::Error;
use crate::{clock::Stopwatch, config::WeChat};

#[derive(Clone, Debug)]
pub(super) struct Hosts {
    first: Host,
    twin: Option<Host>,
    rest_for: Duration,
    /// Runs since the first host could not be reached, or was last tried.
    resting: Arc<Mutex<Option<Stopwatch>>>,
}

#[derive(Clone, Debug)]
pub(super) struct Host {
    base: Url,
    is_first: bool,
}

impl Host {
    fn new(url: &str, is_first: bool) -> Result<Self, ParseError> {
        Ok(Self { base: Url::parse(url)?, is_first })
    }

    /// Read once, not for each call.
    pub(super) fn address(&self, path: &str) -> Url {
        let mut address = self.base.clone();
        address.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        address
    }
}

impl Hosts {
    pub(super) fn new(config: &WeChat) -> Result<Self, ParseError> {
        let twin = config.fallback_url().map(|url| Host::new(url, false)).transpose()?;
        let first = Host::new(&config.base_url, true)?;
        Ok(Self { first, twin, rest_for: config.fallback_for, resting: Arc::default() })
    }

    /// The host to try, and the other one for when no connection to it can be made.
    pub(super) fn in_turn(&self) -> (&Host, Option<&Host>) {
        match &self.twin {
            Some(twin) if self.first_rests() => (twin, Some(&self.first)),
            twin => (&self.first, twin.as_ref()),
        }
    }

    /// Whether the first host is left alone. When its time is over the caller is the one that tries it, and the
    /// others go on with the twin meanwhile.
    fn first_rests(&self) -> bool {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        match *resting {
            None => false,
            Some(since) if since.elapsed() < self.rest_for => true,
            Some(_) => {
                *resting = Some(Stopwatch::start());
                false
            }
        }
    }

    /// Remembers whether a connection could be made; what came over it says nothing about the host.
    pub(super) fn note<T>(&self, host: &Host, answer: &Result<T, Error>) {
        if !host.is_first || self.twin.is_none() {
            return;
        }
        let reached = !matches!(answer, Err(Error::NotSent(_)));
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        match (reached, resting.is_some()) {
            (true, true) => tracing::info!(host = %host.base, "wechat.host_back"),
            (false, false) => tracing::warn!(host = %host.base, "wechat.host_unreachable"),
            _ => {}
        }
        *resting = (!reached).then(Stopwatch::start);
    }
}
