//! Callbacks (消息推送): who may post, and what was posted.

pub mod cipher;
mod xml;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::subscribe_message::id_text;
use crate::secret::hex;

/// Their `FromUserName` is the platform's sender.
const ABOUT_PRIVACY: [&str; 3] = ["user_info_modified", "user_authorization_revoke", "user_authorization_cancellation"];
const LARGEST_PROBE: usize = 1024;
/// In characters.
const LONGEST_NAME: usize = 255;

/// A push in clear.
#[derive(Debug, PartialEq, Eq)]
pub struct Push {
    /// `subscribe_msg_sent_event`, in lower case; the message type when it is no event.
    pub event: String,
    /// Whom it is about: `OpenID` of an event about privacy, else `FromUserName`.
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

/// One entry of a `subscribe_msg_popup_event`: what the user tapped.
#[derive(Debug, PartialEq, Eq)]
pub struct PopupEntry {
    pub template_id: String,
    pub accepted: bool,
}

/// One entry of a `subscribe_msg_change_event`.
#[derive(Debug, PartialEq, Eq)]
pub struct ChangeEntry {
    pub template_id: String,
    /// Whether the user refuses from now on; WeChat tells of nothing else.
    pub rejected: bool,
}

/// Why a push was not read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    #[error("the body is neither a JSON object nor an XML element with others inside")]
    NoPush,
    #[error("the XML has entities or a document type of its own")]
    DocumentType,
    #[error("the XML has too many elements, or too deep ones")]
    TooMuch,
    #[error("the push is encrypted, although the app is configured for plain ones")]
    Sealed,
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
    let fields = fields(body)?;
    fields.get("Encrypt").and_then(Value::as_str).map(|sealed| sealed.trim().to_owned()).ok_or(Unreadable::NotSealed)
}

/// Whether this is the question of WeChat's cloud hosting whether anybody listens. It is not signed and
/// tells nothing.
pub fn is_probe(body: &[u8]) -> bool {
    body.len() <= LARGEST_PROBE
        && fields(body).is_ok_and(|fields| {
            fields.len() == 1 && fields.get("action").and_then(Value::as_str) == Some("CheckContainerPath")
        })
}

/// Reads a push in clear, in JSON or XML.
pub fn parse(body: &[u8]) -> Result<Push, Unreadable> {
    let fields = fields(body)?;
    let text = |key: &str| fields.get(key).and_then(id_text).map(|text| short(&text));
    let event = text("Event").or_else(|| text("MsgType"));
    if event.is_none() && fields.contains_key("Encrypt") {
        return Err(Unreadable::Sealed);
    }
    let event = event.unwrap_or_default().to_ascii_lowercase();
    let about = if ABOUT_PRIVACY.contains(&event.as_str()) { text("OpenID") } else { None };
    let openid = about.or_else(|| text("FromUserName"));
    let create_time = text("CreateTime").and_then(|seconds| seconds.parse().ok());
    Ok(Push { event, openid, create_time, fields })
}

/// The first sign tells the format; the declared content type is not always right.
fn fields(body: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii_start();
    match body.first() {
        Some(b'<') => xml::fields(std::str::from_utf8(body).map_err(|_| Unreadable::NoPush)?),
        Some(b'{') => match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(fields),
            _ => Err(Unreadable::NoPush),
        },
        _ => Err(Unreadable::NoPush),
    }
}

