//! Webhooks as a business system sees them: endpoints made, signed, tried out, listed, switched off; and who may.

pub mod receiver;

use std::time::Duration;

use entity::webhook_delivery;
use magpie::{app, clock::Clock, config::Config, master_key, secret::MasterKeys};
use reqwest::Method;
use rstest::rstest;
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::{Value, json};

use crate::harness::{APP, Kind, MASTER_KEY, SERVICE_ACCOUNT, World};
use receiver::{Receiver, answering};

const DAY: Duration = Duration::from_hours(24);

/// An endpoint at this address that is told everything; gives its id and secret.
pub async fn endpoint(world: &World, url: &str, changes: Value) -> (String, String) {
    let mut body = json!({ "url": url });
    for (key, value) in changes.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let made = world.post("/v1/webhooks", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let text = |name: &str| made.body[name].as_str().expect("a text").to_owned();
    (text("id"), text("secret"))
}

pub async fn test(world: &World, id: &str) -> Value {
    let sent = world.post(&format!("/v1/webhooks/{id}/test"), json!({})).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    sent.body
}

pub async fn deliveries(world: &World, id: &str) -> Vec<Value> {
    let listed = world.get(&format!("/v1/webhooks/{id}/deliveries?limit=200")).await;
    listed.body["data"].as_array().unwrap_or_else(|| panic!("{listed:?}")).clone()
}

pub async fn patch(world: &World, id: &str, body: Value) -> crate::harness::Answer {
    world.call(Method::PATCH, &format!("/v1/webhooks/{id}"), Some(&world.key), Some(body)).await
}

pub async fn rows(world: &World) -> u64 {
    webhook_delivery::Entity::find().count(world.ctx.db.read()).await.expect("a count")
}

#[rstest]
#[tokio::test]
async fn the_test_button_sends_a_signed_message(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, secret) = endpoint(&world, &shop.url, json!({ "event_types": ["user.erased"] })).await;
    let sent = test(&world, &id).await;
    assert_eq!(
        (&sent["state"], &sent["type"], &sent["attempts"]),
        (&json!("pending"), &json!("webhook.test"), &json!(0))
    );
    world.drain().await;

    let seen = shop.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(seen[0].headers["webhook-id"], sent["id"].as_str().expect("an id"));
    assert_eq!(seen[0].headers["content-type"], "application/json");
    assert_eq!(seen[0].headers["webhook-timestamp"], (world.clock.now().0 / 1000).to_string());
    assert!(seen[0].is_signed_with(&secret), "{seen:?}");
    assert!(!seen[0].is_signed_with(&format!("whsec_{}", "A".repeat(43) + "=")), "another secret does not fit");
    assert_eq!((&seen[0].body["type"], &seen[0].body["data"]["webhook_id"]), (&json!("webhook.test"), &json!(id)));
    let listed = deliveries(&world, &id).await;
    assert_eq!(
        (&listed[0]["state"], &listed[0]["status"], &listed[0]["attempts"]),
        (&json!("delivered"), &json!(204), &json!(1))
    );
    assert_eq!(listed[0]["body"], seen[0].body);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_fails_is_sent_again_under_the_same_id(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, secret) = endpoint(&world, &shop.url, json!({})).await;
    shop.will_answer(answering(500, ""));
    shop.will_answer(answering(503, "retry-after: 600\r\n"));
    test(&world, &id).await;
    world.drain().await;
    let listed = deliveries(&world, &id).await;
    assert_eq!(
        (&listed[0]["state"], &listed[0]["status"], &listed[0]["problem"]),
        (&json!("pending"), &json!(500), &json!("status"))
    );
    assert!(listed[0]["problem_text"].as_str().is_some_and(|text| text.contains("2xx")), "{listed:?}");
    assert!(world.get(&format!("/v1/webhooks/{id}")).await.body["failing_since"].is_string());

    world.advance(Duration::from_secs(7)).await;
    world.drain().await;
    assert_eq!(shop.seen().len(), 2);
    // As long as the endpoint asks for, and the schedule's own five minutes are over by then.
    world.advance(Duration::from_secs(590)).await;
    world.drain().await;
    assert_eq!(shop.seen().len(), 2);
    world.advance(Duration::from_secs(11)).await;
    world.drain().await;

    let seen = shop.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| one.headers["webhook-id"] == seen[0].headers["webhook-id"]));
    assert!(seen.iter().all(|one| one.text == seen[0].text && one.is_signed_with(&secret)));
    assert_ne!(seen[0].headers["webhook-timestamp"], seen[2].headers["webhook-timestamp"], "the time of the attempt");
    let listed = deliveries(&world, &id).await;
    assert_eq!(
        (&listed[0]["state"], &listed[0]["attempts"], &listed[0]["problem"]),
        (&json!("delivered"), &json!(3), &Value::Null)
    );
    assert_eq!(world.get(&format!("/v1/webhooks/{id}")).await.body["failing_since"], Value::Null);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_endpoint_that_is_gone_is_switched_off(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    shop.will_answer(answering(500, ""));
    let waiting = test(&world, &id).await;
    world.drain().await;
    shop.will_answer(answering(410, ""));
    test(&world, &id).await;
    world.drain().await;

    let shown = world.get(&format!("/v1/webhooks/{id}")).await.body;
    assert_eq!((&shown["enabled"], &shown["disabled_because"]), (&json!(false), &json!("gone")), "{shown}");
    let listed = deliveries(&world, &id).await;
    assert_eq!((&listed[0]["state"], &listed[0]["status"]), (&json!("failed"), &json!(410)));
    assert_eq!((&listed[1]["state"], &listed[1]["problem"]), (&json!("failed"), &json!("endpoint_disabled")));
    let audit = world.get("/v1/audit?action=webhook.disabled").await.body;
    assert_eq!(
        (&audit["data"][0]["actor"], &audit["data"][0]["detail"]["because"]),
        (&json!("magpie"), &json!("gone"))
    );
    // Nothing is told to it any more, until somebody switches it on.
    world.phone("ann").await;
    world.post(&format!("/v1/webhooks/{id}/test"), json!({})).await.problem(409, "state_conflict");
    let again = format!("/v1/webhooks/{id}/deliveries/{}/redeliver", waiting["id"].as_str().expect("an id"));
    world.post(&again, json!({})).await.problem(409, "state_conflict");
    assert_eq!((rows(&world).await, shop.seen().len()), (2, 2));
    let on = patch(&world, &id, json!({ "enabled": true })).await.body;
    assert_eq!(
        (&on["enabled"], &on["disabled_because"], &on["failing_since"]),
        (&json!(true), &Value::Null, &Value::Null)
    );
    assert_eq!(world.post(&again, json!({})).await.status, 202);
    world.drain().await;
    assert_eq!(shop.seen()[2].headers["webhook-id"], waiting["id"].as_str().expect("an id"));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn days_of_failures_switch_it_off(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    shop.always_answers(answering(500, ""));
    test(&world, &id).await;
    let begun = world.clock.now();
    // The first delivery is given up after about 28 hours.
    for _ in 0..45 {
        world.drain().await;
        world.advance(Duration::from_hours(1)).await;
    }
    let listed = deliveries(&world, &id).await;
    assert_eq!((&listed[0]["state"], &listed[0]["attempts"]), (&json!("failed"), &json!(8)), "{listed:?}");
    assert_eq!(world.get(&format!("/v1/webhooks/{id}")).await.body["enabled"], true);
    // After days one more failure is no proof, several are.
    world.advance(5 * DAY).await;
    test(&world, &id).await;
    world.drain().await;
    assert_eq!(world.get(&format!("/v1/webhooks/{id}")).await.body["enabled"], true);
    for _ in 0..2 {
        world.advance(Duration::from_mins(10)).await;
        world.drain().await;
    }
    let shown = world.get(&format!("/v1/webhooks/{id}")).await.body;
    assert_eq!((&shown["enabled"], &shown["disabled_because"]), (&json!(false), &json!("failing")), "{shown}");
    assert_eq!(shown["failing_since"], magpie::clock::rfc3339(begun));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_secret_is_replaced_without_a_gap(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, old) = endpoint(&world, &shop.url, json!({})).await;
    let rotate = async |body: Value| world.post(&format!("/v1/webhooks/{id}/rotate-secret"), body).await;
    let rotated = rotate(json!({ "overlap_seconds": 3600 })).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let new = rotated.body["secret"].as_str().expect("a secret").to_owned();
    assert_ne!(new, old);
    assert!(rotated.body["previous_secret_until"].is_string());

    test(&world, &id).await;
    world.drain().await;
    let both = shop.seen().remove(0);
    assert_eq!(both.headers["webhook-signature"].split(' ').count(), 2);
    assert!(both.is_signed_with(&old) && both.is_signed_with(&new));
    world.advance(Duration::from_secs(3601)).await;
    test(&world, &id).await;
    world.drain().await;
    let one = shop.seen().remove(1);
    assert_eq!(one.headers["webhook-signature"].split(' ').count(), 1);
    assert!(one.is_signed_with(&new) && !one.is_signed_with(&old));

    let leaked = rotate(json!({ "overlap_seconds": 0 })).await.body["secret"].as_str().expect("a secret").to_owned();
    test(&world, &id).await;
    world.drain().await;
    let at_once = shop.seen().remove(2);
    assert!(at_once.is_signed_with(&leaked) && !at_once.is_signed_with(&new), "a leaked secret ends at once");
    let refused = rotate(json!({ "overlap_seconds": 604_801 })).await;
    assert_eq!(refused.problem(400, "invalid_request").body["errors"][0]["pointer"], "/overlap_seconds");
    let listed = world.get("/v1/webhooks").await;
    assert!(!listed.text.contains("whsec_") && !listed.text.contains("secret\""), "{listed:?}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_new_master_key_seals_the_secrets_anew(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, old) = endpoint(&world, &shop.url, json!({})).await;
    let rotated = world.post(&format!("/v1/webhooks/{id}/rotate-secret"), json!({})).await.body;
    let newest = MasterKeys::generate();
    let node = async |keys: String| {
        let config = Config::from_toml(&world.configuration().replace(MASTER_KEY, &keys)).expect("a configuration");
        app::build(config, Clock::hand(world.clock.now())).await
    };
    let both = node(format!("{newest} {MASTER_KEY}")).await.expect("a node");
    let done = master_key::rotate(&both, "command line").await.expect("rotated");
    assert_eq!(done.webhook_secrets, 2, "the present one and the one before");
    assert_eq!(master_key::rotate(&both, "command line").await.expect("rotated").webhook_secrets, 0);
    let alone = node(newest).await.expect("a node with the new key alone");
    test(&world, &id).await;
    assert_eq!(magpie::webhook::claim::step(&alone).await.expect("a step"), 1);
    let seen = shop.seen();
    assert!(seen[0].is_signed_with(&old) && seen[0].is_signed_with(rotated["secret"].as_str().expect("a secret")));
    for ctx in [both, alone] {
        ctx.db.close().await.expect("closed");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn only_a_sound_endpoint_is_made(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let refused = async |body: Value| {
        let answer = world.post("/v1/webhooks", body).await;
        answer.problem(400, "invalid_request").body["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(refused(json!({ "url": "shop" })).await, "/url");
    assert_eq!(refused(json!({ "url": format!("{}#part", shop.url) })).await, "/url");
    assert_eq!(refused(json!({ "url": shop.url, "event_types": [] })).await, "/event_types");
    assert_eq!(refused(json!({ "url": shop.url, "event_types": ["user.*", "order.shipped"] })).await, "/event_types/1");
    assert_eq!(refused(json!({ "url": shop.url, "app_ids": ["wxnobody"] })).await, "/app_ids/0");
    assert_eq!(refused(json!({ "url": shop.url, "app_ids": [] })).await, "/app_ids");
    assert_eq!(refused(json!({ "url": shop.url, "description": "x".repeat(201) })).await, "/description");
    assert_eq!(refused(json!({ "url": shop.url, "secret": "mine" })).await, "/secret");
    assert_eq!(world.get("/v1/webhooks").await.body["data"], json!([]));

    let (id, _) = endpoint(&world, &shop.url, json!({ "description": "orders" })).await;
    let changed = patch(&world, &id, json!({ "event_types": ["user.*"], "app_ids": [APP] })).await.body;
    assert_eq!(
        (&changed["description"], &changed["event_types"], &changed["app_ids"]),
        (&json!("orders"), &json!(["user.*"]), &json!([APP]))
    );
    assert_eq!(patch(&world, &id, json!({ "app_ids": null })).await.body["app_ids"], Value::Null);
    patch(&world, &id, json!({ "event_types": ["x"] })).await.problem(400, "invalid_request");
    let path = format!("/v1/webhooks/{id}");
    assert_eq!(world.call(Method::DELETE, &path, Some(&world.key), None).await.status, 204);
    world.get(&path).await.problem(404, "not_found");
    let actions = ["webhook.created", "webhook.changed", "webhook.deleted"];
    for (action, times) in actions.into_iter().zip([1, 2, 1]) {
        let audit = world.get(&format!("/v1/audit?action={action}")).await.body;
        assert_eq!(audit["data"].as_array().map(Vec::len), Some(times), "{audit}");
        assert_eq!(audit["data"][0]["detail"]["webhook_id"], json!(id));
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_key_for_one_app_makes_and_sees_its_own(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    let (mine, theirs, all) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let key = async |app_id: &str| {
        let body = json!({ "name": "x", "scopes": ["webhooks:read", "webhooks:write"], "app_ids": [app_id] });
        world.post("/v1/keys", body).await.body["key"].as_str().expect("a key").to_owned()
    };
    let (mini, account) = (key(APP).await, key(SERVICE_ACCOUNT).await);
    let make = async |key: &str, body: Value| world.call(Method::POST, "/v1/webhooks", Some(key), Some(body)).await;
    let made = make(&mini, json!({ "url": mine.url })).await;
    assert_eq!((made.status.as_u16(), &made.body["app_ids"]), (201, &json!([APP])), "{made:?}");
    assert_eq!(make(&account, json!({ "url": theirs.url })).await.status, 201);
    endpoint(&world, &all.url, json!({})).await;
    make(&mini, json!({ "url": mine.url, "app_ids": [SERVICE_ACCOUNT] })).await.problem(403, "app_not_allowed");
    let path = format!("/v1/webhooks/{}", made.body["id"].as_str().expect("an id"));
    let wider = Some(json!({ "app_ids": [APP, SERVICE_ACCOUNT] }));
    world.call(Method::PATCH, &path, Some(&mini), wider).await.problem(403, "app_not_allowed");
    let everything = world.call(Method::PATCH, &path, Some(&mini), Some(json!({ "app_ids": null }))).await;
    assert_eq!(everything.body["app_ids"], json!([APP]), "all means all of the key's");
    for (key, seen) in [(&mini, 1), (&account, 1), (&world.key, 3)] {
        let listed = world.call(Method::GET, "/v1/webhooks", Some(key), None).await;
        assert_eq!(listed.body["data"].as_array().map(Vec::len), Some(seen));
    }
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::GET, format!("{path}/deliveries")),
        (Method::POST, format!("{path}/test")),
    ] {
        world.call(method, &path, Some(&account), None).await.problem(404, "not_found");
    }

    world.phone("ann").await;
    world.drain().await;
    let types = |shop: &Receiver| shop.seen().iter().map(|one| one.body["type"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (types(&mine), types(&theirs), types(&all)),
        (vec![json!("user.created")], vec![], vec![json!("user.created")])
    );
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn deliveries_are_listed_page_by_page_and_sent_again(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, secret) = endpoint(&world, &shop.url, json!({})).await;
    let mut sent = Vec::new();
    for status in [204, 500, 200] {
        shop.will_answer(answering(status, ""));
        sent.push(test(&world, &id).await["id"].as_str().expect("an id").to_owned());
        world.drain().await;
    }
    let path = format!("/v1/webhooks/{id}/deliveries");
    let first = world.get(&format!("{path}?limit=2")).await.body;
    let second =
        world.get(&format!("{path}?limit=2&cursor={}", first["next_cursor"].as_str().expect("more"))).await.body;
    let ids: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|page| page["data"].as_array().expect("a page"))
        .map(|one| one["id"].clone())
        .collect();
    assert_eq!(ids, sent.iter().rev().map(|id| json!(id)).collect::<Vec<_>>());
    for (state, expected) in
        [("pending", &sent[1..2]), ("delivered", &[sent[2].clone(), sent[0].clone()][..]), ("failed", &[])]
    {
        let listed = world.get(&format!("{path}?state={state}")).await.body;
        let ids: Vec<_> = listed["data"]
            .as_array()
            .expect("a page")
            .iter()
            .map(|one| one["id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(ids, expected, "{state}");
    }
    world.get(&format!("{path}?state=happy")).await.problem(400, "invalid_request");

    // One that arrived, and one that waits for its next turn.
    for again in &sent[..2] {
        let answer = world.post(&format!("{path}/{again}/redeliver"), json!({})).await;
        assert_eq!((answer.status.as_u16(), &answer.body["state"]), (202, &json!("pending")), "{answer:?}");
    }
    world.drain().await;
    let seen = shop.seen();
    assert_eq!(seen.len(), 5);
    for (place, id) in [(3, &sent[0]), (4, &sent[1])] {
        assert!(seen[3..].iter().any(|one| one.headers["webhook-id"] == *id && one.is_signed_with(&secret)), "{place}");
    }
    world.post(&format!("{path}/whd_{}/redeliver", "0".repeat(32)), json!({})).await.problem(404, "not_found");
    assert!(deliveries(&world, &id).await.iter().all(|one| one["state"] == "delivered"));
    world.finish().await;
}
