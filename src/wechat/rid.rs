//! `POST /cgi-bin/openapi/rid/get`: what WeChat kept of a call that failed, for seven days.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Client, Error, subscribe_message::id_text};

/// What stands where a secret stood.
const HIDDEN: &str = "***";

#[derive(Serialize)]
struct Request<'a> {
    rid: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    request: Kept,
}

#[derive(Deserialize)]
struct Kept {
    #[serde(default)]
    invoke_time: Value,
    #[serde(default)]
    cost_in_ms: Value,
    #[serde(default)]
    request_url: String,
    #[serde(default)]
    request_body: String,
    #[serde(default)]
    response_body: String,
    #[serde(default)]
    client_ip: String,
}

/// A call as WeChat saw it, without its secrets.
#[derive(Debug, PartialEq, Eq)]
pub struct FailedCall {
    /// In seconds since 1970.
    pub invoked_at: Option<i64>,
    pub cost_in_ms: Option<i64>,
    /// The path, the query, or both, as WeChat tells them.
    pub request_url: String,
    pub request_body: String,
    pub response_body: String,
    pub client_ip: String,
}

impl Client {
    /// getRidInfo. A rid is explained to the account that made the call, not to others.
    pub async fn failed_call(&self, token: &SecretString, rid: &str) -> Result<FailedCall, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Answer = self.post("/cgi-bin/openapi/rid/get", &query, &Request { rid }).await?;
        Ok(answer.request.into())
    }
}

impl From<Kept> for FailedCall {
    fn from(kept: Kept) -> Self {
        let number = |value: &Value| id_text(value).and_then(|text| text.parse().ok());
        Self {
            invoked_at: number(&kept.invoke_time),
            cost_in_ms: number(&kept.cost_in_ms),
            request_url: address_without_secrets(&kept.request_url),
            request_body: body_without_secrets(&kept.request_body),
            response_body: body_without_secrets(&kept.response_body),
            client_ip: kept.client_ip,
        }
    }
}

/// Whether a parameter of this name may open something or names a phone: tokens, secrets, codes, keys,
/// signatures, phone numbers, sealed data.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let parts = ["token", "secret", "session", "signature", "ticket", "phone", "encrypt", "password", "%"];
    let ends = ["code", "key", "iv"];
    name != "errcode" && (parts.iter().any(|part| name.contains(part)) || ends.iter().any(|end| name.ends_with(end)))
}

fn address_without_secrets(address: &str) -> String {
    let (path, query) = match address.split_once('?') {
        Some((path, query)) => (format!("{path}?"), query),
        // WeChat may tell the query alone.
        None => (String::new(), address),
    };
    let parameter = |parameter: &str| match parameter.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        _ => parameter.to_owned(),
    };
    path + &query.split('&').map(parameter).collect::<Vec<_>>().join("&")
}

/// What is no JSON is not shown at all: nobody can tell what is in it.
fn body_without_secrets(body: &str) -> String {
    match serde_json::from_str::<Value>(body) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => without_secrets(value).to_string(),
        _ if body.trim().is_empty() => String::new(),
        _ => format!("{} bytes that are no JSON", body.len()),
    }
}

fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| {
                let shown = if is_secret(&name) { Value::from(HIDDEN) } else { without_secrets(value) };
                (name, shown)
            };
            members.into_iter().map(member).collect()
        }
        Value::Array(values) => values.into_iter().map(without_secrets).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_taken_out_of_addresses_and_bodies() {
        for (address, shown) in [
            ("access_token=50_Im7", "access_token=***"),
            (
                "/cgi-bin/user/info?openid=oA&access_token=50_Im7&lang=zh",
                "/cgi-bin/user/info?openid=oA&access_token=***&lang=zh",
            ),
            ("https://api/sns?appid=wx1&secret=s3&js_code=c", "https://api/sns?appid=wx1&secret=***&js_code=***"),
            ("/a?access%5Ftoken=50_Im7", "/a?access%5Ftoken=***"),
            ("/cgi-bin/template/get_industry", "/cgi-bin/template/get_industry"),
        ] {
            assert_eq!(address_without_secrets(address), shown);
        }
        let body = r#"{"touser":"oA","data":{"thing1":{"value":"苹果"},"phone_number2":{"value":"138"}},"list":[{"code":"c"}],
            "secret":"s3","session_key":"k","errcode":40029,"errmsg":"no rid: 1-2-3"}"#;
        assert_eq!(
            body_without_secrets(body),
            r#"{"touser":"oA","data":{"thing1":{"value":"苹果"},"phone_number2":"***"},"list":[{"code":"***"}],"secret":"***","session_key":"***","errcode":40029,"errmsg":"no rid: 1-2-3"}"#
        );
        assert_eq!(body_without_secrets(" "), "");
        for body in [r#"{"secret":"s3"#, "secret=s3", "\"s3\"", "<xml>s3</xml>"] {
            assert!(!body_without_secrets(body).contains("s3"), "{body}");
        }
    }

    #[test]
    fn numbers_may_come_as_text_and_members_may_be_missing() {
        let answer: Answer =
            serde_json::from_str(r#"{"errcode":0,"request":{"invoke_time":"1635156704","cost_in_ms":30}}"#)
                .expect("an answer");
        let call = FailedCall::from(answer.request);
        assert_eq!((call.invoked_at, call.cost_in_ms, call.client_ip.as_str()), (Some(1_635_156_704), Some(30), ""));
    }

    proptest! {
        #[test]
        fn no_secret_survives_and_nothing_panics(before in "\\PC{0,20}", name in "access_token|secret|js_code|session_key|phoneNumber") {
            let shown = address_without_secrets(&format!("{before}&{name}=s3cr3t-value&b=1"));
            prop_assert!(!shown.contains("s3cr3t-value"), "{}", shown);
            let body = serde_json::json!({ "a": [{ name: "s3cr3t-value", "before": before }] }).to_string();
            prop_assert!(!body_without_secrets(&body).contains("s3cr3t-value"));
            let _ = body_without_secrets(&before);
        }
    }
}
