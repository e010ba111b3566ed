//! Pushes made to order: any event, a repetition, the console's URL check.

use std::sync::Arc;

use poem::{
    Result, handler,
    http::StatusCode,
    web::{Data, Json, Path},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{asked::Asked, no_such_app, problem};
use crate::{
    demo::DEMO_OPENID,
    platform::Platform,
    push::{self, Event},
};

/// Events about a user that the platform sends under an openid of its own.
const ABOUT_PRIVACY: &[&str] = &["user_info_modified", "user_authorization_revoke", "user_authorization_cancellation"];
const PLATFORM_OPENID: &str = "oPlatformSender0000000000001";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyEvent {
    event: String,
    #[serde(default = "demo_openid")]
    openid: String,
    /// `FromUserName`; the openid unless told.
    from: Option<String>,
    #[serde(default)]
    fields: Map<String, Value>,
    #[serde(default)]
    list: Vec<Map<String, Value>>,
    /// `CreateTime`; now unless told.
    create_time: Option<i64>,
}

fn demo_openid() -> String {
    DEMO_OPENID.into()
}

/// Posts the event in the app's mode and format and waits for the outcome.
#[handler]
pub(super) async fn post_event(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<AnyEvent>,
) -> Result<Json<Value>> {
    if !platform.look().accounts.contains_key(&app_id) {
        return Err(no_such_app(&app_id));
    }
    let ask = asked.ask;
    let about_privacy = ABOUT_PRIVACY.contains(&ask.event.as_str());
    let usual_sender = if about_privacy { PLATFORM_OPENID } else { ask.openid.as_str() };
    let mut event = Event::about(ask.from.as_deref().unwrap_or(usual_sender), &ask.event);
    if about_privacy {
        event = event.field("OpenID", ask.openid.as_str()).field("AppID", app_id.as_str());
        if ask.event == "user_authorization_revoke" {
            event = event.field("RevokeInfo", "8");
        }
    }
    event.fields.extend(ask.fields);
    event.list = ask.list;
    event.created = ask.create_time;
    match push::post(platform, &app_id, event).await {
        Some((n, delivered)) => Ok(Json(json!({ "n": n, "delivered": delivered }))),
        None => Err(no_callback(&app_id)),
    }
}

/// The same letter once more, byte for byte.
#[handler]
pub(super) async fn resend(
    Data(platform): Data<&Arc<Platform>>,
    Path((app_id, n)): Path<(String, u64)>,
) -> Result<Json<Value>> {
    match push::resend(platform, &app_id, n).await {
        Some(accepted) => Ok(Json(json!({ "n": n, "delivered": accepted }))),
        None => Err(problem(StatusCode::NOT_FOUND, format!("{app_id} has no callback {n}"))),
    }
}

/// What the console does when the callback is saved.
#[handler]
pub(super) async fn check_callback(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
) -> Result<Json<Value>> {
    let app = platform.look().accounts.get(&app_id).map(|account| account.app.clone());
    let app = app.ok_or_else(|| no_such_app(&app_id))?;
    match push::check_url(platform, &app).await {
        Some((ok, answer)) => Ok(Json(json!({ "ok": ok, "answer": answer }))),
        None => Err(no_callback(&app_id)),
    }
}

fn no_callback(app_id: &str) -> poem::Error {
    problem(StatusCode::CONFLICT, format!("{app_id} has no callback"))
}
