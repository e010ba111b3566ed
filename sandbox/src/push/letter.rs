//! One signed post, in the mode and format of the app.

use serde_json::{Value, json};

use super::{
    cipher::{encrypt_push, sign},
    event::Event,
    xml::cdata,
};
use crate::{
    config::{App, Callback, Format, Mode},
    random,
};

/// What goes over the wire; a repeated try sends it unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    pub url: String,
    pub query: Vec<(String, String)>,
    pub content_type: &'static str,
    pub body: String,
    /// The message before encryption.
    pub plain: String,
}

/// `None` when the app has no callback.
pub(super) fn write(app: &App, event: &Event, as_numbers: bool, now: i64) -> Option<Letter> {
    let callback = app.callback.as_ref()?;
    let format = app.push_format();
    let inner = match format {
        Format::Json => Value::from(event.json(&app.original_id, as_numbers)).to_string(),
        Format::Xml => event.xml(&app.original_id),
    };
    let plain = match format {
        Format::Json => inner.clone(),
        Format::Xml => format!("<xml>{inner}</xml>"),
    };
    let encrypted = match callback.mode {
        Mode::Plain => None,
        Mode::Compatible | Mode::Secure => {
            let key = callback.encoding_aes_key.as_deref().unwrap_or_default();
            let random = random::hex(16).into_bytes().try_into().ok()?;
            Some(encrypt_push(key, random, &plain, &app.app_id)?)
        }
    };
    let body = match (format, callback.mode, &encrypted) {
        (_, Mode::Plain, _) | (_, _, None) => plain.clone(),
        (Format::Json, Mode::Secure, Some(encrypted)) => {
            json!({ "ToUserName": app.original_id, "Encrypt": encrypted }).to_string()
        }
        (Format::Json, Mode::Compatible, Some(encrypted)) => {
            let mut message = event.json(&app.original_id, as_numbers);
            message.insert("Encrypt".into(), json!(encrypted));
            Value::from(message).to_string()
        }
        (Format::Xml, Mode::Secure, Some(encrypted)) => format!(
            "<xml><ToUserName>{}</ToUserName><Encrypt>{}</Encrypt></xml>",
            cdata(&app.original_id),
            cdata(encrypted)
        ),
        (Format::Xml, Mode::Compatible, Some(encrypted)) => {
            format!("<xml>{inner}<Encrypt>{}</Encrypt></xml>", cdata(encrypted))
        }
    };
    Some(Letter {
        url: callback.url.clone(),
        query: signed_query(callback, &event.from, encrypted.as_deref(), now),
        content_type: match format {
            Format::Json => "application/json",
            Format::Xml => "text/xml",
        },
        body,
        plain,
    })
}

fn signed_query(callback: &Callback, openid: &str, encrypted: Option<&str>, now: i64) -> Vec<(String, String)> {
    let (timestamp, nonce) = (now.to_string(), random::digits(9));
    let mut query = vec![
        ("signature".to_owned(), sign(&[&callback.token, &timestamp, &nonce])),
        ("timestamp".to_owned(), timestamp.clone()),
        ("nonce".to_owned(), nonce.clone()),
        ("openid".to_owned(), openid.to_owned()),
    ];
    if let Some(encrypted) = encrypted {
        query.push(("encrypt_type".to_owned(), "aes".to_owned()));
        query.push(("msg_signature".to_owned(), sign(&[&callback.token, &timestamp, &nonce, encrypted])));
    }
    query
}
