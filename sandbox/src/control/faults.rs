//! Ordering faults, for one app or for all.

use std::sync::Arc;

use poem::{
    Request, Result, handler,
    http::StatusCode,
    web::{Data, Json},
};
use serde_json::{Value, json};

use super::{asked::Asked, no_such_app, problem};
use crate::{fault::Fault, platform::Platform};

/// The app in the address, if it is there and known.
fn app_of(request: &Request, platform: &Platform) -> Result<Option<String>> {
    let app_id = request.raw_path_param("app_id").map(str::to_owned);
    match app_id {
        Some(app_id) if !platform.look().accounts.contains_key(&app_id) => Err(no_such_app(&app_id)),
        known => Ok(known),
    }
}

#[handler]
pub(super) fn list(Data(platform): Data<&Arc<Platform>>, request: &Request) -> Result<Json<Value>> {
    let app_id = app_of(request, platform)?;
    let world = platform.look();
    let faults: Vec<&Fault> =
        world.faults.list().iter().filter(|fault| app_id.is_none() || fault.app_id == app_id).collect();
    Ok(Json(json!({ "faults": faults })))
}

#[handler]
pub(super) fn add(Data(platform): Data<&Arc<Platform>>, request: &Request, asked: Asked<Fault>) -> Result<Json<Value>> {
    let mut fault = asked.ask;
    fault.app_id = app_of(request, platform)?;
    if fault.has_no_effect() {
        let text = "a fault needs errcode, status, body, delay_ms, drop or truncate";
        return Err(problem(StatusCode::BAD_REQUEST, text));
    }
    let added = platform.look().faults.add(fault, platform.clock.now());
    Ok(Json(json!(added)))
}

#[handler]
pub(super) fn remove(Data(platform): Data<&Arc<Platform>>, request: &Request) -> Result<Json<Value>> {
    let app_id = app_of(request, platform)?;
    let removed = platform.look().faults.remove(|fault| app_id.is_none() || fault.app_id == app_id);
    Ok(Json(json!({ "removed": removed })))
}

#[handler]
pub(super) fn remove_one(Data(platform): Data<&Arc<Platform>>, request: &Request) -> Json<Value> {
    let id = request.raw_path_param("id").and_then(|id| id.parse::<u64>().ok());
    let removed = platform.look().faults.remove(|fault| Some(fault.id) == id);
    Json(json!({ "removed": removed }))
}
