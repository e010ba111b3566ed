//! Calls to endpoints: only where they may go, never twice at once, and none lost.

use std::{collections::BTreeSet, time::Duration};

use magpie::{app, config::Config, context::Context, webhook::claim};
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    harness::{Kind, World},
    webhooks::{
        deliveries, endpoint, patch,
        receiver::{Receiver, answering},
        test,
    },
};

/// A node on the same database with stricter rules; it is built and does not run.
async fn with_webhooks(world: &World, table: &str) -> Context {
    let config = world.configuration();
    let (others, _) = config.split_once("[webhooks]").expect("the table comes last");
    let config = Config::from_toml(&format!("{others}[webhooks]\n{table}\n")).expect("a configuration");
    app::build(config, world.clock.clone()).await.expect("a context")
}

#[rstest]
#[tokio::test]
async fn an_internal_address_is_refused_when_it_is_saved(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[webhooks]\nallow_http = true\n").await else { return };
    for url in [
        "http://127.0.0.1:9/",
        "https://localhost/",
        "http://localhost:9/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.1.2.3/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://user:pass@1.1.1.1/",
        "https://nobody.invalid/",
    ] {
        let answer = world.post("/v1/webhooks", json!({ "url": url })).await;
        let problem = &answer.problem(400, "invalid_request").body["errors"][0];
        assert_eq!(problem["pointer"], "/url", "{url}: {problem}");
    }
    let (id, _) = endpoint(&world, "https://1.1.1.1/", json!({ "enabled": false })).await;
    let moved = patch(&world, &id, json!({ "url": "https://192.168.0.1/" })).await;
    let problem = &moved.problem(400, "invalid_request").body["errors"][0];
    assert!(problem["reason"].as_str().is_some_and(|reason| reason.contains("webhooks.allowed_networks")), "{problem}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn plain_http_is_for_development(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, "[webhooks]\nallowed_networks = [\"127.0.0.1\"]\n").await else { return };
    let answer = world.post("/v1/webhooks", json!({ "url": "http://127.0.0.1:9/" })).await;
    let problem = &answer.problem(400, "invalid_request").body["errors"][0];
    assert!(problem["reason"].as_str().is_some_and(|reason| reason.contains("https://")), "{problem}");
    assert_eq!(world.post("/v1/webhooks", json!({ "url": "https://127.0.0.1:9/" })).await.status, 201);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn where_a_name_leads_is_checked_at_each_call(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values("127.0.0.1", "localhost")] host: &str,
) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url.replace("127.0.0.1", host), json!({})).await;
    test(&world, &id).await;
    // It led elsewhere when it was saved: for this node it leads to an internal address.
    let strict = with_webhooks(&world, "allow_http = true").await;
    assert_eq!(claim::step(&strict).await.expect("a step"), 1);
    let listed = deliveries(&world, &id).await;
    assert_eq!(
        (&listed[0]["state"], &listed[0]["problem"]),
        (&json!("pending"), &json!("address_refused")),
        "{listed:?}"
    );
    assert!(shop.seen().is_empty(), "nobody was called");
    // Where it may go it arrives.
    world.advance(Duration::from_secs(7)).await;
    world.drain().await;
    assert_eq!(shop.seen().len(), 1);
    strict.db.close().await.expect("closed");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_redirect_is_not_followed(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let (shop, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    shop.will_answer(answering(307, &format!("location: {}\r\n", elsewhere.url)));
    test(&world, &id).await;
    world.drain().await;
    let listed = deliveries(&world, &id).await;
    assert_eq!((&listed[0]["state"], &listed[0]["status"]), (&json!("pending"), &json!(307)), "{listed:?}");
    assert_eq!((shop.seen().len(), elsewhere.seen().len()), (1, 0));
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn no_answer_and_no_listener_are_told_apart(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (silent, _) = endpoint(&world, &shop.url, json!({})).await;
    let (nobody, _) = endpoint(&world, "http://127.0.0.1:1/", json!({})).await;
    shop.hold();
    test(&world, &silent).await;
    test(&world, &nobody).await;
    let hasty =
        with_webhooks(&world, "allow_http = true\nallowed_networks = [\"127.0.0.0/8\"]\ntimeout = \"200ms\"").await;
    assert_eq!(claim::step(&hasty).await.expect("a step"), 2);
    assert_eq!(deliveries(&world, &silent).await[0]["problem"], "timed_out");
    assert_eq!(deliveries(&world, &nobody).await[0]["problem"], "unreachable");
    shop.release();
    hasty.db.close().await.expect("closed");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_slow_endpoint_holds_up_nobody_else(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let table = "allow_http = true\nallowed_networks = [\"127.0.0.0/8\"]\ntimeout = \"50s\"\nconcurrency = 2\n";
    let Some(world) = World::with(kind, &format!("[webhooks]\n{table}")).await else { return };
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    slow.hold();
    let (held, _) = endpoint(&world, &slow.url, json!({})).await;
    let (other, _) = endpoint(&world, &quick.url, json!({})).await;
    for _ in 0..6 {
        test(&world, &held).await;
        test(&world, &other).await;
    }
    let worker = world.work();
    slow.until(2).await;
    quick.until(6).await;
    assert_eq!(slow.seen().len(), 2, "no more calls than it may have at once");
    slow.release();
    slow.until(6).await;
    let once: BTreeSet<_> = slow.seen().iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(once.len(), 6);
    world.ctx.stop.cancel();
    worker.await.expect("the worker stops");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_running_worker_tells_at_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    endpoint(&world, &shop.url, json!({ "event_types": ["user.created", "notification.failed"] })).await;
    world.rule(json!({})).await;
    let worker = world.work();
    let ann = world.phone("ann").await;
    shop.until(1).await;
    world.event("1", ann.user_id.as_str()).await;
    shop.until(2).await;
    assert_eq!(shop.types(), ["notification.failed", "user.created"]);
    world.ctx.stop.cancel();
    worker.await.expect("the worker stops");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_a_dead_node_had_claimed_another_sends(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    let mut sent = BTreeSet::new();
    for _ in 0..3 {
        sent.insert(test(&world, &id).await["id"].as_str().expect("an id").to_owned());
    }
    // It claims, and dies before it calls.
    let claimed = claim::claim(&world.ctx, id.parse().expect("an id"), 2).await.expect("a claim").rows;
    assert_eq!(claimed.len(), 2);
    let other = world.context_with(world.clock.clone()).await;
    assert_eq!(claim::step(&other).await.expect("a step"), 1, "what is claimed is left alone");
    let again = format!("/v1/webhooks/{id}/deliveries/{}/redeliver", claimed[0].row.id);
    world.post(&again, json!({})).await.problem(409, "state_conflict");
    world.advance(Duration::from_mins(1)).await;
    assert_eq!(claim::step(&other).await.expect("a step"), 2);
    let came: BTreeSet<_> = shop.seen().iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(came, sent);
    assert_eq!(shop.seen().len(), 3);
    other.db.close().await.expect("closed");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn several_nodes_share_the_work(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    for _ in 0..40 {
        test(&world, &id).await;
    }
    let other = world.context_with(world.clock.clone()).await;
    let until_done = async |ctx: &Context| while claim::step(ctx).await.expect("a step") > 0 {};
    tokio::join!(until_done(&world.ctx), until_done(&other), until_done(&world.ctx), until_done(&other));
    let ids: Vec<_> = shop.seen().iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!((ids.len(), ids.iter().collect::<BTreeSet<_>>().len()), (40, 40), "each once");
    assert!(deliveries(&world, &id).await.iter().all(|one| one["state"] == "delivered" && one["attempts"] == 1));
    other.db.close().await.expect("closed");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_answer_that_never_ends_is_not_read(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let shop = Receiver::start().await;
    let (id, _) = endpoint(&world, &shop.url, json!({})).await;
    let long = "x".repeat(5_000_000);
    shop.will_answer(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{long}", long.len()));
    test(&world, &id).await;
    world.drain().await;
    let listed = deliveries(&world, &id).await;
    assert_eq!((&listed[0]["state"], &listed[0]["problem"]), (&json!("delivered"), &Value::Null), "{listed:?}");
    assert!(!listed[0].to_string().contains("xxx"), "what the endpoint says is not kept");
    world.finish().await;
}
