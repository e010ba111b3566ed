//! Quotas and failed calls (openApi管理: clearQuota, getApiQuota, clearApiQuota, getRidInfo).

use serde_json::json;

use super::{
    Answer, Call, For, Handler,
    call::text,
    ok,
    refusal::{Refusal, refuse},
    routes::route,
};
use crate::{account::Account, config::Kind, world::World};

const RID_KEPT: i64 = 7 * 86_400;

/// `POST /cgi-bin/clear_quota`.
pub(super) fn clear_all(call: &Call, account: &mut Account) -> Answer {
    let body = call.object()?;
    if text(&body, "appid") != Some(account.app.app_id.as_str()) {
        return refuse(40013);
    }
    clear(call, account)
}

/// `POST /cgi-bin/clear_quota/v2`: by secret instead of token, in the body or in the query.
pub(super) fn clear_all_by_secret(call: &Call, world: &mut World) -> Answer {
    let body = if call.body.is_empty() { None } else { Some(call.object()?) };
    let given = |name| match &body {
        Some(body) => text(body, name).or_else(|| call.param(name)),
        None => call.param(name),
    };
    let Some(app_id) = given("appid") else {
        return refuse(41002);
    };
    let Some(secret) = given("appsecret") else {
        return refuse(41004);
    };
    let Some(account) = world.accounts.get_mut(app_id) else {
        return refuse(40013);
    };
    if account.app.secret != secret {
        return refuse(40125);
    }
    clear(call, account)
}

fn clear(call: &Call, account: &mut Account) -> Answer {
    if account.quota.clear_all(call.now()) { Ok(ok().into()) } else { refuse(48006) }
}

/// `POST /cgi-bin/openapi/quota/get`.
pub(super) fn quota(call: &Call, account: &mut Account) -> Answer {
    let path = own_path(call, account)?;
    let limit = account.knobs.quotas.get(&path);
    let mut answer = ok();
    let described = account.quota.describe(&path, limit, call.now());
    if let Some(members) = described.as_object() {
        for (name, value) in members {
            answer[name] = value.clone();
        }
    }
    Ok(answer.into())
}

/// `POST /cgi-bin/openapi/quota/clear`.
pub(super) fn clear_one(call: &Call, account: &mut Account) -> Answer {
    let path = own_path(call, account)?;
    if account.quota.clear_one(&path, call.now()) { Ok(ok().into()) } else { refuse(45009) }
}

/// A path of this account type, with its leading slash. `/sns/…` has no quota to ask for.
fn own_path(call: &Call, account: &Account) -> Result<String, Refusal> {
    let body = call.object()?;
    let path = text(&body, "cgi_path").unwrap_or_default();
    let Some((_, handler)) = route(path).filter(|_| !path.starts_with("/sns/")) else {
        return refuse(76021);
    };
    let audience = match handler {
        Handler::Open(_) => For::Both,
        Handler::WithToken(audience, _) | Handler::WithTokenAndWorld(audience, _) => audience,
    };
    match (audience, account.app.kind) {
        (For::MiniProgram, Kind::ServiceAccount) | (For::ServiceAccount, Kind::MiniProgram) => refuse(76022),
        _ => Ok(path.to_owned()),
    }
}

/// `POST /cgi-bin/openapi/rid/get`.
pub(super) fn rid(call: &Call, world: &mut World, app_id: &str) -> Answer {
    let body = call.object()?;
    let rid = text(&body, "rid").unwrap_or_default();
    let parts: Vec<&str> = rid.split('-').collect();
    if parts.len() != 3 || parts.iter().any(|part| part.len() != 8 || !part.bytes().all(|b| b.is_ascii_hexdigit())) {
        return refuse(76002);
    }
    let Some(failed) = world.failed_call(rid) else {
        return refuse(76001);
    };
    if failed.app_id.as_deref() != Some(app_id) {
        return refuse(76003);
    }
    if call.now() - failed.time > RID_KEPT {
        return refuse(76004);
    }
    let mut answer = ok();
    answer["request"] = json!(failed.description);
    Ok(answer.into())
}
