//! Numbers that tell whether what a node remembers of a table is still right: every change raises its
//! number in the same transaction, so another node's change counts at once.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use entity::revision as row;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter};

use crate::{
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
}

impl Of {
    fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::ApiKey => "api_key",
            Self::Pause => "pause",
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

/// The numbers as they are now, not as they were before the call. Callers that come together share one
/// query.
pub async fn now(ctx: &Context) -> Result<Revisions, Error> {
    let reader = ctx.clone();
    let read = move |callers: Vec<Arc<()>>| {
        let ctx = reader.clone();
        async move {
            let rows = row::Entity::find().all(ctx.db.read()).await?;
            let all = Revisions(Arc::new(rows.into_iter().map(|row| (row.name, row.revision)).collect()));
            Ok(callers.iter().map(|_| Ok(all.clone())).collect())
        }
    };
    ctx.memory::<Reads>().0.join((), Limits { most: 1024, at_once: 2 }, read).await
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
