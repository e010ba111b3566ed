//! What must not stay: names of erased people who were still to be notified, fan-outs of events that are gone.

use entity::{EventId, fan_out as row, fan_out_portion as portions};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    sea_query::Condition,
};

use crate::{error::Error, recipient::ERASED};

/// Portions looked at in one query.
const BATCH: u64 = 16;

/// Takes these names out of what is still to be done: openid, unionid, the business system's id, ours.
pub async fn forget_names(tx: &DatabaseTransaction, names: &[String]) -> Result<(), Error> {
    let mut after = None;
    loop {
        let mut query = portions::Entity::find()
            .order_by_asc(portions::Column::FanOutId)
            .order_by_asc(portions::Column::Place)
            .limit(BATCH);
        if let Some((fan_out_id, place)) = after {
            let later =
                Condition::all().add(portions::Column::FanOutId.eq(fan_out_id)).add(portions::Column::Place.gt(place));
            query = query.filter(Condition::any().add(portions::Column::FanOutId.gt(fan_out_id)).add(later));
        }
        let rows = query.all(tx).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some((last.fan_out_id, last.place));
        for mut row in rows {
            let mentions = |reference: &&mut String| names.iter().any(|name| is_of(reference, name));
            let mut found = false;
            for reference in row.recipients.0.iter_mut().filter(mentions) {
                ERASED.clone_into(reference);
                found = true;
            }
            if found {
                let change = portions::ActiveModel { recipients: Set(row.recipients), ..Default::default() };
                portions::Entity::update_many()
                    .set(change)
                    .filter(portions::Column::FanOutId.eq(row.fan_out_id))
                    .filter(portions::Column::Place.eq(row.place))
                    .exec(tx)
                    .await?;
            }
        }
    }
}

/// `openid:wx1/oA` is of `oA`; the business system's id may hold signs of its own.
fn is_of(reference: &str, name: &str) -> bool {
    reference.strip_suffix(name).is_some_and(|start| start.is_empty() || start.ends_with([':', '/']))
}

/// With the events goes what was still to be done for them.
pub async fn forget_events(tx: &DatabaseTransaction, ids: &[EventId]) -> Result<(), Error> {
    let of_them = row::Entity::find()
        .select_only()
        .column(row::Column::Id)
        .filter(row::Column::EventId.is_in(ids.iter().copied()))
        .into_query();
    portions::Entity::delete_many().filter(portions::Column::FanOutId.in_subquery(of_them)).exec(tx).await?;
    row::Entity::delete_many().filter(row::Column::EventId.is_in(ids.iter().copied())).exec(tx).await?;
    Ok(())
}
