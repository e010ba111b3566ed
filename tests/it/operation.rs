//! What operators and integrators do by hand: cancel, send again, pause, look people up.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::harness::{APP, Kind, Phone, SEND, World};

async fn act(world: &World, id: &str, verb: &str) -> crate::harness::Answer {
    world.call(Method::POST, &format!("/v1/notifications/{id}/{verb}"), Some(&world.key), None).await
}

#[rstest]
#[tokio::test]
async fn a_message_is_cancelled_and_sent_again(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap-1").await;
    let id = world.told("1", &ann).await;
    assert_eq!(act(&world, &id, "replay").await.problem(409, "state_conflict").body["retryable"], false);

    let cancelled = act(&world, &id, "cancel").await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.body["state"]), (200, &json!("cancelled")), "{cancelled:?}");
    assert_eq!(world.credits(&ann).await, 1, "the credit is back");
    act(&world, &id, "cancel").await.problem(409, "state_conflict");
    world.drain().await;
    assert_eq!(world.calls_of(SEND).await, 0);

    // Two at once: one takes the credit, and there is one message.
    let (a, b) = tokio::join!(act(&world, &id, "replay"), act(&world, &id, "replay"));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(world.credits(&ann).await, 0);
    world.until(&id, "delivered").await;
    assert_eq!(world.messages(&ann.openid).await.len(), 1);
    act(&world, &id, "cancel").await.problem(409, "state_conflict");

    // Without a credit there is nothing to send with.
    let id = world.told("2", &ann).await;
    let refused = act(&world, &id, "replay").await;
    assert!(refused.problem(409, "state_conflict").body["detail"].as_str().expect("a text").contains("no credit"));
    act(&world, "ntf_00000000000000000000000000000001", "cancel").await.problem(404, "not_found");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_failed_message_keeps_its_story_when_it_is_sent_again(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap-1").await;
    world.wechat("/faults", json!({ "path": SEND, "errcode": 41030 })).await;
    let id = world.told("1", &ann).await;
    world.drain().await;
    assert_eq!(world.state(&id).await, "failed");
    assert_eq!(act(&world, &id, "replay").await.status, 200);
    world.until(&id, "delivered").await;
    let story = world.get(&format!("/v1/notifications/{id}")).await.body;
    let outcomes: Vec<_> =
        story["attempts"].as_array().expect("attempts").iter().map(|a| a["outcome"].clone()).collect();
    assert_eq!(outcomes, ["reject", "accepted"]);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_app_is_paused_and_resumed_by_hand(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap-1").await;
    let path = |verb: &str| format!("/v1/apps/{APP}/{verb}");
    let paused = world.post(&path("pause"), json!({ "because": "stock-taking" })).await;
    assert_eq!(paused.body["paused_because"], "stock-taking", "{paused:?}");
    let id = world.told("1", &ann).await;
    world.drain().await;
    world.advance(Duration::from_hours(24)).await;
    world.drain().await;
    assert_eq!((world.state(&id).await.as_str(), world.calls_of(SEND).await), ("pending", 0));
    // A pause of the worker's own does not shorten the hand's.
    let until = magpie::clock::rfc3339(world.clock.now() + Duration::from_mins(1));
    let again = world.post(&path("pause"), json!({ "because": "shorter", "until": until })).await;
    assert_eq!(again.body["paused_because"], "stock-taking");

    let resumed = world.call(Method::POST, &path("resume"), Some(&world.key), None).await;
    assert_eq!(resumed.body["paused_until"], Value::Null, "{resumed:?}");
    world.until(&id, "delivered").await;
    world.post(&path("pause"), json!({ "because": "" })).await.problem(400, "invalid_request");
    let past = json!({ "because": "x", "until": "2020-01-01T00:00:00Z" });
    assert_eq!(
        world.post(&path("pause"), past).await.problem(400, "invalid_request").body["errors"][0]["pointer"],
        "/until"
    );
    world.post("/v1/apps/wxnobody/pause", json!({ "because": "x" })).await.problem(404, "app_not_found");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn people_are_found_and_called_by_the_shops_own_ids(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "recipients": "external:{{ data.buyer }}" })).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    let name = async |phone: &Phone, id: Value| {
        let path = format!("/v1/users/{}/external-id", phone.user_id);
        world.call(Method::PUT, &path, Some(&world.key), Some(json!({ "external_id": id }))).await
    };
    assert_eq!(name(&ann, json!("1001")).await.body["external_id"], "1001");
    name(&bob, json!("1001")).await.problem(409, "state_conflict");
    name(&bob, json!("")).await.problem(400, "invalid_request");
    let find = async |query: &str| {
        let answer = world.get(&format!("/v1/users?{query}")).await;
        let ids = answer.body["data"].as_array().unwrap_or_else(|| panic!("{answer:?}")).clone();
        ids.into_iter().map(|user| user["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(find("external_id=1001").await, std::slice::from_ref(&ann.user_id));
    assert_eq!(find(&format!("openid={}", bob.openid)).await, std::slice::from_ref(&bob.user_id));
    assert_eq!(find("unionid=nobody").await, Vec::<String>::new());
    assert_eq!(find("").await, [bob.user_id.clone(), ann.user_id.clone()]);

    world.accept(&ann, "tap-1").await;
    let data = json!({ "buyer": "1001", "no": "NO.42", "item": "苹果", "at": "2026-01-02 10:00" });
    let event = json!({ "source": "shop", "id": "1", "type": "order.shipped", "data": data });
    let answer = world.post("/v1/events", event).await;
    assert_eq!(answer.body["notifications"][0]["user_id"], ann.user_id.as_str(), "{answer:?}");
    world.drain().await;

    let ledger = world.get(&format!("/v1/users/{}/subscriptions", ann.user_id)).await.body;
    assert_eq!((&ledger["data"][0]["app_id"], &ledger["data"][0]["credits"]), (&json!(APP), &json!(0)));
    // WeChat's own telling of the tap is there too, and counts nothing.
    let counting = ledger["ledger"].as_array().expect("entries").iter().filter(|entry| entry["delta"] != 0);
    let kinds: Vec<_> = counting.map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["reserved", "accept"]);
    assert_eq!(name(&ann, Value::Null).await.body["external_id"], Value::Null);

    // Two users turn out to be one: the younger id stays an alias.
    for phone in [&ann, &bob] {
        let login = world.wechat("/login-code", json!({ "openid": phone.openid, "unionid": "uSame" })).await;
        world.log_in_with(login["code"].as_str().expect("a code")).await;
    }
    let alias = world.get(&format!("/v1/users/{}", bob.user_id)).await.body;
    assert_eq!(alias["id"], ann.user_id.as_str());
    assert_eq!(alias["identities"].as_array().map(Vec::len), Some(2));
    assert_eq!(find("").await, std::slice::from_ref(&ann.user_id));
    world.finish().await;
}
