//! Opens when WeChat fails time after time, so that a backlog does not become a storm.

use std::time::Duration;

use crate::clock::Stopwatch;

/// Failures without a success between them that open it.
const FAILURES: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) enum Breaker {
    Closed {
        failures: u32,
    },
    Open {
        since: Stopwatch,
        pause: Duration,
    },
    /// One call is on its way to find out.
    Trying {
        pause: Duration,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// How many of `wanted` calls may begin.
    pub fn room(&mut self, wanted: usize) -> usize {
        match self {
            Self::Closed { .. } => wanted,
            Self::Open { since, pause } if wanted > 0 && since.elapsed() >= *pause => {
                *self = Self::Trying { pause: *pause };
                1
            }
            _ => 0,
        }
    }

    /// How long it stays open at least; None while it is closed.
    pub fn opens_in(&self) -> Option<Duration> {
        match self {
            Self::Closed { .. } => None,
            Self::Open { since, pause } => Some(pause.saturating_sub(since.elapsed())),
            Self::Trying { pause } => Some(*pause),
        }
    }

    /// A call ended; true when that closed the breaker.
    pub fn ended(&mut self, failed: bool) -> bool {
        match self {
            Self::Closed { failures } if failed => {
                *failures += 1;
                if *failures >= FAILURES {
                    tracing::warn!(failures, "delivery.breaker_opened");
                    *self = Self::Open { since: Stopwatch::start(), pause: FIRST_PAUSE };
                }
            }
            Self::Closed { failures } => *failures = 0,
            Self::Trying { pause } if failed => {
                *self = Self::Open { since: Stopwatch::start(), pause: (*pause * 2).min(LONGEST_PAUSE) };
            }
            Self::Trying { .. } => {
                tracing::info!("delivery.breaker_closed");
                *self = Self::default();
                return true;
            }
            // A call that began before it opened.
            Self::Open { .. } => {}
        }
        false
    }

    /// The call that was to find out was not made, or nothing was there to be sent.
    pub fn not_tried(&mut self) {
        if let Self::Trying { pause } = self {
            *self = Self::Open { since: Stopwatch::start(), pause: *pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            breaker.ended(true);
        }
        breaker
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let mut breaker = Breaker::default();
        for n in 0..FAILURES * 3 {
            breaker.ended(n % FAILURES != 0);
        }
        assert_eq!(breaker.room(7), 7);
    }

    #[test]
    fn it_opens_tries_one_call_and_closes_when_that_succeeds() {
        let mut breaker = opened();
        assert_eq!(breaker.room(7), 0);
        assert!(breaker.opens_in().is_some());
        breaker = Breaker::Open { since: Stopwatch::start(), pause: Duration::ZERO };
        assert_eq!((breaker.room(7), breaker.room(7)), (1, 0), "one call finds out");
        assert!(breaker.ended(false));
        assert_eq!(breaker.room(7), 7);
    }

    #[test]
    fn a_failed_trial_doubles_the_pause() {
        let mut breaker = Breaker::Trying { pause: FIRST_PAUSE };
        assert!(!breaker.ended(true));
        assert!(breaker.opens_in().is_some_and(|pause| pause > FIRST_PAUSE));
    }

    #[test]
    fn a_trial_that_was_not_made_is_made_later() {
        let mut breaker = Breaker::Trying { pause: Duration::ZERO };
        breaker.not_tried();
        assert_eq!(breaker.room(1), 1);
    }
}
