//! SQLite by rusqlite: one thread that owns the connection and does one thing after the other.

use std::{sync::mpsc, thread, time::Duration};

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::Message;
use crate::{Result, clock};

/// Durable, as the server has it.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS identity (openid text PRIMARY KEY, session_key text NOT NULL, logged_in_at integer NOT NULL);
    CREATE TABLE IF NOT EXISTS message (label text PRIMARY KEY, openid text NOT NULL, item text NOT NULL,
        at text NOT NULL, sent_at integer);
    CREATE TABLE IF NOT EXISTS event (id text PRIMARY KEY, body text NOT NULL, accepted_at integer NOT NULL);
    CREATE TABLE IF NOT EXISTS credit (openid text PRIMARY KEY, credits integer NOT NULL);
    CREATE TABLE IF NOT EXISTS ledger (label text PRIMARY KEY, openid text NOT NULL, delta integer NOT NULL,
        at integer NOT NULL)";
const UPSERT: &str = "INSERT INTO identity VALUES (?1, ?2, ?3)
    ON CONFLICT (openid) DO UPDATE SET session_key = excluded.session_key, logged_in_at = excluded.logged_in_at";
const INSERT: &str = "INSERT INTO message (label, openid, item, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
const EVENT: &str = "INSERT INTO event VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const CREDIT: &str = "INSERT INTO credit VALUES (?1, -1) ON CONFLICT (openid) DO UPDATE SET credits = credits - 1";
const ENTRY: &str = "INSERT INTO ledger VALUES (?1, ?2, -1, ?3) ON CONFLICT DO NOTHING";
const MARK: &str = "UPDATE message SET sent_at = ?2 WHERE label = ?1";
const UNSENT: &str = "SELECT label, openid, item, at FROM message WHERE sent_at IS NULL";

type Errand = Box<dyn FnOnce(&mut Connection) + Send>;

pub struct Sqlite {
    errands: mpsc::Sender<Errand>,
}

impl Sqlite {
    pub fn open(file: &str) -> Result<Self> {
        let mut connection = Connection::open(file)?;
        connection.busy_timeout(Duration::from_secs(10))?;
        connection.execute_batch(SETTINGS)?;
        connection.execute_batch(TABLES)?;
        let (errands, waiting) = mpsc::channel::<Errand>();
        thread::spawn(move || waiting.into_iter().for_each(|errand| errand(&mut connection)));
        Ok(Self { errands })
    }

    async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, told) = oneshot::channel();
        let errand: Errand = Box::new(move |connection| drop(done.send(act(connection))));
        self.errands.send(errand).map_err(|_| "the database's thread is gone")?;
        Ok(told.await??)
    }

    pub async fn upsert(&self, openid: String, session_key: String) -> Result<()> {
        self.with(move |connection| {
            connection.prepare_cached(UPSERT)?.execute(params![openid, session_key, now()]).map(drop)
        })
        .await
    }

    pub async fn insert(&self, messages: Vec<Message>) -> Result<()> {
        self.with(move |connection| {
            let together = connection.transaction()?;
            {
                let mut insert = together.prepare_cached(INSERT)?;
                let mut tell = together.prepare_cached(EVENT)?;
                let mut spend = together.prepare_cached(CREDIT)?;
                let mut enter = together.prepare_cached(ENTRY)?;
                for Message { label, openid, item, at, event } in &messages {
                    tell.execute(params![label, event, now()])?;
                    spend.execute(params![openid])?;
                    enter.execute(params![label, openid, now()])?;
                    insert.execute(params![label, openid, item, at])?;
                }
            }
            together.commit()
        })
        .await
    }

    pub async fn mark_sent(&self, labels: Vec<String>) -> Result<()> {
        self.with(move |connection| {
            let together = connection.transaction()?;
            {
                let mut statement = together.prepare_cached(MARK)?;
                for label in &labels {
                    statement.execute(params![label, now()])?;
                }
            }
            together.commit()
        })
        .await
    }

    pub async fn unsent(&self) -> Result<Vec<Message>> {
        self.with(|connection| {
            let mut statement = connection.prepare(UNSENT)?;
            let read = |row: &rusqlite::Row<'_>| {
                let (label, openid, item) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok(Message { label, openid, item, at: row.get(3)?, event: String::new() })
            };
            statement.query_map([], read)?.collect()
        })
        .await
    }
}

fn now() -> i64 {
    i64::try_from(clock::unix_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
