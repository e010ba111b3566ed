//! XML as WeChat writes it: text in CDATA, numbers bare.

use serde_json::{Map, Value};

pub(super) fn elements(fields: &Map<String, Value>) -> String {
    fields.iter().map(|(name, value)| element(name, value)).collect()
}

fn element(name: &str, value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(|item| element(name, item)).collect(),
        Value::Object(inner) => format!("<{name}>{}</{name}>", elements(inner)),
        Value::String(text) if is_number(text) => format!("<{name}>{text}</{name}>"),
        Value::String(text) => format!("<{name}>{}</{name}>", cdata(text)),
        Value::Null => format!("<{name}></{name}>"),
        other => format!("<{name}>{other}</{name}>"),
    }
}

/// A `]]>` inside would end the section, so it is split over two.
pub(super) fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
