//! The `data` of a message against its template: every keyword once, each value by its rule.

use serde_json::{Map, Value};

use super::{
    keyword::{Flaw, check},
    refusal::{Refusal, refuse_with},
};
use crate::config::Template;

/// 47003 names the first keyword at fault, in the order of the template.
pub(super) fn check_data(data: &Map<String, Value>, template: &Template) -> Result<(), Refusal> {
    let keywords = template.keywords();
    for keyword in &keywords {
        let Some(value) = value_of(data, keyword) else {
            return invalid(keyword);
        };
        match check(keyword, value, template.values_of(keyword)) {
            Ok(()) => {}
            Err(Flaw::Empty) => {
                return refuse_with(47003, format!("argument invalid! data.{keyword}.value is emtpy"));
            }
            Err(Flaw::Invalid) => return invalid(keyword),
        }
    }
    match data.keys().find(|key| !keywords.contains(&key.as_str())) {
        Some(extra) => invalid(extra),
        None => Ok(()),
    }
}

/// A value is a text inside an object; a bare text or a number is not one.
pub(super) fn value_of<'a>(data: &'a Map<String, Value>, keyword: &str) -> Option<&'a str> {
    data.get(keyword)?.as_object()?.get("value")?.as_str()
}

pub(super) fn invalid(keyword: &str) -> Result<(), Refusal> {
    refuse_with(47003, format!("argument invalid! data.{keyword}.value invalid"))
}

/// The card as the user reads it.
pub(super) fn render(data: &Map<String, Value>, template: &Template) -> String {
    let mut text = template.content.clone();
    for keyword in template.keywords() {
        let value = value_of(data, keyword).unwrap_or_default();
        text = text.replace(&format!("{{{{{keyword}.DATA}}}}"), value);
    }
    text
}
