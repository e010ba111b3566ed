//! A stored event and how far it is.

use entity::{
    EventId, event as row,
    notification::{self, State},
};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QuerySelect};

use super::{Outcome, direct, fan_out, reach};
use crate::{
    context::Context,
    error::{Code, Error},
};

/// A stored event and how far its notifications are.
pub struct Progress {
    pub row: row::Model,
    pub outcomes: Vec<Outcome>,
    pub fan_out: Option<fan_out::Progress>,
    /// Notifications by state.
    pub states: Vec<(State, i64)>,
}

/// An event with its progress, as far as it is about these apps (None for all): there is no event of
/// which nothing is.
pub async fn get_in(ctx: &Context, app_ids: Option<&[String]>, id: EventId) -> Result<Progress, Error> {
    let db = ctx.db.read();
    let nowhere = || Error::new(Code::NotFound).detail(format!("There is no event {id}."));
    let row = row::Entity::find_by_id(id).one(db).await?.ok_or_else(nowhere)?;
    let outcomes = serde_json::from_value(row.outcomes.clone());
    let mut outcomes: Vec<Outcome> = outcomes.map_err(|error| Error::new(Code::Internal).because(error))?;
    let fan_out = fan_out::progress(db, id, app_ids).await?;
    let mut theirs = Condition::all().add(notification::Column::EventId.eq(id));
    if let Some(app_ids) = app_ids {
        theirs = theirs.add(notification::Column::AppId.is_in(app_ids));
        outcomes = in_apps(ctx, &row, app_ids, outcomes).await?;
        if outcomes.is_empty() && fan_out.is_none() {
            return Err(nowhere());
        }
    }
    let states = notification::Entity::find()
        .select_only()
        .column(notification::Column::State)
        .column_as(notification::Column::Id.count(), "count")
        .filter(theirs)
        .group_by(notification::Column::State)
        .into_tuple()
        .all(db)
        .await?;
    Ok(Progress { row, outcomes, fan_out, states })
}

/// What is of these apps.
async fn in_apps(
    ctx: &Context,
    row: &row::Model,
    app_ids: &[String],
    outcomes: Vec<Outcome>,
) -> Result<Vec<Outcome>, Error> {
    if row.event_type != direct::EVENT_TYPE {
        return reach::within(ctx, Some(app_ids), outcomes).await;
    }
    let theirs = app_ids.iter().any(|app_id| row.data["app_id"] == app_id.as_str());
    Ok(if theirs { outcomes } else { Vec::new() })
}
