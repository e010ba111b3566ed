//! Numbers that tell whether what a node remembers of a table is still right: every change raises its
//! number in the same transaction, so another node's change counts at once. A request looks at them once: what was
//! changed before it came counts for it.

use std::{
    cell::OnceCell,
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
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
pub struct Revisions {
    numbers: Arc<HashMap<String, i64>>,
    /// Which look of this node they are from.
    look: u64,
}

impl Revisions {
    fn of(&self, what: Of) -> i64 {
        self.numbers.get(what.name()).copied().unwrap_or(0)
    }

    /// Those of the later look.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if self.look < other.look { other } else { self }
    }
}

tokio::task_local! {
    static LOOKED: OnceCell<Revisions>;
}

/// Within it the numbers are looked at once.
pub async fn once<T>(request: impl Future<Output = T>) -> T {
    LOOKED.scope(OnceCell::new(), request).await
}

/// What the request has looked at; None when it has not, or when there is none.
pub fn looked() -> Option<Revisions> {
    LOOKED.try_with(|looked| looked.get().cloned()).ok().flatten()
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
struct Reads {
    group: Arc<Group<(), Revisions>>,
    looks: Arc<AtomicU64>,
    /// What was found last, and how long ago.
    last: Arc<RwLock<Option<(Stopwatch, Revisions)>>>,
}

/// How old numbers may be where a change elsewhere need not count at once.
const LATELY: Duration = Duration::from_secs(1);

/// The numbers as they are now, or as they were when the request looked first; not as they were before. Callers
/// that come together share one query.
pub async fn now(ctx: &Context) -> Result<Revisions, Error> {
    if let Some(looked) = looked() {
        return Ok(looked);
    }
    let found = look(ctx).await?;
    // Outside of a request there is nothing to keep them for.
    let _ = LOOKED.try_with(|looked| looked.set(found.clone()));
    Ok(found)
}

/// The numbers as this node found them within the last second; read by `db`, which may be a transaction, if nobody
/// looked meanwhile.
pub async fn lately(ctx: &Context, db: &impl ConnectionTrait) -> Result<Revisions, Error> {
    let last = ctx.memory::<Reads>().last.read().unwrap_or_else(PoisonError::into_inner).clone();
    match last {
        Some((since, revisions)) if since.elapsed() < LATELY => Ok(revisions),
        _ => read(ctx, db).await,
    }
}

/// The numbers as they are now, whatever the request has looked at before: it has changed them itself.
pub async fn look(ctx: &Context) -> Result<Revisions, Error> {
    let reader = ctx.clone();
    let together = move |callers: Vec<Arc<()>>| {
        let ctx = reader.clone();
        async move {
            let all = read(&ctx, ctx.db.planned_once()).await?;
            Ok(callers.iter().map(|_| Ok(all.clone())).collect())
        }
    };
    let limits = Limits { most: 1024, at_once: 2, worth_another: 1024 };
    ctx.memory::<Reads>().group.join((), limits, together).await
}

async fn read(ctx: &Context, db: &impl ConnectionTrait) -> Result<Revisions, Error> {
    let reads = ctx.memory::<Reads>();
    let (began, look) = (Stopwatch::start(), reads.looks.fetch_add(1, Ordering::Relaxed));
    let rows = row::Entity::find().all(db).await?;
    let found = Revisions { numbers: Arc::new(rows.into_iter().map(|row| (row.name, row.revision)).collect()), look };
    let mut last = reads.last.write().unwrap_or_else(PoisonError::into_inner);
    // Two readers may end in the other order.
    if last.as_ref().is_none_or(|(_, known)| known.look < look) {
        *last = Some((began, found.clone()));
    }
    Ok(found)
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
    pub async fn get<Fut>(&self, (of, at): (Of, &Revisions), read: impl FnOnce() -> Fut) -> Result<Arc<T>, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        let revision = at.of(of);
        if let Some((known, value)) = &*self.0.read().unwrap_or_else(PoisonError::into_inner)
            && *known == revision
        {
            return Ok(value.clone());
        }
        // Boxed, as elsewhere what happens rarely: what a caller carries with it is as large as the largest of what
        // it may wait for.
        let value = Arc::new(Box::pin(read()).await?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((revision, value.clone()));
        Ok(value)
    }
}
