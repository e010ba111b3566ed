//! Who waited for a credit gets the next one there is, whichever way it came.

use std::time::Duration;

use magpie::clock::rfc3339;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    consent::assert_ledger_adds_up,
    harness::{Kind, Phone, SEND, TEMPLATE, World, shipped},
};

/// A person with one credit, of a rule whose messages wait.
async fn with_one_credit(kind: Kind) -> Option<(World, Phone)> {
    let world = World::with(kind, "[session]\naccess_token_ttl = \"100h\"\n").await?;
    world.rule(json!({ "no_credit": "wait" })).await;
    let ann = world.ready("ann", 1).await;
    Some((world, ann))
}

/// Tells of something with these further words; gives the message's id after checking its state.
async fn told(world: &World, id: &str, to: &str, more: Value, state: &str) -> String {
    let mut event = shipped(id, to);
    for (key, value) in more.as_object().into_iter().flatten() {
        event[key] = value.clone();
    }
    let answer = world.post("/v1/events", event).await;
    let message = &answer.body["notifications"][0];
    assert_eq!(message["state"], state, "{answer:?}");
    message["id"].as_str().expect("an id").to_owned()
}

fn in_an_hour(world: &World) -> Value {
    json!({ "deliver_at": rfc3339(world.clock.now() + Duration::from_hours(1)) })
}

/// Nobody has got the credit but this one.
async fn goes_first(world: &World, ann: &Phone, waited: &str, newest: &str) {
    world.until(waited, "delivered").await;
    assert_eq!(world.state(newest).await, "waiting");
    assert_eq!(world.credits(ann).await, 0);
    assert_eq!(world.messages(&ann.openid).await.len(), 1);
    assert_ledger_adds_up(world).await;
}

#[rstest]
#[tokio::test]
async fn a_cancelled_messages_credit_goes_to_the_oldest(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((world, ann)) = with_one_credit(kind).await else { return };
    let first = told(&world, "1", &ann.user_id, in_an_hour(&world), "pending").await;
    let second = told(&world, "2", &ann.user_id, json!({}), "waiting").await;
    let third = told(&world, "3", &ann.user_id, json!({}), "waiting").await;
    let cancelled = world.post(&format!("/v1/notifications/{first}/cancel"), json!({})).await;
    assert_eq!(cancelled.body["state"], "cancelled", "{cancelled:?}");
    assert_eq!(world.state(&second).await, "pending");
    told(&world, "4", &ann.user_id, json!({}), "waiting").await;
    goes_first(&world, &ann, &second, &third).await;
    // Of those that wait none has a credit to give back.
    world.post(&format!("/v1/notifications/{third}/cancel"), json!({})).await;
    assert_eq!(world.credits(&ann).await, 0);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_expired_messages_credit_goes_to_the_oldest_in_time(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((world, ann)) = with_one_credit(kind).await else { return };
    let mut later = in_an_hour(&world);
    later["ttl_seconds"] = json!(60);
    let first = told(&world, "1", &ann.user_id, later.clone(), "pending").await;
    let too_late = told(&world, "2", &ann.user_id, json!({ "ttl_seconds": 60 }), "waiting").await;
    let second = told(&world, "3", &ann.user_id, json!({}), "waiting").await;
    let third = told(&world, "4", &ann.user_id, json!({}), "waiting").await;
    world.advance(Duration::from_hours(2)).await;
    goes_first(&world, &ann, &second, &third).await;
    assert_eq!((world.state(&first).await, world.state(&too_late).await), ("expired".into(), "expired".into()));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_refused_messages_credit_goes_to_the_oldest(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((world, ann)) = with_one_credit(kind).await else { return };
    let first = told(&world, "1", &ann.user_id, json!({}), "pending").await;
    let second = told(&world, "2", &ann.user_id, json!({}), "waiting").await;
    let third = told(&world, "3", &ann.user_id, json!({}), "waiting").await;
    world.wechat("/faults", json!({ "path": SEND, "times": 1, "errcode": 47003 })).await;
    goes_first(&world, &ann, &second, &third).await;
    assert_eq!(world.state(&first).await, "failed");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_cancelled_fan_outs_credits_go_to_those_who_waited(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some((world, ann)) = with_one_credit(kind).await else { return };
    let bob = world.ready("bob", 1).await;
    let mut campaign = shipped("campaign", "audience:consented");
    campaign["deliver_at"] = in_an_hour(&world)["deliver_at"].clone();
    let campaign = world.post("/v1/events", campaign).await;
    world.drain().await;
    let mut second = Vec::new();
    for (id, phone) in [("2", &ann), ("3", &bob)] {
        second.push(told(&world, id, &phone.user_id, json!({}), "waiting").await);
    }
    let third = told(&world, "4", &ann.user_id, json!({}), "waiting").await;
    let id = campaign.body["event_id"].as_str().unwrap_or_else(|| panic!("{campaign:?}"));
    assert!(world.post(&format!("/v1/events/{id}/cancel"), json!({})).await.status.is_success());
    world.until(&second[1], "delivered").await;
    goes_first(&world, &ann, &second[0], &third).await;
    world.finish().await;
}

/// An event that finds no balance locks none: the first tap looks for it nonetheless.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_first_tap_beside_an_event_releases_it(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "no_credit": "wait" })).await;
    for number in 0..12 {
        let id = format!("p{number}");
        let phone = world.phone(&id).await;
        let (told, tapped) = tokio::join!(
            world.event(&id, phone.user_id.as_str()),
            world.report(&phone, "tap", json!({ TEMPLATE: "accept" })),
        );
        assert_eq!((told.status.as_u16(), tapped.status.as_u16()), (202, 200), "{told:?} {tapped:?}");
        let id = told.body["notifications"][0]["id"].as_str().expect("an id");
        assert_eq!((world.state(id).await.as_str(), world.credits(&phone).await), ("pending", 0));
    }
    // WeChat knows nothing of these taps.
    world.drain().await;
    world.finish().await;
}
