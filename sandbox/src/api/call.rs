//! One call as it reached WeChat, and reading it as strictly as WeChat does.

use std::net::IpAddr;

use poem::http::Method;
use serde_json::{Map, Value};

use super::refusal::{Refusal, refuse, refuse_with};

#[derive(Debug)]
pub(crate) struct Call {
    pub method: Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub raw_query: String,
    pub body: Vec<u8>,
    pub ip: IpAddr,
    /// When the work on it begins, by the simulator's clock.
    pub now_ms: i64,
    /// Another message to the same person is being handed over at this moment.
    pub contended: bool,
}

impl Call {
    pub(crate) fn now(&self) -> i64 {
        self.now_ms.div_euclid(1000)
    }

    /// A query parameter; an empty one counts as missing.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The JSON body of a POST: 44002 when empty, 40033 when non-ASCII is escaped, 47001 when broken.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        if self.body.is_empty() {
            return refuse(44002);
        }
        let Ok(Value::Object(object)) = serde_json::from_slice(&self.body) else {
            return refuse_with(47001, "data format error hint: [json]");
        };
        if escapes_non_ascii(&self.body) {
            return refuse(40033);
        }
        Ok(object)
    }
}

/// A text member of a body; an empty one counts as missing.
pub(crate) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Looks at the raw bytes, since a parser gives the same text for `\u4f60` and `你`.
fn escapes_non_ascii(body: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at..];
        if escape.get(1) == Some(&b'u') {
            let code = escape.get(2..6).and_then(|digits| std::str::from_utf8(digits).ok());
            if code.and_then(|digits| u32::from_str_radix(digits, 16).ok()).is_some_and(|code| code > 0x7f) {
                return true;
            }
        }
        rest = escape.get(2..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::escapes_non_ascii;

    #[test]
    fn only_escaped_non_ascii_counts() {
        assert!(escapes_non_ascii(br#"{"a":"\u4f60"}"#));
        assert!(escapes_non_ascii(br#"{"a":"\\\u00e9"}"#));
        assert!(!escapes_non_ascii(br#"{"a":"\\u4f60"}"#));
        assert!(!escapes_non_ascii(br#"{"a":"\u000a\"\\"}"#));
        assert!(!escapes_non_ascii("{\"a\":\"你好\"}".as_bytes()));
    }
}
