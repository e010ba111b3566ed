//! The phone number behind a button's code (getPhoneNumber).

use serde_json::json;

use super::{Answer, Call, call::text, ok, refusal::refuse};
use crate::world::World;

/// `POST /wxa/business/getuserphonenumber`.
pub(super) fn get(call: &Call, world: &mut World, app_id: &str) -> Answer {
    let body = call.object()?;
    let Some(name) = text(&body, "code") else {
        return refuse(40029);
    };
    let elsewhere = world.accounts.iter().any(|(id, other)| id != app_id && other.phone_codes.contains_key(name));
    if elsewhere {
        return refuse(40013);
    }
    let code = world.accounts.get_mut(app_id).and_then(|account| account.phone_codes.get_mut(name));
    let Some(code) = code.filter(|code| !code.used && !code.expired(call.now_ms)) else {
        return refuse(40029);
    };
    if text(&body, "openid").is_some_and(|openid| openid != code.openid) {
        return refuse(40003);
    }
    code.used = true;
    let full = match code.country_code.as_str() {
        "86" => code.phone_number.clone(),
        country => format!("+{country}{}", code.phone_number),
    };
    let mut answer = ok();
    answer["phone_info"] = json!({
        "phoneNumber": full,
        "purePhoneNumber": code.phone_number,
        "countryCode": code.country_code,
        "watermark": { "timestamp": call.now(), "appid": app_id },
    });
    Ok(answer.into())
}
