//! Looking at what happened: messages on phones, credits, calls, pushes.

use std::sync::Arc;

use poem::{
    Result, handler,
    web::{Data, Json, Path},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asked::Asked, no_such_app};
use crate::{account::Message, platform::Platform};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfUser {
    openid: Option<String>,
}

/// In the order they arrived.
#[handler]
pub(super) fn messages(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<OfUser>,
) -> Result<Json<Value>> {
    let world = platform.look();
    let account = world.accounts.get(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    let wanted = asked.ask.openid.as_deref();
    let messages: Vec<&Message> =
        account.messages.iter().filter(|message| wanted.is_none_or(|openid| openid == message.openid)).collect();
    let total = if wanted.is_none() { account.messages_total } else { messages.len() as u64 };
    Ok(Json(json!({ "total": total, "messages": messages })))
}

#[handler]
pub(super) fn credits(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<OfUser>,
) -> Result<Json<Value>> {
    let world = platform.look();
    let account = world.accounts.get(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    let wanted = asked.ask.openid.as_deref();
    let mut credits = Vec::new();
    for (openid, person) in account.people.iter().filter(|(one, _)| wanted.is_none_or(|openid| openid == *one)) {
        for (template_id, credit) in &person.credits {
            credits.push(json!({
                "openid": openid,
                "template_id": template_id,
                "one_time": credit.one_time,
                "long_term": credit.long_term,
                "refused": credit.refused,
            }));
        }
    }
    Ok(Json(json!({ "credits": credits })))
}

#[handler]
pub(super) fn calls(Data(platform): Data<&Arc<Platform>>, Path(app_id): Path<String>) -> Result<Json<Value>> {
    let world = platform.look();
    let account = world.accounts.get(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    Ok(Json(account.calls.describe()))
}

/// All calls, also those that named no app.
#[handler]
pub(super) fn all_calls(Data(platform): Data<&Arc<Platform>>) -> Json<Value> {
    Json(platform.look().calls.describe())
}

#[handler]
pub(super) fn callbacks(Data(platform): Data<&Arc<Platform>>, Path(app_id): Path<String>) -> Result<Json<Value>> {
    let world = platform.look();
    let account = world.accounts.get(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    Ok(Json(json!({ "callbacks": account.posted.describe() })))
}
