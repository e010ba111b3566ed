//! What business systems are told of messages and people, and what they are not; and how long that is kept.

use std::time::Duration;

use entity::webhook_delivery;
use magpie::retention;
use reqwest::Method;
use rstest::rstest;
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::{
    harness::{APP, Kind, Phone, SERVICE_ACCOUNT, TEMPLATE, World, openid, shipped},
    privacy::dump,
    webhooks::{
        deliveries, endpoint, patch,
        receiver::{Receiver, answering},
        rows, test,
    },
};

const DAY: Duration = Duration::from_hours(24);

/// Everything this endpoint was told of one type.
fn told(shop: &Receiver, of: &str) -> Vec<Value> {
    shop.seen().into_iter().map(|one| one.body).filter(|body| body["type"] == of).collect()
}

async fn notified(world: &World, id: &str, phone: &Phone) -> String {
    let answer = world.event(id, phone.user_id.as_str()).await;
    answer.body["notifications"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}

#[rstest]
#[tokio::test]
async fn a_message_is_followed_to_the_phone(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (_, secret) = endpoint(&world, &shop.url, json!({ "event_types": ["notification.*"] })).await;
    let rule = world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    let answer = world.event("order-42", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    let accepted_at = magpie::clock::rfc3339(world.clock.now());
    world.drain().await;
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "delivered").await;
    world.drain().await;

    assert_eq!(shop.types(), ["notification.accepted", "notification.delivered"]);
    let accepted = &told(&shop, "notification.accepted")[0];
    assert_eq!(
        *accepted,
        json!({ "type": "notification.accepted", "timestamp": accepted_at, "data": {
            "notification_id": id, "state": "accepted", "app_id": APP, "template_id": TEMPLATE,
            "user_id": ann.user_id, "rule_id": rule["id"],
            "event": { "event_id": answer.body["event_id"], "source": "shop", "id": "order-42", "type": "order.shipped" },
        } })
    );
    for one in shop.seen() {
        assert!(one.is_signed_with(&secret));
        for private in [ann.openid.as_str(), "NO.42", "红富士苹果"] {
            assert!(!one.text.contains(private), "{one:?}");
        }
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn every_end_of_a_message_is_told(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[delivery]\nunsure_deadline = \"60s\"\n").await else { return };
    let shop = Receiver::start().await;
    endpoint(&world, &shop.url, json!({ "event_types": ["notification.*"] })).await;
    world.rule(json!({})).await;
    world.rule(json!({ "event_type": "waits", "no_credit": "wait", "ttl_seconds": 600 })).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    let waits = async |id: &str| {
        let mut event = shipped(id, ann.user_id.as_str());
        event["type"] = "waits".into();
        world.post("/v1/events", event).await.body["notifications"][0]["id"].as_str().expect("an id").to_owned()
    };

    // Failed as it came to be, with the reason in words.
    let at_once = notified(&world, "1", &ann).await;
    world.drain().await;
    let failed = told(&shop, "notification.failed").remove(0);
    assert_eq!((&failed["data"]["notification_id"], &failed["data"]["reason"]), (&json!(at_once), &json!("no_credit")));
    assert!(failed["data"]["reason_text"]["en"].is_string() && failed["data"]["reason_text"]["zh"].is_string());

    // Cancelled and expired.
    let cancelled = waits("2").await;
    assert_eq!(world.post(&format!("/v1/notifications/{cancelled}/cancel"), json!({})).await.status, 200);
    let expired = waits("3").await;
    world.advance(Duration::from_secs(601)).await;
    world.drain().await;
    for (of, id) in [("notification.cancelled", &cancelled), ("notification.expired", &expired)] {
        assert_eq!(
            told(&shop, of).iter().map(|body| body["data"]["notification_id"].clone()).collect::<Vec<_>>(),
            [json!(id)]
        );
    }

    // Nobody knows, and then it is given up.
    world.accept(&ann, "tap-1").await;
    world.wechat("/faults", json!({ "path": "/cgi-bin/message/subscribe/send", "drop": "after" })).await;
    world.knobs(json!({ "receipt": { "mode": "lost" } })).await;
    let unsure = notified(&world, "4", &ann).await;
    world.drain().await;
    world.drain().await;
    assert_eq!(told(&shop, "notification.unsure")[0]["data"]["notification_id"], json!(unsure));
    world.advance(Duration::from_secs(61)).await;
    world.drain().await;
    let given_up = told(&shop, "notification.failed").remove(1);
    assert_eq!(
        (&given_up["data"]["notification_id"], &given_up["data"]["reason"]),
        (&json!(unsure), &json!("unknown_outcome"))
    );

    // One refusal of the user ends what waits behind it.
    for tap in ["tap-2", "tap-3"] {
        world.accept(&bob, tap).await;
    }
    world.wechat("/faults", json!({ "path": "/cgi-bin/message/subscribe/send", "errcode": 43101 })).await;
    let before = told(&shop, "notification.failed").len();
    let (first, second) = (notified(&world, "5", &bob).await, notified(&world, "6", &bob).await);
    world.drain().await;
    let mut failed: Vec<_> = told(&shop, "notification.failed")
        .split_off(before)
        .iter()
        .map(|body| body["data"]["notification_id"].clone())
        .collect();
    failed.sort_unstable_by_key(Value::to_string);
    let mut expected = vec![json!(first), json!(second)];
    expected.sort_unstable_by_key(Value::to_string);
    assert_eq!(failed, expected);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_ends_with_others_is_told_too(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    let shop = Receiver::start().await;
    endpoint(&world, &shop.url, json!({ "event_types": ["notification.failed", "notification.cancelled"] })).await;
    world.rule(json!({})).await;
    let rule = json!({
        "name": "To followers", "event_type": "to.followers", "app_id": SERVICE_ACCOUNT,
        "template_id": "account_order_shipped_template_00000000001",
        "fields": { "character_string1": "{{ data.no }}", "thing2": "{{ data.item }}" },
    });
    assert_eq!(world.post("/v1/rules", rule).await.status, 201);
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    let follower = crate::service_account::follows(&world, "ann", None).await;
    world.accept(&ann, "tap").await;
    world.accept(&bob, "tap").await;
    world.drain().await;
    let later = magpie::clock::rfc3339(world.clock.now() + DAY);
    let tell = async |of: &str, id: &str, to: &str| {
        let mut event = shipped(id, to);
        (event["type"], event["deliver_at"]) = (of.into(), later.as_str().into());
        let answer = world.post("/v1/events", event).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        world.drain().await;
        answer.body
    };
    let of_ann = tell("order.shipped", "1", &ann.user_id).await;
    let of_follower = tell("to.followers", "2", &format!("openid:{SERVICE_ACCOUNT}/{follower}")).await;
    let to_all = tell("order.shipped", "3", "audience:consented").await;

    // Ann refuses the template, the follower leaves, the fan-out to Bob is cancelled.
    world.advance(Duration::from_secs(2)).await;
    let refusal = json!({ "TemplateId": TEMPLATE, "SubscribeStatusString": "reject" });
    let change = json!({ "event": "subscribe_msg_change_event", "openid": ann.openid, "list": [refusal] });
    assert_eq!(world.wechat("/events", change).await["delivered"], true);
    world.drain().await;
    crate::service_account::leaves(&world, &follower).await;
    let cancel = format!("/v1/events/{}/cancel", to_all["event_id"].as_str().expect("an id"));
    assert_eq!(world.post(&cancel, json!({})).await.status, 200);
    world.drain().await;

    let ids = |of: &str| {
        let all = told(&shop, of)
            .into_iter()
            .map(|body| (body["data"]["event"]["id"].clone(), body["data"]["reason"].clone()));
        all.collect::<Vec<_>>()
    };
    assert_eq!(ids("notification.failed"), [(json!("1"), json!("no_credit")), (json!("2"), json!("not_following"))]);
    assert_eq!(ids("notification.cancelled"), [(json!("3"), Value::Null)]);
    for (event, state) in [(&of_ann, "failed"), (&of_follower, "failed")] {
        assert_eq!(world.state(event["notifications"][0]["id"].as_str().expect("an id")).await, state);
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn people_come_agree_refuse_and_go(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with_service_account(kind).await else { return };
    let shop = Receiver::start().await;
    endpoint(&world, &shop.url, json!({ "event_types": ["user.*"] })).await;
    world.rule(json!({})).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    // The front end and WeChat both tell of the tap.
    world.accept(&ann, "tap").await;
    world.drain().await;
    assert_eq!(shop.types(), ["user.created", "user.created", "user.subscribed"], "once each");
    // They may have come in any order.
    let created: Vec<_> = told(&shop, "user.created").iter().map(|body| body["data"].clone()).collect();
    for user in [&ann, &bob] {
        assert!(created.contains(&json!({ "user_id": user.user_id, "app_id": APP, "is_new": true })), "{created:?}");
    }
    let subscribed = told(&shop, "user.subscribed").remove(0)["data"].clone();
    assert_eq!(subscribed, json!({ "user_id": ann.user_id, "app_id": APP, "template_id": TEMPLATE }));

    let refusal = json!({ "TemplateId": TEMPLATE, "SubscribeStatusString": "reject" });
    world.advance(Duration::from_secs(2)).await;
    let change = json!({ "event": "subscribe_msg_change_event", "openid": ann.openid, "list": [refusal] });
    assert_eq!(world.wechat("/events", change).await["delivered"], true);
    world.drain().await;
    assert_eq!(told(&shop, "user.unsubscribed").remove(0)["data"]["user_id"], json!(ann.user_id));

    let ban = format!("/v1/users/{}/ban", bob.user_id);
    world.call(Method::PUT, &ban, Some(&world.key), Some(json!({ "because": "x" }))).await;
    world.call(Method::DELETE, &ban, Some(&world.key), None).await;
    world.call(Method::DELETE, &ban, Some(&world.key), None).await;
    world.drain().await;
    for of in ["user.banned", "user.unbanned"] {
        assert_eq!(
            told(&shop, of).iter().map(|body| body["data"].clone()).collect::<Vec<_>>(),
            [json!({ "user_id": bob.user_id })]
        );
    }

    // The same person as a follower of the service account, and then as one user.
    let follow = async |name: &str, unionid: &str| {
        let path = format!("/sandbox/apps/{SERVICE_ACCOUNT}/follow");
        let body = json!({ "openid": openid(name), "unionid": unionid });
        assert!(world.sandbox_call(Method::POST, &path, Some(body)).await.status.is_success());
        crate::service_account::told(&world, json!({ "Event": "subscribe", "FromUserName": openid(name) })).await;
        world.drain().await;
    };
    follow("bob", "uBob").await;
    let follower = told(&shop, "user.created").remove(2)["data"].clone();
    assert_eq!((&follower["app_id"], &follower["is_new"]), (&json!(SERVICE_ACCOUNT), &json!(true)));
    let code = world.wechat("/login-code", json!({ "openid": openid("bob"), "unionid": "uBob" })).await;
    assert_eq!(world.log_in_with(code["code"].as_str().expect("a code")).await.status, 200);
    world.drain().await;
    let merged = told(&shop, "user.merged").remove(0)["data"].clone();
    assert_eq!(merged, json!({ "user_id": bob.user_id, "merged_user_id": follower["user_id"] }));

    world.call(Method::DELETE, "/v1/me", Some(&ann.access_token), None).await;
    world.drain().await;
    let erased = told(&shop, "user.erased").remove(0)["data"].clone();
    assert_eq!(erased, json!({ "user_id": ann.user_id, "user_deleted": true }));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn without_a_listener_nothing_is_stored(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (off, _) = endpoint(&world, &shop.url, json!({})).await;
    patch(&world, &off, json!({ "enabled": false })).await;
    endpoint(&world, &shop.url, json!({ "event_types": ["user.banned"] })).await;
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    let id = notified(&world, "1", &ann).await;
    world.until(&id, "delivered").await;
    world.drain().await;
    assert_eq!((rows(&world).await, shop.seen().len()), (0, 0));
    // The other way round: the same things are told as soon as somebody listens.
    patch(&world, &off, json!({ "enabled": true })).await;
    world.phone("bob").await;
    world.drain().await;
    assert_eq!(shop.types(), ["user.created"]);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_was_told_of_an_erased_person_goes(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    world.rule(json!({})).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    world.drain().await;
    // One that arrived, one that waits for its next turn; the shop named its event after the customer.
    shop.always_answers(answering(500, ""));
    notified(&world, "customer-ann-1", &ann).await;
    notified(&world, "customer-bob-1", &bob).await;
    world.drain().await;
    assert!(dump(&world).await.contains("webhook_delivery") && dump(&world).await.contains("customer-ann-1"));
    shop.always_answers(answering(204, ""));
    let before = shop.seen().len();
    world.call(Method::DELETE, "/v1/me", Some(&ann.access_token), None).await;
    world.advance(Duration::from_secs(10)).await;
    world.drain().await;

    let mut after: Vec<_> = shop.seen().split_off(before).into_iter().map(|one| one.body).collect();
    after.sort_unstable_by_key(|body| body["type"].to_string());
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!(
        (&after[0]["type"], &after[0]["data"]["event"]["id"]),
        (&json!("notification.failed"), &json!("customer-bob-1"))
    );
    assert_eq!((&after[1]["type"], &after[1]["data"]["user_id"]), (&json!("user.erased"), &json!(ann.user_id)));
    let about_ann: Vec<_> =
        deliveries(&world, &id).await.into_iter().filter(|one| one["user_id"] == json!(ann.user_id)).collect();
    assert_eq!(about_ann.len(), 3, "{about_ann:?}");
    for one in about_ann.iter().filter(|one| one["type"] != "user.erased") {
        assert_eq!(one["body"], Value::Null, "{one}");
        let again = format!("/v1/webhooks/{id}/deliveries/{}/redeliver", one["id"].as_str().expect("an id"));
        world.post(&again, json!({})).await.problem(409, "state_conflict");
    }
    assert_eq!(about_ann.iter().filter(|one| one["problem"] == "erased").count(), 1, "{about_ann:?}");
    let stored = dump(&world).await;
    let left: Vec<_> =
        stored.lines().filter(|line| line.starts_with("webhook") && line.contains("customer-ann")).collect();
    assert!(left.is_empty(), "{left:?}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn deliveries_have_their_time(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[retention]\nwebhook_deliveries = \"3d\"\n").await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    test(&world, &id).await;
    world.drain().await;
    let after = async |span: Duration| {
        world.advance(span).await;
        retention::clear(&world.ctx).await.expect("cleared");
        rows(&world).await
    };
    assert_eq!(after(2 * DAY).await, 1);
    // One that waits is needed, as long as its endpoint is on.
    shop.always_answers(answering(500, ""));
    test(&world, &id).await;
    world.drain().await;
    assert_eq!(after(2 * DAY).await, 1, "the one that arrived four days ago is gone");
    patch(&world, &id, json!({ "enabled": false })).await;
    assert_eq!(after(2 * DAY).await, 0, "nobody waits for it");
    // With an endpoint goes all that was told to it.
    patch(&world, &id, json!({ "enabled": true })).await;
    test(&world, &id).await;
    assert_eq!(world.call(Method::DELETE, &format!("/v1/webhooks/{id}"), Some(&world.key), None).await.status, 204);
    assert!(webhook_delivery::Entity::find().all(world.ctx.db.read()).await.expect("rows").is_empty());
    world.finish().await;
}
