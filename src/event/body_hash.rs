//! By what a repeat of an event is known to say the same.

use serde::Serialize;
use serde_json::Value as Json;

use super::Incoming;
use crate::secret::sha256;

/// The order of keys means nothing in JSON, so it means nothing here.
pub(super) fn body_hash(event: &Incoming) -> Vec<u8> {
    sha256(&said(event)).to_vec()
}

/// What an event says, its keys in their order.
fn said(event: &Incoming) -> Vec<u8> {
    let Incoming { source, id, event_type, time, subject, to, data, app_ids: _, direct: _, .. } = event;
    let mut text = Vec::with_capacity(1024);
    text.extend_from_slice(b"{\"data\":");
    write_sorted(data, &mut text);
    if let Some(deliver_at) = &event.deliver_at {
        write_member("deliver_at", deliver_at, &mut text);
    }
    write_member("id", id, &mut text);
    if let Some(priority) = &event.priority {
        write_member("priority", priority, &mut text);
    }
    write_member("source", source, &mut text);
    write_member("subject", subject, &mut text);
    write_member("time", time, &mut text);
    write_member("to", to, &mut text);
    if let Some(ttl_seconds) = &event.ttl_seconds {
        write_member("ttl_seconds", ttl_seconds, &mut text);
    }
    write_member("type", event_type, &mut text);
    text.push(b'}');
    text
}

/// Writes a member that is not the first.
fn write_member(name: &str, value: &impl Serialize, text: &mut Vec<u8>) {
    for part in [",\"", name, "\":"] {
        text.extend_from_slice(part.as_bytes());
    }
    write(value, text);
}

/// Writes JSON with the keys of each object in their order.
fn write_sorted(value: &Json, text: &mut Vec<u8>) {
    match value {
        Json::Object(map) => {
            let mut members: Vec<_> = map.iter().collect();
            members.sort_unstable_by_key(|(key, _)| key.as_str());
            for (index, (key, value)) in members.into_iter().enumerate() {
                text.push(if index == 0 { b'{' } else { b',' });
                write(key, text);
                text.push(b':');
                write_sorted(value, text);
            }
            text.extend_from_slice(if map.is_empty() { b"{}" } else { b"}" });
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                text.push(if index == 0 { b'[' } else { b',' });
                write_sorted(item, text);
            }
            text.extend_from_slice(if items.is_empty() { b"[]" } else { b"]" });
        }
        other => write(other, text),
    }
}

/// What an event says can always be written.
fn write(value: &impl Serialize, text: &mut Vec<u8>) {
    let _ = serde_json::to_writer(text, value);
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
            let mut sorted = Vec::new();
            write_sorted(&serde_json::to_value(&event).expect("JSON"), &mut sorted);
            assert_eq!(said(&event), sorted);
        }
    }

    #[test]
    fn the_order_of_keys_means_nothing() {
        let mut texts = [Vec::new(), Vec::new()];
        write_sorted(&json!({ "b": [1, {}, [], null], "a": { "d": "\"红\"", "c": 1.5 } }), &mut texts[0]);
        write_sorted(&json!({ "a": { "c": 1.5, "d": "\"红\"" }, "b": [1, {}, [], null] }), &mut texts[1]);
        assert_eq!(texts[0], texts[1]);
        assert_eq!(String::from_utf8_lossy(&texts[0]), r#"{"a":{"c":1.5,"d":"\"红\""},"b":[1,{},[],null]}"#);
    }
}
