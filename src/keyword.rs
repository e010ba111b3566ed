//! WeChat's keyword types: what a template field takes (subscribe message, 订阅消息参数值内容限制说明).
//!
//! A field's key is its type and a number: `thing1`, `date2`, `phone_number3`.

use entity::rule::Overflow;

/// The value as it may be sent: cut when it is too long and `overflow` allows it. The error says what
/// the field takes.
pub fn fit(key: &str, value: &str, overflow: Overflow) -> Result<String, String> {
    if value.is_empty() {
        return Err("is empty; WeChat wants a value for every field".into());
    }
    if value.chars().any(char::is_control) {
        return Err("holds a line break or another control character, which WeChat refuses".into());
    }
    let keyword = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let (longest, takes): (usize, &str) = match keyword {
        "thing" => (20, "at most 20 characters"),
        "short_thing" => (5, "at most 5 characters"),
        "character_string" => (32, "at most 32 letters, digits and symbols, no Chinese"),
        "number" => (32, "at most 32 digits, a decimal point allowed"),
        "letter" => (32, "at most 32 letters"),
        "symbol" => (5, "at most 5 symbols"),
        "phone_number" => (17, "at most 17 digits and symbols"),
        "car_number" => (8, "at most 8 characters"),
        "name" => (if value.is_ascii() { 20 } else { 10 }, "at most 10 Chinese characters or 20 letters"),
        "phrase" => (5, "at most 5 Chinese characters"),
        _ => (usize::MAX, ""),
    };
    let right_kind = match keyword {
        "character_string" => value.chars().all(|c| c.is_ascii_graphic() || c == ' '),
        "number" => value.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-')),
        "letter" => value.chars().all(|c| c.is_ascii_alphabetic()),
        "phone_number" => !value.chars().any(char::is_alphabetic),
        "phrase" => value.chars().all(is_chinese),
        _ => true,
    };
    if !right_kind {
        return Err(format!("takes {takes}"));
    }
    if value.chars().count() <= longest {
        return Ok(value.to_owned());
    }
    // Only free text survives a cut; a cut number or phone number would say something else.
    match (keyword, overflow) {
        ("thing" | "short_thing" | "name", Overflow::Truncate) => {
            Ok(value.chars().take(longest - 1).chain(['…']).collect())
        }
        _ => Err(format!("is {} characters long; it takes {takes}", value.chars().count())),
    }
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("thing1", "红富士苹果", true)]
    #[case("character_string1", "NO.2026-42", true)]
    #[case("character_string1", "订单42", false)]
    #[case("phrase3", "已发货", true)]
    #[case("phrase3", "shipped", false)]
    #[case("phrase3", "已经发货了吗", false)]
    #[case("number2", "12.5", true)]
    #[case("number2", "twelve", false)]
    #[case("time3", "2026年1月2日 11:04", true)]
    #[case("thing1", "", false)]
    #[case("thing1", "a\nb", false)]
    fn values_fit_their_keyword_type(#[case] key: &str, #[case] value: &str, #[case] fits: bool) {
        assert_eq!(fit(key, value, Overflow::Refuse).is_ok(), fits, "{key} {value}");
    }

    proptest! {
        #[test]
        fn a_truncated_text_always_fits(value in "[^\\p{C}]{1,60}") {
            let cut = fit("thing1", &value, Overflow::Truncate).expect("cut");
            prop_assert!(cut.chars().count() <= 20);
            prop_assert_eq!(fit("thing1", &cut, Overflow::Refuse), Ok(cut.clone()));
            prop_assert_eq!(fit("thing1", &value, Overflow::Refuse).is_ok(), value.chars().count() <= 20);
        }
    }
}
