//! Pushing: retries, refusals, unknown outcomes, tokens, leases. Each fault is a real one on the wire.

use std::time::Duration;

use entity::{
    attempt::{self, Outcome},
    notification,
};
use magpie::{
    context::Context,
    notification::{
        settle::{Settlement, settle},
        state::Came,
    },
};
use rstest::rstest;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{Set, Unchanged},
    EntityTrait,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{APP, Kind, SEND, TOKEN, World};

/// Claims as the worker does.
async fn claim(ctx: &Context, most: usize) -> Vec<notification::Model> {
    magpie::notification::claim::claim(ctx, APP, most, &[]).await.expect("a claim").rows
}

async fn fault(world: &World, fault: Value) {
    let mut fault = fault;
    if fault.get("path").is_none() {
        fault["path"] = SEND.into();
    }
    world.wechat("/faults", fault).await;
}

#[rstest]
#[tokio::test]
async fn a_busy_wechat_is_tried_again_with_growing_pauses(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    fault(&world, json!({ "errcode": -1, "times": 2 })).await;
    let id = world.told("42", &ann).await;
    world.drain().await;
    assert_eq!(world.state(&id).await, "pending");
    assert_eq!(world.calls_of(SEND).await, 1, "the pause must be kept");
    world.advance(Duration::from_secs(1)).await;
    world.drain().await;
    world.advance(Duration::from_secs(2)).await;
    world.until(&id, "delivered").await;
    let story = world.story(&id).await;
    let outcomes: Vec<_> =
        story["attempts"].as_array().expect("attempts").iter().map(|a| a["outcome"].clone()).collect();
    assert_eq!(outcomes, ["retry", "retry", "accepted"]);
    assert_eq!(world.messages(&ann.openid).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn attempts_end_and_the_credit_comes_back(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[delivery]\nmax_attempts = 3\n").await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    fault(&world, json!({ "errcode": -1, "times": 0 })).await;
    let id = world.told("42", &ann).await;
    for _ in 0..4 {
        world.drain().await;
        world.advance(Duration::from_mins(1)).await;
    }
    let story = world.story(&id).await;
    assert_eq!((&story["state"], &story["reason"]), (&json!("failed"), &json!("attempts_exhausted")), "{story}");
    assert_eq!(world.calls_of(SEND).await, 3);
    assert_eq!(world.credits(&ann).await, 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn refusals_end_a_message_with_their_reason(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 3).await;
    for (errcode, reason) in
        [(47003, "bad_data"), (41030, "bad_page"), (40003, "bad_openid"), (99999, "system_failure")]
    {
        fault(&world, json!({ "errcode": errcode })).await;
        let id = world.told(&errcode.to_string(), &ann).await;
        world.drain().await;
        let story = world.story(&id).await;
        assert_eq!((&story["state"], &story["reason"]), (&json!("failed"), &json!(reason)), "{story}");
        assert!(story["attempts"][0]["rid"].is_string(), "{story}");
        assert_eq!(world.credits(&ann).await, 3, "{errcode} spends no credit");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn wechat_has_the_last_word_on_credits(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 3).await;
    // The user refused in WeChat's own settings; the two others that are under way do not go either.
    fault(&world, json!({ "errcode": 43101, "times": 1 })).await;
    let ids = [world.told("1", &ann).await, world.told("2", &ann).await];
    world.drain().await;
    for id in &ids {
        let story = world.story(id).await;
        assert_eq!((&story["state"], &story["reason"]), (&json!("failed"), &json!("no_credit")), "{story}");
    }
    assert_eq!(world.calls_of(SEND).await, 1);
    assert_eq!(world.credits(&ann).await, 0);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_message_may_wait_for_consent(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "no_credit": "wait", "ttl_seconds": 3600 })).await;
    let ann = world.phone("ann").await;
    let (first, second) = (world.told("1", &ann).await, world.told("2", &ann).await);
    world.drain().await;
    assert_eq!(world.state(&first).await, "waiting");
    world.accept(&ann, "tap-1").await;
    world.until(&first, "delivered").await;
    assert_eq!(world.state(&second).await, "waiting", "one acceptance releases one message, the oldest");
    world.advance(Duration::from_secs(3601)).await;
    world.drain().await;
    assert_eq!(world.state(&second).await, "expired");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_unknown_outcome_is_decided_by_the_receipt(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    // WeChat does the work and the connection breaks.
    fault(&world, json!({ "drop": "after" })).await;
    let id = world.told("42", &ann).await;
    world.drain().await;
    let now = world.state(&id).await;
    assert!(["unsure", "delivered"].contains(&now.as_str()), "{now}");
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "delivered").await;
    let story = world.story(&id).await;
    assert_eq!(story["attempts"][0]["outcome"], "unsure");
    assert_eq!(world.messages(&ann.openid).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn without_a_receipt_the_rule_decides(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    world.rule(json!({ "event_type": "twice", "unsure": "at_least_once" })).await;
    world.knobs(json!({ "receipt": { "mode": "lost" } })).await;
    let ann = world.ready("ann", 3).await;

    fault(&world, json!({ "drop": "after" })).await;
    let once = world.told("42", &ann).await;
    world.drain().await;
    assert_eq!(world.state(&once).await, "unsure");
    world.advance(Duration::from_secs(61)).await;
    world.drain().await;
    let story = world.story(&once).await;
    assert_eq!((&story["state"], &story["reason"]), (&json!("failed"), &json!("unknown_outcome")), "{story}");
    assert_eq!(world.messages(&ann.openid).await.len(), 1, "never sent twice");
    assert_eq!(world.credits(&ann).await, 2, "the credit may be spent, so it does not come back");

    fault(&world, json!({ "drop": "after" })).await;
    let mut event = crate::harness::shipped("43", ann.user_id.as_str());
    event["type"] = "twice".into();
    let answer = world.post("/v1/events", event).await;
    let twice = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    world.drain().await;
    world.advance(Duration::from_secs(61)).await;
    world.drain().await;
    assert_eq!(world.state(&twice).await, "accepted");
    assert_eq!(world.messages(&ann.openid).await.len(), 3, "sent again, as the rule wants");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_receipt_may_come_before_the_answer(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 2).await;
    world.knobs(json!({ "receipt": { "mode": "early" } })).await;
    let id = world.told("1", &ann).await;
    world.until(&id, "delivered").await;
    // And without WeChat telling its id with the send.
    world.knobs(json!({ "receipt": { "mode": "early" }, "omit_msgid": true })).await;
    let id = world.told("2", &ann).await;
    world.until(&id, "delivered").await;
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_failed_delivery_is_told(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    world.knobs(json!({ "receipt": { "mode": "fail" } })).await;
    let id = world.told("1", &ann).await;
    world.drain().await;
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "failed").await;
    assert_eq!(world.story(&id).await["reason"], "system_failure");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn many_sends_at_once_fetch_one_token(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let mut to = Vec::new();
    for number in 0..20 {
        to.push(world.ready(&format!("p{number}"), 1).await.user_id);
    }
    // Reporting consent has looked at the templates with a token; that one is refused from now on.
    let before = world.calls_of(TOKEN).await;
    world.knobs(json!({ "refuse_tokens": 20 })).await;
    fault(&world, json!({ "path": TOKEN, "delay_ms": 200, "times": 0 })).await;
    let answer = world.event("42", json!(to)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    world.drain().await;
    assert_eq!(world.calls_of(TOKEN).await - before, 2, "twenty refusals, one fetch, and one forced");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_refused_token_is_replaced_and_the_call_repeated_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 2).await;
    for errcode in [40001, 42001] {
        fault(&world, json!({ "errcode": errcode })).await;
        let id = world.told(&errcode.to_string(), &ann).await;
        world.until(&id, "delivered").await;
        assert_eq!(world.story(&id).await["attempts"].as_array().map(Vec::len), Some(1), "the repeat is no attempt");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_fault_of_the_account_pauses_the_app_and_costs_no_attempt(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    fault(&world, json!({ "errcode": 48001 })).await;
    let id = world.told("1", &ann).await;
    world.drain().await;
    assert_eq!(world.state(&id).await, "pending");
    let app = world.get(&format!("/v1/apps/{APP}")).await.body;
    assert!(app["paused_because"].as_str().expect("a cause").contains("48001"), "{app}");
    world.drain().await;
    assert_eq!(world.calls_of(SEND).await, 1, "a paused app is left alone");
    world.advance(Duration::from_secs(301)).await;
    world.until(&id, "delivered").await;
    assert!(world.get(&format!("/v1/apps/{APP}")).await.body["paused_until"].is_null());
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_lost_lease_leaves_the_message_unsure_and_its_late_answer_decides(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 2).await;
    // A node claims and dies.
    let id = world.told("1", &ann).await;
    let claimed = claim(&world.ctx, 10).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claim(&world.ctx, 10).await.len(), 0, "claimed once");
    world.drain().await;
    assert_eq!(world.state(&id).await, "sending");
    world.advance(Duration::from_secs(16)).await;
    world.drain().await;
    assert_eq!(world.state(&id).await, "unsure");
    assert_eq!(world.calls_of(SEND).await, 0);

    // It was only slow: its answer still comes.
    let came = Came::Accepted { message_id: Some("77".into()) };
    let row = claimed.into_iter().next().expect("a row");
    let late = Settlement { row: row.clone(), came, duration_ms: 20_000 };
    let settled = settle(&world.ctx, &[&late]).await.expect("a settle");
    assert!(settled[0].is_some());
    assert_eq!(world.state(&id).await, "accepted");

    // A second word under the same lease changes nothing.
    let came = Came::NotSent;
    let later = Settlement { row, came, duration_ms: 20_000 };
    let settled = settle(&world.ctx, &[&later]).await.expect("a settle");
    assert!(settled[0].is_none(), "the lease is lost");
    assert_eq!(world.state(&id).await, "accepted");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_lease_lost_among_answers_of_other_calls_is_noticed_and_overwrites_nothing(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    for name in ["ann", "bob"] {
        let user = world.ready(name, 1).await;
        world.told(name, &user).await;
    }
    let claimed = claim(&world.ctx, 10).await;
    let [kept, lost] = claimed.as_slice() else { panic!("{} rows", claimed.len()) };
    // Somebody else holds the second one by now, though its time is not over.
    let taken_over = notification::ActiveModel {
        id: Unchanged(lost.id),
        lease_token: Set(Some(Uuid::now_v7())),
        ..Default::default()
    };
    let taken_over = taken_over.update(world.ctx.db.write()).await.expect("the row");

    let settlements: Vec<_> = claimed
        .iter()
        .map(|row| Settlement {
            row: row.clone(),
            came: Came::Accepted { message_id: Some("77".into()) },
            duration_ms: 20,
        })
        .collect();
    let settled = settle(&world.ctx, &settlements.iter().collect::<Vec<_>>()).await.expect("a settle");
    assert_eq!(settled.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);

    assert_eq!(world.state(&kept.id.to_string()).await, "accepted");
    let theirs = notification::Entity::find_by_id(lost.id).one(world.ctx.db.write()).await.expect("a query");
    assert_eq!(theirs, Some(taken_over), "the row is as its new holder left it");
    let calls = attempt::Entity::find().all(world.ctx.db.write()).await.expect("a query");
    let calls: Vec<_> = calls.iter().map(|call| (call.notification_id, call.outcome)).collect();
    assert_eq!(calls, [(lost.id, Some(Outcome::Accepted))], "what the call came to is told beside it");

    // The new holder dies.
    world.advance(Duration::from_secs(16)).await;
    world.drain().await;
    assert_eq!(world.state(&lost.id.to_string()).await, "unsure");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn two_nodes_never_claim_the_same_message(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    world.second_node().await;
    world.rule(json!({})).await;
    let mut to = Vec::new();
    for number in 0..30 {
        to.push(world.ready(&format!("p{number}"), 1).await.user_id);
    }
    world.event("42", json!(to)).await;
    let (mine, theirs) = tokio::join!(claim(&world.ctx, 20), claim(world.second_context(), 20));
    assert!(mine.iter().all(|row| theirs.iter().all(|other| other.id != row.id)));
    assert!(mine.len() + theirs.len() >= 20, "{} {}", mine.len(), theirs.len());
    // Both nodes die; nothing is lost.
    world.advance(Duration::from_secs(16)).await;
    world.drain().await;
    let unsure = world.get("/v1/notifications?state=unsure").await.body["data"].as_array().map(Vec::len);
    assert_eq!(unsure, Some(mine.len() + theirs.len()));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn one_user_gets_one_message_at_a_time(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 3).await;
    for id in ["1", "2", "3"] {
        world.told(id, &ann).await;
    }
    assert_eq!(claim(&world.ctx, 10).await.len(), 1);
    assert_eq!(claim(&world.ctx, 10).await.len(), 0);
    world.advance(Duration::from_secs(16)).await;
    world.drain().await;
    assert_eq!(world.messages(&ann.openid).await.len(), 2, "the two others went after it");
    world.finish().await;
}
