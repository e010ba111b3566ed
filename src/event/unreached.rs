//! Recipients that became no notification. Their names stay in the event's outcomes, so they are written down
//! for an erasure to find the event by.

use std::collections::BTreeSet;

use entity::{EventId, event_name as row};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};

use super::Outcome;
use crate::{database::rows::portions, error::Error};

/// No name of WeChat's comes near this; of a longer one the beginning is enough to find it.
const LONGEST: usize = 200;
/// Rows written in one statement.
const BATCH: usize = 256;

/// Writes the names down.
pub(super) async fn remember<'a>(
    tx: &DatabaseTransaction,
    events: impl Iterator<Item = (EventId, &'a [Outcome])>,
) -> Result<(), Error> {
    let unreached = |outcome: &&Outcome| outcome.id.is_none();
    let names: BTreeSet<_> = events
        .flat_map(|(id, outcomes)| outcomes.iter().filter(unreached).map(move |outcome| (id, name(&outcome.recipient))))
        .filter(|(_, name)| !name.is_empty())
        .collect();
    let rows: Vec<_> =
        names.into_iter().map(|(id, name)| row::ActiveModel { event_id: Set(id), name: Set(name) }).collect();
    for rows in portions(rows, BATCH) {
        row::Entity::insert_many(rows).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Takes the events that hold one of these names; they are no longer found by it.
pub async fn take(tx: &DatabaseTransaction, names: &[String]) -> Result<Vec<EventId>, Error> {
    let names: Vec<_> = names.iter().map(|name| shortened(name)).collect();
    let found = row::Entity::find()
        .select_only()
        .column(row::Column::EventId)
        .distinct()
        .filter(row::Column::Name.is_in(names.iter().cloned()))
        .into_tuple()
        .all(tx)
        .await?;
    row::Entity::delete_many().filter(row::Column::Name.is_in(names)).exec(tx).await?;
    Ok(found)
}

/// `openid:wx1/oA` → `oA`. A reference that is written wrongly may hold a name, too.
fn name(reference: &str) -> String {
    shortened(reference.rsplit(['/', ':']).next().unwrap_or_default())
}

fn shortened(name: &str) -> String {
    name.chars().take(LONGEST).collect()
}
