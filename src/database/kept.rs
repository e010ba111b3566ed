//! Connections that are kept from one statement to the next.
//!
//! A pool asks each connection that comes back whether it is sound, a round trip of its own, and hands them out in turn,
//! so that each of PostgreSQL's processes finds its caches cold. Here the one that was used last is used next.
//!
//! ```text
//! statement ─▶ the last one kept, or one of the pool ─▶ done ─▶ kept
//!                                                         └ failed, given up, or kept for long enough
//!                                                             ─▶ back to the pool, which looks at it
//! ```

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement, Values,
    sqlx::{self, AssertSqlSafe, Executor, IntoArguments, Pool, Postgres, Sqlite, pool::PoolConnection, query::Query},
};
use sea_query_sqlx::SqlxValues;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ACQUIRE_TIMEOUT;
use crate::clock::Stopwatch;

/// After that the pool looks at a connection once more.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// Connections of a pool for statements that are transactions by themselves.
pub struct Kept(Backend);

enum Backend {
    Postgres(Stack<Postgres>),
    Sqlite(Stack<Sqlite>),
}

impl Kept {
    /// Keeps at most so many connections of a pool, which must leave others those that they need.
    pub(super) fn of(db: &DatabaseConnection, most: u32) -> Self {
        Self(match db.get_database_backend() {
            DbBackend::Sqlite => Backend::Sqlite(Stack::of(db.get_sqlite_connection_pool(), most)),
            _ => Backend::Postgres(Stack::of(db.get_postgres_connection_pool(), most)),
        })
    }

    /// Closes the pool.
    pub(super) async fn close(&self) {
        match &self.0 {
            Backend::Postgres(stack) => stack.close().await,
            Backend::Sqlite(stack) => stack.close().await,
        }
    }
}

#[sea_orm::prelude::async_trait::async_trait]
impl ConnectionTrait for Kept {
    fn get_database_backend(&self) -> DbBackend {
        match &self.0 {
            Backend::Postgres(_) => DbBackend::Postgres,
            Backend::Sqlite(_) => DbBackend::Sqlite,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Backend::Postgres(stack) => stack.execute(statement).await.map(Into::into),
            Backend::Sqlite(stack) => stack.execute(statement).await.map(Into::into),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Backend::Postgres(stack) => stack.execute_unprepared(sql).await.map(Into::into),
            Backend::Sqlite(stack) => stack.execute_unprepared(sql).await.map(Into::into),
        }
    }

    /// The first row; what the statement writes is committed by then.
    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        Ok(match &self.0 {
            Backend::Postgres(stack) => stack.rows(statement).await?.into_iter().map(Into::into).collect(),
            Backend::Sqlite(stack) => stack.rows(statement).await?.into_iter().map(Into::into).collect(),
        })
    }
}

/// Connections to one kind of database.
struct Stack<DB: sqlx::Database> {
    pool: Pool<DB>,
    /// A permit for each that is in use.
    in_use: Semaphore,
    most: usize,
    kept: Mutex<Vec<Taken<DB>>>,
}

/// A connection that came from the pool at this time.
struct Taken<DB: sqlx::Database> {
    connection: PoolConnection<DB>,
    since: Stopwatch,
}

