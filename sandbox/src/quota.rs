//! Day and minute counters of one app (openApi管理: clearQuota, getApiQuota).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::shanghai_day;

/// Limits of one path; what is missing is WeChat's own number.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limit {
    pub daily_limit: Option<u64>,
    pub per_minute: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct QuotaBook {
    paths: BTreeMap<String, Counter>,
    /// The month (in days/30) and how often `clear_quota` was used in it.
    clears: (i64, u32),
    single_clears: (i64, u32),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Counter {
    day: i64,
    used: u64,
    minute: i64,
    in_minute: u64,
}

/// Which limit a call ran into.
pub(crate) enum Exhausted {
    Day,
    Minute,
}

const CLEARS_A_MONTH: u32 = 10;
const SINGLE_CLEARS_A_MONTH: u32 = 50;

fn usual_daily_limit(path: &str) -> u64 {
    match path {
        "/cgi-bin/token" => 2_000,
        "/cgi-bin/stable_token" => 500_000,
        "/cgi-bin/message/subscribe/send" => 10_000_000,
        "/cgi-bin/message/template/send" => 100_000,
        "/cgi-bin/user/get" => 500,
        "/cgi-bin/user/info" | "/cgi-bin/user/info/batchget" => 5_000_000,
        _ => 1_000_000,
    }
}

fn usual_minute_limit(path: &str) -> Option<u64> {
    match path {
        "/cgi-bin/stable_token" => Some(10_000),
        "/wxa/resetusersessionkey" => Some(60_000),
        _ => None,
    }
}

fn daily_limit(path: &str, limit: Option<&Limit>) -> u64 {
    limit.and_then(|limit| limit.daily_limit).unwrap_or_else(|| usual_daily_limit(path))
}

fn minute_limit(path: &str, limit: Option<&Limit>) -> Option<u64> {
    limit.and_then(|limit| limit.per_minute).or_else(|| usual_minute_limit(path))
}

impl QuotaBook {
    /// Counts one call, unless a limit is reached.
    pub(crate) fn spend(&mut self, path: &str, limit: Option<&Limit>, now: i64) -> Result<(), Exhausted> {
        let counter = self.counter(path, now);
        if counter.used >= daily_limit(path, limit) {
            return Err(Exhausted::Day);
        }
        if minute_limit(path, limit).is_some_and(|most| counter.in_minute >= most) {
            return Err(Exhausted::Minute);
        }
        counter.used += 1;
        counter.in_minute += 1;
        Ok(())
    }

    /// The answer of `quota/get`.
    pub(crate) fn describe(&mut self, path: &str, limit: Option<&Limit>, now: i64) -> Value {
        let counter = self.counter(path, now).clone();
        let daily = daily_limit(path, limit);
        let mut answer = json!({
            "quota": { "daily_limit": daily, "used": counter.used, "remain": daily.saturating_sub(counter.used) },
        });
        if let Some(most) = minute_limit(path, limit) {
            answer["rate_limit"] = json!({ "call_count": most, "refresh_second": 60 });
        }
        answer
    }

    /// `clear_quota`: all day counters, ten times a month. False when used up.
    pub(crate) fn clear_all(&mut self, now: i64) -> bool {
        let allowed = count_in_month(&mut self.clears, CLEARS_A_MONTH, now);
        if allowed {
            self.paths.clear();
        }
        allowed
    }

    /// openapi/quota/clear: one path, fifty times a month. False when used up.
    pub(crate) fn clear_one(&mut self, path: &str, now: i64) -> bool {
        let allowed = count_in_month(&mut self.single_clears, SINGLE_CLEARS_A_MONTH, now);
        if allowed {
            self.paths.remove(path);
        }
        allowed
    }

    fn counter(&mut self, path: &str, now: i64) -> &mut Counter {
        let counter = self.paths.entry(path.to_owned()).or_default();
        let (day, minute) = (shanghai_day(now), now.div_euclid(60));
        if counter.day != day {
            (counter.day, counter.used) = (day, 0);
        }
        if counter.minute != minute {
            (counter.minute, counter.in_minute) = (minute, 0);
        }
        counter
    }
}

fn count_in_month(counter: &mut (i64, u32), most: u32, now: i64) -> bool {
    let month = shanghai_day(now).div_euclid(30);
    if counter.0 != month {
        *counter = (month, 0);
    }
    let allowed = counter.1 < most;
    counter.1 += u32::from(allowed);
    allowed
}
