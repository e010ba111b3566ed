//! Nothing is kept longer than the configuration says, and nothing goes that is still needed.

use std::time::Duration;

use entity::{attempt, audit, callback, event, notification, receipt, session};
use magpie::retention;
use reqwest::Method;
use rstest::rstest;
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::json;

use crate::harness::{Kind, World};

const DAY: Duration = Duration::from_hours(24);

const PERIODS: &str = "[retention]\nnotifications = \"10d\"\nevents = \"20d\"\ncallbacks = \"5d\"\n\
                       sessions = \"3d\"\naudit = \"40d\"\n[session]\nrefresh_token_ttl = \"30d\"\n";

/// Rows of notification, attempt, receipt, event, callback, session, audit.
async fn rows(world: &World) -> [u64; 7] {
    let db = world.ctx.db.read();
    [
        notification::Entity::find().count(db).await.expect("a count"),
        attempt::Entity::find().count(db).await.expect("a count"),
        receipt::Entity::find().count(db).await.expect("a count"),
        event::Entity::find().count(db).await.expect("a count"),
        callback::Entity::find().count(db).await.expect("a count"),
        session::Entity::find().count(db).await.expect("a count"),
        audit::Entity::find().count(db).await.expect("a count"),
    ]
}

async fn after(world: &World, span: Duration) -> [u64; 7] {
    world.advance(span).await;
    retention::clear(&world.ctx).await.expect("cleared");
    rows(world).await
}

#[rstest]
#[tokio::test]
async fn each_kind_of_data_has_its_time(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, PERIODS).await else { return };
    world.rule(json!({ "no_credit": "wait", "ttl_seconds": 60 * 60 * 24 * 30 })).await;
    let (ann, bob) = (world.phone("ann").await, world.phone("bob").await);
    world.accept(&ann, "tap").await;
    let busy = json!({ "path": "/cgi-bin/message/subscribe/send", "errcode": -1, "times": 1 });
    world.wechat("/faults", busy).await;
    let told = world.event("1", ann.user_id.as_str()).await;
    let id = told.body["notifications"][0]["id"].as_str().expect("an id").to_owned();
    for _ in 0..2 {
        world.drain().await;
        world.advance(Duration::from_secs(1)).await;
    }
    world.until(&id, "delivered").await;
    world.event("2", ann.user_id.as_str()).await;
    world.call(Method::POST, "/v1/logout", Some(&bob.access_token), None).await;

    // One delivered with its attempt that failed and its receipt, one that waits; the key of the harness is in the audit log.
    let all = rows(&world).await;
    assert_eq!((all[0], all[1], all[2], all[3], all[5], all[6]), (2, 1, 1, 2, 2, 1));
    assert!(all[4] >= 1);
    assert_eq!(after(&world, 2 * DAY).await, all);
    let [.., sessions, _] = after(&world, 2 * DAY).await;
    assert_eq!(sessions, 1, "ended three days ago");
    assert_eq!(after(&world, 2 * DAY).await[4], 0, "callbacks of six days ago");
    let [notifications, attempts, receipts, events, ..] = after(&world, 5 * DAY).await;
    assert_eq!((notifications, attempts, receipts, events), (1, 0, 0, 2), "what waits is needed");
    assert_eq!(after(&world, 10 * DAY).await[3], 1, "the event of what waits is needed");
    assert_eq!(after(&world, 13 * DAY).await[5], 0, "idle for thirty days, and three more");
    assert_eq!(after(&world, 7 * DAY).await[6], 0);
    // The story of what is gone is gone; the event may be told again.
    world.get(&format!("/v1/notifications/{id}")).await.problem(404, "not_found");
    assert_eq!(world.event("1", ann.user_id.as_str()).await.body["status"], "accepted");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn zero_keeps_for_ever(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let keep =
        "[retention]\nnotifications = \"0s\"\nevents = \"0s\"\ncallbacks = \"0s\"\nsessions = \"0s\"\naudit = \"0s\"\n";
    let Some(world) = World::with(kind, keep).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.event("1", ann.user_id.as_str()).await;
    let all = rows(&world).await;
    assert_eq!(after(&world, 3000 * DAY).await, all);
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn many_rows_go_in_batches(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::with(kind, PERIODS).await else { return };
    world.rule(json!({})).await;
    let ann = world.phone("ann").await;
    world.event("1", ann.user_id.as_str()).await;
    let one = notification::Entity::find().one(world.ctx.db.read()).await.expect("a query").expect("a row");
    for _ in 0..6 {
        let rows = (0..100).map(|_| {
            let id = entity::NotificationId(uuid::Uuid::now_v7());
            let model = notification::Model { id, event_id: None, ..one.clone() };
            sea_orm::IntoActiveModel::into_active_model(model)
        });
        notification::Entity::insert_many(rows).exec_without_returning(world.ctx.db.write()).await.expect("rows");
    }
    assert_eq!(rows(&world).await[0], 601);
    assert_eq!(after(&world, 11 * DAY).await[0], 0);
    world.finish().await;
}
