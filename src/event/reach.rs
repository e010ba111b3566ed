//! What a key for some apps only sees of an event: the outcomes in its apps.

use std::collections::HashSet;

use entity::{NotificationId, RuleId, notification, rule};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::Outcome;
use crate::{context::Context, error::Error};

/// Those of the outcomes that are in these apps (None for all): by their message, or by their rule where
/// there is none.
pub async fn within(ctx: &Context, app_ids: Option<&[String]>, outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Error> {
    let Some(app_ids) = app_ids else { return Ok(outcomes) };
    let db = ctx.db.read();
    let mut rules: HashSet<RuleId> = HashSet::new();
    let mut messages: HashSet<NotificationId> = HashSet::new();
    for part in outcomes.chunks(256) {
        let ids: Vec<_> = part.iter().filter_map(|outcome| outcome.rule_id).collect();
        let found = rule::Entity::find().select_only().column(rule::Column::Id);
        let found = found.filter(rule::Column::Id.is_in(ids)).filter(rule::Column::AppId.is_in(app_ids));
        rules.extend(found.into_tuple::<(RuleId,)>().all(db).await?.into_iter().map(|(id,)| id));
        let ids: Vec<_> = part.iter().filter_map(|outcome| outcome.id).collect();
        let found = notification::Entity::find().select_only().column(notification::Column::Id);
        let found =
            found.filter(notification::Column::Id.is_in(ids)).filter(notification::Column::AppId.is_in(app_ids));
        messages.extend(found.into_tuple::<(NotificationId,)>().all(db).await?.into_iter().map(|(id,)| id));
    }
    let seen = |outcome: &Outcome| match outcome.id {
        Some(id) => messages.contains(&id),
        None => outcome.rule_id.is_some_and(|id| rules.contains(&id)),
    };
    Ok(outcomes.into_iter().filter(seen).collect())
}
