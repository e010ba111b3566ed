//! U+0000, which PostgreSQL keeps in no text and nothing that is told here has a use for: refused by name, before
//! anything is looked up or stored.

use percent_encoding::percent_decode_str;
use poem::Request;
use serde_json::Value;

use super::body;
use crate::error::Error;

const REASON: &str = "must not hold U+0000";
/// What WeChat posts is made clean where it is stored.
const OF_WECHAT: &str = "/wechat/";
const EVENTS: &str = "/v1/events";

/// The address, and the headers that are percent-encoded.
pub fn check_head(request: &Request) -> Result<(), Error> {
    if request.uri().path().contains("%00") {
        return Err(Error::field("path", REASON));
    }
    let query = request.uri().query().unwrap_or_default();
    if let Some(pair) = query.split('&').find(|pair| pair.contains("%00")) {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        return Err(Error::field(&percent_decode_str(name).decode_utf8_lossy().replace('\0', ""), REASON));
    }
    let of_event = request.headers().iter().filter(|(name, _)| name.as_str().starts_with("ce-"));
    let holds = |value: &[u8]| value.windows(3).any(|part| part == b"%00");
    match of_event.into_iter().find(|(_, value)| holds(value.as_bytes())) {
        Some((name, _)) => Err(Error::field(name.as_str(), REASON)),
        None => Ok(()),
    }
}

/// A body in JSON, where it is written as an escape.
pub fn check_body(request: &Request, body: &[u8]) -> Result<(), Error> {
    let escaped = body.split(|byte| *byte == b'\\').skip(1).any(|rest| rest.starts_with(b"u0000"));
    if !escaped || request.uri().path().starts_with(OF_WECHAT) {
        return Ok(());
    }
    // What is no JSON is refused by who reads it.
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    // Of several events each has an answer of its own.
    if value.is_array() && request.uri().path().trim_end_matches('/') == EVENTS { Ok(()) } else { check(&value) }
}

/// A part of a body that is JSON already.
pub fn check(value: &Value) -> Result<(), Error> {
    find(value, "").map_or(Ok(()), |pointer| Err(Error::field(&pointer, REASON)))
}

/// The place of the first text, or name, that holds it.
fn find(value: &Value, at: &str) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(|| at.to_owned()),
        Value::Array(values) => {
            values.iter().enumerate().find_map(|(index, value)| find(value, &format!("{at}/{index}")))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if name.contains('\0') {
                return Some(at.to_owned());
            }
            find(value, &format!("{at}/{}", body::escaped(name)))
        }),
        _ => None,
    }
}
