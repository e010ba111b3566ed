//! What is written alone: as a transaction by itself, whole or not at all.
//!
//! ```text
//! PostgreSQL  one statement, which fails when not each of its rows is written
//! SQLite      what waits for the one writer ─▶ BEGIN, one after the other, COMMIT ─▶ each learns whether it is written
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};

use super::{begin, is_taken, kept::Kept, writes::Writes};
use crate::{
    error::{Code, Error},
    group::{Group, Limits},
};

/// What shares one commit at most: an accept of events and a settle of calls are a write each.
const TOGETHER: Limits = Limits { most: 8, at_once: 1, worth_another: usize::MAX };

/// What waits for the writer of SQLite.
#[derive(Default)]
pub(super) struct Waiting(Arc<Group<Write, bool>>);

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
        let db = db.clone();
        let together = move |writes: Vec<Arc<Write>>| {
            let db = db.clone();
            async move { Ok(vec![Ok(all(&db, &writes).await?); writes.len()]) }
        };
        self.0.join(write, TOGETHER, together).await
    }
}

/// Whether all of it was written. Where one of several cannot be, none is, and each is left to its caller.
async fn all(db: &DatabaseConnection, writes: &[Arc<Write>]) -> Result<bool, Error> {
    match try_all(db, writes).await.map_err(Error::from) {
        Err(error) if writes.len() > 1 && error.code != Code::DatabaseUnavailable => Ok(false),
        done => done,
    }
}

async fn try_all(db: &DatabaseConnection, writes: &[Arc<Write>]) -> Result<bool, DbErr> {
    let tx = begin(db).await?;
    for Write { statement, rows } in writes.iter().map(|write| &**write) {
        let statement = statement.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(statement) = statement else { return Ok(false) };
        let written = tx.execute_raw(statement).await?.rows_affected();
        if usize::try_from(written) != Ok(*rows) {
            tx.rollback().await?;
            return Ok(false);
        }
    }
    tx.commit().await?;
    Ok(true)
}
