//! An event before it takes the shape an app has chosen (小程序订阅消息事件推送).

use serde_json::{Map, Value, json};

use super::xml;

/// Text in WeChat's own samples, numbers in those of others; see the knob `numbers_in_callbacks`.
const NUMERIC: &[&str] = &["CreateTime", "MsgID", "ErrorCode", "PopupScene"];

#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub name: String,
    pub from: String,
    pub fields: Map<String, Value>,
    /// Entries of `List`, one per template.
    pub list: Vec<Map<String, Value>>,
    /// Set when it happens; a repetition keeps it.
    pub created: Option<i64>,
}

impl Event {
    /// `from` is the openid the event is about.
    pub(crate) fn about(from: &str, name: &str) -> Self {
        Self { name: name.to_owned(), from: from.to_owned(), fields: Map::new(), list: Vec::new(), created: None }
    }

    pub(crate) fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn entry(mut self, fields: &[(&str, String)]) -> Self {
        self.list.push(fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect());
        self
    }

    fn head(&self, to: &str) -> Map<String, Value> {
        let mut head = Map::new();
        head.insert("ToUserName".into(), json!(to));
        head.insert("FromUserName".into(), json!(self.from));
        head.insert("CreateTime".into(), json!(self.created.unwrap_or_default().to_string()));
        head.insert("MsgType".into(), json!("event"));
        head.insert("Event".into(), json!(self.name));
        head.extend(self.fields.clone());
        head
    }

    /// `List` stands at the top: an object for one entry, an array for more.
    pub(super) fn json(&self, to: &str, as_numbers: bool) -> Map<String, Value> {
        let mut message = self.head(to);
        match self.list.as_slice() {
            [] => {}
            [one] => {
                message.insert("List".into(), json!(one));
            }
            more => {
                message.insert("List".into(), json!(more));
            }
        }
        if as_numbers {
            turn_to_numbers(&mut message);
        }
        message
    }

    /// In XML the entries are wrapped in an element named after the event.
    pub(super) fn xml(&self, to: &str) -> String {
        let mut inner = xml::elements(&self.head(to));
        if !self.list.is_empty() {
            let entries: String =
                self.list.iter().map(|entry| format!("<List>{}</List>", xml::elements(entry))).collect();
            let wrapper = camel_case(&self.name);
            inner.extend(["<", &wrapper, ">", &entries, "</", &wrapper, ">"]);
        }
        inner
    }
}

fn turn_to_numbers(object: &mut Map<String, Value>) {
    for (name, value) in object.iter_mut() {
        match value {
            Value::Object(inner) => turn_to_numbers(inner),
            Value::Array(items) => items.iter_mut().filter_map(Value::as_object_mut).for_each(turn_to_numbers),
            Value::String(text) if NUMERIC.contains(&name.as_str()) => {
                if let Ok(number) = text.parse::<i64>() {
                    *value = json!(number);
                }
            }
            _ => {}
        }
    }
}

/// `subscribe_msg_sent_event` → `SubscribeMsgSentEvent`.
fn camel_case(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Event;

    fn sent() -> Event {
        let mut event = Event::about("oU", "subscribe_msg_sent_event").entry(&[
            ("TemplateId", "T1".into()),
            ("MsgID", "1700827132819554304".into()),
            ("ErrorCode", "0".into()),
            ("ErrorStatus", "success".into()),
        ]);
        event.created = Some(1_610_969_440);
        event
    }

    #[test]
    fn one_entry_is_an_object_in_json() {
        let message = serde_json::to_string(&sent().json("gh_x", false)).unwrap_or_default();
        assert_eq!(
            message,
            r#"{"ToUserName":"gh_x","FromUserName":"oU","CreateTime":"1610969440","MsgType":"event","Event":"subscribe_msg_sent_event","List":{"TemplateId":"T1","MsgID":"1700827132819554304","ErrorCode":"0","ErrorStatus":"success"}}"#
        );
    }

    #[test]
    fn numbers_keep_all_digits() {
        let event = sent().entry(&[("TemplateId", "T2".into())]);
        let message = event.json("gh_x", true);
        assert_eq!(message["CreateTime"], 1_610_969_440);
        assert_eq!(message["List"][0]["MsgID"].as_i64(), Some(1_700_827_132_819_554_304));
        assert_eq!(message["List"][1]["TemplateId"], "T2");
    }

    #[test]
    fn entries_are_wrapped_in_xml() {
        assert_eq!(
            sent().xml("gh_x"),
            "<ToUserName><![CDATA[gh_x]]></ToUserName><FromUserName><![CDATA[oU]]></FromUserName>\
             <CreateTime>1610969440</CreateTime><MsgType><![CDATA[event]]></MsgType>\
             <Event><![CDATA[subscribe_msg_sent_event]]></Event><SubscribeMsgSentEvent><List>\
             <TemplateId><![CDATA[T1]]></TemplateId><MsgID>1700827132819554304</MsgID><ErrorCode>0</ErrorCode>\
             <ErrorStatus><![CDATA[success]]></ErrorStatus></List></SubscribeMsgSentEvent>"
        );
    }
}
