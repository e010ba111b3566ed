//! Pushes in XML, read into the shape the JSON ones have: an element with others inside is an object,
//! any other is a text, and one that is repeated is an array.
//!
//! There is no document type and hence no entity but XML's own five and the numbered ones, so a small
//! body never grows; depth and number of elements are limited.

use quick_xml::{
    Reader,
    events::{BytesRef, Event},
};
use serde_json::{Map, Value};

use super::Unreadable;

const DEEPEST: usize = 32;
const MOST_ELEMENTS: usize = 10_000;

struct Open {
    name: String,
    fields: Map<String, Value>,
    text: String,
}

/// The elements inside the outermost one.
pub(super) fn fields(text: &str) -> Result<Map<String, Value>, Unreadable> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|_| Unreadable::NoPush)?;
        if matches!(event, Event::Start(_) | Event::Empty(_)) {
            elements += 1;
            if elements > MOST_ELEMENTS || open.len() >= DEEPEST {
                return Err(Unreadable::TooMuch);
            }
        }
        match event {
            Event::Start(tag) => {
                open.push(Open { name: tag.local_name().as_ref().to_owned(), fields: Map::new(), text: String::new() });
            }
            Event::Empty(tag) => {
                let parent = open.last_mut().ok_or(Unreadable::NoPush)?;
                insert(&mut parent.fields, tag.local_name().as_ref().to_owned(), Value::String(String::new()));
            }
            Event::End(_) => {
                let Open { name, fields, text } = open.pop().ok_or(Unreadable::NoPush)?;
                let Some(parent) = open.last_mut() else {
                    return if fields.is_empty() { Err(Unreadable::NoPush) } else { Ok(fields) };
                };
                let value = if fields.is_empty() { Value::String(text) } else { Value::Object(fields) };
                insert(&mut parent.fields, name, value);
            }
            Event::Text(text) => append(&mut open, &text.xml10_content()),
            Event::CData(text) => append(&mut open, &text.xml10_content()),
            Event::GeneralRef(reference) => append(&mut open, character(&reference)?.encode_utf8(&mut [0; 4])),
            Event::DocType(_) => return Err(Unreadable::DocumentType),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => return Err(Unreadable::NoPush),
        }
    }
}

fn append(open: &mut [Open], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn insert(fields: &mut Map<String, Value>, name: String, value: Value) {
    match fields.get_mut(&name) {
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
        None => {
            fields.insert(name, value);
        }
    }
}

/// `&amp;` and its four fellows, `&#38;`, `&#x26;`.
fn character(reference: &BytesRef<'_>) -> Result<char, Unreadable> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| Unreadable::NoPush)? {
        return Ok(character);
    }
    match &*reference.xml10_content() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(Unreadable::DocumentType),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Value, Unreadable> {
        fields(text).map(Value::Object)
    }

    #[test]
    fn elements_become_the_shape_of_json() {
        let text = "<?xml version=\"1.0\"?>\n<xml><To><![CDATA[gh_<x>]]></To>\n <N>7</N><Empty/><None></None>\n\
            <W><List><A>1</A></List><List><A><![CDATA[2 &amp;]]></A></List></W><T>a &amp; b&#33;&#x4e2d;</T></xml>";
        let expected = json!({ "To": "gh_<x>", "N": "7", "Empty": "", "None": "",
            "W": { "List": [{ "A": "1" }, { "A": "2 &amp;" }] }, "T": "a & b!中" });
        assert_eq!(read(text), Ok(expected));
    }

    #[test]
    fn entities_of_its_own_making_are_refused() {
        let laughs = "<!DOCTYPE x [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><xml><T>&b;</T></xml>";
        assert_eq!(read(laughs), Err(Unreadable::DocumentType));
        assert_eq!(read("<xml><T>&b;</T></xml>"), Err(Unreadable::DocumentType));
    }

    #[test]
    fn depth_and_number_are_limited() {
        assert_eq!(read(&"<a>".repeat(1_000_000)), Err(Unreadable::TooMuch));
        assert_eq!(read(&format!("<xml>{}</xml>", "<a/>".repeat(MOST_ELEMENTS))), Err(Unreadable::TooMuch));
    }

    #[test]
    fn what_is_no_element_with_others_inside_is_no_push() {
        for text in
            ["<", "<xml>", "<xml/>", "<xml>text</xml>", "<xml><a></b></xml>", "<xml><a>&#0;</a></xml>", "</xml>"]
        {
            assert_eq!(read(text), Err(Unreadable::NoPush), "{text}");
        }
    }
}
