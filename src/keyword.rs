//! WeChat's keyword types: what a template field takes (subscribe message, 订阅消息参数值内容限制说明).
//!
//! A field's key is its type and a number: `thing1`, `date2`, `phone_number3`.

mod date_time;

use entity::rule::Overflow;

/// The value as it may be sent: cut when it is too long and `overflow` allows it. `listed` are the only values
/// of an `enum_string`, as far as they are known. The error says what the field takes.
pub fn fit(key: &str, listed: &[String], value: &str, overflow: Overflow) -> Result<String, String> {
    if value.is_empty() {
        return Err("is empty; WeChat wants a value for every field".into());
    }
    if value.chars().any(char::is_control) {
        return Err("holds a line break or another control character, which WeChat refuses".into());
    }
    let keyword = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let (longest, takes) = limits(keyword, value);
    if matches!(keyword, "enum" | "enum_string") && !listed.is_empty() && !listed.iter().any(|one| one == value) {
        return Err(format!("takes only one of: {}", listed.join(", ")));
    }
    if !is_of_kind(keyword, value) {
        return Err(format!("takes {takes}"));
    }
    if value.chars().count() <= longest {
        return Ok(value.to_owned());
    }
    // Only free text survives a cut; a cut number or phone number would say something else.
    match (keyword, overflow) {
        ("thing" | "short_thing" | "const" | "name", Overflow::Truncate) => Ok(cut(value, longest)),
        _ => Err(format!("is {} characters long; it takes {takes}", value.chars().count())),
    }
}

/// At most so many characters, the last one a sign that something is missing.
pub fn cut(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest.saturating_sub(1)).chain(['…']).take(longest).collect()
}

/// The most characters, and in words what is taken.
fn limits(keyword: &str, value: &str) -> (usize, &'static str) {
    match keyword {
        "thing" | "const" => (20, "at most 20 characters"),
        "short_thing" => (5, "at most 5 characters"),
        "character_string" => (32, "at most 32 letters, digits and symbols, no Chinese"),
        "number" => (32, "at most 32 digits, a decimal point allowed"),
        "letter" => (32, "at most 32 letters"),
        "symbol" => (5, "at most 5 symbols"),
        "phone_number" => (17, "at most 17 digits and symbols"),
        "car_number" => (8, "at most 8 letters and digits, the first and the last may be Chinese"),
        "name" => {
            let longest = if value.chars().any(is_chinese) { 10 } else { 20 };
            (longest, "at most 10 Chinese characters or 20 letters and symbols, no digits")
        }
        "phrase" => (5, "at most 5 Chinese characters"),
        "amount" => {
            (usize::MAX, "one currency sign and up to 10 digits with decimals, such as ¥12.50; |money writes it")
        }
        "date" => (usize::MAX, "a day such as 2026年1月2日 or 2026-01-02, a time may follow; |date(\"cn\") writes it"),
        "time" => {
            (usize::MAX, "a time of 24 hours such as 11:04, a day may precede; |date(\"cn\") writes it, ranges use ~")
        }
        // Free keywords of older templates (`keyword1`, `first`) have no published rule.
        _ => (200, "at most 200 characters"),
    }
}

fn is_of_kind(keyword: &str, value: &str) -> bool {
    match keyword {
        "character_string" => value.chars().all(|c| c.is_ascii_graphic() || c == ' '),
        "number" => is_number(value),
        "letter" => value.chars().all(|c| c.is_ascii_alphabetic()),
        "symbol" => value.chars().all(|c| !c.is_alphanumeric() && !c.is_whitespace()),
        "phone_number" => {
            value.bytes().any(|byte| byte.is_ascii_digit())
                && value.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_punctuation() || byte == b' ')
        }
        "car_number" => is_car_number(value),
        "name" => !value.chars().any(char::is_numeric),
        "phrase" => value.chars().all(is_chinese),
        "amount" => is_amount(value),
        "date" => date_time::is_date(value),
        "time" => date_time::is_time(value),
        _ => true,
    }
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}' | '〇')
}

fn is_number(value: &str) -> bool {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_amount(value: &str) -> bool {
    let value = value.strip_suffix('元').unwrap_or(value);
    let is_sign = |c: char| "¥￥$＄€£₩฿₹₽₫₱¢".contains(c);
    let value = value.strip_prefix(is_sign).unwrap_or(value);
    let whole = value.split_once('.').map_or(value, |(whole, _)| whole);
    is_number(value) && whole.len() <= 10 && value.len() <= 21
}

fn is_car_number(value: &str) -> bool {
    let last = value.chars().count().saturating_sub(1);
    value.chars().enumerate().all(|(at, c)| c.is_ascii_alphanumeric() || ((at == 0 || at == last) && is_chinese(c)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("thing1", "红富士苹果", true)]
    #[case("thing1", "", false)]
    #[case("thing1", "a\nb", false)]
    #[case("character_string1", "NO.2026-42", true)]
    #[case("character_string1", "订单42", false)]
    #[case("phrase3", "已发货", true)]
    #[case("phrase3", "shipped", false)]
    #[case("phrase3", "已经发货了吗", false)]
    #[case("number2", "12.5", true)]
    #[case("number2", "twelve", false)]
    #[case("number2", "-1", false)]
    #[case("letter1", "abc", true)]
    #[case("letter1", "abc1", false)]
    #[case("symbol1", "+-*", true)]
    #[case("symbol1", "a", false)]
    #[case("amount1", "¥12.50", true)]
    #[case("amount1", "￥1234567890.12元", true)]
    #[case("amount1", "12345678901", false)]
    #[case("amount1", "1,000", false)]
    #[case("phone_number1", "+86-0766-66888866", true)]
    #[case("phone_number1", "电话123", false)]
    #[case("car_number1", "粤A8Z888挂", true)]
    #[case("car_number1", "A粤12345", false)]
    #[case("name1", "张三", true)]
    #[case("name1", "John O'Neill", true)]
    #[case("name1", "Agent 7", false)]
    #[case("time3", "2026年1月2日 11:04", true)]
    #[case("time3", "noon", false)]
    #[case("date3", "2026-01-02", true)]
    #[case("date3", "2026-01-02T03:04:05Z", false)]
    #[case("enum_string1", "已付款", true)]
    #[case("enum_string1", "付款", false)]
    fn values_fit_their_keyword_type(#[case] key: &str, #[case] value: &str, #[case] fits: bool) {
        let listed = ["已付款".to_owned(), "未付款".to_owned()];
        assert_eq!(fit(key, &listed, value, Overflow::Refuse).is_ok(), fits, "{key} {value}");
    }

    proptest! {
        #[test]
        fn a_truncated_text_always_fits(value in "[^\\p{C}]{1,60}") {
            let cut = fit("thing1", &[], &value, Overflow::Truncate).expect("cut");
            prop_assert!(cut.chars().count() <= 20);
            prop_assert_eq!(fit("thing1", &[], &cut, Overflow::Refuse), Ok(cut.clone()));
            prop_assert_eq!(fit("thing1", &[], &value, Overflow::Refuse).is_ok(), value.chars().count() <= 20);
        }
    }
}
