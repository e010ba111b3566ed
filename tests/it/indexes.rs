//! The statements of the delivery loop use their indexes, whatever has gathered in the tables.

use std::time::Duration;

use entity::{IdentityId, Timestamp, notification, webhook_delivery};
use magpie::notification::{
    claim::{self, Lease, Look},
    sweep,
};
use rstest::rstest;
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, QueryTrait, Statement};
use serde_json::json;

use crate::{
    fairness::pile_up,
    harness::{APP, Kind, SEND, World},
};

/// How the database would run it.
async fn plan(world: &World, statement: Statement) -> String {
    let db = world.ctx.db.planned_once();
    let explain = match db.get_database_backend() {
        DbBackend::Sqlite => "EXPLAIN QUERY PLAN",
        _ => "EXPLAIN",
    };
    let sql = format!("{explain} {}", statement.sql);
    let explained = Statement { sql, ..statement };
    let column = if db.get_database_backend() == DbBackend::Sqlite { "detail" } else { "QUERY PLAN" };
    let rows = db.query_all_raw(explained).await.expect("a plan");
    rows.iter().map(|row| row.try_get::<String>("", column).expect("a line")).collect::<Vec<_>>().join("\n")
}

/// Many finished messages beside one of each kind that still lives.
async fn gather(world: &World) {
    let phone = world.phone("ann").await;
    world.rule(json!({ "no_credit": "wait" })).await;
    world.accept(&phone, "tap-1").await;
    world.event("1", phone.user_id.as_str()).await;
    world.event("2", phone.user_id.as_str()).await;
    let one = notification::Entity::find().one(world.ctx.db.read()).await.expect("a query").expect("a row");
    for state in [notification::State::Delivered, notification::State::Failed] {
        for batch in 0..20 {
            let rows = (0..100).map(|_| {
                let id = entity::NotificationId(uuid::Uuid::now_v7());
                let model = notification::Model { id, state, event_id: None, ..one.clone() };
                sea_orm::IntoActiveModel::into_active_model(model)
            });
            notification::Entity::insert_many(rows)
                .exec_without_returning(world.ctx.db.write())
                .await
                .unwrap_or_else(|error| panic!("{batch}: {error}"));
        }
    }
    world.ctx.db.write().execute_unprepared("ANALYZE").await.expect("statistics");
}

#[rstest]
#[tokio::test]
async fn an_endpoints_claim_reads_only_what_waits_for_it(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    let url = json!({ "url": "http://127.0.0.1:1/" });
    let id = world.post("/v1/webhooks", url).await.body["id"].as_str().expect("an id").to_owned();
    world.post(&format!("/v1/webhooks/{id}/test"), json!({})).await;
    let one = webhook_delivery::Entity::find().one(world.ctx.db.read()).await.expect("a query").expect("a row");
    for _ in 0..20 {
        let rows = (0..100).map(|_| {
            let id = entity::WebhookDeliveryId(uuid::Uuid::now_v7());
            let model = webhook_delivery::Model { id, state: webhook_delivery::State::Delivered, ..one.clone() };
            sea_orm::IntoActiveModel::into_active_model(model)
        });
        webhook_delivery::Entity::insert_many(rows).exec_without_returning(world.ctx.db.write()).await.expect("rows");
    }
    world.ctx.db.write().execute_unprepared("ANALYZE").await.expect("statistics");
    let now = world.ctx.clock.now();
    let backend = world.ctx.db.write().get_database_backend();
    let claim = magpie::webhook::claim::statement(backend, id.parse().expect("an id"), 8, (now, now));
    let plan = plan(&world, claim).await;
    assert!(plan.contains("webhook_delivery_claim"), "{plan}");
    let reads_all = |line: &str| line.contains("Seq Scan on webhook") || line.starts_with("SCAN webhook");
    assert!(!plan.lines().any(|line| reads_all(line.trim_start())), "{plan}");
    world.finish().await;
}

