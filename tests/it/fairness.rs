//! One app's backlog is its own affair.

use std::time::Duration;

use entity::notification::{Column, Entity};
use magpie::clock::Stopwatch;
use rstest::rstest;
use sea_orm::{ConnectionTrait, DbBackend, EntityName, EntityTrait, IdenStatic, Iterable, Statement};
use serde_json::json;

use crate::{
    harness::{Kind, SERVICE_ACCOUNT, World},
    service_account::{follows, ready},
};

/// Copies the app's only message so often, each for an identity of its own.
pub async fn pile_up(world: &World, messages: i32) {
    let db = world.ctx.db.write();
    let backend = db.get_database_backend();
    let copy = |column: Column| match (column, backend) {
        (Column::Id | Column::IdentityId | Column::EventId, DbBackend::Sqlite) => "randomblob(16)".to_owned(),
        (Column::Id | Column::IdentityId | Column::EventId, _) => "gen_random_uuid()".to_owned(),
        (column, _) => format!("\"{}\"", column.as_str()),
    };
    let columns: Vec<_> = Column::iter().map(|column| format!("\"{}\"", column.as_str())).collect();
    let copies: Vec<_> = Column::iter().map(copy).collect();
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {messages}) \
         INSERT INTO {table} ({}) SELECT {} FROM {table}, n WHERE state = 'pending'",
        columns.join(", "),
        copies.join(", "),
        table = Entity.table_name(),
    );
    db.execute_raw(Statement::from_string(backend, sql)).await.expect("a backlog");
}

#[rstest]
#[tokio::test]
async fn a_hundred_thousand_messages_of_one_app_do_not_hold_up_another(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let Some(world) = ready(kind, json!({ "event_type": "order.paid" })).await else { return };
    let follower = follows(&world, "follower", None).await;
    let phone = world.phone("ann").await;
    world.rule(json!({})).await;
    world.accept(&phone, "tap-1").await;
    world.event("backlog", phone.user_id.as_str()).await;
    pile_up(&world, 100_000).await;
    let worker = world.work();
    // The backlog is under way before the single message comes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let event = json!({
        "source": "shop", "id": "single", "type": "order.paid", "data": { "no": "NO.1", "item": "苹果" },
        "to": format!("openid:{SERVICE_ACCOUNT}/{follower}"),
    });
    let began = Stopwatch::start();
    let answer = world.post("/v1/events", event).await;
    let id = answer.body["notifications"][0]["id"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned();
    while !["accepted", "delivered"].contains(&world.state(&id).await.as_str()) {
        assert!(began.elapsed() < Duration::from_secs(2), "it waits behind the other app's backlog");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.ctx.stop.cancel();
    worker.await.expect("an orderly end");
    Entity::delete_many().exec(world.ctx.db.write()).await.expect("the backlog goes");
    world.finish().await;
}
