//! `POST /cgi-bin/message/subscribe/send`: a Mini Program's subscribe message.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Client, Error};
use crate::config::MiniProgramState;

/// A message as WeChat takes it.
#[derive(Serialize)]
pub struct SubscribeMessage<'a> {
    pub touser: &'a str,
    pub template_id: &'a str,
    /// A page of the Mini Program, without a slash at the beginning; without it the card leads nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<&'a str>,
    pub data: BTreeMap<&'a str, FieldValue<'a>>,
    pub miniprogram_state: MiniProgramState,
    pub lang: &'static str,
}

/// WeChat wants each value inside an object.
#[derive(Serialize)]
pub struct FieldValue<'a> {
    pub value: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    msgid: Option<Value>,
}

impl Client {
    /// sendMessage. Gives WeChat's message id where it tells one: a 64-bit number above 2^53, kept as
    /// text. WeChat knows no idempotency key here: an unanswered call must not be repeated blindly.
    pub async fn send_subscribe_message(
        &self,
        token: &SecretString,
        message: &SubscribeMessage<'_>,
    ) -> Result<Option<String>, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Answer = self.post("/cgi-bin/message/subscribe/send", &query, message).await?;
        Ok(answer.msgid.as_ref().and_then(id_text))
    }
}

/// A 64-bit id, which WeChat writes as a number or as text.
pub(super) fn id_text(id: &Value) -> Option<String> {
    match id {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        _ => None,
    }
}
