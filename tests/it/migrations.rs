//! The schema can be taken back, change by change, and brought up again as it was.

use std::collections::BTreeSet;

use migration::{Migrator, MigratorTrait};
use rstest::rstest;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, QueryResult, Statement};
use uuid::Uuid;

use crate::{databases, harness::Kind};

/// Tables, columns, keys and indexes as lines, but for the list of changes itself.
async fn schema(db: &DatabaseConnection) -> BTreeSet<String> {
    let queries: &[&str] = match db.get_database_backend() {
        DbBackend::Sqlite => &[
            "SELECT 'column ' || t.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || c.pk || ' '
                 || coalesce(c.dflt_value, '') AS line
             FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'",
            "SELECT 'index ' || tbl_name || ' ' || name || ' ' || coalesce(sql, '') AS line FROM sqlite_master WHERE type = 'index'",
        ],
        _ => &[
            "SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '
                 || coalesce(character_maximum_length::text, '') || ' ' || coalesce(column_default, '') AS line
             FROM information_schema.columns WHERE table_schema = 'public'",
            "SELECT 'index ' || indexdef AS line FROM pg_indexes WHERE schemaname = 'public'",
            "SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid) AS line
             FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
        ],
    };
    let mut lines = BTreeSet::new();
    for sql in queries {
        let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), *sql)).await.expect("rows");
        lines.extend(rows.iter().map(|row| row.try_get::<String>("", "line").expect("a text")));
    }
    lines.retain(|line| !line.contains("seaql_migrations") && !line.contains("sqlite_sequence"));
    lines
}

#[rstest]
#[tokio::test]
async fn every_change_of_the_schema_goes_back_and_forth(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(database) = databases::create(kind).await else { return };
    let db = Database::connect(&database.url).await.expect("a connection");
    let before = schema(&db).await;
    assert!(before.iter().any(|line| line.starts_with("column notification.openid")), "{before:#?}");
    assert!(before.iter().any(|line| line.starts_with("index ") && line.contains("notification_claim")), "{before:#?}");

    // Each change alone: what it takes back is what it made.
    let mut schemas = vec![before.clone()];
    for _ in Migrator::migrations() {
        Migrator::down(&db, Some(1)).await.expect("one change back");
        schemas.push(schema(&db).await);
    }
    assert_eq!(schemas.pop(), Some(BTreeSet::new()), "nothing is left");
    for before in schemas.into_iter().rev() {
        Migrator::up(&db, Some(1)).await.expect("one change forth");
        assert_eq!(schema(&db).await, before);
    }

    // All at once.
    Migrator::down(&db, None).await.expect("down to nothing");
    assert_eq!(schema(&db).await, BTreeSet::new());
    Migrator::up(&db, None).await.expect("up again");
    assert_eq!(schema(&db).await, before);
    assert!(Migrator::get_pending_migrations(&db).await.expect("a list").is_empty());
    db.close().await.expect("it closes");
}

async fn run(db: &DatabaseConnection, sql: &str, values: &[sea_orm::Value]) {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), sql, values.to_vec());
    db.execute_raw(statement).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A notification with one call, begun at 1000.
async fn notification(db: &DatabaseConnection, state: &str, more: (&str, &str)) -> Uuid {
    let id = Uuid::now_v7();
    let sql = format!(
        "INSERT INTO notification (id, user_id, identity_id, app_id, openid, template_id, state, fields, no_credit,
            unsure, credit, priority, attempt_number, attempts_used, replays, due_at, expires_at, created_at {})
         VALUES ($1, $1, $1, 'wx1', 'o1', 't1', '{state}', '{{}}', 'fail', 'at_most_once', 'none', 0, 1, 0, 0, 1, 1, 1 {})",
        more.0, more.1
    );
    run(db, &sql, &[id.into()]).await;
    id
}

/// Notification, when it began, how long it took, what came of it.
async fn calls(db: &DatabaseConnection) -> BTreeSet<(Uuid, i64, Option<i32>, Option<String>)> {
    let sql = "SELECT notification_id, started_at, duration_ms, outcome FROM attempt";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.expect("rows");
    let call = |row: &QueryResult| {
        Some((row.try_get_by(0).ok()?, row.try_get_by(1).ok()?, row.try_get_by(2).ok()?, row.try_get_by(3).ok()?))
    };
    rows.iter().map(|row| call(row).expect("a call")).collect()
}

#[rstest]
#[tokio::test]
async fn calls_move_into_their_notifications_and_out_again(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let Some(database) = databases::create(kind).await else { return };
    let db = Database::connect(&database.url).await.expect("a connection");
    let changes = Migrator::get_migration_files();
    let place = changes.iter().position(|change| change.name() == "m0033_latest_attempt").expect("the change");
    Migrator::down(&db, u32::try_from(changes.len() - place).ok()).await.expect("before the change");
    let (under_way, taken) =
        (notification(&db, "sending", ("", "")).await, notification(&db, "accepted", ("", "")).await);
    run(&db, "INSERT INTO attempt (notification_id, number, started_at) VALUES ($1, 1, 1000)", &[under_way.into()])
        .await;
    let ended = "INSERT INTO attempt (notification_id, number, started_at, duration_ms, outcome) VALUES ($1, 1, 1000, 7, 'accepted')";
    run(&db, ended, &[taken.into()]).await;
    let (open, done) = ((under_way, 1000, None, None), (taken, 1000, Some(7), Some("accepted".to_owned())));
    assert_eq!(calls(&db).await, BTreeSet::from([open.clone(), done.clone()]));

    Migrator::up(&db, Some(1)).await.expect("the change");
    assert_eq!(calls(&db).await, BTreeSet::from([done.clone()]), "what is under way stands in its notification");
    let since = notification(&db, "delivered", (", attempt_at, attempt_ms", ", 1000, 9")).await;

    Migrator::down(&db, Some(1)).await.expect("the change taken back");
    let since = (since, 1000, Some(9), Some("accepted".to_owned()));
    assert_eq!(calls(&db).await, BTreeSet::from([open, done, since]));
    db.close().await.expect("it closes");
}
