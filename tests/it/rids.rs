//! Looking up what WeChat knows of a failed call.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Kind, SERVICE_ACCOUNT, World};

#[rstest]
#[tokio::test]
async fn an_operator_asks_wechat_about_a_failed_send(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    world.wechat("/faults", json!({ "path": "/cgi-bin/message/subscribe/send", "errcode": 47003 })).await;
    let answer = world.event("1", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    world.drain().await;
    let story = world.get(&format!("/v1/notifications/{id}")).await.body;
    let rid = story["attempts"][0]["rid"].as_str().expect("a rid").to_owned();

    let path = |app_id: &str, rid: &str| format!("/v1/apps/{app_id}/rids/{rid}");
    let found = world.get(&path(APP, &rid)).await;
    assert_eq!(found.status, 200, "{found:?}");
    let call = &found.body;
    assert_eq!((&call["rid"], &call["client_ip"]), (&json!(rid), &json!("127.0.0.1")));
    assert_eq!(call["request_url"], "/cgi-bin/message/subscribe/send?access_token=***");
    let body = |name: &str| serde_json::from_str::<Value>(call[name].as_str().expect("a text")).expect("JSON");
    assert_eq!(body("request_body")["touser"], ann.openid);
    assert_eq!(body("response_body")["errcode"], 47003);
    assert!(call["invoked_at"].as_str().expect("a time").starts_with("20"), "{call}");

    // WeChat's own refusals, each as a problem that says what to do.
    world.get(&path(APP, "1-2")).await.problem(400, "invalid_request");
    let unknown = world.get(&path(APP, "6201abcd-12345678-0badcafe")).await;
    assert_eq!(unknown.problem(404, "not_found").body["wechat"]["errcode"], 76001);
    let foreign = world.get(&path(SERVICE_ACCOUNT, &rid)).await;
    assert_eq!(foreign.problem(404, "not_found").body["wechat"]["errcode"], 76003);
    world.get(&path(APP, &"a".repeat(200))).await.problem(400, "invalid_request");
    world.get(&path("wxnobody", &rid)).await.problem(404, "app_not_found");
    world
        .call(reqwest::Method::GET, &path(APP, &rid), Some(&ann.access_token), None)
        .await
        .problem(401, "invalid_api_key");
    world.advance(Duration::from_hours(24 * 8)).await;
    assert_eq!(world.get(&path(APP, &rid)).await.problem(404, "not_found").body["wechat"]["errcode"], 76004);
    world.finish().await;
}
