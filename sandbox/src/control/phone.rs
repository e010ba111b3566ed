//! The fake phone: logging in, the phone-number button, open data.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use poem::{
    Response, Result, handler,
    http::StatusCode,
    web::{Data, Json, Path},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{answer, asked::Asked, no_such_app, problem};
use crate::{
    account::Code,
    demo::DEMO_OPENID,
    platform::Platform,
    push::{encrypt_user_data, raw_data_signature},
    random,
};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LogIn {
    openid: Option<String>,
    unionid: Option<String>,
}

/// `wx.login` on a phone: a new code of that user, who is created when new.
#[handler]
pub(super) fn login_code(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<LogIn>,
) -> Result<Response> {
    let openid = asked.ask.openid.unwrap_or_else(|| DEMO_OPENID.to_owned());
    let mut world = platform.change();
    let account = world.accounts.get_mut(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    let person = account.person(&openid);
    if asked.ask.unionid.is_some() {
        person.unionid = asked.ask.unionid;
    }
    let code = format!("0{}", random::text(31));
    let made_ms = platform.clock.now_ms();
    account.login_codes.insert(code.clone(), Code { openid: openid.clone(), made_ms, ..Code::default() });
    Ok(answer(asked.format.as_deref(), &code, json!({ "code": code, "openid": openid })))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ShareNumber {
    openid: String,
    phone_number: String,
    country_code: String,
}

impl Default for ShareNumber {
    fn default() -> Self {
        Self { openid: DEMO_OPENID.into(), phone_number: "13800000001".into(), country_code: "86".into() }
    }
}

/// The phone-number button: a code for `getuserphonenumber`.
#[handler]
pub(super) fn phone_code(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<ShareNumber>,
) -> Result<Response> {
    let ShareNumber { openid, phone_number, country_code } = asked.ask;
    let mut world = platform.change();
    let account = world.accounts.get_mut(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    account.person(&openid);
    let code = random::hex(64);
    let made_ms = platform.clock.now_ms();
    account.forget_old_codes(made_ms);
    let kept = Code { openid: openid.clone(), made_ms, used: false, phone_number, country_code };
    account.phone_codes.insert(code.clone(), kept);
    Ok(answer(asked.format.as_deref(), &code, json!({ "code": code, "openid": openid })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenData {
    #[serde(default = "demo_openid")]
    openid: String,
    /// An object gets a watermark unless it has one; a text is encrypted as it is.
    data: Value,
}

fn demo_openid() -> String {
    DEMO_OPENID.into()
}

/// An open-data component: data under the user's present session key.
#[handler]
pub(super) fn encrypted_data(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<OpenData>,
) -> Result<Json<Value>> {
    let OpenData { openid, data } = asked.ask;
    let world = platform.look();
    let account = world.accounts.get(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    let session_key = account.people.get(&openid).map(|person| person.session_key.as_str()).unwrap_or_default();
    let (raw_data, plain) = match data {
        Value::String(text) => (text.clone(), text),
        mut data => {
            let raw_data = data.to_string();
            if let Some(members) = data.as_object_mut() {
                let watermark = json!({ "timestamp": platform.clock.now(), "appid": app_id });
                members.entry("watermark").or_insert(watermark);
            }
            (raw_data, data.to_string())
        }
    };
    let iv = rand::random::<[u8; 16]>();
    let encrypted = encrypt_user_data(session_key, iv, &plain)
        .ok_or_else(|| problem(StatusCode::CONFLICT, format!("{openid} has no session: log in first")))?;
    Ok(Json(json!({
        "encryptedData": encrypted,
        "iv": STANDARD.encode(iv),
        "rawData": raw_data,
        "signature": raw_data_signature(&raw_data, session_key),
    })))
}
