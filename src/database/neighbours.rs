//! Nodes on one PostgreSQL wake each other by LISTEN and NOTIFY. SQLite has one node.

use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, Statement,
    sqlx::{self, postgres::PgListener},
};
use secrecy::{ExposeSecret, SecretString};

use super::Database;
use crate::error::{Code, Error};

const CHANNEL: &str = "magpie_delivery";
/// Stands before the node's name where endpoints are meant.
const WEBHOOKS: &str = "webhooks:";

/// What one node tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A message may be claimed.
    Delivery,
    /// Something is to be told to an endpoint.
    Webhooks,
}

/// A connection of its own that hears what other nodes tell.
pub struct Neighbours {
    listener: PgListener,
    /// What this node signs with, so as not to hear itself.
    node: String,
}

impl Database {
    /// Begins to listen; what was told before is missed.
    pub async fn listen(&self, url: &SecretString, node: &str) -> Result<Neighbours, Error> {
        let mut listener = PgListener::connect(url.expose_secret()).await.map_err(unavailable)?;
        listener.listen(CHANNEL).await.map_err(unavailable)?;
        Ok(Neighbours { listener, node: node.to_owned() })
    }

    /// Tells the other nodes that something may be sent.
    pub async fn tell(&self, node: &str, word: Word) -> Result<(), DbErr> {
        let sql = "SELECT pg_notify($1, $2)";
        let payload = match word {
            Word::Delivery => node.to_owned(),
            Word::Webhooks => format!("{WEBHOOKS}{node}"),
        };
        let values = [CHANNEL.into(), payload.into()];
        self.write().execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await?;
        Ok(())
    }
}

impl Neighbours {
    /// Waits until another node tells something. An error ends the listening.
    pub async fn heard(&mut self) -> Result<Word, Error> {
        loop {
            // `recv` would connect again by itself and hide that something may have been missed.
            match self.listener.try_recv().await.map_err(unavailable)? {
                Some(told) if told.payload() == self.node => {}
                Some(told) if told.payload().starts_with(WEBHOOKS) => return Ok(Word::Webhooks),
                _ => return Ok(Word::Delivery),
            }
        }
    }
}

fn unavailable(error: sqlx::Error) -> Error {
    Error::new(Code::DatabaseUnavailable).because(error)
}
