//! The access tokens of one app (getAccessToken, getStableAccessToken).

use serde::{Deserialize, Serialize};

use crate::{clock::shanghai_day, random};

/// How long the previous classic token goes on working.
const GRACE: i64 = 300;
const USUAL_LIFE: i64 = 7200;
const FORCED_A_DAY: u32 = 20;
const FORCED_APART: i64 = 30;
/// Old tokens are remembered so that they are told apart from unknown ones.
const REMEMBERED: usize = 50;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TokenBook {
    issued: Vec<Issued>,
    forced_day: i64,
    forced_count: u32,
    forced_at: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Issued {
    value: String,
    stable: bool,
    expires_at: i64,
    /// Set when a newer token took its place.
    works_until: Option<i64>,
}

/// What WeChat thinks of a token it has issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    NotNewest,
    Expired,
}

/// Life and renewal as the knobs of the app have it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub life: i64,
    pub renew_late: bool,
}

impl Terms {
    pub(crate) fn new(life: Option<i64>, renew_late: bool) -> Self {
        Self { life: life.unwrap_or(USUAL_LIFE).max(1), renew_late }
    }

    /// Five minutes of the usual two hours; shortened lives keep the proportion, or a token that
    /// lives for a minute would be replaced at every call.
    fn renewal_window(self) -> i64 {
        (self.life / 24).min(GRACE)
    }
}

/// A token and the seconds it has left.
pub(crate) type Granted = (String, i64);

impl TokenBook {
    /// `GET /cgi-bin/token`: always a new one; the old one works for five more minutes.
    pub(crate) fn classic(&mut self, terms: Terms, now: i64) -> Granted {
        self.supersede(false, now + GRACE);
        self.issue(false, terms, now)
    }

    /// `POST /cgi-bin/stable_token` in normal mode.
    pub(crate) fn stable(&mut self, terms: Terms, now: i64) -> Granted {
        let Some((value, expires_at)) = self.newest_stable(now) else {
            return self.issue(true, terms, now);
        };
        let left = expires_at - now;
        if left > terms.renewal_window() || terms.renew_late {
            return (value, left);
        }
        // The platform renews by itself near the end; both work until the old one runs out.
        self.supersede(true, expires_at);
        self.issue(true, terms, now)
    }

    /// Force mode. `None` when the day's twenty are used up; closer than 30 s nothing is refreshed.
    pub(crate) fn stable_forced(&mut self, terms: Terms, now: i64) -> Option<Granted> {
        if now - self.forced_at < FORCED_APART {
            return Some(self.stable(terms, now));
        }
        let today = shanghai_day(now);
        if self.forced_day != today {
            (self.forced_day, self.forced_count) = (today, 0);
        }
        if self.forced_count >= FORCED_A_DAY {
            return None;
        }
        self.forced_count += 1;
        self.forced_at = now;
        self.supersede(true, now);
        // Also those that were still in their overlap: a leaked token must be dead at once.
        for token in self.issued.iter_mut().filter(|token| token.stable) {
            token.works_until = token.works_until.map(|until| until.min(now));
        }
        Some(self.issue(true, terms, now))
    }

    pub(crate) fn standing(&self, value: &str, now: i64) -> Option<Standing> {
        let token = self.issued.iter().rev().find(|token| token.value == value)?;
        Some(if now >= token.expires_at {
            Standing::Expired
        } else if token.works_until.is_some_and(|until| now >= until) {
            Standing::NotNewest
        } else {
            Standing::Good
        })
    }

    fn newest_stable(&self, now: i64) -> Option<Granted> {
        self.issued
            .iter()
            .rev()
            .find(|token| token.stable && token.works_until.is_none() && now < token.expires_at)
            .map(|token| (token.value.clone(), token.expires_at))
    }

    fn supersede(&mut self, stable: bool, works_until: i64) {
        for token in self.issued.iter_mut().filter(|token| token.stable == stable) {
            token.works_until.get_or_insert(works_until);
        }
    }

    fn issue(&mut self, stable: bool, terms: Terms, now: i64) -> Granted {
        let value = format!("{}_{}", 50 + rand::random::<u8>() % 50, random::text(133));
        self.issued.push(Issued { value: value.clone(), stable, expires_at: now + terms.life, works_until: None });
        if self.issued.len() > REMEMBERED {
            self.issued.remove(0);
        }
        (value, terms.life)
    }
}
