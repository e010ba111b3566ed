//! Connections: on PostgreSQL a pool, and one whose statements are planned once; on SQLite one writer and a pool of
//! readers.

mod again;
mod alone;
pub mod insert;
mod kept;
mod neighbours;
pub mod rows;
pub mod writes;
mod writing;

use std::time::Duration;

use entity::Timestamp;
use sea_orm::sqlx::{
    self, Connection,
    sqlite::{SqliteConnection, SqliteJournalMode, SqliteSynchronous},
};
use sea_orm::{
    ConnectOptions, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqlErr,
    SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait,
};
use secrecy::ExposeSecret;

use crate::{config::Config, error::Error};
use alone::Waiting;
use kept::Kept;
use writes::Writes;

pub use again::again;
pub use neighbours::Word;

/// How long a request waits for a free connection before it is answered with "try again".
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is tried before it is used.
const PING_AFTER_IDLE: Duration = Duration::from_secs(30);

pub struct Database {
    write: DatabaseConnection,
    read: DatabaseConnection,
    planned_once: Kept,
    waiting: Waiting,
}

/// Whether rows that are read stay as they are until the transaction ends. SQLite has one writer and needs no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// They may be others by the time anything is written.
    Open,
    Held,
}

impl Database {
    /// Connects as the configuration says. An SQLite file is created when missing.
    pub async fn connect(config: &Config) -> Result<Self, DbErr> {
        if !config.is_sqlite() {
            let (some, others) = shares(config.connections());
            let write = sea_orm::Database::connect(postgres(config, others, &[])).await?;
            let planned_once = match some {
                0 => Kept::of(&write, 0),
                some => Kept::of(&sea_orm::Database::connect(postgres(config, some, &PLANNED_ONCE)).await?, some),
            };
            return Ok(Self { read: write.clone(), write, planned_once, waiting: Waiting::default() });
        }
        // A deferred transaction that turns into a write fails whatever busy_timeout says, so writers
        // queue for the one connection instead.
        let write = sea_orm::Database::connect(sqlite(config, 1, false)).await?;
        let read = sea_orm::Database::connect(sqlite(config, config.connections(), true)).await?;
        let planned_once = Kept::of(&read, config.connections() / 2);
        Ok(Self { write, read, planned_once, waiting: Waiting::default() })
    }

    /// For single statements that change something.
    pub fn write(&self) -> &DatabaseConnection {
        &self.write
    }

    /// For queries outside a transaction.
    pub fn read(&self) -> &DatabaseConnection {
        &self.read
    }

    /// For the statements of each event and each message: single lookups, and what is read in the order of an index.
    /// PostgreSQL, to which a list of one looks cheaper than one of unknown length, would plan them anew each time, which
    /// takes longer than to do them. What hangs on how many rows there are is not to be planned that way. On SQLite the
    /// same as `read`, but for being kept.
    pub fn planned_once(&self) -> &Kept {
        &self.planned_once
    }

    /// Begins a transaction that may write. On SQLite it waits for its turn now, not at its first write, where it would
    /// fail.
    pub async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        let sqlite_transaction_mode = self.is_sqlite().then_some(SqliteTransactionMode::Immediate);
        self.write.begin_with_options(TransactionOptions { sqlite_transaction_mode, ..Default::default() }).await
    }

    /// Inserts and updates for this database.
    pub fn writes(&self) -> Writes {
        Writes::on(self.write.get_database_backend())
    }

    /// Writes as a transaction by itself. False when not each row was stored or has changed one; then nothing is written,
    /// and whoever asked finds out why within a transaction of their own.
    pub async fn write_alone(&self, writes: Writes) -> Result<bool, Error> {
        if writes.is_empty() {
            return Ok(true);
        }
        if self.is_sqlite() {
            self.waiting.on_sqlite(&self.write, writes).await
        } else {
            alone::on_postgres(&self.planned_once, writes).await
        }
    }

    /// How many transactions that write are worth having at the same time: SQLite has one writer.
    pub fn writers(&self) -> usize {
        if self.is_sqlite() { 1 } else { 4 }
    }

    pub fn is_sqlite(&self) -> bool {
        self.write.get_database_backend() == DbBackend::Sqlite
    }

    /// The database's own clock where several nodes share it; None on SQLite, whose clock is ours.
    pub async fn now(&self) -> Result<Option<Timestamp>, DbErr> {
        if self.is_sqlite() {
            return Ok(None);
        }
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now";
        let row = self.read.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        row.map(|row| row.try_get("", "now").map(Timestamp)).transpose()
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), DbErr> {
        self.read.ping().await
    }

    pub async fn close(&self) -> Result<(), DbErr> {
        self.planned_once.close().await;
        self.read.close_by_ref().await?;
        self.write.close_by_ref().await
    }
}

