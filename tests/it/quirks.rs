//! WeChat on a bad day: busy for a while, limits of a minute, somebody else sending, ids left out.

use std::time::Duration;

use entity::callback;
use rstest::rstest;
use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait};
use serde_json::json;

use crate::harness::{APP, Kind, SEND, TEMPLATE, TOKEN, World};

#[rstest]
#[tokio::test]
async fn wechat_is_busy_for_a_while(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 1).await;
    world.wechat("/faults", json!({ "path": SEND, "errcode": -1, "for_seconds": 20 })).await;
    let id = world.told("1", &ann).await;
    for _ in 0..4 {
        world.drain().await;
        assert_eq!(world.state(&id).await, "pending");
        world.advance(Duration::from_secs(5)).await;
    }
    // The longest pause that may have been begun meanwhile.
    world.advance(Duration::from_secs(20)).await;
    world.until(&id, "delivered").await;
    assert_eq!(world.messages(&ann.openid).await.len(), 1);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_limit_of_a_minute_puts_messages_off_and_pauses_nothing(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let (ann, bob) = (world.ready("ann", 1).await, world.ready("bob", 1).await);
    world.knobs(json!({ "quotas": { SEND: { "per_minute": 1 } } })).await;
    let ids = [world.told("1", &ann).await, world.told("2", &bob).await];
    world.drain().await;
    let mut states = [world.state(&ids[0]).await, world.state(&ids[1]).await];
    states.sort();
    assert!(["accepted", "delivered"].contains(&states[0].as_str()) && states[1] == "pending", "{states:?}");
    assert!(world.get("/v1/apps").await.body["data"][0]["paused_until"].is_null());
    world.advance(Duration::from_secs(59)).await;
    world.drain().await;
    assert_eq!(world.calls_of(SEND).await, 2, "the window that WeChat tells is waited for");
    world.advance(Duration::from_secs(32)).await;
    for id in &ids {
        world.until(id, "delivered").await;
        let story = world.story(id).await;
        assert!(story["attempts"].as_array().is_some_and(|attempts| attempts.len() <= 2), "{story}");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn another_systems_message_to_the_same_user_goes_first(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[delivery]\nmax_attempts = 1\n").await else { return };
    world.rule(json!({})).await;
    let ann = world.ready("ann", 2).await;
    // Another system has the same token, as `stable_token` gives it to everybody.
    let secret = wechat_sandbox::DEMO_SECRET;
    let asked = json!({ "grant_type": "client_credential", "appid": APP, "secret": secret });
    let token = world.sandbox_call(reqwest::Method::POST, TOKEN, Some(asked)).await.body["access_token"].clone();
    let path = format!("{SEND}?access_token={}", token.as_str().expect("a token"));
    let data = json!({ "character_string1": { "value": "1" }, "thing2": { "value": "别的系统" },
        "time3": { "value": "2026年1月2日 11:04" } });
    let message = json!({ "touser": ann.openid, "template_id": TEMPLATE, "data": data });
    world.wechat("/faults", json!({ "path": SEND, "delay_ms": 400, "contains": "别的系统" })).await;

    let id = world.told("1", &ann).await;
    let (theirs, ()) = tokio::join!(world.sandbox_call(reqwest::Method::POST, &path, Some(message)), async {
        tokio::time::sleep(Duration::from_millis(150)).await;
        magpie::worker::step(&world.ctx).await.expect("a step");
    });
    assert_eq!(theirs.body["errcode"], 0, "{theirs:?}");
    let snoozed = world.story(&id).await;
    let attempt = &snoozed["attempts"][0];
    assert_eq!(
        (&snoozed["state"], &attempt["outcome"], &attempt["errcode"]),
        (&json!("pending"), &json!("snooze"), &json!(43108)),
        "{snoozed}"
    );
    world.advance(Duration::from_secs(1)).await;
    world.until(&id, "delivered").await;
    assert_eq!(world.messages(&ann.openid).await.len(), 2, "a snooze costs no attempt");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_wechat_refuses_is_told_by_its_reason(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({ "page": "pages/gone" })).await;
    let ann = world.ready("ann", 1).await;
    for (knobs, reason) in [
        (json!({ "missing_pages": ["pages/gone"] }), "bad_page"),
        (json!({ "missing_pages": [], "sensitive_words": ["红富士"] }), "sensitive_text"),
    ] {
        world.knobs(knobs).await;
        let id = world.told(reason, &ann).await;
        world.drain().await;
        let story = world.story(&id).await;
        assert_eq!((&story["state"], &story["reason"]), (&json!("failed"), &json!(reason)), "{story}");
        assert_eq!(world.credits(&ann).await, 1, "{reason} spends no credit");
    }
    world.knobs(json!({ "sensitive_words": [], "blocked_openids": [ann.openid] })).await;
    let login = world.log_in_with(&world.code(&ann.openid).await).await;
    assert_eq!(login.body["code"], "login_refused", "{login:?}");
    assert_eq!(login.body["wechat"]["errcode"], 40226);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_token_that_is_renewed_late_is_asked_for_now_and_then(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.knobs(json!({ "token_life_seconds": 200, "renew_late": true })).await;
    for _ in 0..100 {
        assert_eq!(world.sync().await.status, 200);
        world.advance(Duration::from_secs(2)).await;
    }
    let asked = world.calls_of(TOKEN).await;
    assert!((4..=8).contains(&asked), "at most every half minute: {asked}");
    assert_eq!(world.sync().await.status, 200);
    let token = world.get("/v1/apps").await.body["data"][0]["token"].clone();
    assert!(token["age_seconds"].as_i64().is_some_and(|age| age < 30), "the old one has ended: {token}");
    assert_eq!(token["force_refreshes_left"], 20);
    world.finish().await;
}

#[rstest]
#[case("late")]
#[case("twice")]
#[tokio::test]
async fn without_an_id_a_receipt_fits_only_a_sole_message(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[case] mode: &str,
) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let (ann, bob) = (world.ready("ann", 1).await, world.ready("bob", 2).await);
    world.knobs(json!({ "receipt": { "mode": mode, "delay_ms": 10_000 }, "omit_msgid": true })).await;
    let sole = world.told("sole", &ann).await;
    let two = [world.told("1", &bob).await, world.told("2", &bob).await];
    for id in two.iter().chain([&sole]) {
        world.until(id, "accepted").await;
    }
    world.advance(Duration::from_secs(11)).await;
    world.until(&sole, "delivered").await;
    for id in &two {
        assert_eq!(world.state(id).await, "accepted", "which of the two it is about nobody knows");
    }
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_push_that_was_not_stored_in_time_comes_again(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.knobs(json!({ "callback_retry_ms": 100 })).await;
    let lock = world.ctx.db.begin().await.expect("a transaction");
    if kind == Kind::Postgres {
        lock.execute_unprepared("LOCK TABLE callback IN EXCLUSIVE MODE").await.expect("a lock");
    }
    let event = json!({ "event": "never_heard_of_it", "openid": "oA" });
    let (posted, ()) = tokio::join!(world.wechat("/events", event), async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        lock.rollback().await.expect("a rollback");
    });
    assert_eq!(posted["delivered"], true);
    let log = world.sandbox_call(reqwest::Method::GET, &format!("/sandbox/apps/{APP}/callbacks"), None).await;
    let statuses: Vec<_> = log.body["callbacks"][0]["tries"]
        .as_array()
        .unwrap_or_else(|| panic!("{log:?}"))
        .iter()
        .map(|attempt| attempt["status"].clone())
        .collect();
    assert_eq!(statuses, [503, 200]);
    assert_eq!(callback::Entity::find().count(world.ctx.db.read()).await.expect("a count"), 1);
    world.drain().await;
    world.finish().await;
}
