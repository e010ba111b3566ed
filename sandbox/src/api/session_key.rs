//! Checking and resetting a user's session key (checkSessionKey, resetUserSessionKey).

use serde_json::json;

use super::{
    Answer, Call, ok,
    refusal::{Refusal, refuse},
};
use crate::{
    account::Account,
    person::{Person, new_session_key},
    push::session_signature,
};

/// `GET /wxa/checksession`.
pub(super) fn check(call: &Call, account: &mut Account) -> Answer {
    let (_, person) = person(call, account)?;
    if !person.has_session(call.now()) || !is_signed(call, person) {
        return refuse(87009);
    }
    Ok(ok().into())
}

/// `GET /wxa/resetusersessionkey`: the new key keeps the old one's end.
pub(super) fn reset(call: &Call, account: &mut Account) -> Answer {
    let (openid, person) = person(call, account)?;
    if !person.has_session(call.now()) {
        return refuse(87007);
    }
    if !is_signed(call, person) {
        return refuse(87009);
    }
    person.session_key = new_session_key();
    let mut answer = ok();
    answer["openid"] = json!(openid);
    answer["session_key"] = json!(person.session_key);
    Ok(answer.into())
}

fn person<'a>(call: &Call, account: &'a mut Account) -> Result<(String, &'a mut Person), Refusal> {
    let (Some(openid), Some(_)) = (call.param("openid"), call.param("signature")) else {
        return refuse(40097);
    };
    if call.param("sig_method") != Some("hmac_sha256") {
        return refuse(87008);
    }
    match account.people.get_mut(openid) {
        Some(person) => Ok((openid.to_owned(), person)),
        None => refuse(40003),
    }
}

/// The signature is made over an empty text.
fn is_signed(call: &Call, person: &Person) -> bool {
    call.param("signature") == Some(session_signature(&person.session_key, "").as_str())
}