/// Whether somebody else has stored a row of this name.
pub fn is_taken(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

fn pool(config: &Config, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(config.database_url.expose_secret());
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire_if_idle_for(PING_AFTER_IDLE)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}

/// Each statement has its index. A plan that was made while a table was all but empty reads the whole
/// table, and stays with its connection while the table grows; and no statement here is long enough to
/// be worth compiling.
const POSTGRES_PLANS: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];
/// A plan that is made once must not hang on what was in the tables when it was made: rows are looked up one by one, or
/// read in the order of an index until there are enough. Nothing is gathered first, and it is rows that cost, not pages,
/// or else a table that is believed to be small is read as a whole; before its first ANALYZE each is.
const PLANNED_ONCE: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_sort", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("cpu_tuple_cost", "1"),
    ("cpu_index_tuple_cost", "1"),
];

/// How many connections are for statements that are planned once, and how many for all others: few do without, because
/// a transaction may need a second one.
fn shares(connections: u32) -> (u32, u32) {
    let some = if connections < 6 { 0 } else { connections / 3 };
    (some, connections - some)
}

fn postgres(config: &Config, connections: u32, plans: &'static [(&str, &str)]) -> ConnectOptions {
    let mut options = pool(config, connections);
    options.map_sqlx_postgres_opts(move |postgres| postgres.options(POSTGRES_PLANS).options(plans.iter().copied()));
    options
}

/// So much is in SQLite's log before it is copied into the file, while everybody waits: 16 MB instead of 4, since many pages
/// are in it several times by then, and each is copied once.
const WAL_PAGES: &str = "4000";

fn sqlite(config: &Config, connections: u32, reader: bool) -> ConnectOptions {
    let mut options = pool(config, connections);
    options.test_before_acquire(false).map_sqlx_sqlite_opts(move |sqlite| {
        let sqlite = sqlite
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(ACQUIRE_TIMEOUT);
        if reader {
            // They look rows up one by one, and what they keep of the file each keeps for itself.
            sqlite.pragma("query_only", "ON").pragma("cache_size", "-512")
        } else {
            sqlite.pragma("wal_autocheckpoint", WAL_PAGES)
        }
    });
    if !reader {
        options.map_sqlx_sqlite_pool_opts(|pool| pool.after_release(|connection, _| Box::pin(is_at_rest(connection))));
    }
    options
}

/// A writer whose transaction has not ended, whatever its driver believes, is closed. After an I/O error (a
/// full disk) it would take everything that follows into that transaction, and nobody would ever commit it.
async fn is_at_rest(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // It fails where nothing is to be rolled back, which is as it should be.
    let at_rest = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.is_err();
    let at_rest = at_rest && !connection.is_in_transaction();
    if !at_rest {
        tracing::warn!("database.writer_closed");
    }
    Ok(at_rest)
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn a_third_of_the_connections_plans_once_unless_there_are_few() {
        assert_eq!([2, 5, 6, 12, 16].map(shares), [(0, 2), (0, 5), (2, 4), (4, 8), (5, 11)]);
    }
}
