//! Filters that write what WeChat takes: `{{ data.paid_at | date("cn") }}`, `{{ data.total | money }}`,
//! `{{ data.item | truncate(20) }}`.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime};
use minijinja::{Environment, Error, State, Value, value::ValueKind};

use super::text::{copied, scalar, shown, wrong};
use crate::keyword;

/// China has one time of day.
const EAST: i32 = 8 * 3600;
/// Larger numbers than this are milliseconds: as seconds they would be past the year 5000.
const MOST_SECONDS: u64 = 100_000_000_000;

pub(super) fn add_to(env: &mut Environment<'_>) {
    env.add_filter("date", date);
    env.add_filter("money", money);
    env.add_filter("truncate", truncate);
}

/// What a moment is read from.
enum Moment {
    Day(NaiveDate),
    Time(DateTime<FixedOffset>),
}

/// A moment in China: RFC 3339, a day (`2026-01-02`), or seconds or milliseconds since 1970. Styles: `cn`
/// (2026年1月2日 11:04; a mere day without the time), `cn_date`, `date` (2026-01-02), `time` (11:04), `datetime`.
fn date(value: Value, style: Option<Value>) -> Result<String, Error> {
    let moment = moment(&value)?;
    let style = style.as_ref().map_or_else(|| "cn".to_owned(), shown);
    let pattern = match (style.as_str(), &moment) {
        ("cn", Moment::Time(_)) => "%Y年%-m月%-d日 %H:%M",
        ("cn" | "cn_date", _) => "%Y年%-m月%-d日",
        ("date", _) => "%Y-%m-%d",
        ("time", Moment::Time(_)) => "%H:%M",
        ("datetime", Moment::Time(_)) => "%Y-%m-%d %H:%M:%S",
        ("time" | "datetime", Moment::Day(day)) => return Err(wrong(format!("{day} has no time of day"))),
        (other, _) => {
            return Err(wrong(format!("{other} is no style of date; there are cn, cn_date, date, time, datetime")));
        }
    };
    Ok(match moment {
        Moment::Day(day) => day.format(pattern).to_string(),
        Moment::Time(time) => time.format(pattern).to_string(),
    })
}

fn moment(value: &Value) -> Result<Moment, Error> {
    let east = FixedOffset::east_opt(EAST).ok_or_else(|| wrong("no such time zone"))?;
    let unreadable =
        || wrong(format!("{} is no moment; date takes RFC 3339, 2026-01-02, or seconds since 1970", shown(value)));
    scalar(value)?;
    if value.kind() == ValueKind::Number {
        let number = i64::try_from(value.clone()).map_err(|_| unreadable())?;
        let millis = if number.unsigned_abs() < MOST_SECONDS { number * 1000 } else { number };
        let time = DateTime::from_timestamp_millis(millis).ok_or_else(unreadable)?;
        return Ok(Moment::Time(time.with_timezone(&east)));
    }
    let text = value.as_str().ok_or_else(unreadable)?.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::Time(time.with_timezone(&east)));
    }
    // Without a zone it is already China's.
    for pattern in ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"] {
        if let Some(time) =
            NaiveDateTime::parse_from_str(text, pattern).ok().and_then(|t| t.and_local_timezone(east).single())
        {
            return Ok(Moment::Time(time));
        }
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").map(Moment::Day).map_err(|_| unreadable())
}

/// `¥12.50`, from yuan or, with `money("fen")`, from fen.
fn money(value: Value, unit: Option<Value>) -> Result<String, Error> {
    let text = scalar(&value)?;
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        let shown = shown(&value);
        return Err(wrong(format!("{shown} is no amount; money takes a number that is not negative, such as 12.5")));
    }
    let decimals = match unit.as_ref().map(shown).as_deref() {
        None | Some("yuan") => 0,
        Some("fen") if fraction.is_empty() => 2,
        Some("fen") => return Err(wrong(format!("{} is no whole number of fen", shown(&value)))),
        Some(other) => return Err(wrong(format!("{other} is no unit of money; there are yuan and fen"))),
    };
    // In digits: a float would lose the last ones of a large amount.
    let round_up = fraction.as_bytes().get(2).is_some_and(|digit| *digit >= b'5');
    let cents: Option<u128> = format!("{whole}{:0<2}", &fraction[..fraction.len().min(2)]).parse().ok();
    let cents = cents.and_then(|cents| cents.checked_add(round_up.into()));
    let cents = cents.ok_or_else(|| wrong(format!("{} is too large an amount", shown(&value))))?;
    let cents = if decimals == 2 { cents / 100 } else { cents };
    Ok(format!("¥{}.{:02}", cents / 100, cents % 100))
}

/// At most so many characters, the last one `…` when something is cut.
fn truncate(state: &mut State<'_, '_>, value: Value, longest: usize) -> Result<String, Error> {
    copied(state, &value, |text| keyword::cut(text, longest))
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};
    use rstest::rstest;

    fn render(expression: &str, value: impl Into<minijinja::Value>) -> Result<String, String> {
        let mut env = Environment::new();
        super::add_to(&mut env);
        let source = format!("{{{{ {expression} }}}}");
        env.render_str(&source, context! { v => value.into() }).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case("v|date", "2026-01-02T03:04:05Z", "2026年1月2日 11:04")]
    #[case("v|date('cn')", "2026-01-02", "2026年1月2日")]
    #[case("v|date('cn_date')", "2026-01-02T20:00:00Z", "2026年1月3日")]
    #[case("v|date('date')", "2026-01-02 23:00", "2026-01-02")]
    #[case("v|date('time')", "2026-01-02T03:04:05+00:00", "11:04")]
    #[case("v|date('datetime')", "2026-01-02T03:04:05Z", "2026-01-02 11:04:05")]
    #[case("v|money", "12.5", "¥12.50")]
    #[case("v|money", "0.005", "¥0.01")]
    #[case("v|money", "1234567890.12", "¥1234567890.12")]
    #[case("v|money('fen')", "1250", "¥12.50")]
    #[case("v|truncate(4)", "红富士苹果", "红富士…")]
    #[case("v|truncate(5)", "红富士苹果", "红富士苹果")]
    fn values_are_written_as_wechat_takes_them(#[case] expression: &str, #[case] value: &str, #[case] text: &str) {
        assert_eq!(render(expression, value), Ok(text.to_owned()));
    }

    #[test]
    fn numbers_are_moments_and_amounts() {
        assert_eq!(render("v|date", 1_767_323_045), Ok("2026年1月2日 11:04".into()));
        assert_eq!(render("v|date", 1_767_323_045_000_i64), Ok("2026年1月2日 11:04".into()));
        assert_eq!(render("v|money", 99), Ok("¥99.00".into()));
        assert_eq!(render("v|money", 99.9), Ok("¥99.90".into()));
    }

    #[rstest]
    #[case("v|date", "tomorrow", "RFC 3339")]
    #[case("v|date('us')", "2026-01-02", "cn_date")]
    #[case("v|date('time')", "2026-01-02", "no time of day")]
    #[case("v|money", "-1", "not negative")]
    #[case("v|money", "free", "not negative")]
    #[case("v|money", "3402823669209384634633746074317682114.555", "too large")]
    #[case("v|money('pence')", "1", "fen")]
    #[case("missing|date", "", "undefined")]
    #[case("missing|money", "", "undefined")]
    fn what_cannot_be_written_is_named(#[case] expression: &str, #[case] value: &str, #[case] says: &str) {
        let problem = render(expression, value).expect_err("refused");
        assert!(problem.contains(says), "{problem}");
    }
}