impl<DB> Stack<DB>
where
    DB: sqlx::Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
    SqlxValues: IntoArguments<DB>,
{
    fn of(pool: &Pool<DB>, most: u32) -> Self {
        // Where none is kept the pool alone says how many there are.
        let at_once = if most == 0 { Semaphore::MAX_PERMITS } else { most as usize };
        Self { pool: pool.clone(), in_use: Semaphore::new(at_once), most: most as usize, kept: Mutex::default() }
    }

    async fn execute(&self, statement: Statement) -> Result<DB::QueryResult, DbErr> {
        let (mut taken, _permit) = self.take().await?;
        let done = query::<DB>(statement).execute(&mut *taken.connection).await;
        self.put(taken, done.is_ok());
        done.map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())))
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<DB::QueryResult, DbErr> {
        let (mut taken, _permit) = self.take().await?;
        let done = taken.connection.execute(AssertSqlSafe(sql.to_owned())).await;
        self.put(taken, done.is_ok());
        done.map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(error.into())))
    }

    async fn rows(&self, statement: Statement) -> Result<Vec<DB::Row>, DbErr> {
        let (mut taken, _permit) = self.take().await?;
        let done = query::<DB>(statement).fetch_all(&mut *taken.connection).await;
        self.put(taken, done.is_ok());
        done.map_err(|error| DbErr::Query(RuntimeErr::SqlxError(error.into())))
    }

    async fn take(&self) -> Result<(Taken<DB>, SemaphorePermit<'_>), DbErr> {
        let permit = match self.in_use.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match tokio::time::timeout(ACQUIRE_TIMEOUT, self.in_use.acquire()).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
            },
        };
        let last = self.kept().pop();
        if let Some(taken) = last.filter(|taken| taken.since.elapsed() < KEPT_FOR) {
            return Ok((taken, permit));
        }
        let connection = self.pool.acquire().await.map_err(not_acquired)?;
        Ok((Taken { connection, since: Stopwatch::start() }, permit))
    }

    /// One that failed goes back to the pool, and the others with it: what has cut one has cut them all.
    fn put(&self, taken: Taken<DB>, is_sound: bool) {
        let mut kept = self.kept();
        if !is_sound {
            kept.clear();
        } else if kept.len() < self.most && !self.pool.is_closed() {
            kept.push(taken);
        }
    }

    async fn close(&self) {
        // From now on none is kept.
        let closed = self.pool.close();
        self.kept().clear();
        closed.await;
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Taken<DB>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With its values moved into it.
pub(super) fn query<DB: sqlx::Database>(statement: Statement) -> Query<'static, DB, SqlxValues>
where
    SqlxValues: IntoArguments<DB>,
{
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

/// As sea-orm tells it of a pool.
pub(super) fn not_acquired(error: sqlx::Error) -> DbErr {
    match error {
        sqlx::Error::PoolTimedOut => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        sqlx::Error::PoolClosed => DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed),
        error => DbErr::Conn(RuntimeErr::SqlxError(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::ConnectOptions;

    use super::*;

    /// Two connections to a database in memory, of which so many may be kept.
    async fn kept(most: u32) -> Kept {
        let mut options = ConnectOptions::new("sqlite::memory:");
        options.max_connections(2).sqlx_logging(false);
        Kept::of(&sea_orm::Database::connect(options).await.expect("a database"), most)
    }

    async fn ask(kept: &Kept, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
        kept.query_all_raw(Statement::from_string(DbBackend::Sqlite, sql)).await
    }

    fn resting(kept: &Kept) -> usize {
        match &kept.0 {
            Backend::Sqlite(stack) => stack.kept().len(),
            Backend::Postgres(stack) => stack.kept().len(),
        }
    }

    const SLOW: &str = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3000000) \
        SELECT count(*) FROM n";

    #[tokio::test]
    async fn the_connection_that_was_used_last_is_used_next() {
        let kept = kept(2).await;
        let both = tokio::join!(ask(&kept, SLOW), ask(&kept, SLOW));
        assert!(both.0.is_ok() && both.1.is_ok() && resting(&kept) == 2, "{both:?}");
        // Each of them is a database of its own.
        kept.execute_unprepared("CREATE TABLE mine (x); CREATE TABLE another (x)").await.expect("two tables");
        for _ in 0..8 {
            let insert = Statement::from_string(DbBackend::Sqlite, "INSERT INTO mine VALUES (1)");
            assert_eq!(kept.execute_raw(insert).await.expect("the table is there").rows_affected(), 1);
        }
        assert_eq!(ask(&kept, "SELECT x FROM mine").await.expect("rows").len(), 8);
    }

    #[tokio::test]
    async fn what_failed_goes_back_and_takes_the_others_along() {
        let kept = kept(2).await;
        let _ = tokio::join!(ask(&kept, SLOW), ask(&kept, SLOW));
        assert_eq!(resting(&kept), 2);
        ask(&kept, "SELECT 1 FROM nowhere").await.expect_err("no such table");
        assert_eq!(resting(&kept), 0);
        ask(&kept, "SELECT 1").await.expect("the pool has looked at it");
        assert_eq!(resting(&kept), 1);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_room_for_the_next() {
        let kept = kept(1).await;
        for _ in 0..4 {
            let gone = tokio::time::timeout(Duration::from_millis(5), ask(&kept, SLOW)).await;
            assert!(gone.is_err(), "{gone:?}");
            assert_eq!(ask(&kept, "SELECT 1").await.expect("an answer").len(), 1);
        }
    }

    #[tokio::test]
    async fn none_is_kept_where_the_pool_has_none_to_spare() {
        let kept = kept(0).await;
        let all = tokio::join!(ask(&kept, SLOW), ask(&kept, SLOW), ask(&kept, "SELECT 1"));
        assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok(), "{all:?}");
        assert_eq!(resting(&kept), 0);
    }

    #[tokio::test]
    async fn it_closes_also_what_is_kept_or_in_use() {
        let kept = kept(2).await;
        ask(&kept, "SELECT 1").await.expect("an answer");
        let in_use = ask(&kept, SLOW);
        let closed = async {
            tokio::task::yield_now().await;
            tokio::time::timeout(Duration::from_secs(30), kept.close()).await.expect("it closes");
        };
        let (answer, ()) = tokio::join!(in_use, closed);
        assert!(answer.is_ok(), "what has begun ends: {answer:?}");
        assert_eq!(resting(&kept), 0);
        let late = ask(&kept, "SELECT 1").await.expect_err("closed");
        assert!(matches!(late, DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)), "{late:?}");
    }
}
