//! Consent: what the user agreed to, counted once.

use entity::{consent, credit};
use reqwest::Method;
use rstest::rstest;
use sea_orm::EntityTrait;
use serde_json::json;

use crate::harness::{Kind, TEMPLATE, World};

/// The balance is always the sum of the ledger.
pub async fn assert_ledger_adds_up(world: &World) {
    let entries = consent::Entity::find().all(world.ctx.db.read()).await.expect("entries");
    for balance in credit::Entity::find().all(world.ctx.db.read()).await.expect("balances") {
        let of_it =
            entries.iter().filter(|e| e.identity_id == balance.identity_id && e.template_id == balance.template_id);
        assert_eq!(of_it.map(|entry| entry.delta).sum::<i32>(), balance.credits);
    }
}

#[rstest]
#[tokio::test]
async fn every_acceptance_counts_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let first = world.accept(&ann, "tap-1").await;
    assert_eq!(first.body["data"][0]["credits"], 1, "{first:?}");
    assert_eq!(first.body["data"][0]["kind"], "one_time");
    // The front end repeats a report whose answer was lost.
    let again = world.report(&ann, "tap-1", json!({ TEMPLATE: "accept" })).await;
    assert_eq!(again.body["data"][0]["credits"], 1);
    for (tap, result) in [("tap-2", "acceptWithAudio"), ("tap-3", "reject"), ("tap-4", "ban"), ("tap-5", "filter")] {
        assert_eq!(world.report(&ann, tap, json!({ TEMPLATE: result })).await.status, 200);
    }
    let balances = world.call(Method::GET, "/v1/me/subscriptions", Some(&ann.access_token), None).await;
    assert_eq!(balances.body["data"][0]["credits"], 2);
    assert_eq!(balances.body["data"][0]["last_result"], "filter");
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_same_report_at_once_counts_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let report = || world.report(&ann, "tap-1", json!({ TEMPLATE: "accept" }));
    let answers = <[_; 4]>::from(tokio::join!(report(), report(), report(), report()));
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(world.credits(&ann).await, 1);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_report_cannot_be_made_up_without_end(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    for number in 0..105 {
        world.report(&ann, &format!("tap-{number}"), json!({ TEMPLATE: "accept" })).await;
    }
    assert_eq!(world.credits(&ann).await, 100);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn two_messages_never_get_one_credit(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    let other = world.second_node().await;
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    for tap in ["a", "b", "c"] {
        world.accept(&ann, tap).await;
    }
    let tell = |base: String, id: usize| {
        let (world, body) = (&world, crate::harness::shipped(&id.to_string(), ann.user_id.as_str()));
        async move { world.call_at(&base, Method::POST, "/v1/events", Some(&world.key), Some(body)).await }
    };
    let base = |id: usize| if id.is_multiple_of(2) { world.base.clone() } else { other.clone() };
    let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(|id| tell(base(id), id));
    let answers = <[_; 6]>::from(tokio::join!(a, b, c, d, e, f));
    let pending = answers.iter().filter(|answer| answer.body["notifications"][0]["state"] == "pending").count();
    assert_eq!(pending, 3, "{answers:?}");
    assert_eq!(world.credits(&ann).await, 0);
    assert_ledger_adds_up(&world).await;
    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await.len(), 3);
    assert_ledger_adds_up(&world).await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn wrong_reports_are_explained(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let ann = world.phone("ann").await;
    let unknown = world.report(&ann, "tap-1", json!({ "no-such-template": "accept" })).await;
    assert!(unknown.problem(422, "template_not_found").body["detail"].as_str().expect("a text").contains(TEMPLATE));
    let empty = world.report(&ann, "", json!({})).await;
    let pointers: Vec<_> = empty.problem(400, "invalid_request").body["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| error["pointer"].clone())
        .collect();
    assert_eq!(pointers, ["/report_id", "/results"]);
    let new_word = world.report(&ann, "tap-2", json!({ TEMPLATE: "acceptWithHologram" })).await;
    assert_eq!(new_word.body["ignored"], json!({ TEMPLATE: "acceptWithHologram" }), "{new_word:?}");
    assert_eq!(world.credits(&ann).await, 0);
    world.call(Method::GET, "/v1/me/subscriptions", None, None).await.problem(401, "missing_credentials");
    world.finish().await;
}
