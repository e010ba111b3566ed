//! By what a repeat of an event is known to say the same.

use serde_json::Value as Json;

use super::Incoming;
use crate::secret::sha256;

/// The order of keys means nothing in JSON, so it means nothing here.
pub(super) fn body_hash(event: &Incoming) -> Vec<u8> {
    sha256(said(event).as_bytes()).to_vec()
}

/// What an event says, its keys in their order.
fn said(event: &Incoming) -> String {
    let Incoming { source, id, event_type, time, subject, to, data, app_ids: _, direct: _, .. } = event;
    let mut text = String::from("{\"data\":");
    write_sorted(data, &mut text);
    let mut member = |name: &str, value: serde_json::Result<String>| {
        for part in [",\"", name, "\":", &value.unwrap_or_default()] {
            text.push_str(part);
        }
    };
    if let Some(deliver_at) = &event.deliver_at {
        member("deliver_at", serde_json::to_string(deliver_at));
    }
    member("id", serde_json::to_string(id));
    if let Some(priority) = &event.priority {
        member("priority", serde_json::to_string(priority));
    }
    member("source", serde_json::to_string(source));
    member("subject", serde_json::to_string(subject));
    member("time", serde_json::to_string(time));
    member("to", serde_json::to_string(to));
    if let Some(ttl_seconds) = &event.ttl_seconds {
        member("ttl_seconds", serde_json::to_string(ttl_seconds));
    }
    member("type", serde_json::to_string(event_type));
    text.push('}');
    text
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
    use entity::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_an_event_says_is_part_of_it() {
        let plain = Incoming {
            source: "shop".into(),
            id: "42 \"\u{1}".into(),
            event_type: "order.shipped".into(),
            time: None,
            subject: None,
            to: Vec::new(),
            data: json!({ "z": 1, "a": [null, "苹果"] }),
            app_ids: Some(vec!["wx1".into()]),
            deliver_at: None,
            ttl_seconds: None,
            priority: None,
            direct: None,
        };
        let full = Incoming {
            time: Some(Timestamp(5)),
            subject: Some("external:1".into()),
            to: vec!["usr_1".into(), "external:\\".into()],
            deliver_at: Some(Timestamp(7)),
            ttl_seconds: Some(-1),
            priority: Some(9),
            ..plain.clone()
        };
        for event in [plain, full] {
            let mut sorted = String::new();
            write_sorted(&serde_json::to_value(&event).expect("JSON"), &mut sorted);
            assert_eq!(said(&event), sorted);
        }
    }

    #[test]
    fn the_order_of_keys_means_nothing() {
        let mut texts = [String::new(), String::new()];
        write_sorted(&json!({ "b": [1, {}, [], null], "a": { "d": "\"红\"", "c": 1.5 } }), &mut texts[0]);
        write_sorted(&json!({ "a": { "c": 1.5, "d": "\"红\"" }, "b": [1, {}, [], null] }), &mut texts[1]);
        assert_eq!(texts[0], texts[1]);
        assert_eq!(texts[0], r#"{"a":{"c":1.5,"d":"\"红\""},"b":[1,{},[],null]}"#);
    }
}
