//! Instants as the database keeps them.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z, stored as a 64-bit integer: the same order, size and
/// precision on every database. The current time comes from the clock only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, DeriveValueType, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time from `earlier` to this instant, zero when it lies after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
