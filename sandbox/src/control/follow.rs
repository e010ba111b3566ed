//! The fake phone: following a service account and leaving it.

use std::sync::Arc;

use poem::{
    Result, handler,
    http::StatusCode,
    web::{Data, Json, Path},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asked::Asked, no_such_app, problem, subscribe::post_soon};
use crate::{
    account::Account, config::Kind, demo::DEMO_OPENID, person::Follow, platform::Platform, push::Event, random,
    world::World,
};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WhoFollows {
    openid: String,
    unionid: Option<String>,
    scene: String,
    /// The text of the QR code that was scanned, if one was.
    qr_scene: Option<String>,
}

impl Default for WhoFollows {
    fn default() -> Self {
        Self { openid: DEMO_OPENID.into(), unionid: None, scene: "ADD_SCENE_SEARCH".into(), qr_scene: None }
    }
}

fn service_account<'a>(world: &'a mut World, app_id: &str) -> Result<&'a mut Account> {
    let account = world.accounts.get_mut(app_id).ok_or_else(|| no_such_app(app_id))?;
    if account.app.kind != Kind::ServiceAccount {
        return Err(problem(StatusCode::BAD_REQUEST, format!("{app_id} is no service account")));
    }
    Ok(account)
}

#[handler]
pub(super) fn follow(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<WhoFollows>,
) -> Result<Json<Value>> {
    let ask = asked.ask;
    let mut world = platform.change();
    let person = service_account(&mut world, &app_id)?.person(&ask.openid);
    if ask.unionid.is_some() {
        person.unionid = ask.unionid;
    }
    let scene = if ask.qr_scene.is_some() { "ADD_SCENE_QR_CODE".to_owned() } else { ask.scene };
    let qr_scene_str = ask.qr_scene.clone().unwrap_or_default();
    person.follow = Some(Follow { since: platform.clock.now(), scene, qr_scene_str });
    drop(world);

    let mut event = Event::about(&ask.openid, "subscribe");
    event = match ask.qr_scene {
        Some(qr_scene) => event.field("EventKey", format!("qrscene_{qr_scene}")).field("Ticket", random::text(60)),
        None => event.field("EventKey", ""),
    };
    post_soon(platform, app_id, event);
    Ok(Json(json!({ "openid": ask.openid, "follows": true })))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WhoLeaves {
    openid: String,
}

impl Default for WhoLeaves {
    fn default() -> Self {
        Self { openid: DEMO_OPENID.into() }
    }
}

#[handler]
pub(super) fn unfollow(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<WhoLeaves>,
) -> Result<Json<Value>> {
    let openid = asked.ask.openid;
    let mut world = platform.change();
    service_account(&mut world, &app_id)?.person(&openid).follow = None;
    drop(world);
    post_soon(platform, app_id, Event::about(&openid, "unsubscribe").field("EventKey", ""));
    Ok(Json(json!({ "openid": openid, "follows": false })))
}
