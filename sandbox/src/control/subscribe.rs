//! The fake phone: `wx.requestSubscribeMessage`, and refusing later in the message settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use poem::{
    IntoResponse as _, Response, Result, handler,
    http::StatusCode,
    web::{Data, Json, Path},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{asked::Asked, no_such_app};
use crate::{
    account::Account,
    config::{LONG_TERM, Template},
    demo::DEMO_OPENID,
    platform::Platform,
    push::{self, Event},
};

const MOST_TEMPLATES: usize = 5;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Subscribe {
    openid: String,
    /// Without it: up to three of the app's templates of one kind.
    template_ids: Option<Vec<String>>,
    answer: String,
    answers: BTreeMap<String, String>,
    /// False when the user once chose "always keep this choice": no pop-up, hence no event.
    popup: bool,
    /// Makes the call fail with this client errCode (10002, 10005, 20004, 20005 …).
    fail: Option<i64>,
}

impl Default for Subscribe {
    fn default() -> Self {
        Self {
            openid: DEMO_OPENID.into(),
            template_ids: None,
            answer: "accept".into(),
            answers: BTreeMap::new(),
            popup: true,
            fail: None,
        }
    }
}

#[handler]
pub(super) fn subscribe(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<Subscribe>,
) -> Result<Response> {
    let ask = asked.ask;
    let mut world = platform.change();
    let account = world.accounts.get_mut(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    let templates = match shown_templates(account, &ask) {
        Ok(templates) => templates,
        Err((code, text)) => {
            let body = json!({ "errMsg": format!("requestSubscribeMessage:fail {text}"), "errCode": code });
            return Ok(Json(body).with_status(StatusCode::BAD_REQUEST).into_response());
        }
    };

    let mut results = Map::new();
    let mut event = Event::about(&ask.openid, "subscribe_msg_popup_event");
    let mut titles = BTreeSet::new();
    for template in templates {
        // Of several templates with one title only the first is shown.
        let choice = if titles.insert(template.title.clone()) {
            ask.answers.get(&template.id).unwrap_or(&ask.answer).as_str()
        } else {
            "filter"
        };
        if let Some(status) = apply(account, &ask.openid, &template, choice) {
            event = event.entry(&[
                ("TemplateId", template.id.clone()),
                ("SubscribeStatusString", status.to_owned()),
                ("PopupScene", "0".to_owned()),
            ]);
        }
        results.insert(template.id, json!(choice));
    }
    drop(world);
    if ask.popup && !event.list.is_empty() {
        post_soon(platform, app_id, event);
    }
    if asked.format.as_deref() == Some("results") {
        return Ok(Json(Value::Object(results)).into_response());
    }
    let mut full = Map::new();
    full.insert("errMsg".into(), json!("requestSubscribeMessage:ok"));
    full.extend(results);
    Ok(Json(Value::Object(full)).into_response())
}

type ClientError = (i64, String);

fn shown_templates(account: &Account, ask: &Subscribe) -> Result<Vec<Template>, ClientError> {
    if let Some(code) = ask.fail {
        return Err((code, client_text(code).to_owned()));
    }
    let Some(ids) = &ask.template_ids else {
        let kind = account.templates().next().map(|template| template.kind);
        let some: Vec<Template> =
            account.templates().filter(|template| Some(template.kind) == kind).take(3).cloned().collect();
        return if some.is_empty() { Err((10001, client_text(10001).to_owned())) } else { Ok(some) };
    };
    if ids.is_empty() {
        return Err((10001, client_text(10001).to_owned()));
    }
    if ids.len() > MOST_TEMPLATES {
        return Err((20003, client_text(20003).to_owned()));
    }
    let mut templates = Vec::with_capacity(ids.len());
    for id in ids {
        let template = account.template(id).cloned();
        templates.push(template.ok_or_else(|| (20001, format!("{}, {id}", client_text(20001))))?);
    }
    if templates.iter().any(|template| template.kind != templates[0].kind) {
        return Err((20002, client_text(20002).to_owned()));
    }
    Ok(templates)
}

fn client_text(code: i64) -> &'static str {
    match code {
        10001 => "TmplIds can't be empty",
        10002 => "Request list fail, network error",
        10003 => "Request subscribe fail, network error",
        10004 => "Invalid template id",
        10005 => "Cannot show subscribe message UI",
        20001 => "No template data return, verify the template id exist",
        20002 => "Templates type must be same",
        20003 => "Templates count out of max bounds",
        20004 => "The main switch is switched off",
        20005 => "This mini program was banned from subscribing messages",
        20013 => "Reject DeviceMsg Template",
        _ => "unknown error",
    }
}

/// Books the choice on WeChat's side; gives what the popup event says of it, if anything.
fn apply(account: &mut Account, openid: &str, template: &Template, choice: &str) -> Option<&'static str> {
    let credit = account.person(openid).credit(&template.id);
    match choice {
        "accept" | "acceptWithAudio" | "acceptWithAlert" => {
            if template.kind == LONG_TERM {
                credit.long_term = true;
            } else {
                credit.one_time += 1;
            }
            credit.refused = false;
            Some("accept")
        }
        "reject" => {
            // One-time credits already held are not touched by a later "no".
            credit.long_term = false;
            Some("reject")
        }
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refuse {
    #[serde(default = "demo_openid")]
    openid: String,
    template_id: String,
}

fn demo_openid() -> String {
    DEMO_OPENID.into()
}

/// The user refuses in the message settings: no credit is left, and WeChat says so.
#[handler]
pub(super) fn refuse(
    Data(platform): Data<&Arc<Platform>>,
    Path(app_id): Path<String>,
    asked: Asked<Refuse>,
) -> Result<Json<Value>> {
    let Refuse { openid, template_id } = asked.ask;
    let mut world = platform.change();
    let account = world.accounts.get_mut(&app_id).ok_or_else(|| no_such_app(&app_id))?;
    let credit = account.person(&openid).credit(&template_id);
    (credit.one_time, credit.long_term, credit.refused) = (0, false, true);
    drop(world);
    let event = Event::about(&openid, "subscribe_msg_change_event")
        .entry(&[("TemplateId", template_id.clone()), ("SubscribeStatusString", "reject".to_owned())]);
    post_soon(platform, app_id, event);
    Ok(Json(json!({ "openid": openid, "template_id": template_id, "refused": true })))
}

pub(super) fn post_soon(platform: &Arc<Platform>, app_id: String, event: Event) {
    let work = platform.clone();
    platform.spawn(async move {
        push::post(&work, &app_id, event).await;
    });
}
