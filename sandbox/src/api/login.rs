//! Mini Program login (code2Session).

use poem::http::Method;
use serde_json::json;

use super::{Answer, Call, refusal::refuse, spend_quota};
use crate::{config::Kind, world::World};

/// `GET /sns/jscode2session`.
pub(super) fn code_to_session(call: &Call, world: &mut World) -> Answer {
    // The query of a POST is not read, so WeChat misses the first parameter.
    if call.method != Method::GET {
        return refuse(41002);
    }
    let Some(app_id) = call.param("appid") else {
        return refuse(41002);
    };
    let Some(secret) = call.param("secret") else {
        return refuse(41004);
    };
    let Some(js_code) = call.param("js_code") else {
        return refuse(41008);
    };
    if call.param("grant_type") != Some("authorization_code") {
        return refuse(40002);
    }
    let Some(account) = world.accounts.get_mut(app_id).filter(|account| account.app.kind == Kind::MiniProgram) else {
        return refuse(40013);
    };
    if account.app.secret != secret {
        return refuse(40125);
    }
    spend_quota(call, account)?;

    account.forget_old_codes(call.now_ms);
    let Some(code) = account.login_codes.get_mut(js_code) else {
        return refuse(40029);
    };
    if code.used {
        return refuse(40163);
    }
    if code.expired(call.now_ms) {
        return refuse(40029);
    }
    let openid = code.openid.clone();
    if account.knobs.blocked_openids.contains(&openid) {
        return refuse(40226);
    }
    let now = call.now();
    // Refused for speed, a code stays unspent: the caller may come again in the next minute.
    if account.person(&openid).logs_in_too_often(now) {
        return refuse(45011);
    }
    if let Some(code) = account.login_codes.get_mut(js_code) {
        code.used = true;
    }
    let person = account.person(&openid);
    person.log_in(now);
    let mut body = json!({ "session_key": person.session_key, "openid": openid });
    if let Some(unionid) = &person.unionid {
        body["unionid"] = json!(unionid);
    }
    Ok(body.into())
}
