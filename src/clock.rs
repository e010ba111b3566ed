//! The only clock. Everything else takes time as an argument, SQL included, so that a test can move
//! it by hand and a node whose own clock is wrong still agrees with the others about leases.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use entity::Timestamp;

/// A cheap handle; clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    /// The machine's clock plus its distance to the database's, in milliseconds.
    System { offset: AtomicI64 },
    /// Stands still until it is moved.
    Hand(AtomicI64),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Source::System { offset: AtomicI64::new(0) }))
    }

    /// A clock for tests that shows `start` until [`Clock::advance`] moves it.
    pub fn hand(start: Timestamp) -> Self {
        Self(Arc::new(Source::Hand(AtomicI64::new(start.0))))
    }

    /// The current time; on PostgreSQL as the database's clock shows it.
    pub fn now(&self) -> Timestamp {
        match &*self.0 {
            Source::System { offset } => Timestamp(machine_now() + offset.load(Ordering::Relaxed)),
            Source::Hand(millis) => Timestamp(millis.load(Ordering::SeqCst)),
        }
    }

    /// Takes over what the database's clock showed just now. A hand-moved clock ignores it.
    pub fn agree_with(&self, database_now: Timestamp) {
        if let Source::System { offset } = &*self.0 {
            offset.store(database_now.0 - machine_now(), Ordering::Relaxed);
        }
    }

    /// Moves a hand-moved clock; the machine's clock is left alone.
    pub fn advance(&self, span: Duration) {
        if let Source::Hand(millis) = &*self.0 {
            millis.fetch_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

/// Measures how long something took; not affected by changes of the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks for the time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Whole milliseconds, for logs and rows.
    pub fn millis(&self) -> i32 {
        i32::try_from(self.elapsed().as_millis()).unwrap_or(i32::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks for the time")]
fn machine_now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// The time in RFC 3339, UTC, with milliseconds: `2026-01-02T03:04:05.678Z`.
pub fn rfc3339(at: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(at.0)
        .unwrap_or_default()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Reads RFC 3339 with any offset; None when the text is not such a time.
pub fn from_rfc3339(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| Timestamp(time.timestamp_millis()))
}

/// Reads the `Date` of an HTTP answer: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn from_http_date(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|time| Timestamp(time.timestamp_millis()))
}

const SHANGHAI_AHEAD_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 24 * 3_600_000;

/// The number of the day in China, where WeChat counts its days.
pub fn shanghai_day(at: Timestamp) -> i64 {
    at.0.saturating_add(SHANGHAI_AHEAD_MS).div_euclid(DAY_MS)
}

/// How long this day of China still lasts.
pub fn until_shanghai_midnight(at: Timestamp) -> Duration {
    let passed = at.0.saturating_add(SHANGHAI_AHEAD_MS).rem_euclid(DAY_MS);
    Duration::from_millis(u64::try_from(DAY_MS - passed).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_moved_clock_stands_still_until_moved() {
        let clock = Clock::hand(Timestamp(1_000));
        assert_eq!(clock.now(), Timestamp(1_000));
        clock.advance(Duration::from_secs(2));
        clock.agree_with(Timestamp(0));
        assert_eq!(clock.now(), Timestamp(3_000));
    }

    #[test]
    fn the_machines_clock_agrees_with_the_database() {
        let clock = Clock::system();
        let ahead = clock.now() + Duration::from_hours(1);
        clock.agree_with(ahead);
        assert!(clock.now() >= ahead);
    }

    #[test]
    fn times_are_written_in_utc_and_read_with_any_offset() {
        assert_eq!(rfc3339(Timestamp(1_767_323_045_678)), "2026-01-02T03:04:05.678Z");
        assert_eq!(from_rfc3339("2026-01-02T11:04:05.678+08:00"), Some(Timestamp(1_767_323_045_678)));
        assert_eq!(from_rfc3339("yesterday"), None);
        assert_eq!(from_http_date("Fri, 02 Jan 2026 03:04:05 GMT"), Some(Timestamp(1_767_323_045_000)));
    }

    #[test]
    fn wechats_day_begins_at_midnight_in_shanghai() {
        let at = |text| from_rfc3339(text).expect("a time");
        let (before, after) = (at("2026-01-02T15:59:59Z"), at("2026-01-02T16:00:00Z"));
        assert_eq!(shanghai_day(before) + 1, shanghai_day(after));
        assert_eq!(until_shanghai_midnight(before), Duration::from_secs(1));
        assert_eq!(until_shanghai_midnight(after), Duration::from_hours(24));
    }
}
