//! The WeChat console and the clock: apps, knobs, time.

use std::sync::Arc;

use poem::{
    Result, handler,
    http::StatusCode,
    web::{Data, Json, Path},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{asked::Asked, no_such_app, problem};
use crate::{account::Account, config::App, knobs::Knobs, platform::Platform};

#[handler]
pub(super) fn list_apps(Data(platform): Data<&Arc<Platform>>) -> Json<Value> {
    let world = platform.look();
    Json(world.accounts.values().map(|account| json!(account.app)).collect())
}

#[handler]
pub(super) fn show_app(Data(platform): Data<&Arc<Platform>>, Path(app_id): Path<String>) -> Result<Json<Value>> {
    let world = platform.look();
    let account = world.accounts.get(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    Ok(Json(describe(account)))
}

/// Creates an app or replaces its configuration; users and credits stay.
#[handler]
pub(super) fn put_app(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<App>,
) -> Result<Json<Value>> {
    let mut app = asked.ask;
    if app.app_id.is_empty() {
        app.app_id.clone_from(&app_id);
    }
    if app.app_id != app_id {
        return Err(problem(StatusCode::BAD_REQUEST, "app_id differs from the path"));
    }
    if let Some(complaint) = app.complaint() {
        return Err(problem(StatusCode::BAD_REQUEST, complaint));
    }
    let mut world = platform.change();
    world.configure(app);
    let account = world.accounts.get(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    Ok(Json(describe(account)))
}

/// Lays the given knobs over the present ones.
#[handler]
pub(super) fn turn_knobs(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<Map<String, Value>>,
) -> Result<Json<Value>> {
    let mut world = platform.look();
    let account = world.accounts.get_mut(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    let mut knobs = json!(account.knobs);
    for (name, value) in asked.ask {
        knobs[name] = value;
    }
    account.knobs =
        serde_json::from_value::<Knobs>(knobs).map_err(|error| problem(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(Json(json!(account.knobs)))
}

fn describe(account: &Account) -> Value {
    json!({ "app": account.app, "knobs": account.knobs })
}

#[handler]
pub(super) fn clock(Data(platform): Data<&Arc<Platform>>) -> Json<Value> {
    Json(json!({
        "now": platform.clock.now(),
        "now_ms": platform.clock.now_ms(),
        "offset_seconds": platform.clock.offset_ms().div_euclid(1000),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: i64,
}

#[handler]
pub(super) fn advance_clock(Data(platform): Data<&Arc<Platform>>, asked: Asked<Advance>) -> Json<Value> {
    platform.clock.advance(asked.ask.advance_seconds);
    platform.mark_changed();
    Json(json!({
        "now": platform.clock.now(),
        "now_ms": platform.clock.now_ms(),
        "offset_seconds": platform.clock.offset_ms().div_euclid(1000),
    }))
}