/// A name or an id as it fits into an index; PostgreSQL keeps no NUL in a text.
fn short(text: &str) -> String {
    text.chars().filter(|sign| *sign != '\0').take(LONGEST_NAME).collect()
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

    /// The entries of a `subscribe_msg_popup_event`; words that WeChat does not document are left out.
    pub fn popup_entries(&self) -> Vec<PopupEntry> {
        self.list().into_iter().filter_map(popup_entry).collect()
    }

    /// The entries of a `subscribe_msg_change_event`.
    pub fn change_entries(&self) -> Vec<ChangeEntry> {
        self.list().into_iter().filter_map(change_entry).collect()
    }

    /// `RevokeInfo` of a `user_authorization_revoke`: WeChat's codes of the kinds of data.
    pub fn revoked_codes(&self) -> Vec<String> {
        let codes = self.fields.get("RevokeInfo").and_then(id_text).unwrap_or_default();
        codes.split(',').map(str::trim).filter(|code| !code.is_empty()).map(short).collect()
    }

    /// The wrapper may have the name of another event.
    fn list(&self) -> Vec<&Value> {
        let wrapped = || self.fields.values().flat_map(each).filter_map(|wrapper| wrapper.get("List")).collect();
        let lists = self.fields.get("List").map_or_else(wrapped, |list| vec![list]);
        lists.into_iter().flat_map(each).filter(|entry| entry.is_object()).collect()
    }
}

fn each(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn popup_entry(entry: &Value) -> Option<PopupEntry> {
    let template_id = entry.get("TemplateId").and_then(id_text).map(|id| short(&id))?;
    let status = entry.get("SubscribeStatusString").and_then(id_text)?.to_ascii_lowercase();
    let accepted = match status.as_str() {
        "accept" | "acceptwithaudio" | "acceptwithalert" => true,
        "reject" => false,
        _ => return None,
    };
    Some(PopupEntry { template_id, accepted })
}

fn change_entry(entry: &Value) -> Option<ChangeEntry> {
    let template_id = entry.get("TemplateId").and_then(id_text).map(|id| short(&id))?;
    let status = entry.get("SubscribeStatusString").and_then(id_text)?;
    Some(ChangeEntry { template_id, rejected: status.eq_ignore_ascii_case("reject") })
}

fn sent_entry(entry: &Value) -> Option<SentEntry> {
    let text = |key: &str| entry.get(key).and_then(id_text).map(|text| short(&text));
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
        for body in ["", "[]", "<xml/>", "{", "\u{feff}", "{}{}"] {
            assert_eq!(parse(body.as_bytes()), Err(Unreadable::NoPush), "{body}");
        }
        assert_eq!(parse(br#"{"ToUserName":"gh_x","Encrypt":"AAAA"}"#), Err(Unreadable::Sealed));
    }

    #[test]
    fn xml_reads_like_json() {
        let push = parse(
            b"\xEF\xBB\xBF\n<xml><FromUserName><![CDATA[o]]></FromUserName><CreateTime>5</CreateTime>\
              <Event><![CDATA[subscribe_msg_change_event]]></Event><SubscribeMsgPopupEvent>\
              <List><TemplateId>A</TemplateId><SubscribeStatusString><![CDATA[reject]]></SubscribeStatusString></List>\
              <List><TemplateId>B</TemplateId><SubscribeStatusString>accept</SubscribeStatusString></List>\
              </SubscribeMsgPopupEvent></xml>",
        )
        .expect("readable");
        assert_eq!((push.openid.as_deref(), push.create_time), (Some("o"), Some(5)));
        let entry = |id: &str, rejected| ChangeEntry { template_id: id.to_owned(), rejected };
        assert_eq!(push.change_entries(), [entry("A", true), entry("B", false)]);
    }

    #[test]
    fn an_event_about_privacy_is_about_its_openid() {
        let body =
            br#"{"Event":"user_authorization_revoke","FromUserName":"oPlatform","OpenID":" oA ","RevokeInfo":"8, 6,"}"#;
        let push = parse(body).expect("readable");
        assert_eq!((push.openid.as_deref(), push.revoked_codes()), (Some("oA"), vec!["8".to_owned(), "6".to_owned()]));
    }

    #[test]
    fn a_probe_is_told_from_a_push() {
        assert!(is_probe(br#"{"action":"CheckContainerPath"}"#));
        assert!(is_probe(b"<xml><action>CheckContainerPath</action></xml>"));
        assert!(!is_probe(br#"{"action":"CheckContainerPath","Event":"x"}"#));
    }
}
