//! `GET /wxaapi/newtmpl/gettemplate`: the templates of an account.

use std::collections::HashMap;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::{Client, Error};

/// A template of the account.
#[derive(Debug, Deserialize)]
pub struct PrivateTemplate {
    #[serde(rename = "priTmplId")]
    pub id: String,
    pub title: String,
    /// Lines such as `会议时间:{{date2.DATA}}`.
    pub content: String,
    #[serde(default)]
    pub example: String,
    /// 2 is one-time, 3 is long-term.
    #[serde(rename = "type")]
    pub kind: Value,
    #[serde(default, rename = "keywordEnumValueList")]
    enum_values: Option<Vec<EnumValues>>,
}

#[derive(Debug, Deserialize)]
struct EnumValues {
    #[serde(rename = "keywordCode")]
    keyword_code: String,
    #[serde(default, rename = "enumValueList")]
    values: Vec<String>,
}

/// One placeholder of a template's text.
#[derive(Debug, PartialEq, Eq)]
pub struct Placeholder {
    /// `thing1`
    pub key: String,
    /// The text before it on its line.
    pub label: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Vec<PrivateTemplate>,
}

impl Client {
    /// getMessageTemplateList of the Mini Program's subscribe messages.
    pub async fn private_templates(&self, token: &SecretString) -> Result<Vec<PrivateTemplate>, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Answer = self.get("/wxaapi/newtmpl/gettemplate", &query).await?;
        Ok(answer.data)
    }
}

/// Lines of old templates that WeChat no longer shows and silently drops (2023-05-04).
const WITHDRAWN: [&str; 2] = ["first", "remark"];

impl PrivateTemplate {
    /// A service account's template, which has neither kinds nor enum values.
    pub(super) fn of_account(id: String, title: String, content: String, example: String) -> Self {
        Self { id, title, content, example, kind: Value::Null, enum_values: None }
    }

    /// Whether one acceptance is worth any number of messages.
    pub fn is_long_term(&self) -> bool {
        super::subscribe_message::id_text(&self.kind).as_deref() == Some("3")
    }

    /// The allowed values of each enum field, by key.
    pub fn enum_values(&self) -> HashMap<&str, &[String]> {
        let lists = self.enum_values.iter().flatten();
        lists.map(|list| (list.keyword_code.trim_end_matches(".DATA"), list.values.as_slice())).collect()
    }

    /// The placeholders of the content, in order.
    pub fn placeholders(&self) -> Vec<Placeholder> {
        let mut placeholders = placeholders(&self.content);
        placeholders.retain(|placeholder| !WITHDRAWN.contains(&placeholder.key.as_str()));
        placeholders
    }
}

fn placeholders(content: &str) -> Vec<Placeholder> {
    let line = |line: &str| {
        let (label, rest) = line.split_once("{{")?;
        let (key, _) = rest.split_once(".DATA}}")?;
        let label = label.trim().trim_end_matches([':', ':']).trim();
        Some(Placeholder { key: key.trim().to_owned(), label: label.to_owned() })
    };
    content.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_read_from_the_text() {
        let found = placeholders("会议时间:{{date2.DATA}}\n地点:{{thing1.DATA}}\r\n没有\n坏的:{{thing3");
        let found: Vec<_> = found.iter().map(|p| (p.key.as_str(), p.label.as_str())).collect();
        assert_eq!(found, [("date2", "会议时间"), ("thing1", "地点")]);
    }

    #[test]
    fn withdrawn_lines_of_a_service_accounts_template_are_no_fields() {
        let content = "{{first.DATA}}\n商品:{{thing1.DATA}}\n{{remark.DATA}}";
        let template = PrivateTemplate::of_account("T".into(), "t".into(), content.into(), String::new());
        let keys: Vec<_> = template.placeholders().into_iter().map(|placeholder| placeholder.key).collect();
        assert_eq!(keys, ["thing1"]);
    }

    #[test]
    fn a_template_reads_its_kind_and_enum_values_leniently() {
        let template: PrivateTemplate = serde_json::from_str(
            r#"{"priTmplId":"T","title":"t","content":"","type":"3","keywordEnumValueList":
                [{"keywordCode":"enum_string2.DATA","enumValueList":["晴","雨"]}],"new_field":1}"#,
        )
        .expect("a template");
        assert!(template.is_long_term());
        assert_eq!(template.enum_values()["enum_string2"], ["晴", "雨"]);
    }
}
