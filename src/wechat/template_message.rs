//! A service account's template messages (模板消息): sending one, listing the templates.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Client, Error,
    subscribe_message::{FieldValue, id_text},
    template::PrivateTemplate,
};

/// A message as WeChat takes it.
#[derive(Serialize)]
pub struct TemplateMessage<'a> {
    pub touser: &'a str,
    pub template_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<&'a str>,
    /// Preferred over `url` on phones that can open it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miniprogram: Option<Target<'a>>,
    pub data: BTreeMap<&'a str, FieldValue<'a>>,
    /// WeChat sends one message for an openid and this id within ten minutes, however often it is asked.
    pub client_msg_id: &'a str,
}

/// A page of a Mini Program that is linked to the service account.
#[derive(Serialize)]
pub struct Target<'a> {
    pub appid: &'a str,
    pub pagepath: &'a str,
}

#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    msgid: Option<Value>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    template_list: Vec<AccountTemplate>,
}

#[derive(Deserialize)]
struct AccountTemplate {
    template_id: String,
    title: String,
    content: String,
    #[serde(default)]
    example: String,
}

impl Client {
    /// sendTemplateMessage. Gives WeChat's message id, which the receipt names.
    pub async fn send_template_message(
        &self,
        token: &SecretString,
        message: &TemplateMessage<'_>,
    ) -> Result<Option<String>, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Sent = self.post("/cgi-bin/message/template/send", &query, message).await?;
        Ok(answer.msgid.as_ref().and_then(id_text))
    }

    /// getAllTemplates of a service account.
    pub async fn account_templates(&self, token: &SecretString) -> Result<Vec<PrivateTemplate>, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Listed = self.get("/cgi-bin/template/get_all_private_template", &query).await?;
        let template = |t: AccountTemplate| PrivateTemplate::of_account(t.template_id, t.title, t.content, t.example);
        Ok(answer.template_list.into_iter().map(template).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_only_the_target_it_has() {
        let message = TemplateMessage {
            touser: "o1",
            template_id: "T",
            url: None,
            miniprogram: Some(Target { appid: "wx1", pagepath: "pages/order?id=1" }),
            data: BTreeMap::from([("thing1", FieldValue { value: "红富士" })]),
            client_msg_id: "ntf_1",
        };
        let text = serde_json::to_string(&message).expect("JSON");
        assert_eq!(
            text,
            r#"{"touser":"o1","template_id":"T","miniprogram":{"appid":"wx1","pagepath":"pages/order?id=1"},"data":{"thing1":{"value":"红富士"}},"client_msg_id":"ntf_1"}"#
        );
    }
}
