//! Access tokens (getAccessToken, getStableAccessToken) and their checking on all other paths.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    Answer, Call,
    call::text,
    refusal::{Refusal, refuse, refuse_with},
    spend_quota,
};
use crate::{
    account::Account,
    token_book::{Granted, Standing, Terms},
    world::World,
};

/// `GET /cgi-bin/token`.
pub(super) fn classic(call: &Call, world: &mut World) -> Answer {
    let account = identify(call, world, call.param("grant_type"), call.param("appid"), call.param("secret"))?;
    let terms = terms(account);
    Ok(granted(account.tokens.classic(terms, call.now())).into())
}

/// `POST /cgi-bin/stable_token`.
pub(super) fn stable(call: &Call, world: &mut World) -> Answer {
    let body = call.object()?;
    let account = identify(call, world, text(&body, "grant_type"), text(&body, "appid"), text(&body, "secret"))?;
    let force = match body.get("force_refresh") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(force)) => *force,
        Some(_) => return refuse(47001),
    };
    let terms = terms(account);
    if !force {
        return Ok(granted(account.tokens.stable(terms, call.now())).into());
    }
    match account.tokens.stable_forced(terms, call.now()) {
        Some(token) => Ok(granted(token).into()),
        None => refuse(45009),
    }
}

/// The app whose newest token this is. 41001, 40014, 42001, 40001 as the token deserves.
pub(super) fn authorize(call: &Call, world: &mut World) -> Result<String, Refusal> {
    let Some(value) = call.param("access_token") else {
        return refuse(41001);
    };
    let Some((account, standing)) = find(world, value, call.now()) else {
        return refuse(40014);
    };
    if account.knobs.refuse_tokens > 0 {
        account.knobs.refuse_tokens -= 1;
        return refuse(40001);
    }
    match standing {
        Standing::Good => Ok(account.app.app_id.clone()),
        Standing::NotNewest => refuse(40001),
        Standing::Expired => refuse(42001),
    }
}

/// Whose token it is, whatever its state; for counting.
pub(crate) fn owner_of(world: &mut World, token: &str) -> Option<String> {
    find(world, token, 0).map(|(account, _)| account.app.app_id.clone())
}

fn find<'a>(world: &'a mut World, value: &str, now: i64) -> Option<(&'a mut Account, Standing)> {
    world.accounts.values_mut().find_map(|account| {
        let standing = account.tokens.standing(value, now)?;
        Some((account, standing))
    })
}

fn identify<'a>(
    call: &Call,
    world: &'a mut World,
    grant_type: Option<&str>,
    app_id: Option<&str>,
    secret: Option<&str>,
) -> Result<&'a mut Account, Refusal> {
    if grant_type != Some("client_credential") {
        return refuse(40002);
    }
    let Some(app_id) = app_id else {
        return refuse(41002);
    };
    let Some(secret) = secret else {
        return refuse(41004);
    };
    let Some(account) = world.accounts.get_mut(app_id) else {
        return refuse(40013);
    };
    if account.app.secret != secret {
        return refuse(40125);
    }
    check_white_list(call.ip, account)?;
    spend_quota(call, account)?;
    Ok(account)
}

fn check_white_list(ip: IpAddr, account: &Account) -> Result<(), Refusal> {
    let Some(list) = &account.knobs.ip_white_list else {
        return Ok(());
    };
    if list.iter().any(|entry| entry.parse() == Ok(ip)) {
        return Ok(());
    }
    let mapped = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    // Rust prints a mapped address as WeChat does: ::ffff:1.2.3.4
    refuse_with(40164, format!("invalid ip {ip} ipv6 {mapped}, not in whitelist"))
}

fn terms(account: &Account) -> Terms {
    Terms::new(account.knobs.token_life_seconds, account.knobs.renew_late)
}

fn granted((access_token, expires_in): Granted) -> Value {
    json!({ "access_token": access_token, "expires_in": expires_in })
}
