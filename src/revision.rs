//! Numbers that tell whether what a node remembers of a table is still right: every change raises its
//! number in the same transaction, so another node's change counts at once.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use entity::revision as row;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter};

use crate::{
    clock::Stopwatch,
    context::Context,
    error::Error,
    group::{Group, Limits},
};

/// What is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    Rule,
    ApiKey,
    /// Which apps and templates rest.
    Pause,
    /// Which endpoints are told what.
    Webhook,
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::ApiKey => "api_key",
            Self::Pause => "pause",
            Self::Webhook => "webhook",
        }
    }
}

/// All numbers as they were at one moment.
#[derive(Clone, Debug, Default)]
pub struct Revisions(Arc<HashMap<String, i64>>);

impl Revisions {
    fn of(&self, what: Of) -> i64 {
        self.0.get(what.name()).copied().unwrap_or(0)
    }

    /// Numbers only grow, so of two readings the larger sum is the later.
    fn is_later_than(&self, other: &Self) -> bool {
        self.0.values().sum::<i64>() > other.0.values().sum()
    }
}

/// Raises the number, in the transaction of the change.
pub async fn raise(db: &impl ConnectionTrait, of: Of) -> Result<(), Error> {
    row::Entity::update_many()
        .col_expr(row::Column::Revision, row::Column::Revision.into_expr().add(1))
        .filter(row::Column::Name.eq(of.name()))
        .exec(db)
        .await?;
    Ok(())
}

#[derive(Default)]
struct Reads(Arc<Group<(), Revisions>>);

/// What was read last, and how long ago.
#[derive(Default)]
struct LastRead(RwLock<Option<(Stopwatch, Revisions)>>);

/// How old numbers may be where a change elsewhere need not count at once.
const LATELY: Duration = Duration::from_secs(1);

/// The numbers as they are now, not as they were before the call. Callers that come together share one
/// query.
pub async fn now(ctx: &Context) -> Result<Revisions, Error> {
    let reader = ctx.clone();
    let together = move |callers: Vec<Arc<()>>| {
        let ctx = reader.clone();
        async move {
            let all = read(&ctx, ctx.db.read()).await?;
            Ok(callers.iter().map(|_| Ok(all.clone())).collect())
        }
    };
    ctx.memory::<Reads>().0.join((), Limits { most: 1024, at_once: 2 }, together).await
}

/// The numbers as this node saw them within the last second; read by `db`, which may be a transaction, if nobody
/// else read them meanwhile.
pub async fn lately(ctx: &Context, db: &impl ConnectionTrait) -> Result<Revisions, Error> {
    let last = ctx.memory::<LastRead>().0.read().unwrap_or_else(PoisonError::into_inner).clone();
    match last {
        Some((since, revisions)) if since.elapsed() < LATELY => Ok(revisions),
        _ => read(ctx, db).await,
    }
}

async fn read(ctx: &Context, db: &impl ConnectionTrait) -> Result<Revisions, Error> {
    let began = Stopwatch::start();
    let rows = row::Entity::find().all(db).await?;
    let all = Revisions(Arc::new(rows.into_iter().map(|row| (row.name, row.revision)).collect()));
    note(ctx, began, &all);
    Ok(all)
}

/// Two readings may end in the other order.
fn note(ctx: &Context, began: Stopwatch, read: &Revisions) {
    let memory = ctx.memory::<LastRead>();
    let mut last = memory.0.write().unwrap_or_else(PoisonError::into_inner);
    let is_older = last.as_ref().is_some_and(|(_, known)| known.is_later_than(read));
    if !is_older {
        *last = Some((began, read.clone()));
    }
}

/// Something remembered together with the number it was read under.
pub struct Remembered<T>(RwLock<Option<(i64, Arc<T>)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(RwLock::new(None))
    }
}

impl<T> Remembered<T> {
    /// What is remembered, or what `read` gives when it is of another revision. What was changed while
    /// it was read is read again under the next number.
    pub async fn get(
        &self,
        (of, at): (Of, &Revisions),
        read: impl Future<Output = Result<T, Error>>,
    ) -> Result<Arc<T>, Error> {
        let revision = at.of(of);
        if let Some((known, value)) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && *known == revision
        {
            return Ok(value.clone());
        }
        let value = Arc::new(read.await?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((revision, value.clone()));
        Ok(value)
    }
}
