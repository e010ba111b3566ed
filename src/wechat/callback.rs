//! Callbacks (消息推送): who may post, and what was posted.

pub mod cipher;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::subscribe_message::id_text;
use crate::secret::hex;

/// A push in clear.
#[derive(Debug, PartialEq, Eq)]
pub struct Push {
    /// `subscribe_msg_sent_event`, in lower case; the message type when it is no event.
    pub event: String,
    /// `FromUserName`: the user's openid in most events.
    pub openid: Option<String>,
    /// Seconds since 1970.
    pub create_time: Option<i64>,
    /// All fields.
    pub fields: Map<String, Value>,
}

/// One entry of a `subscribe_msg_sent_event`.
#[derive(Debug, PartialEq, Eq)]
pub struct SentEntry {
    pub template_id: Option<String>,
    pub message_id: Option<String>,
    pub errcode: i64,
    /// `success`, or what failed.
    pub status: String,
}

/// Why a push was not read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    #[error("the body is not a JSON object")]
    NotAnObject,
    #[error("the push is not encrypted, although the app is configured for it")]
    NotSealed,
}

/// Whether `signature` is SHA-1 over the sorted token and parts, in constant time: timestamp and nonce,
/// and for `msg_signature` the sealed text too.
pub fn signature_matches(token: &SecretString, parts: &[&str], signature: &str) -> bool {
    let mut parts = [parts, &[token.expose_secret()]].concat();
    parts.sort_unstable();
    let expected = hex(&Sha1::digest(parts.concat().as_bytes()));
    expected.as_bytes().ct_eq(signature.as_bytes()).into()
}

/// The sealed half of a push in the secure or the compatible mode.
pub fn sealed_part(body: &[u8]) -> Result<String, Unreadable> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return Err(Unreadable::NotAnObject) };
    fields.get("Encrypt").and_then(Value::as_str).map(str::to_owned).ok_or(Unreadable::NotSealed)
}

/// Reads a push in clear, as JSON.
pub fn parse(body: &[u8]) -> Result<Push, Unreadable> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return Err(Unreadable::NotAnObject) };
    let text = |key: &str| fields.get(key).and_then(id_text);
    let event = text("Event").or_else(|| text("MsgType")).or_else(|| text("action")).unwrap_or_default();
    let create_time = text("CreateTime").and_then(|seconds| seconds.parse().ok());
    Ok(Push { event: event.to_ascii_lowercase(), openid: text("FromUserName"), create_time, fields })
}

impl Push {
    /// The entries of a `subscribe_msg_sent_event`: `List` is an object when there is one entry, an
    /// array when there are more, and may stand under a wrapper.
    pub fn sent_entries(&self) -> Vec<SentEntry> {
        self.list().into_iter().filter_map(sent_entry).collect()
    }

    /// A `TEMPLATESENDJOBFINISH` as an entry: a service account's receipt has no code, only a text.
    pub fn job_finished(&self) -> Option<SentEntry> {
        let text = |key: &str| self.fields.get(key).and_then(id_text);
        let message_id = text("MsgID").or_else(|| text("MsgId"));
        Some(SentEntry { template_id: None, message_id, errcode: 0, status: text("Status")? })
    }

    fn list(&self) -> Vec<&Value> {
        let wrapped = || self.fields.values().find_map(|value| value.as_object()?.get("List"));
        match self.fields.get("List").or_else(wrapped) {
            Some(Value::Array(entries)) => entries.iter().collect(),
            Some(entry @ Value::Object(_)) => vec![entry],
            _ => Vec::new(),
        }
    }
}

fn sent_entry(entry: &Value) -> Option<SentEntry> {
    let text = |key: &str| entry.get(key).and_then(id_text);
    let errcode = text("ErrorCode")?.parse().ok()?;
    let status = text("ErrorStatus").unwrap_or_else(|| if errcode == 0 { "success".into() } else { "failed".into() });
    Some(SentEntry {
        template_id: text("TemplateId"),
        message_id: text("MsgID").or_else(|| text("MsgId")),
        errcode,
        status,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_checked_over_the_sorted_parts() {
        let token = "token".to_owned().into();
        // sha1("1234567890" + "nonce" + "token")
        let signature = hex(&Sha1::digest(b"1234567890noncetoken"));
        assert!(signature_matches(&token, &["1234567890", "nonce"], &signature));
        assert!(!signature_matches(&token, &["1234567891", "nonce"], &signature));
        assert!(!signature_matches(&token, &["1234567890", "nonce"], ""));
    }

    #[test]
    fn the_list_may_be_an_object_or_an_array_or_wrapped() {
        let entry = r#"{"TemplateId":"T","MsgID":"1700827132819554304","ErrorCode":"0","ErrorStatus":"success"}"#;
        for body in [
            format!(r#"{{"Event":"subscribe_msg_sent_event","FromUserName":"o","CreateTime":"5","List":{entry}}}"#),
            format!(r#"{{"Event":"SUBSCRIBE_MSG_SENT_EVENT","FromUserName":"o","CreateTime":5,"List":[{entry}]}}"#),
            format!(
                r#"{{"Event":"subscribe_msg_sent_event","FromUserName":"o","CreateTime":5,"SubscribeMsgPopupEvent":{{"List":{entry}}}}}"#
            ),
        ] {
            let push = parse(body.as_bytes()).expect("readable");
            assert_eq!(
                (push.event.as_str(), push.openid.as_deref(), push.create_time),
                ("subscribe_msg_sent_event", Some("o"), Some(5))
            );
            let entries = push.sent_entries();
            assert_eq!(entries.len(), 1);
            assert_eq!(entries[0].message_id.as_deref(), Some("1700827132819554304"));
        }
    }

    #[test]
    fn a_service_accounts_receipt_is_read() {
        for id in [r#""MsgID":"200163836""#, r#""MsgId":200163836"#] {
            let body =
                format!(r#"{{"Event":"TEMPLATESENDJOBFINISH","FromUserName":"o",{id},"Status":"failed:user block"}}"#);
            let push = parse(body.as_bytes()).expect("readable");
            assert_eq!(push.event, "templatesendjobfinish");
            let entry = push.job_finished().expect("an entry");
            assert_eq!((entry.message_id.as_deref(), entry.status.as_str()), (Some("200163836"), "failed:user block"));
        }
    }

    #[test]
    fn ids_above_2_to_the_53_keep_every_digit() {
        let push = parse(br#"{"Event":"x","List":{"ErrorCode":0,"MsgID":1700827132819554305}}"#).expect("readable");
        assert_eq!(push.sent_entries()[0].message_id.as_deref(), Some("1700827132819554305"));
    }

    #[test]
    fn garbage_is_an_error() {
        for body in ["", "[]", "<xml/>", "{"] {
            assert_eq!(parse(body.as_bytes()), Err(Unreadable::NotAnObject));
        }
    }
}
