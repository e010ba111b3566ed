//! Why the token endpoint says no, how long it is left alone, and the way out. Pure.

use std::{fmt, net::IpAddr, time::Duration};

use entity::Timestamp;

use super::budget::Denied;
use crate::wechat::{Refusal, Verdict};

/// A token that is refused and cannot be replaced now is tried again so much later: WeChat renews it by
/// itself, or somebody else forces a new one.
const SPENT_REST: Duration = Duration::from_mins(5);
const TOO_SOON_REST: Duration = Duration::from_secs(5);

/// The token endpoint is left alone until a time; who needs a token is told the cause at once.
#[derive(Clone, Debug)]
pub struct Breaker {
    pub refusal: Refusal,
    pub until: Timestamp,
    /// Why no other token could be forced, where it is the token that is refused.
    denied: Option<Denied>,
}

impl Breaker {
    /// Opened by a refusal that the next call would get again; None for a passing one.
    pub(super) fn opened_by(refusal: &Refusal, now: Timestamp) -> Option<Self> {
        let rest = rest(refusal)?;
        Some(Self { refusal: refusal.clone(), until: now + rest, denied: None })
    }

    /// Opened by a token that is refused while the budget allows no forced refresh.
    pub(super) fn without_budget(refusal: &Refusal, denied: Denied, now: Timestamp) -> Self {
        let rest = match denied {
            Denied::Spent => SPENT_REST,
            Denied::TooSoon => TOO_SOON_REST,
        };
        Self { refusal: refusal.clone(), until: now + rest, denied: Some(denied) }
    }

    /// The address WeChat saw the call come from, where it names it.
    pub fn caller_ip(&self) -> Option<IpAddr> {
        caller_ip(&self.refusal.errmsg)
    }

    /// What the operator does about it.
    pub fn cure(&self) -> String {
        match self.denied {
            Some(Denied::Spent) => "today's 20 forced refreshes are used up; find out what else makes tokens of this \
                                    app, and let it ask `stable_token` without force_refresh"
                .into(),
            Some(Denied::TooSoon) => "a new token was forced less than 30 s ago; wait a moment".into(),
            None => cure(&self.refusal),
        }
    }
}

/// What the operator does about a refusal that names the account's or the server's own fault.
fn cure(refusal: &Refusal) -> String {
    let ip = caller_ip(&refusal.errmsg).map_or_else(|| "this server's address".to_owned(), |ip| ip.to_string());
    match refusal.errcode {
        40001 | 40125 => "copy the AppSecret from WeChat's console into `secret`, then send SIGHUP".into(),
        40013 => "correct `app_id`; letter case matters".into(),
        40164 => format!("add {ip} to the app's IP white list in WeChat's console"),
        40243 => "unfreeze the AppSecret in WeChat's console".into(),
        89501..=89505 => "an administrator of the app must confirm the request in WeChat".into(),
        89506 | 89507 => format!("ask the administrator why, and add {ip} to the app's IP white list"),
        50007 => "see WeChat's console for why the account is frozen".into(),
        45011 => "wait a minute".into(),
        45009 => "wait for the next day in China, or clear the quota in WeChat's console".into(),
        _ => "see WeChat's console".into(),
    }
}

impl fmt::Display for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&told(&self.refusal, &self.cure()))
    }
}

/// A refusal in both languages and the way out.
pub fn explain(refusal: &Refusal) -> String {
    told(refusal, &cure(refusal))
}

fn told(refusal: &Refusal, cure: &str) -> String {
    let entry = refusal.entry();
    let ip = caller_ip(&refusal.errmsg).map(|ip| format!(": {ip}")).unwrap_or_default();
    format!("{} {}{ip} ({}); {cure}", refusal.errcode, entry.en, entry.zh)
}

fn rest(refusal: &Refusal) -> Option<Duration> {
    let minutes = match refusal.errcode {
        89506 => 24 * 60,
        89507 => 60,
        45009 => 15,
        45011 => 1,
        _ if refusal.verdict() == Verdict::Operator => 5,
        _ => return None,
    };
    Some(Duration::from_mins(minutes))
}

/// `invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist`
fn caller_ip(errmsg: &str) -> Option<IpAddr> {
    errmsg.split([' ', ',']).find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(errcode: i64, errmsg: &str) -> Option<Breaker> {
        Breaker::opened_by(&Refusal::new(errcode, errmsg).at("/cgi-bin/stable_token"), Timestamp(0))
    }

    #[test]
    fn the_ip_is_taken_out_of_wechats_words() {
        let text = "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: 6201abcd-12345678-0badcafe";
        let breaker = opened(40164, text).expect("open");
        assert_eq!(breaker.caller_ip(), Some(IpAddr::from([1, 2, 3, 4])));
        assert!(breaker.to_string().contains("add 1.2.3.4 to the app's IP white list"), "{breaker}");
    }

    #[test]
    fn each_cause_has_its_waiting_time() {
        let minutes = |errcode| opened(errcode, "no").map(|breaker| breaker.until.0 / 60_000);
        assert_eq!(minutes(40001), Some(5), "at the token endpoint the secret is wrong");
        assert_eq!(minutes(89503), Some(5));
        assert_eq!(minutes(89506), Some(24 * 60));
        assert_eq!(minutes(89507), Some(60));
        assert_eq!(minutes(45011), Some(1));
        assert_eq!(minutes(-1), None, "a busy WeChat is asked again");
    }
}
