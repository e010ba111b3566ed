//! The fake phone and the test's knobs, under `/sandbox`. No sign-in: for this machine only.

mod asked;
mod console;
mod events;
mod faults;
mod follow;
mod help;
mod inspect;
mod phone;
mod subscribe;

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt as _, Error, IntoResponse as _, Response, Route, delete, get, http::StatusCode, post, put,
    web::Json,
};
use serde_json::{Value, json};

use crate::platform::Platform;

pub(crate) fn routes(platform: Arc<Platform>) -> impl Endpoint {
    Route::new()
        .at("/sandbox", get(help::page))
        .at("/sandbox/", get(help::page))
        .at("/sandbox/clock", get(console::clock).post(console::advance_clock))
        .at("/sandbox/calls", get(inspect::all_calls))
        .at("/sandbox/apps", get(console::list_apps))
        .at("/sandbox/apps/:app_id", put(console::put_app).patch(console::turn_knobs).get(console::show_app))
        .at("/sandbox/apps/:app_id/login-code", post(phone::login_code).get(phone::login_code))
        .at("/sandbox/apps/:app_id/subscribe", post(subscribe::subscribe))
        .at("/sandbox/apps/:app_id/refuse", post(subscribe::refuse))
        .at("/sandbox/apps/:app_id/phone-code", post(phone::phone_code).get(phone::phone_code))
        .at("/sandbox/apps/:app_id/encrypted-data", post(phone::encrypted_data))
        .at("/sandbox/apps/:app_id/follow", post(follow::follow))
        .at("/sandbox/apps/:app_id/unfollow", post(follow::unfollow))
        .at("/sandbox/apps/:app_id/events", post(events::post_event))
        .at("/sandbox/apps/:app_id/callback-check", post(events::check_callback))
        .at("/sandbox/apps/:app_id/messages", get(inspect::messages))
        .at("/sandbox/apps/:app_id/credits", get(inspect::credits))
        .at("/sandbox/apps/:app_id/calls", get(inspect::calls))
        .at("/sandbox/apps/:app_id/callbacks", get(inspect::callbacks))
        .at("/sandbox/apps/:app_id/callbacks/:n/resend", post(events::resend))
        .at("/sandbox/apps/:app_id/faults", get(faults::list).post(faults::add).delete(faults::remove))
        .at("/sandbox/apps/:app_id/faults/:id", delete(faults::remove_one))
        .at("/sandbox/faults", get(faults::list).post(faults::add).delete(faults::remove))
        .at("/sandbox/faults/:id", delete(faults::remove_one))
        .data(platform)
}

/// An answer of the control API that is not a success: `{"error": "…"}`.
fn problem(status: StatusCode, text: impl Into<String>) -> Error {
    let body = Json(json!({ "error": text.into() }));
    Error::from_response(body.with_status(status).into_response())
}

fn no_such_app(app_id: &str) -> Error {
    problem(StatusCode::NOT_FOUND, format!("no app {app_id}; make it with PUT /sandbox/apps/{app_id}"))
}

/// JSON, or with `?format=text` one bare line for a shell.
fn answer(format: Option<&str>, line: &str, full: Value) -> Response {
    match format {
        Some("text") => line.to_owned().into_response(),
        _ => Json(full).into_response(),
    }
}
