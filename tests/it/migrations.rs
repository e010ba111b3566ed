//! The schema can be taken back, change by change, and brought up again as it was.

use std::collections::BTreeSet;

use migration::{Migrator, MigratorTrait};
use rstest::rstest;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};

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
