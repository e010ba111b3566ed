//! What rests: apps and templates of which nothing is sent, as every sender needs to know before each
//! message. Remembered by its revision, so that asking costs nothing.

use std::collections::{HashMap, HashSet};

use entity::{Timestamp, app, template};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::{
    app_account,
    context::Context,
    error::Error,
    revision::{Of, Remembered, Revisions},
};

/// Apps and templates at rest.
#[derive(Default)]
pub struct Pauses {
    apps: HashMap<String, app::Model>,
    templates: HashSet<(String, String)>,
}

impl Pauses {
    /// Whether messages of the app may be sent at this time.
    pub fn is_awake(&self, app_id: &str, now: Timestamp) -> bool {
        self.apps.get(app_id).is_some_and(|row| app_account::is_awake(row, now))
    }

    /// When the app's pause ends by itself; None when it does not rest, or waits for something else.
    pub fn ends_at(&self, app_id: &str, now: Timestamp) -> Option<Timestamp> {
        self.apps.get(app_id)?.paused_until.filter(|until| *until > now)
    }

    /// Whether a message of this template may be sent at this time.
    pub fn may_send(&self, app_id: &str, template_id: &str, now: Timestamp) -> bool {
        self.is_awake(app_id, now)
            && (self.templates.is_empty() || !self.templates.contains(&(app_id.to_owned(), template_id.to_owned())))
    }

    /// The app's templates at rest.
    pub fn templates_of(&self, app_id: &str) -> Vec<String> {
        let mut ids: Vec<_> =
            self.templates.iter().filter(|(app, _)| app == app_id).map(|(_, id)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }
}

/// What rests under these revisions.
pub async fn current(ctx: &Context, revisions: &Revisions) -> Result<std::sync::Arc<Pauses>, Error> {
    ctx.memory::<Remembered<Pauses>>().get((Of::Pause, revisions), || read(ctx)).await
}

async fn read(ctx: &Context) -> Result<Pauses, Error> {
    let apps = app::Entity::find().all(ctx.db.read()).await?;
    let templates = template::Entity::find()
        .select_only()
        .columns([template::Column::AppId, template::Column::TemplateId])
        .filter(template::Column::State.ne(template::State::Active))
        .into_tuple()
        .all(ctx.db.read())
        .await?;
    Ok(Pauses {
        apps: apps.into_iter().map(|row| (row.app_id.clone(), row)).collect(),
        templates: templates.into_iter().collect(),
    })
}
