//! Whatever is posted, reading it ends with an answer: no panic, and nothing that grows.

use magpie::wechat::callback::{cipher, is_probe, parse, sealed_part};
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::Value;

const AES_KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
/// What `Encrypt` of a push is made of.
const BASE64: &str = "[A-Za-z0-9+/]{0,200}={0,2}";

/// The characters of all texts and names of a value.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        _ => 0,
    }
}

fn read(body: &[u8]) {
    is_probe(body);
    let _ = sealed_part(body);
    if let Ok(push) = parse(body) {
        push.sent_entries();
        push.change_entries();
        push.revoked_codes();
        let length = body.len();
        assert!(size(&Value::Object(push.fields)) <= length, "it grew");
    }
}

/// Pieces of XML in any order: hostile where random bytes would end at the first one.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<xml>"),
        Just("</xml>"),
        Just("<List>"),
        Just("</List>"),
        Just("<a/>"),
        Just("<Event>"),
        Just("</Event>"),
        Just("<![CDATA["),
        Just("]]>"),
        Just("&amp;"),
        Just("&#x4e2d;"),
        Just("&b;"),
        Just("&"),
        Just("<!DOCTYPE x [<!ENTITY b \"bbbbbbbb\">]>"),
        Just("<?xml version=\"1.0\"?>"),
        Just("<!--"),
        Just("-->"),
        Just("text"),
        Just("\u{0}"),
        Just("<"),
        Just(">"),
        Just("<a b='c'"),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| format!("<xml>{}", pieces.concat()))
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(Value::from("reject")),
    ];
    let name = prop_oneof![
        Just("List".to_owned()),
        Just("Event".to_owned()),
        Just("ErrorCode".to_owned()),
        Just("TemplateId".to_owned()),
        Just("RevokeInfo".to_owned()),
        Just("CreateTime".to_owned()),
        Just("SubscribeMsgSentEvent".to_owned()),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&body);
    }

    #[test]
    fn pieces_of_xml_are_read_or_refused(body in pieces()) {
        read(body.as_bytes());
    }

    #[test]
    fn any_json_is_read_or_refused(body in json()) {
        let body = body.to_string();
        // Escapes make a text shorter, numbers are no texts.
        read(body.as_bytes());
    }

    #[test]
    fn any_sealed_text_is_opened_or_refused(sealed in BASE64, key in prop_oneof![Just(AES_KEY.to_owned()), ".{0,50}"]) {
        let _ = cipher::open(&SecretString::from(key), "wx0123456789abcdef", &sealed);
    }

    #[test]
    fn whole_blocks_of_noise_are_refused(blocks in prop::collection::vec(any::<[u8; 16]>(), 1..20)) {
        use base64::Engine;
        let sealed = base64::engine::general_purpose::STANDARD.encode(blocks.concat());
        prop_assert!(cipher::open(&SecretString::from(AES_KEY), "wx0123456789abcdef", &sealed).is_err());
    }
}

#[test]
fn nesting_is_refused_in_either_format() {
    assert!(parse("<a>".repeat(300_000).as_bytes()).is_err());
    assert!(parse(format!("{{\"a\":{}", "[".repeat(300_000)).as_bytes()).is_err());
}
