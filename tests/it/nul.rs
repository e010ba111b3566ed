//! U+0000, which PostgreSQL keeps in no text, is refused by name wherever it comes in.

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Kind, TEMPLATE, World, shipped};

#[rstest]
#[tokio::test]
async fn it_is_refused_in_bodies(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let rule = |key: &str| {
        let mut rule = json!({ "name": "a", "event_type": "b", "app_id": APP, "template_id": TEMPLATE, "fields": {} });
        rule[key] = "a\0b".into();
        rule
    };
    let event = |key: &str, value: Value| {
        let mut event = shipped("1", ann.user_id.as_str());
        event[key] = value;
        event
    };
    let direct = json!({ "app_id": APP, "template_id": TEMPLATE, "to": ann.user_id, "page": "pages/\0",
        "fields": { "character_string1": "1", "thing2": "x", "time3": "2026-01-02 10:00" } });
    let user = format!("/v1/users/{}", ann.user_id);
    let (ban, app) = (format!("{user}/ban"), format!("/v1/apps/{APP}/pause"));
    for (method, path, body, pointer) in [
        (Method::POST, "/v1/events", event("data", json!({ "a/b": ["x", "\0"] })), "/data/a~1b/1"),
        (Method::POST, "/v1/events", event("data", json!({ "a\0": 1 })), "/data"),
        (Method::POST, "/v1/events", event("to", "external:\0".into()), "/to"),
        (Method::POST, "/v1/events/preview", event("subject", "\0".into()), "/subject"),
        (Method::POST, "/v1/notifications", direct, "/page"),
        (Method::POST, "/v1/rules", rule("name"), "/name"),
        (Method::POST, "/v1/rules", rule("event_type"), "/event_type"),
        (Method::POST, "/v1/webhooks", json!({ "url": "https://shop.example/\0" }), "/url"),
        (Method::PUT, ban.as_str(), json!({ "because": "\0" }), "/because"),
        (Method::POST, app.as_str(), json!({ "because": "\0" }), "/because"),
    ] {
        let answer = world.call(method, path, Some(&world.key), Some(body)).await;
        assert_eq!(answer.problem(400, "invalid_request").body["errors"][0]["pointer"], pointer, "{path} {answer:?}");
    }
    let answer = world.report(&ann, "tap\0", json!({ TEMPLATE: "accept" })).await;
    assert_eq!(answer.problem(400, "invalid_request").body["errors"][0]["pointer"], "/report_id");

    // Of several events one is refused, and the written escape of an escape is no U+0000.
    let good = event("data", json!({ "no": "\\u0000" }));
    let answer = world.post("/v1/events", json!([event("data", json!({ "no": "\0" })), good])).await;
    assert_eq!(answer.body["data"][0]["problem"]["errors"][0]["pointer"], "/0/data/no", "{answer:?}");
    assert_eq!(answer.body["data"][1]["status"], "accepted", "{answer:?}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn it_is_refused_in_addresses_and_headers(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let callbacks = format!("/v1/apps/{APP}/callbacks?event=a%00&limit=1");
    for (path, pointer) in [
        ("/v1/users?external_id=a%00b", "external_id"),
        ("/v1/users?limit=1&openid=%00", "openid"),
        ("/v1/notifications?template_id=%00", "template_id"),
        (callbacks.as_str(), "event"),
        ("/v1/users/usr_%00", "path"),
        ("/v1/apps/wx%00/templates", "path"),
        ("/v1/apps/wx/template-library/%00", "path"),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.problem(400, "invalid_request").body["errors"][0]["pointer"], pointer, "{path} {answer:?}");
    }
    assert_eq!(world.get("/v1/users?external_id=a%2500b").await.status, 200, "a per cent sign and two digits");
    for header in ["ce-source", "ce-id", "ce-type", "ce-subject", "ce-to"] {
        let mut request = world.http.post(format!("{}/v1/events", world.base)).bearer_auth(&world.key).json(&json!({}));
        for (name, value) in [("ce-specversion", "1.0"), ("ce-id", "42"), ("ce-source", "/shop"), ("ce-type", "a")] {
            if name != header {
                request = request.header(name, value);
            }
        }
        let answer = request.header(header, "a%00b").send().await.expect("an answer");
        let answer = crate::harness::Answer::read(answer).await;
        assert_eq!(answer.problem(400, "invalid_request").body["errors"][0]["pointer"], header, "{answer:?}");
    }
    world.finish().await;
}
