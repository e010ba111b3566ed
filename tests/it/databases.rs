//! Where the test databases come from: each test gets a fresh, migrated database of its own, which is
//! gone when the [`TestDatabase`] is dropped.
//!
//! SQLite is a file in a temporary folder. PostgreSQL is whatever server can be had, see
//! [`postgres`]; both are copied from a template that is migrated once.

mod postgres;
mod throwaway;

use std::fs;

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectOptions, Database};
use tempfile::TempDir;
use tokio::sync::OnceCell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    /// A database that sorts as English does, not to the letter; only where the server knows languages.
    PostgresInEnglish,
}

/// A database that lives as long as this value.
pub struct TestDatabase {
    pub url: String,
    /// Removes the database when it is dropped.
    _keeper: Box<dyn Send + Sync>,
}

/// A migrated, empty database. None only when there is no PostgreSQL server to be had: the test then
/// ends, and standard error says so. Where `MAGPIE_TEST_REQUIRE_POSTGRES` is set, that is a panic.
pub async fn create(kind: Kind) -> Option<TestDatabase> {
    match kind {
        Kind::Sqlite => Some(sqlite().await),
        Kind::Postgres => postgres::create().await,
        Kind::PostgresInEnglish => postgres::create_in_english().await,
    }
}

/// An empty database on a PostgreSQL server of its own, which a story may crash; None where the programs are
/// missing.
pub async fn server_alone() -> Option<TestDatabase> {
    let server = throwaway::Throwaway::start().await.ok()?;
    Some(TestDatabase { url: server.url.clone(), _keeper: Box::new(server) })
}

async fn sqlite() -> TestDatabase {
    static MIGRATED: OnceCell<Vec<u8>> = OnceCell::const_new();
    let (folder, url) = sqlite_folder();
    let migrated = MIGRATED.get_or_init(migrated_sqlite_file).await;
    fs::write(folder.path().join(SQLITE_FILE), migrated).expect("the test's SQLite file is written");
    TestDatabase { url, _keeper: Box::new(folder) }
}

const SQLITE_FILE: &str = "magpie.db";

fn sqlite_folder() -> (TempDir, String) {
    let folder = tempfile::Builder::new().prefix("magpie-test-").tempdir().expect("a temporary folder");
    let url = format!("sqlite://{}?mode=rwc", folder.path().join(SQLITE_FILE).display());
    (folder, url)
}

async fn migrated_sqlite_file() -> Vec<u8> {
    let (folder, url) = sqlite_folder();
    migrate(&url).await;
    fs::read(folder.path().join(SQLITE_FILE)).expect("the migrated SQLite file")
}

async fn migrate(url: &str) {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let db = Database::connect(options).await.expect("the template database opens");
    Migrator::up(&db, None).await.expect("the migrations run");
    db.close().await.expect("the template database closes");
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use sea_orm::{ConnectionTrait, Database};

    use super::{Kind, create};

    #[rstest]
    #[tokio::test]
    async fn each_test_has_a_migrated_database_of_its_own(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
        let (Some(mine), Some(other)) = tokio::join!(create(kind), create(kind)) else { return };
        let (here, there) = (Database::connect(&mine.url).await.unwrap(), Database::connect(&other.url).await.unwrap());
        for db in [&here, &there] {
            db.execute_unprepared("SELECT id FROM notification").await.expect("the schema is there");
        }
        here.execute_unprepared("CREATE TABLE only_here (id integer)").await.unwrap();
        assert!(there.execute_unprepared("SELECT id FROM only_here").await.is_err());
    }

    #[rstest]
    #[tokio::test]
    async fn a_dropped_database_is_gone(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
        let Some(database) = create(kind).await else { return };
        let url = database.url.replace("mode=rwc", "mode=rw");
        // A connection left open does not keep it alive.
        let _open = Database::connect(&url).await.expect("it is there");
        drop(database);
        assert!(Database::connect(&url).await.is_err());
    }
}
