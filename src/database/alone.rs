//! What is written alone: as a transaction by itself, whole or not at all.
//!
//! ```text
//! PostgreSQL  one statement, which fails when not each of its rows is written
//! SQLite      what waits for the one writer ─▶ BEGIN, one after the other, COMMIT ─▶ each learns whether it is written
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, RuntimeErr, Statement, Values,
    sqlx::{self, Sqlite, pool::PoolConnection},
};

use super::{
    is_taken,
    kept::{Kept, not_acquired, query},
    writes::Writes,
};
use crate::{
    error::{Code, Error},
    group::{Group, Limits},
};

/// What shares one commit at most: an accept of events and a settle of calls are a write each.
const TOGETHER: Limits = Limits { most: 8, at_once: 1, worth_another: usize::MAX };
/// Commits after which the writer goes back to the pool, where everybody else waits for it. There it is looked at, which
/// takes two trips to its thread.
const IN_A_ROW: usize = 16;

/// What waits for the writer of SQLite.
#[derive(Default)]
pub(super) struct Waiting {
    group: Arc<Group<Write, bool>>,
    turn: Arc<Mutex<Option<Turn>>>,
}

/// The one writer's connection, while it goes from one commit to the next.
struct Turn {
    connection: PoolConnection<Sqlite>,
    commits: usize,
    /// Rows that it has changed since it was opened; None when that is to be asked.
    changed: Option<i64>,
}

struct Write {
    /// Taken when its turn comes.
    statement: Mutex<Option<Statement>>,
    rows: usize,
}

/// On PostgreSQL. False when not each row could be written; then nothing is.
pub(super) async fn on_postgres(db: &Kept, writes: Writes) -> Result<bool, Error> {
    let row = match db.query_one_raw(writes.end_whole()).await {
        Err(error) if gave_up(&error) => return Ok(false),
        row => row?.ok_or_else(|| DbErr::RecordNotFound("whether it is written".into()))?,
    };
    Ok(row.try_get("", "whole")?)
}

/// Whether the statement gave itself up, or met a row of the same name.
fn gave_up(error: &DbErr) -> bool {
    error.to_string().contains(super::writes::GIVEN_UP) || is_taken(error)
}

impl Waiting {
    /// On SQLite. False when it is to be written otherwise, with what else it takes to know why.
    pub async fn on_sqlite(&self, db: &DatabaseConnection, writes: Writes) -> Result<bool, Error> {
        let rows = writes.rows();
        let write = Write { statement: Mutex::new(Some(writes.end())), rows };
        let (db, group, turn) = (db.clone(), self.group.clone(), self.turn.clone());
        let together = move |writes: Vec<Arc<Write>>| {
            let (db, group, turn) = (db.clone(), group.clone(), turn.clone());
            async move {
                let last = held(&turn).take();
                let (written, next) = all(&db, last, &writes).await;
                // Whoever waits goes on with it; nobody else would take it from there.
                *held(&turn) = next.filter(|next| next.commits < IN_A_ROW && group.is_wanted());
                Ok(vec![Ok(written?); writes.len()])
            }
        };
        self.group.join(write, TOGETHER, together).await
    }
}

fn held(turn: &Mutex<Option<Turn>>) -> MutexGuard<'_, Option<Turn>> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether all of it was written, and the turn if nothing is wrong with it. Where one of several cannot be written,
/// none is, and each is left to its caller.
async fn all(
    db: &DatabaseConnection,
    last: Option<Turn>,
    writes: &[Arc<Write>],
) -> (Result<bool, Error>, Option<Turn>) {
    let turn = match last {
        Some(turn) => Ok(turn),
        None => db.get_sqlite_connection_pool().acquire().await.map(|connection| Turn {
            connection,
            commits: 0,
            changed: None,
        }),
    };
    let mut turn = match turn {
        Ok(turn) => turn,
        Err(error) => return (Err(not_acquired(error).into()), None),
    };
    turn.commits += 1;
    match try_all(&mut turn, writes).await {
        Ok(written) => (Ok(written), Some(turn)),
        // The pool looks at it.
        Err(error) => match Error::from(DbErr::Exec(RuntimeErr::SqlxError(error.into()))) {
            error if writes.len() > 1 && error.code != Code::DatabaseUnavailable => (Ok(false), None),
            error => (Err(error), None),
        },
    }
}

/// It waits for its turn now, not at its first write, where it would fail.
const BEGIN: &str = "BEGIN IMMEDIATE; ";
/// Nothing is committed unless just as many rows have changed as were to: SQLite knows no smallest number without a sign.
const COMMIT: &str =
    "; SELECT 1 WHERE abs(CASE WHEN total_changes() = ? THEN 0 ELSE -9223372036854775807 - 1 END); COMMIT";
/// What SQLite says then.
const NOT_WHOLE: &str = "integer overflow";

