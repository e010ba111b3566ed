//! Reading an answer: success has `errcode` 0 or none at all, and the content type says nothing
//! (reference: 响应, common response rules).

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_json::Value;

use super::{Error, Refusal};

/// WeChat asks for room for tokens of 512 characters or more; all else is far shorter.
const LONGEST_TEXT: usize = 4096;

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    errcode: Option<Value>,
    #[serde(default)]
    errmsg: Option<String>,
}

/// The expected fields, or what WeChat said instead.
pub(super) fn parse<T: DeserializeOwned>(api: &'static str, body: &[u8]) -> Result<T, Error> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let envelope: Envelope = serde_json::from_slice(body).map_err(|error| garbled(&error))?;
    let errcode = match envelope.errcode {
        None | Some(Value::Null) => 0,
        Some(Value::Number(number)) => number.as_i64().ok_or_else(|| not_a_code(&number.to_string()))?,
        Some(Value::String(text)) => text.trim().parse().map_err(|_| not_a_code(&text))?,
        Some(other) => return Err(not_a_code(&other.to_string())),
    };
    if errcode != 0 {
        return Err(Error::Refused(Refusal::new(errcode, &envelope.errmsg.unwrap_or_default()).at(api)));
    }
    serde_json::from_slice(body).map_err(|error| garbled(&error))
}

/// A text that must be there: what is empty, or longer than anything WeChat makes, is none.
pub(super) fn required<'de, D: Deserializer<'de>, T: From<String>>(deserializer: D) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() || text.len() > LONGEST_TEXT || text.chars().any(char::is_control) {
        return Err(de::Error::custom("no usable text"));
    }
    Ok(text.into())
}

fn not_a_code(text: &str) -> Error {
    let text: String = text.chars().take(40).collect();
    Error::Garbled { status: 200, problem: format!("errcode is not a number: {text}") }
}

/// Names the kind and place of the fault, never the content, which may hold a key.
fn garbled(error: &serde_json::Error) -> Error {
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "ends too early",
        serde_json::error::Category::Data => "lacks an expected field",
        _ => "is not JSON",
    };
    Error::Garbled {
        status: 200,
        problem: format!("the answer {kind} (line {} column {})", error.line(), error.column()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Token {
        access_token: String,
    }

    fn token(body: &str) -> Result<Token, Error> {
        parse("/sns/jscode2session", body.as_bytes())
    }

    #[test]
    fn success_is_no_errcode_or_zero_as_number_or_text() {
        for errcode in ["", r#""errcode":0,"#, r#""errcode":"0","errmsg":"ok","#, r#""errcode":null,"#] {
            let body = format!("\u{feff}{{{errcode}\"access_token\":\"t\"}}");
            assert_eq!(token(&body).expect("success").access_token, "t", "{body}");
        }
    }

    #[test]
    fn a_refusal_carries_the_code_and_splits_off_the_rid() {
        let body = r#"{"errcode":"40029","errmsg":"invalid code, rid: 6201abcd-12345678-0badcafe"}"#;
        let Err(Error::Refused(refusal)) = token(body) else { panic!("refused") };
        assert_eq!((refusal.errcode, refusal.errmsg.as_str()), (40029, "invalid code"));
        assert_eq!(refusal.rid.as_deref(), Some("6201abcd-12345678-0badcafe"));
        assert!(refusal.entry().en.starts_with("login code"), "as this API means it: {:?}", refusal.entry());
    }

    #[test]
    fn the_older_hint_is_split_off_like_a_rid() {
        let refusal = Refusal::new(40001, "invalid credential hint: [Eg2Vfa06743e04] ");
        assert_eq!((refusal.errmsg.as_str(), refusal.rid.as_deref()), ("invalid credential", Some("Eg2Vfa06743e04")));
        let refusal = Refusal::new(40001, "bad hint: [] ");
        assert_eq!((refusal.errmsg.as_str(), refusal.rid), ("bad", None));
    }

    #[test]
    fn whatever_else_comes_is_garbled_and_not_quoted() {
        for body in [
            "<html>502</html>",
            "{\"access_token\":\"sec",
            "{}",
            "[]",
            "",
            r#"{"errcode":{"a":1}}"#,
            r#"{"access_token":5}"#,
        ] {
            let error = token(body).expect_err("garbled");
            assert!(matches!(error, Error::Garbled { .. }), "{body}: {error:?}");
            assert!(!error.to_string().contains("sec\""), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Token>("", &body).map(|token| token.access_token);
        }
    }
}