#[rstest]
#[tokio::test]
async fn the_loops_statements_read_only_what_lives(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(world) = World::new(kind).await else { return };
    gather(&world).await;
    let backend = world.ctx.db.write().get_database_backend();
    let now: Timestamp = world.ctx.clock.now();
    let paused_templates = ["a".to_owned()];
    let look = |is_highest| Look {
        app_id: APP,
        priority: 0,
        is_highest,
        most: 256,
        paused_templates: &paused_templates,
        now,
        lease: Lease { token: uuid::Uuid::now_v7(), until: now },
    };
    let somebody = std::iter::once(IdentityId(uuid::Uuid::now_v7()));
    let urgent = match backend {
        DbBackend::Sqlite => claim::more_urgent(&look(false), somebody).build(backend),
        _ => claim::statement(backend, &look(false)),
    };
    for (statement, index) in [
        (claim::statement(backend, &look(true)), "notification_claim"),
        (claim::statement(backend, &look(true)), "notification_in_flight"),
        (claim::statement(backend, &look(false)), "notification_claim"),
        (claim::statement(backend, &look(false)), "notification_in_flight"),
        (urgent, "notification_identity_id"),
        (sweep::leases_over(now).build(backend), "notification_in_flight"),
        (sweep::unsure_over(now).build(backend), "notification_due_at"),
        (sweep::too_late(now).build(backend), "notification_expires_at"),
    ] {
        let text = statement.sql.clone();
        let plan = plan(&world, statement).await;
        assert!(plan.contains(index), "{index} is not used by\n{text}\n{plan}");
        let reads_all = plan.lines().any(|line| {
            line.contains("Seq Scan on notification") || (line.starts_with("SCAN") && !line.contains("USING"))
        });
        assert!(!reads_all, "the whole table is read by\n{text}\n{plan}");
    }
    world.finish().await;
}

/// How many entries of these indexes PostgreSQL has read in this database, by its own count. Each connection tells its counts
/// at most once a second, and some time after it has become idle.
async fn entries_read(world: &World, indexes: &[&str]) -> i64 {
    let indexes = indexes.join("', '");
    let sql = format!(
        "SELECT sum(idx_tup_read)::bigint AS sum FROM pg_stat_user_indexes WHERE indexrelname IN ('{indexes}')"
    );
    let mut read = 0;
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let row = world.ctx.db.read().query_one_raw(Statement::from_string(DbBackend::Postgres, &sql)).await;
        let now = row.expect("a count").expect("the indexes").try_get("", "sum").expect("a number");
        read = read.max(now);
    }
    read
}

/// Those that hold all that is pending.
const OF_PENDING: [&str; 2] = ["notification_claim", "notification_expires_at"];

#[tokio::test]
async fn neither_a_claim_nor_a_refusal_reads_the_whole_backlog() {
    let Some(world) = World::new(Kind::Postgres).await else { return };
    let phone = world.phone("ann").await;
    world.rule(json!({})).await;
    world.accept(&phone, "tap-1").await;
    world.event("backlog", phone.user_id.as_str()).await;
    pile_up(&world, 20_000).await;
    world.ctx.db.write().execute_unprepared("ANALYZE").await.expect("statistics");
    let before = entries_read(&world, &OF_PENDING).await;
    let worker = world.work();
    while world.calls_of(SEND).await < 3_000 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    world.ctx.stop.cancel();
    worker.await.expect("an orderly end");
    let read = entries_read(&world, &OF_PENDING).await - before;
    // A dozen claims of 256 look at two rows for each they want, and pass what was claimed before; WeChat refuses what
    // there is no credit for. That is 25,000 to 65,000: the smaller the claims, the more of them.
    // If either read all that is pending each time, it would be 200,000 and more.
    assert!((3_000..120_000).contains(&read), "{read} entries are read");
    notification::Entity::delete_many().exec(world.ctx.db.write()).await.expect("the backlog goes");
    world.finish().await;
}
