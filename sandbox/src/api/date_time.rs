//! The written forms of times and dates that a keyword takes.

/// `15:01`, `15:01:30`, with a date in front or not, or two of them joined by `~`.
pub(super) fn is_time(value: &str) -> bool {
    let point = |text: &str| parse(text).is_some_and(|parts| parts.time);
    match value.split_once('~') {
        Some((from, to)) => point(from.trim()) && point(to.trim()),
        None => point(value),
    }
}

/// A date with a time or not, or two joined by `~`, the second perhaps only a time of the same day.
pub(super) fn is_date(value: &str) -> bool {
    let Some((from, to)) = value.split_once('~') else {
        return parse(value).is_some_and(|parts| parts.date);
    };
    let (Some(from), Some(to)) = (parse(from.trim()), parse(to.trim())) else {
        return false;
    };
    from.date && (to.date || from.time)
}

struct Parts {
    date: bool,
    time: bool,
}

fn parse(text: &str) -> Option<Parts> {
    let (date, rest) = match strip_date(text) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return date.then_some(Parts { date, time: false });
    }
    // 日 ends a date by itself; after digits a space is needed.
    let clock = rest.trim_start_matches(' ');
    let apart = !date || clock.len() < rest.len() || text[..text.len() - rest.len()].ends_with('日');
    (apart && is_clock(clock)).then_some(Parts { date, time: true })
}

fn is_clock(text: &str) -> bool {
    let fields: Vec<&str> = text.split(':').collect();
    (2..=3).contains(&fields.len())
        && fields.iter().zip([24, 60, 60]).all(|(field, below)| {
            (1..=2).contains(&field.len()) && two_digits(field).is_some_and(|number| number < below)
        })
        && fields.iter().skip(1).all(|field| field.len() == 2)
}

fn strip_date(text: &str) -> Option<&str> {
    strip_chinese_date(text).or_else(|| ['-', '/', '.'].into_iter().find_map(|mark| strip_marked_date(text, mark)))
}

/// `2019年10月1日`, `2019年10月`, `10月1日`.
fn strip_chinese_date(text: &str) -> Option<&str> {
    let after_year = text.split_once('年').filter(|(year, _)| is_year(year)).map(|(_, rest)| rest);
    let (month, rest) = after_year.unwrap_or(text).split_once('月')?;
    in_range(month, 1, 12)?;
    match rest.split_once('日') {
        Some((day, rest)) => in_range(day, 1, 31).map(|()| rest),
        None => (after_year.is_some() && !rest.starts_with(|c: char| c.is_ascii_digit())).then_some(rest),
    }
}

/// `2019-10-01`, `2019-10`, `10-01`, and the same with `/` or `.`.
fn strip_marked_date(text: &str, mark: char) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != mark).unwrap_or(text.len());
    let (date, rest) = text.split_at(end);
    let fields: Vec<&str> = date.split(mark).collect();
    let good = match fields.as_slice() {
        [year, month, day] => is_year(year) && in_range(month, 1, 12).is_some() && in_range(day, 1, 31).is_some(),
        [year, month] if is_year(year) => in_range(month, 1, 12).is_some(),
        [month, day] => in_range(month, 1, 12).is_some() && in_range(day, 1, 31).is_some(),
        _ => false,
    };
    good.then_some(rest)
}

fn is_year(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn in_range(text: &str, from: u32, to: u32) -> Option<()> {
    two_digits(text).filter(|number| (from..=to).contains(number)).map(|_| ())
}

fn two_digits(text: &str) -> Option<u32> {
    let plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{is_date, is_time};

    #[test]
    fn times() {
        for good in [
            "15:01",
            "9:05",
            "15:01:30",
            "2019年10月1日 15:01",
            "2019-10-01 15:01:02",
            "08:00~09:30",
            "2019年10月1日15:01",
        ] {
            assert!(is_time(good), "{good}");
        }
        for bad in [
            "15点",
            "24:00",
            "15:1",
            "2019年10月1日",
            "08:00～09:30",
            "2019-10-0115:01",
            "15:01Z",
            "2019-10-01T15:01:00",
            "",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
    }

    #[test]
    fn dates() {
        for good in [
            "2019年10月1日",
            "2019年10月",
            "10月1日",
            "2019-10-01",
            "2019/10/1",
            "2019.10.01",
            "10-01",
            "2019年10月1日 15:01",
            "2019年10月1日~2019年10月7日",
            "2019年10月1日 15:01~16:30",
        ] {
            assert!(is_date(good), "{good}");
        }
        for bad in
            ["2019", "2019年13月1日", "15:01", "2019年10月1日～7日", "tomorrow", "2019-10-01~15:00", "2019-02-40"]
        {
            assert!(!is_date(bad), "{bad}");
        }
    }
}
