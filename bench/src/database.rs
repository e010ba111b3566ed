//! A database of one contender, made for the run and gone after it.

mod postgres;
mod statements;

use std::path::PathBuf;

use tempfile::TempDir;

pub use postgres::Cluster;

use crate::Result;

/// Which kind of database a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

pub enum Database {
    Postgres(postgres::Database),
    Sqlite { folder: TempDir },
}

impl Database {
    /// A file in a folder of its own.
    pub fn sqlite() -> Result<Self> {
        Ok(Self::Sqlite { folder: tempfile::Builder::new().prefix("magpie-bench-sqlite-").tempdir()? })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Postgres(_) => Kind::Postgres,
            Self::Sqlite { .. } => Kind::Sqlite,
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Postgres(database) => database.url.clone(),
            Self::Sqlite { folder } => format!("sqlite://{}?mode=rwc", file(folder).display()),
        }
    }

    /// What PostgreSQL spent its time on, since the last time this was asked.
    pub async fn costliest_statements(&self, cluster: &Cluster) -> Result<String> {
        let Self::Postgres(database) = self else { return Ok(String::new()) };
        let lines = statements::costliest(cluster, database).await?;
        statements::forget(cluster).await?;
        Ok(lines)
    }

    /// Runs statements that give no rows.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        match self {
            Self::Postgres(database) => Ok(postgres::connect(&database.url).await?.batch_execute(sql).await?),
            Self::Sqlite { folder } => {
                let (file, sql) = (file(folder), sql.to_owned());
                tokio::task::spawn_blocking(move || Ok(open(&file)?.execute_batch(&sql)?)).await?
            }
        }
    }

    /// The rows of a query whose columns are all text.
    pub async fn texts(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        match self {
            Self::Postgres(database) => {
                let rows = postgres::connect(&database.url).await?.query(sql, &[]).await?;
                let read = |row: &tokio_postgres::Row| (0..row.len()).map(|column| row.try_get(column)).collect();
                Ok(rows.iter().map(read).collect::<std::result::Result<_, _>>()?)
            }
            Self::Sqlite { folder } => {
                let connection = open(&file(folder))?;
                let mut statement = connection.prepare(sql)?;
                let columns = statement.column_count();
                let read = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
                Ok(statement.query_map([], read)?.collect::<std::result::Result<_, _>>()?)
            }
        }
    }

    /// The only number a query gives.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        let rows = self.texts(&format!("SELECT CAST(({sql}) AS text)")).await?;
        let number = rows.first().and_then(|row| row.first()).ok_or("the query gives nothing")?;
        Ok(number.parse()?)
    }
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("bench.db")
}

fn open(file: &std::path::Path) -> Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(file)?;
    connection.busy_timeout(std::time::Duration::from_mins(1))?;
    Ok(connection)
}