/// The transaction begins with its first write and ends with its last: a trip to the connection's thread for each write,
/// and none beside them.
async fn try_all(turn: &mut Turn, writes: &[Arc<Write>]) -> Result<bool, sqlx::Error> {
    let statement = |write: &Arc<Write>| write.statement.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut statements) = writes.iter().map(statement).collect::<Option<Vec<_>>>() else { return Ok(false) };
    let connection = &mut *turn.connection;
    let before = match turn.changed {
        Some(changed) => changed,
        None => sqlx::query_scalar("SELECT total_changes()").fetch_one(&mut *connection).await?,
    };
    let rows = writes.iter().map(|write| i64::try_from(write.rows).unwrap_or(i64::MAX));
    let changed = rows.fold(before, i64::saturating_add);
    if let Some(first) = statements.first_mut() {
        first.sql.insert_str(0, BEGIN);
    }
    if let Some(last) = statements.last_mut() {
        last.sql.push_str(COMMIT);
        last.values.get_or_insert_with(|| Values(Vec::new())).0.push(changed.into());
    }
    for statement in statements {
        if let Err(error) = query::<Sqlite>(statement).execute(&mut *connection).await {
            // It fails where SQLite has taken everything back by itself.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
            turn.changed = None;
            let gave_up = error.as_database_error().is_some_and(|error| error.message() == NOT_WHOLE);
            return if gave_up { Ok(false) } else { Err(error) };
        }
    }
    turn.changed = Some(changed);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use entity::revision;
    use sea_orm::{ActiveValue::Set, ConnectOptions, DbBackend, EntityTrait, PaginatorTrait, TransactionTrait};

    use super::*;
    use crate::database::{insert::Insert, rows::Rows};

    async fn table(path: &std::path::Path) -> DatabaseConnection {
        let mut options = ConnectOptions::new(format!("sqlite://{}?mode=rwc", path.display()));
        options.max_connections(1).sqlx_logging(false);
        let db = sea_orm::Database::connect(options).await.expect("a database");
        db.execute_unprepared("CREATE TABLE revision (name TEXT PRIMARY KEY, revision BIGINT)").await.expect("a table");
        db
    }

    fn one(name: &str) -> Writes {
        let mut writes = Writes::on(DbBackend::Sqlite);
        let insert = Insert::<revision::Entity> { shared: &[], only_if: "", suffix: "" };
        writes
            .insert(&insert, vec![revision::ActiveModel { name: Set(name.into()), revision: Set(1) }])
            .expect("a row");
        writes
    }

    #[tokio::test]
    async fn those_who_write_one_after_the_other_leave_turns_to_everybody_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = table(&directory.path().join("turns.db")).await;
        let (waiting, ended) = (Arc::new(Waiting::default()), Arc::new(AtomicBool::new(false)));
        let mut writers = tokio::task::JoinSet::new();
        // More than go together, so that somebody waits after each commit.
        for which in 0..3 * TOGETHER.most {
            let (db, waiting, ended) = (db.clone(), waiting.clone(), ended.clone());
            writers.spawn(async move {
                let mut written = 0;
                while !ended.load(Ordering::Relaxed) {
                    let all = waiting.on_sqlite(&db, one(&format!("{which}/{written}"))).await;
                    assert!(all.expect("it is written"));
                    written += 1;
                }
                written
            });
        }
        for turn in 0..20 {
            let tx = tokio::time::timeout(Duration::from_secs(20), db.begin()).await;
            let tx = tx.unwrap_or_else(|_| panic!("no turn after {turn}")).expect("a transaction");
            revision::Entity::find().count(&tx).await.expect("a count");
            tx.commit().await.expect("a commit");
        }
        ended.store(true, Ordering::Relaxed);
        let written: u64 = writers.join_all().await.into_iter().sum();
        assert_eq!(revision::Entity::find().count(&db).await.ok(), Some(written));
        assert!(held(&waiting.turn).is_none(), "nobody waits, so nobody holds it");
    }

    async fn revisions(db: &DatabaseConnection) -> Vec<(String, i64)> {
        let mut rows = revision::Entity::find().all(db).await.expect("the rows");
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows.into_iter().map(|row| (row.name, row.revision)).collect()
    }

    #[tokio::test]
    async fn what_changes_fewer_rows_than_it_should_is_taken_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = table(&directory.path().join("fewer.db")).await;
        let waiting = Waiting::default();
        // Changes by others count, too, while the connection is in the pool.
        revision::Entity::insert(revision::ActiveModel { name: Set("others".into()), revision: Set(1) })
            .exec(&db)
            .await
            .expect("a row");
        assert!(waiting.on_sqlite(&db, one("a")).await.expect("it is written"));
        let raise = |names: [&str; 2]| {
            let mut writes = one("with it");
            let mut rows = Rows::of(&["v_name"]).with(2_i64);
            for name in names {
                rows.push([name.into()]);
            }
            writes.change(rows, "UPDATE revision SET revision = $same FROM v WHERE name = v_name").expect("two rows");
            writes
        };
        for _ in 0..2 {
            assert!(!waiting.on_sqlite(&db, raise(["a", "nobody"])).await.expect("no fault"));
        }
        assert_eq!(revisions(&db).await, [("a".into(), 1), ("others".into(), 1)]);
        assert!(waiting.on_sqlite(&db, raise(["a", "others"])).await.expect("it is written"));
        assert_eq!(revisions(&db).await, [("a".into(), 2), ("others".into(), 2), ("with it".into(), 1)]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_takes_nothing_along() {
        let directory = tempfile::tempdir().expect("a directory");
        let db = table(&directory.path().join("faults.db")).await;
        let waiting = Waiting::default();
        assert!(waiting.on_sqlite(&db, one("a")).await.expect("it is written"));
        let (again, fresh) = tokio::join!(waiting.on_sqlite(&db, one("a")), waiting.on_sqlite(&db, one("b")));
        assert!(matches!(again, Ok(false) | Err(_)), "the name is taken: {again:?}");
        // Together they are left to their callers, one by one.
        if fresh.ok() != Some(true) {
            assert!(waiting.on_sqlite(&db, one("b")).await.expect("it is written"));
        }
        assert_eq!(revision::Entity::find().count(&db).await.ok(), Some(2));
    }
}
