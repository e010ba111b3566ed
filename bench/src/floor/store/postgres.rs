//! PostgreSQL by tokio-postgres: a pool that never asks whether a connection still lives.

use std::sync::Mutex;

use tokio::sync::Semaphore;
use tokio_postgres::{Client, NoTls, Statement};

use super::Message;
use crate::{Result, clock};

const CONNECTIONS: usize = 16;
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS identity (openid text PRIMARY KEY, session_key text NOT NULL, logged_in_at bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS message (label text PRIMARY KEY, openid text NOT NULL, item text NOT NULL,
        at text NOT NULL, sent_at bigint);
    CREATE TABLE IF NOT EXISTS event (id text PRIMARY KEY, body text NOT NULL, accepted_at bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS credit (openid text PRIMARY KEY, credits bigint NOT NULL);
    CREATE TABLE IF NOT EXISTS ledger (label text PRIMARY KEY, openid text NOT NULL, delta bigint NOT NULL,
        at bigint NOT NULL)";
/// A new table has no statistics: without this the first updates read all of it.
const SETTINGS: &str = "SET enable_seqscan = off";
const UPSERT: &str = "INSERT INTO identity VALUES ($1, $2, $3)
    ON CONFLICT (openid) DO UPDATE SET session_key = excluded.session_key, logged_in_at = excluded.logged_in_at";
/// All that an accepted event leaves behind, in one statement.
const INSERT: &str = "WITH told AS MATERIALIZED (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
            AS t(label, openid, item, at, body)
    ), events AS (
        INSERT INTO event SELECT label, body, $6 FROM told ON CONFLICT DO NOTHING
    ), credits AS (
        INSERT INTO credit SELECT openid, -count(*) FROM told GROUP BY openid
            ON CONFLICT (openid) DO UPDATE SET credits = credit.credits + excluded.credits
    ), entries AS (
        INSERT INTO ledger SELECT label, openid, -1, $6 FROM told ON CONFLICT DO NOTHING
    )
    INSERT INTO message (label, openid, item, at) SELECT label, openid, item, at FROM told ON CONFLICT DO NOTHING";
const MARK: &str = "UPDATE message SET sent_at = $2 WHERE label = ANY($1::text[])";
const UNSENT: &str = "SELECT label, openid, item, at FROM message WHERE sent_at IS NULL";

pub struct Postgres {
    free: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

struct Connection {
    client: Client,
    upsert: Statement,
    insert: Statement,
    mark: Statement,
}

impl Postgres {
    pub async fn open(url: &str) -> Result<Self> {
        let mut free = Vec::with_capacity(CONNECTIONS);
        for number in 0..CONNECTIONS {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            if number == 0 {
                client.batch_execute(TABLES).await?;
            }
            client.batch_execute(SETTINGS).await?;
            let upsert = client.prepare(UPSERT).await?;
            let insert = client.prepare(INSERT).await?;
            let mark = client.prepare(MARK).await?;
            free.push(Connection { client, upsert, insert, mark });
        }
        Ok(Self { free: Mutex::new(free), permits: Semaphore::new(CONNECTIONS) })
    }

    /// Does something with a connection of the pool.
    async fn with<T>(&self, act: impl AsyncFnOnce(&Connection) -> Result<T>) -> Result<T> {
        let _permit = self.permits.acquire().await?;
        let connection = self.free.lock().map_err(|_| "a call panicked")?.pop().ok_or("no connection is free")?;
        let done = act(&connection).await;
        self.free.lock().map_err(|_| "a call panicked")?.push(connection);
        done
    }

    pub async fn upsert(&self, openid: &str, session_key: &str) -> Result<()> {
        self.with(async |c| {
            c.client.execute(&c.upsert, &[&openid, &session_key, &now()]).await?;
            Ok(())
        })
        .await
    }

    pub async fn insert(&self, messages: &[Message]) -> Result<()> {
        let column = |of: fn(&Message) -> &str| messages.iter().map(of).collect::<Vec<_>>();
        let (labels, openids) = (column(|message| &message.label), column(|message| &message.openid));
        let (items, times) = (column(|message| &message.item), column(|message| &message.at));
        let bodies = column(|message| &message.event);
        self.with(async |c| {
            c.client.execute(&c.insert, &[&labels, &openids, &items, &times, &bodies, &now()]).await?;
            Ok(())
        })
        .await
    }

    pub async fn mark_sent(&self, labels: &[String]) -> Result<()> {
        self.with(async |c| {
            c.client.execute(&c.mark, &[&labels, &now()]).await?;
            Ok(())
        })
        .await
    }

    pub async fn unsent(&self) -> Result<Vec<Message>> {
        let rows = self.with(async |c| Ok(c.client.query(UNSENT, &[]).await?)).await?;
        let read = |row: &tokio_postgres::Row| {
            let (label, openid, item) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Message { label, openid, item, at: row.try_get(3)?, event: String::new() })
        };
        rows.iter().map(read).collect()
    }
}

fn now() -> i64 {
    i64::try_from(clock::unix_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
