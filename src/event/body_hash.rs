//! By what a repeat of an event is known to say the same.

use serde_json::Value as Json;

use super::Incoming;
use crate::secret::sha256;

/// The order of keys means nothing in JSON, so it means nothing here.
pub(super) fn body_hash(event: &Incoming) -> Vec<u8> {
    let mut body = String::new();
    if let Ok(event) = serde_json::to_value(event) {
        write_sorted(&event, &mut body);
    }
    sha256(body.as_bytes()).to_vec()
}

/// Writes JSON with the keys of each object in their order.
fn write_sorted(value: &Json, text: &mut String) {
    match value {
        Json::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_str());
            for (index, (key, value)) in members.into_iter().enumerate() {
                text.push(if index == 0 { '{' } else { ',' });
                write_text(key, text);
                text.push(':');
                write_sorted(value, text);
            }
            text.push_str(if map.is_empty() { "{}" } else { "}" });
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                text.push(if index == 0 { '[' } else { ',' });
                write_sorted(item, text);
            }
            text.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Json::String(said) => write_text(said, text),
        other => text.push_str(&other.to_string()),
    }
}

fn write_text(said: &str, text: &mut String) {
    text.push_str(&serde_json::to_string(said).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_keys_means_nothing() {
        let mut texts = [String::new(), String::new()];
        write_sorted(&json!({ "b": [1, {}, [], null], "a": { "d": "\"红\"", "c": 1.5 } }), &mut texts[0]);
        write_sorted(&json!({ "a": { "c": 1.5, "d": "\"红\"" }, "b": [1, {}, [], null] }), &mut texts[1]);
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[0], r#"{"a":{"c":1.5,"d":"\"红\""},"b":[1,{},[],null]}"#);
    }
}
