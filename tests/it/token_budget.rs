//! Access tokens that cannot be had or replaced: the budget of forced refreshes, the token endpoint's
//! waiting times.

use std::time::Duration;

use magpie::{clock::until_shanghai_midnight, template, worker};
use rstest::rstest;
use serde_json::json;

use crate::harness::{APP, Kind, TOKEN, World};

const TEMPLATES: &str = "/wxaapi/newtmpl/gettemplate";

async fn left(world: &World) -> i64 {
    world.app().await["token"]["force_refreshes_left"].as_i64().expect("a number")
}

/// WeChat refuses the token, and gives the very same one when asked for another.
async fn spend(world: &World, times: usize) {
    for _ in 0..times {
        world.advance(Duration::from_secs(31)).await;
        world.knobs(json!({ "refuse_tokens": 1 })).await;
        assert_eq!(world.sync().await.status, 200);
    }
}

#[rstest]
#[tokio::test]
async fn the_last_forced_refresh_of_a_day_goes_to_one_node(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(mut world) = World::new(kind).await else { return };
    world.second_node().await;
    let demo = world.ctx.app(APP).expect("the app");
    assert_eq!(world.sync().await.status, 200);
    spend(&world, 19).await;
    assert_eq!(left(&world).await, 1);
    world.advance(Duration::from_secs(31)).await;
    // Both nodes hold the same token, and both are about to force another one.
    template::sync(world.second_context(), &demo).await.expect("a token");
    world.knobs(json!({ "refuse_tokens": 2 })).await;
    world.wechat("/faults", json!({ "path": TOKEN, "delay_ms": 150, "times": 2 })).await;
    let before = world.calls_of(TOKEN).await;
    let (here, there) = tokio::join!(world.sync(), template::sync(world.second_context(), &demo));
    assert_eq!(world.calls_of(TOKEN).await - before, 3, "each asks for another one, and one of them forces it");
    assert_eq!(left(&world).await, 0);
    assert!(here.status == 200 || there.is_ok(), "{here:?} {there:?}");
    world.advance(Duration::from_mins(6)).await;
    assert_eq!(world.sync().await.status, 200);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_spent_budget_is_named_and_the_next_day_brings_another(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.accept(&ann, "tap").await;
    spend(&world, 20).await;
    assert_eq!(left(&world).await, 0);

    // The 21st: the same token once more, then the cause, and WeChat is left alone.
    world.advance(Duration::from_secs(31)).await;
    world.knobs(json!({ "refuse_tokens": 2 })).await;
    let (tokens, calls) = (world.calls_of(TOKEN).await, world.calls_of(TEMPLATES).await);
    for _ in 0..3 {
        let refused = world.sync().await;
        refused.problem(502, "wechat_app_error");
        assert_eq!(refused.body["wechat"]["errcode"], 40001, "{refused:?}");
        assert!(refused.text.contains("20 forced refreshes are used up"), "{refused:?}");
    }
    assert_eq!((world.calls_of(TOKEN).await - tokens, world.calls_of(TEMPLATES).await - calls), (1, 2));
    assert_eq!(world.app().await["token_refused"]["errcode"], 40001);

    // What is to be sent waits without an attempt, and says why.
    let answer = world.event("1", ann.user_id.as_str()).await;
    let id = answer.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    world.drain().await;
    assert_eq!(world.state(&id).await, "pending");
    let because = world.app().await["paused_because"].clone();
    assert!(because.as_str().expect("a cause").contains("20 forced refreshes"), "{because}");

    // WeChat takes the token again; and tomorrow a new one may be forced.
    world.advance(Duration::from_secs(301)).await;
    world.until(&id, "delivered").await;
    world.advance(until_shanghai_midnight(world.clock.now())).await;
    assert_eq!(left(&world).await, 20);
    spend(&world, 1).await;
    assert_eq!(left(&world).await, 19);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_second_force_within_half_a_minute_waits_only_a_moment(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    assert_eq!(world.sync().await.status, 200);
    spend(&world, 1).await;
    world.knobs(json!({ "refuse_tokens": 2 })).await;
    let refused = world.sync().await;
    assert!(refused.problem(502, "wechat_app_error").text.contains("less than 30 s ago"), "{refused:?}");
    world.advance(Duration::from_secs(5)).await;
    assert_eq!(world.sync().await.status, 200);
    assert_eq!(left(&world).await, 19);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_answer_without_a_token_is_no_token(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    for body in [
        r#"{"access_token":"","expires_in":7200}"#,
        r#"{"expires_in":7200}"#,
        r#"{"access_token":"t","expires_in":-1}"#,
        "<html>gateway</html>",
    ] {
        world.wechat("/faults", json!({ "path": TOKEN, "body": body })).await;
        world.sync().await.problem(502, "wechat_bad_answer");
        assert!(world.app().await["token"]["age_seconds"].is_null(), "{body}");
    }
    assert_eq!(world.sync().await.status, 200);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn each_refusal_of_the_token_endpoint_has_its_waiting_time(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    // So short-lived that each turn needs a new one.
    world.knobs(json!({ "token_life_seconds": 30 })).await;
    for (errcode, minutes, cure) in [
        (89501, 5, "administrator of the app must confirm"),
        (89502, 5, "administrator of the app must confirm"),
        (89503, 5, "administrator of the app must confirm"),
        (89504, 5, "administrator of the app must confirm"),
        (89505, 5, "administrator of the app must confirm"),
        (89506, 24 * 60, "ask the administrator why"),
        (89507, 60, "ask the administrator why"),
        (40243, 5, "unfreeze the AppSecret"),
        (50007, 5, "why the account is frozen"),
        (45009, 15, "next day in China"),
        (45011, 1, "wait a minute"),
    ] {
        world.wechat("/faults", json!({ "path": TOKEN, "errcode": errcode })).await;
        let asked = world.calls_of(TOKEN).await;
        let refused = world.sync().await;
        refused.problem(502, "wechat_app_error");
        assert_eq!(refused.body["wechat"]["errcode"], errcode, "{refused:?}");
        assert!(refused.text.contains(cure), "{refused:?}");
        let until = magpie::clock::rfc3339(world.clock.now() + Duration::from_mins(minutes));
        assert_eq!(world.app().await["token_refused"]["until"], json!(until), "{errcode}");
        world.advance(Duration::from_secs(minutes * 60 - 1)).await;
        world.sync().await.problem(502, "wechat_app_error");
        assert_eq!(world.calls_of(TOKEN).await, asked + 1, "{errcode}: left alone until then");
        world.advance(Duration::from_secs(1)).await;
        assert_eq!(world.sync().await.status, 200, "{errcode}");
        world.advance(Duration::from_mins(1)).await;
    }
    assert_eq!(worker::step(&world.ctx).await.expect("a step"), 0);
    world.finish().await;
}
