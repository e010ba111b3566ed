//! The rules of each keyword type (订阅消息参数值内容限制说明).

use super::date_time;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    Empty,
    Invalid,
}

/// `keyword` is a type and a number: `thing1`, `phone_number3`.
pub(super) fn check(keyword: &str, value: &str, listed: Option<&[String]>) -> Result<(), Flaw> {
    if value.trim().is_empty() {
        return Err(Flaw::Empty);
    }
    if value.chars().any(char::is_control) {
        return Err(Flaw::Invalid);
    }
    let length = value.chars().count();
    let good = match kind(keyword) {
        "thing" | "const" => length <= 20,
        "short_thing" => length <= 5,
        "number" => length <= 32 && is_number(value),
        "letter" => length <= 32 && value.chars().all(|c| c.is_ascii_alphabetic()),
        "symbol" => length <= 5 && value.chars().all(is_symbol),
        "character_string" => length <= 32 && value.chars().all(|c| c.is_ascii_graphic() || c == ' '),
        "time" => date_time::is_time(value),
        "date" => date_time::is_date(value),
        "amount" => is_amount(value),
        "phone_number" => length <= 17 && is_phone_number(value),
        "car_number" => length <= 8 && is_car_number(value),
        "name" => is_name(value, length),
        "phrase" => length <= 5 && value.chars().all(is_chinese),
        "enum_string" | "enum" => listed.is_none_or(|values| values.iter().any(|one| one == value)),
        // Free keywords of older templates (`keyword1`, `first`) have no published rule.
        _ => length <= 200,
    };
    if good { Ok(()) } else { Err(Flaw::Invalid) }
}

fn kind(keyword: &str) -> &str {
    keyword.trim_end_matches(|digit: char| digit.is_ascii_digit())
}

const TYPES: &[&str] = &[
    "thing",
    "const",
    "short_thing",
    "number",
    "letter",
    "symbol",
    "character_string",
    "time",
    "date",
    "amount",
    "phone_number",
    "car_number",
    "name",
    "phrase",
    "enum_string",
    "enum",
];

/// Whether the keyword's name tells its rule.
pub(super) fn is_typed(keyword: &str) -> bool {
    TYPES.contains(&kind(keyword))
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{323af}' | '\u{f900}'..='\u{faff}' | '〇')
}

fn is_symbol(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace()
}

fn is_number(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// One currency sign, up to ten digits, decimals, perhaps 元.
fn is_amount(value: &str) -> bool {
    let value = value.strip_suffix('元').unwrap_or(value);
    let value = value.strip_prefix(is_currency_sign).unwrap_or(value);
    let whole = value.split_once('.').map_or(value, |(whole, _)| whole);
    is_number(value) && whole.len() <= 10 && value.len() <= 21
}

fn is_currency_sign(c: char) -> bool {
    matches!(c, '¥' | '￥' | '$' | '＄' | '€' | '£' | '₩' | '฿' | '₹' | '₽' | '₫' | '₱' | '¢')
}

fn is_phone_number(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_digit())
        && value.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_punctuation() || byte == b' ')
}

/// First and last may be Chinese, the rest letters and digits.
fn is_car_number(value: &str) -> bool {
    let last = value.chars().count() - 1;
    value.chars().enumerate().all(|(at, c)| c.is_ascii_alphanumeric() || ((at == 0 || at == last) && is_chinese(c)))
}

/// Ten with any Chinese in it, else twenty letters or symbols; digits never.
fn is_name(value: &str, length: usize) -> bool {
    let most = if value.chars().any(is_chinese) { 10 } else { 20 };
    length <= most && !value.chars().any(char::is_numeric)
}

#[cfg(test)]
mod tests {
    use super::{Flaw, check};

    #[track_caller]
    fn good(keyword: &str, values: &[&str]) {
        for value in values {
            assert_eq!(check(keyword, value, None), Ok(()), "{keyword} {value}");
        }
    }

    #[track_caller]
    fn bad(keyword: &str, values: &[&str]) {
        for value in values {
            assert_eq!(check(keyword, value, None), Err(Flaw::Invalid), "{keyword} {value}");
        }
    }

    #[test]
    fn texts() {
        good("thing1", &["一二三四五六七八九十一二三四五六七八九十", "mixed 混 12!"]);
        bad("thing1", &["一二三四五六七八九十一二三四五六七八九十一", "two\nlines", "tab\t"]);
        good("letter1", &["abcXYZ"]);
        bad("letter1", &["abc1", "中"]);
        good("symbol1", &["+-*/!", "～"]);
        bad("symbol1", &["a", "+-*/!?"]);
        good("character_string1", &["AB-12 #3", "12345678901234567890123456789012"]);
        bad("character_string1", &["订单1", "123456789012345678901234567890123"]);
        good("phrase1", &["已发货"]);
        bad("phrase1", &["发货ok", "一二三四五六"]);
        assert_eq!(check("thing1", " ", None), Err(Flaw::Empty));
    }

    #[test]
    fn numbers_and_names() {
        good("number1", &["1", "12.50"]);
        bad("number1", &["1.", ".5", "1.2.3", "-1", "1,000"]);
        good("amount1", &["12.50", "¥12.50", "￥1234567890.12元", "8元"]);
        bad("amount1", &["12345678901", "¥¥1", "1,000", "元"]);
        good("phone_number1", &["+86-766-66888866", "0766-66888866"]);
        bad("phone_number1", &["电话123", "123456789012345678", "+-"]);
        good("car_number1", &["粤A8Z888挂", "粤A12345"]);
        bad("car_number1", &["A粤12345", "粤A1234567"]);
        good("name1", &["张三", "John O'Neill"]);
        bad("name1", &["张三李四王五赵六孙七周", "Agent 7"]);
    }

    #[test]
    fn listed_values() {
        let listed = ["已付款".to_owned()];
        assert_eq!(check("enum_string2", "已付款", Some(&listed)), Ok(()));
        assert_eq!(check("enum_string2", "未付款", Some(&listed)), Err(Flaw::Invalid));
    }
}
