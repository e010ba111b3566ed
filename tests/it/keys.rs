//! API keys: made, listed, replaced and revoked by API, and kept to their apps.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Kind, SERVICE_ACCOUNT, TEMPLATE, World, shipped};

/// A key made by API: its secret and its id.
async fn make(world: &World, body: Value) -> (String, String) {
    let made = world.post("/v1/keys", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let text = |name: &str| made.body[name].as_str().expect("a text").to_owned();
    assert!(text("signing_secret").starts_with("whsec_"));
    (text("key"), text("id"))
}

#[rstest]
#[tokio::test]
async fn a_key_is_replaced_without_a_gap(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let elsewhere = world.second_node().await;
    let (old, old_id) = make(&world, json!({ "name": "shop", "scopes": ["events:read", "rules:read"] })).await;
    let (new, _) = make(&world, json!({ "name": "shop", "scopes": ["events:read", "rules:read"] })).await;
    let rules =
        async |base: &str, key: &str| world.call_at(base, Method::GET, "/v1/rules", Some(key), None).await.status;
    for (base, key) in [(&world.base, &old), (&elsewhere, &old), (&world.base, &new), (&elsewhere, &new)] {
        assert_eq!(rules(base, key).await, 200, "both work while they are exchanged");
    }

    let listed = world.get("/v1/keys?limit=2").await;
    assert!(!listed.text.contains(&old) && !listed.text.contains("whsec_"), "{listed:?}");
    assert_eq!(listed.body["data"][1]["id"], old_id.as_str());
    assert!(old.starts_with(listed.body["data"][1]["prefix"].as_str().expect("a prefix")));
    assert!(listed.body["data"][1]["last_used_at"].is_string());
    let older = world.get(&format!("/v1/keys?cursor={}", listed.body["next_cursor"].as_str().expect("more"))).await;
    assert_eq!(older.body["data"][0]["name"], "test");

    let path = format!("/v1/keys/{old_id}");
    for _ in 0..2 {
        assert_eq!(world.call(Method::DELETE, &path, Some(&world.key), None).await.status, 204);
    }
    for base in [&world.base, &elsewhere] {
        assert_eq!(rules(base, &old).await, 401, "revoked on every node at once");
        assert_eq!(rules(base, &new).await, 200);
    }
    let refused = world.call(Method::GET, "/v1/rules", Some(&old), None).await;
    assert_eq!(refused.problem(401, "invalid_api_key").headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    world.call(Method::DELETE, "/v1/keys/key_nothing", Some(&world.key), None).await.problem(404, "not_found");

    let audit = world.get("/v1/audit?action=key.revoked").await;
    assert_eq!(audit.body["data"].as_array().map(Vec::len), Some(1), "{audit:?}");
    assert_eq!(audit.body["data"][0]["detail"]["key_id"], old_id.as_str());
    assert!(audit.body["data"][0]["actor"].as_str().is_some_and(|actor| actor.starts_with("key_")));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn only_a_sound_key_is_made_and_only_by_an_admin(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let refused = async |body: Value| {
        let answer = world.post("/v1/keys", body).await;
        let answer = answer.problem(400, "invalid_request");
        answer.body["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(refused(json!({ "name": " ", "scopes": ["admin"] })).await, "/name");
    assert_eq!(refused(json!({ "name": "x", "scopes": ["all"] })).await, "/scopes");
    assert_eq!(refused(json!({ "name": "x", "scopes": [] })).await, "/scopes");
    assert_eq!(refused(json!({ "name": "x", "scopes": ["admin"], "app_ids": ["wxnobody"] })).await, "/app_ids/0");
    assert_eq!(refused(json!({ "name": "x", "scopes": ["admin"], "app_ids": [] })).await, "/app_ids");
    let past = json!({ "name": "x", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z" });
    assert_eq!(refused(past).await, "/expires_at");
    assert_eq!(refused(json!({ "name": "x", "scopes": ["admin"], "key": "mk_mine" })).await, "/key");

    let (writer, _) = make(&world, json!({ "name": "writer", "scopes": ["users:write", "audit:read"] })).await;
    let body = Some(json!({ "name": "x", "scopes": ["admin"] }));
    let answer = world.call(Method::POST, "/v1/keys", Some(&writer), body.clone()).await;
    let challenge = &answer.problem(403, "insufficient_scope").headers["www-authenticate"];
    assert_eq!(challenge, "Bearer error=\"insufficient_scope\"");
    // Who may do everything in one app must not reach the others by a key of their own making.
    let (local, _) = make(&world, json!({ "name": "x", "scopes": ["admin"], "app_ids": [APP] })).await;
    world.call(Method::POST, "/v1/keys", Some(&local), body).await.problem(403, "app_not_allowed");

    let until = magpie::clock::rfc3339(world.clock.now() + Duration::from_mins(5));
    let (brief, _) = make(&world, json!({ "name": "brief", "scopes": ["admin"], "expires_at": until })).await;
    assert_eq!(world.call(Method::GET, "/v1/apps", Some(&brief), None).await.status, 200);
    world.advance(Duration::from_mins(6)).await;
    world.call(Method::GET, "/v1/apps", Some(&brief), None).await.problem(401, "invalid_api_key");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_key_for_one_app_sees_nothing_of_another(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    let everything = json!({ "name": "account", "scopes": ["admin"], "app_ids": [SERVICE_ACCOUNT] });
    let (key, _) = make(&world, everything).await;
    let rule = world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    let told = world.event("1", ann.user_id.as_str()).await;
    let event = told.body["event_id"].as_str().expect("an event").to_owned();
    let notification = told.body["notifications"][0]["id"].as_str().expect("a notification").to_owned();
    world.drain().await;

    let ask = async |method: Method, path: &str, body: Option<Value>| world.call(method, path, Some(&key), body).await;
    for path in [format!("/v1/apps/{APP}"), format!("/v1/apps/{APP}/templates"), format!("/v1/apps/{APP}/callbacks")] {
        ask(Method::GET, &path, None).await.problem(403, "app_not_allowed");
    }
    let pause = Some(json!({ "because": "x" }));
    ask(Method::POST, &format!("/v1/apps/{APP}/pause"), pause).await.problem(403, "app_not_allowed");
    let apps = ask(Method::GET, "/v1/apps", None).await.body;
    assert_eq!((&apps["data"][0]["app_id"], apps["data"].as_array().map(Vec::len)), (&json!(SERVICE_ACCOUNT), Some(1)));

    let rule_id = rule["id"].as_str().expect("an id");
    for path in [
        format!("/v1/rules/{rule_id}"),
        format!("/v1/notifications/{notification}"),
        format!("/v1/events/{event}"),
        format!("/v1/users/{}", ann.user_id),
        format!("/v1/users/{}/subscriptions", ann.user_id),
        format!("/v1/users/{}/export", ann.user_id),
    ] {
        ask(Method::GET, &path, None).await.problem(404, "not_found");
        assert_eq!(world.get(&path).await.status, 200, "{path}");
    }
    ask(Method::DELETE, &format!("/v1/rules/{rule_id}"), None).await.problem(404, "not_found");
    ask(Method::DELETE, &format!("/v1/users/{}", ann.user_id), None).await.problem(404, "not_found");
    let act = format!("/v1/notifications/{notification}/replay");
    ask(Method::POST, &act, None).await.problem(404, "not_found");
    for list in ["/v1/rules", "/v1/notifications", "/v1/users", &format!("/v1/users?openid={}", ann.openid)] {
        assert_eq!(ask(Method::GET, list, None).await.body["data"], json!([]), "{list}");
    }
    let of_other = format!("/v1/notifications?app_id={APP}");
    ask(Method::GET, &of_other, None).await.problem(403, "app_not_allowed");
    let body = json!({
        "name": "x", "event_type": "order.shipped", "app_id": APP, "template_id": TEMPLATE, "fields": {},
    });
    ask(Method::POST, "/v1/rules", Some(body)).await.problem(403, "app_not_allowed");

    // Nor does the answer to a repeat tell what became of it there.
    let repeated = ask(Method::POST, "/v1/events", Some(shipped("1", ann.user_id.as_str()))).await;
    assert_eq!((&repeated.body["status"], &repeated.body["notifications"]), (&json!("duplicate"), &json!([])));
    let mine = json!({ "name": "mini", "scopes": ["admin"], "app_ids": [APP] });
    let (mine, _) = make(&world, mine).await;
    let mine = async |path: &str| world.call(Method::GET, path, Some(&mine), None).await;
    assert_eq!(mine(&format!("/v1/events/{event}")).await.body["states"], json!({ "accepted": 1 }));
    let exported = mine(&format!("/v1/users/{}/export", ann.user_id)).await;
    assert_eq!(exported.body["identities"].as_array().map(Vec::len), Some(1), "{exported:?}");

    // Rules of other apps do not apply to what the key tells.
    let told = ask(Method::POST, "/v1/events", Some(shipped("2", ann.user_id.as_str()))).await;
    assert_eq!((told.status.as_u16(), &told.body["notifications"]), (202, &json!([])), "{told:?}");
    world.finish().await;
}
