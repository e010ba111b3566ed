//! The simulator's own clock: the real time plus an offset that tests move by hand.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Clock {
    offset_ms: AtomicI64,
    moved: Notify,
}

/// WeChat counts its days in China.
const SHANGHAI_SECONDS: i64 = 8 * 3600;

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the simulator has a clock of its own, and this is it")]
    pub(crate) fn now_ms(&self) -> i64 {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        i64::try_from(real).unwrap_or(i64::MAX).saturating_add(self.offset_ms())
    }

    pub(crate) fn now(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    pub(crate) fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_offset_ms(&self, offset: i64) {
        self.offset_ms.store(offset, Ordering::Relaxed);
        self.moved.notify_waiters();
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.set_offset_ms(self.offset_ms().saturating_add(seconds.saturating_mul(1000)));
    }

    /// Waits on this clock, so that moving it also brings what was due meanwhile.
    pub(crate) async fn sleep(&self, duration_ms: u64) {
        let due = self.now_ms().saturating_add(i64::try_from(duration_ms).unwrap_or(i64::MAX));
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            // Registered before the look at the clock: a move in between must not be missed.
            moved.as_mut().enable();
            let Ok(left) = u64::try_from(due - self.now_ms()) else {
                return;
            };
            if left == 0 {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(left)) => {}
                () = moved => {}
            }
        }
    }
}

/// The number of the day in China, the unit of day quotas.
pub(crate) fn shanghai_day(now: i64) -> i64 {
    (now + SHANGHAI_SECONDS).div_euclid(86_400)
}
