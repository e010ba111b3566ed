//! The benchmark's time: how long something took, and when, in a form that two processes can compare.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures the time that really passes")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since 1970: the same for all processes of this machine.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
