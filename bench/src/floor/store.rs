//! The floor's database: prepared statements and nothing else.

mod postgres;
mod sqlite;

use super::Message;
use crate::Result;

pub enum Store {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Connects and makes the tables.
    pub async fn open(url: &str) -> Result<Self> {
        match url.strip_prefix("sqlite://") {
            Some(file) => Ok(Self::Sqlite(sqlite::Sqlite::open(file.split('?').next().unwrap_or(file))?)),
            None => Ok(Self::Postgres(postgres::Postgres::open(url).await?)),
        }
    }

    /// One user's login: one statement, one commit.
    pub async fn upsert(&self, openid: String, session_key: String) -> Result<()> {
        match self {
            Self::Postgres(store) => store.upsert(&openid, &session_key).await,
            Self::Sqlite(store) => store.upsert(openid, session_key).await,
        }
    }

    pub async fn insert(&self, messages: Vec<Message>) -> Result<()> {
        match self {
            Self::Postgres(store) => store.insert(&messages).await,
            Self::Sqlite(store) => store.insert(messages).await,
        }
    }

    pub async fn mark_sent(&self, labels: Vec<String>) -> Result<()> {
        match self {
            Self::Postgres(store) => store.mark_sent(&labels).await,
            Self::Sqlite(store) => store.mark_sent(labels).await,
        }
    }

    /// Messages that a run before this one did not mark as sent.
    pub async fn unsent(&self) -> Result<Vec<Message>> {
        match self {
            Self::Postgres(store) => store.unsent().await,
            Self::Sqlite(store) => store.unsent().await,
        }
    }
}
