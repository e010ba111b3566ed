//! The shapes of dates and times that WeChat takes: `2026年1月2日 11:04`, `2026-01-02`, `11:04~12:30`.

use chrono::NaiveDate;

/// A day, perhaps with a time, or a range of them.
pub(super) fn is_date(text: &str) -> bool {
    range(text, |side| date(side).is_some_and(|rest| rest.is_empty() || is_clock(rest)))
}

/// A time of day, perhaps with a day before it, or a range of them.
pub(super) fn is_time(text: &str) -> bool {
    range(text, |side| is_clock(side) || date(side).is_some_and(is_clock))
}

/// Both sides of a half-width `~`; the second may be only a time: `1月2日 10:00~12:00`.
fn range(text: &str, fits: impl Fn(&str) -> bool) -> bool {
    match text.split_once('~') {
        None => fits(text.trim()),
        Some((from, to)) => fits(from.trim()) && (fits(to.trim()) || is_clock(to.trim())),
    }
}

/// What follows a day at the beginning of the text; None when there is no such day.
fn date(text: &str) -> Option<&str> {
    let (first, rest) = number(text)?;
    let mut signs = rest.chars();
    let (year, month, day, rest) = match signs.next()? {
        '年' => {
            let (month, rest) = number(signs.as_str())?;
            let rest = rest.strip_prefix('月')?;
            match number(rest).and_then(|(day, rest)| Some((day, rest.strip_prefix('日')?))) {
                Some((day, rest)) => (first, month, day, rest),
                None => (first, month, "1", rest),
            }
        }
        '月' => {
            let (day, rest) = number(signs.as_str())?;
            (LEAP_YEAR, first, day, rest.strip_prefix('日')?)
        }
        sign @ ('-' | '/' | '.') => {
            let (second, rest) = number(signs.as_str())?;
            match rest.strip_prefix(sign) {
                Some(rest) => {
                    let (day, rest) = number(rest)?;
                    (first, second, day, rest)
                }
                None if first.len() == 4 => (first, second, "1", rest),
                None => (LEAP_YEAR, first, second, rest),
            }
        }
        _ => return None,
    };
    if year.len() != 4 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)?;
    Some(rest.trim_start())
}

/// Without a year any day may be meant.
const LEAP_YEAR: &str = "2000";

/// `11:04` or `11:04:59`, 24 hours.
fn is_clock(text: &str) -> bool {
    let mut parts = text.split(':');
    let hour = parts.next().is_some_and(|part| (1..=2).contains(&part.len()) && below(part, 24));
    let rest: Vec<_> = parts.collect();
    hour && (1..=2).contains(&rest.len()) && rest.iter().all(|part| part.len() == 2 && below(part, 60))
}

fn below(part: &str, end: u32) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u32>().is_ok_and(|number| number < end)
}

/// The digits at the beginning, and what follows.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::{is_date, is_time};

    #[test]
    fn days_are_written_in_many_ways() {
        for good in [
            "2026年1月2日",
            "2026年01月",
            "1月2日",
            "2月29日",
            "2026-01-02",
            "2026/1/2",
            "2026.1.2",
            "2026-01",
            "2026年1月2日 11:04",
            "2026年1月2日11:04",
            "2026-01-02 11:04:59",
            "2026年1月2日~2026年1月5日",
            "2026-01-02 10:00~12:00",
        ] {
            assert!(is_date(good), "{good}");
        }
        for bad in [
            "",
            "tomorrow",
            "2026年13月2日",
            "2026年2月30日",
            "26年1月2日",
            "2026-01-02T03:04:05Z",
            "1月2日～1月5日",
            "11:04",
        ] {
            assert!(!is_date(bad), "{bad}");
        }
    }

    #[test]
    fn times_have_24_hours() {
        for good in ["11:04", "0:00", "23:59:59", "2026年1月2日 11:04", "10:00~12:30", "1月2日 10:00~12:00"] {
            assert!(is_time(good), "{good}");
        }
        for bad in ["24:00", "11", "11:60", "11:4", "11:04 pm", "2026年1月2日", "10:00～12:30", "10:00~"] {
            assert!(!is_time(bad), "{bad}");
        }
    }
}
