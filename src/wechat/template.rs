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

/// All placeholders of each line: old templates hold several. A field that is shown twice is one field.
fn placeholders(content: &str) -> Vec<Placeholder> {
    let mut found: Vec<Placeholder> = Vec::new();
    for line in content.lines() {
        let mut label = String::new();
        let mut parts = line.split("{{");
        label.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let Some((key, after)) = part.split_once("}}").and_then(|(key, after)| Some((data_key(key)?, after)))
            else {
                label.push_str(part);
                continue;
            };
            if found.iter().all(|other| other.key != key) {
                found.push(Placeholder { key: key.to_owned(), label: label_of(&label) });
            }
            after.clone_into(&mut label);
        }
    }
    found
}

/// ` thing1.DATA ` → `thing1`
fn data_key(text: &str) -> Option<&str> {
    text.trim().strip_suffix(".DATA").map(str::trim).filter(|key| !key.is_empty())
}

/// What surrounds a label: blanks and punctuation, Chinese or not.
fn label_of(text: &str) -> String {
    let punctuation = |c: char| {
        c.is_ascii_punctuation() || ('\u{3000}'..='\u{303f}').contains(&c) || ('\u{ff00}'..='\u{ff20}').contains(&c)
    };
    text.trim_matches(|c: char| c.is_whitespace() || punctuation(c)).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn placeholders_are_read_from_the_text() {
        let found = placeholders("会议时间:{{date2.DATA}}\n地点:{{thing1.DATA}}\r\n没有\n坏的:{{thing3");
        let found: Vec<_> = found.iter().map(|p| (p.key.as_str(), p.label.as_str())).collect();
        assert_eq!(found, [("date2", "会议时间"), ("thing1", "地点")]);
    }

    #[test]
    fn a_line_may_hold_several_placeholders() {
        let read = |content: &str| -> Vec<(String, String)> {
            placeholders(content).into_iter().map(|found| (found.key, found.label)).collect()
        };
        let pairs = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
            expected.iter().map(|(key, label)| ((*key).to_owned(), (*label).to_owned())).collect()
        };
        assert_eq!(
            read("您好{{keyword1.DATA}},您在{{keyword2.DATA}}的订单:{{keyword3.DATA}}已发货"),
            pairs(&[("keyword1", "您好"), ("keyword2", "您在"), ("keyword3", "的订单")])
        );
        assert_eq!(read("{{thing1.DATA}}{{thing2.DATA}}"), pairs(&[("thing1", ""), ("thing2", "")]));
        assert_eq!(
            read("时间\u{ff1a}{{ date1.DATA }}\u{ff0c}地点\u{ff1a}{{thing2.DATA}}\n再次:{{thing2.DATA}}"),
            pairs(&[("date1", "时间"), ("thing2", "地点")]),
            "a field that is shown twice is one"
        );
        assert_eq!(read("{{坏的 {{thing1.DATA}} {{thing2}} {{.DATA}}"), pairs(&[("thing1", "坏的")]));
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

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "([{}.DATA:a1\n ]|\\{\\{|\\}\\}|\\.DATA|\\PC){0,40}") {
            for found in placeholders(&text) {
                prop_assert!(text.contains(&found.key) && found.label.len() <= text.len());
            }
        }
    }
}
