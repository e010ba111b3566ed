//! The followers of a service account (用户管理).

use serde_json::{Value, json};

use super::{
    Answer, Call,
    call::text,
    refusal::{Refusal, refuse},
};
use crate::account::Account;

const LARGEST_BATCH: usize = 100;
const LARGEST_PAGE: usize = 10_000;

/// `GET /cgi-bin/user/info`.
pub(super) fn info(call: &Call, account: &mut Account) -> Answer {
    Ok(describe(account, call.param("openid"))?.into())
}

/// `POST /cgi-bin/user/info/batchget`.
pub(super) fn batch(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    let Some(users) = body.get("user_list").and_then(Value::as_array) else {
        return refuse(40032);
    };
    if users.is_empty() || users.len() > LARGEST_BATCH {
        return refuse(40032);
    }
    let mut described = Vec::with_capacity(users.len());
    for user in users {
        let openid = user.as_object().and_then(|user| text(user, "openid"));
        described.push(describe(account, openid)?);
    }
    Ok(json!({ "user_info_list": described }).into())
}

/// Of somebody who does not follow, WeChat tells nothing but that.
fn describe(account: &Account, openid: Option<&str>) -> Result<Value, Refusal> {
    let Some((openid, person)) = openid.and_then(|openid| account.people.get_key_value(openid)) else {
        return refuse(40003);
    };
    let Some(follow) = &person.follow else {
        return Ok(json!({ "subscribe": 0, "openid": openid }));
    };
    let mut described = json!({
        "subscribe": 1,
        "openid": openid,
        "language": "zh_CN",
        "subscribe_time": follow.since,
        "remark": "",
        "groupid": 0,
        "tagid_list": [],
        "subscribe_scene": follow.scene,
        "qr_scene": 0,
        "qr_scene_str": follow.qr_scene_str,
    });
    if let Some(unionid) = &person.unionid {
        described["unionid"] = json!(unionid);
    }
    Ok(described)
}

/// `GET /cgi-bin/user/get`: pages of ten thousand, by openid.
pub(super) fn list(call: &Call, account: &mut Account) -> Answer {
    let after = call.param("next_openid").unwrap_or_default();
    let followers = || account.people.iter().filter(|(_, person)| person.follow.is_some()).map(|(openid, _)| openid);
    let page: Vec<&String> = followers().filter(|openid| openid.as_str() > after).take(LARGEST_PAGE).collect();
    let mut answer = json!({ "total": followers().count(), "count": page.len() });
    if !page.is_empty() {
        answer["data"] = json!({ "openid": page });
    }
    answer["next_openid"] = json!(page.last().map_or("", |openid| openid.as_str()));
    Ok(answer.into())
}
