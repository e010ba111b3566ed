//! Calls a second, after WeChat said that there were too many.

use std::{num::NonZeroU32, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::clock::Stopwatch;

/// Where the pace begins when WeChat is back after an outage.
const SLOW: u32 = 32;
/// No limit that WeChat names comes near this; beyond it there is no pace to keep.
const FREE: u32 = 20_000;
/// After a limit the pace doubles about so often.
const RECOVERS_EVERY: Duration = Duration::from_secs(15);
/// After an outage it doubles so often.
const GROWS_EVERY: Duration = Duration::from_secs(1);
/// Calls that were on their way when the limit was met do not halve the pace again.
const ONE_MEETING: Duration = Duration::from_secs(2);

/// As many calls a second as WeChat takes; no limit until it names one.
pub(super) struct Pace {
    limit: Option<Limit>,
    /// Calls of the current stretch, to know what went through.
    calls: u32,
    stretch: Stopwatch,
}

struct Limit {
    limiter: DefaultDirectRateLimiter,
    per_second: u32,
    since: Stopwatch,
    doubles_every: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { limit: None, calls: 0, stretch: Stopwatch::start() }
    }
}

impl Pace {
    /// How many of `wanted` calls may begin.
    pub fn room(&mut self, wanted: usize) -> usize {
        self.recover();
        match &self.limit {
            Some(limit) => (0..wanted).take_while(|_| limit.limiter.check().is_ok()).count(),
            None => wanted,
        }
    }

    /// A call was made. Room that was given says nothing: there may have been no message for it.
    pub fn called(&mut self) {
        if self.stretch.elapsed() > ONE_MEETING * 5 {
            (self.calls, self.stretch) = (0, Stopwatch::start());
        }
        self.calls = self.calls.saturating_add(1);
    }

    /// When there may be room again; None when it is not the pace that is in the way.
    pub fn room_in(&self) -> Option<Duration> {
        self.limit.as_ref().map(|limit| Duration::from_secs(1) / limit.per_second.clamp(1, 100))
    }

    /// WeChat says that there were too many calls: half of what went through from now on.
    pub fn slow_down(&mut self) {
        if self.limit.as_ref().is_some_and(|limit| limit.since.elapsed() < ONE_MEETING) {
            return;
        }
        let seconds = u32::try_from(self.stretch.elapsed().as_secs()).unwrap_or(u32::MAX).max(1);
        let went = self.limit.as_ref().map_or(u32::MAX, |limit| limit.per_second).min(self.calls / seconds);
        self.keep((went / 2).max(1), RECOVERS_EVERY);
    }

    /// WeChat is back: what has gathered goes out evenly, not at once.
    pub fn begin_slowly(&mut self) {
        let slower = self.limit.as_ref().map_or(SLOW, |limit| limit.per_second.min(SLOW));
        self.keep(slower, GROWS_EVERY);
    }

    fn recover(&mut self) {
        let Some(limit) = &self.limit else { return };
        if limit.since.elapsed() < limit.doubles_every {
            return;
        }
        let (doubled, every) = (limit.per_second.saturating_mul(2), limit.doubles_every);
        if doubled >= FREE {
            tracing::info!("delivery.pace_free");
            self.limit = None;
        } else {
            self.keep(doubled, every);
        }
    }

    fn keep(&mut self, per_second: u32, doubles_every: Duration) {
        let Some(quota) = NonZeroU32::new(per_second).map(Quota::per_second) else { return };
        // A tenth of a second's worth at once, not a whole second's.
        let quota = quota.allow_burst(NonZeroU32::MIN.saturating_add(per_second / 10));
        tracing::info!(per_second, "delivery.pace");
        let limiter = RateLimiter::direct(quota);
        self.limit = Some(Limit { limiter, per_second, since: Stopwatch::start(), doubles_every });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_limit_until_wechat_names_one() {
        let mut pace = Pace::default();
        assert_eq!(pace.room(100_000), 100_000);
        assert_eq!(pace.room_in(), None);
    }

    #[test]
    fn a_limit_halves_what_went_through_once_for_all_calls_that_met_it() {
        let mut pace = Pace::default();
        pace.room(5_000);
        for _ in 0..200 {
            pace.called();
        }
        pace.slow_down();
        pace.slow_down();
        assert_eq!(pace.limit.as_ref().map(|limit| limit.per_second), Some(100));
        assert!(pace.room(1_000) <= 12, "a tenth of a second's worth");
        assert!(pace.room_in().is_some());
    }

    #[test]
    fn after_an_outage_it_begins_slowly_and_becomes_free_again() {
        let mut pace = Pace::default();
        pace.begin_slowly();
        assert!(pace.room(1_000) <= 4);
        let mut doublings = 0;
        while let Some(limit) = &mut pace.limit {
            limit.doubles_every = Duration::ZERO;
            pace.recover();
            doublings += 1;
        }
        assert!(doublings <= 12, "{doublings}");
    }
}
