//! Messages that waited for consent.

use entity::{
    IdentityId, Timestamp,
    notification::{self, Credit, State},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Granted, MOST_CREDITS, Want, reserve};
use crate::error::Error;

/// Messages that waited for this consent may go, the oldest first.
pub(super) async fn waiting(
    tx: &DatabaseTransaction,
    identity_id: IdentityId,
    template_id: &str,
    now: Timestamp,
) -> Result<bool, Error> {
    let waiting = notification::Entity::find()
        .filter(notification::Column::IdentityId.eq(identity_id))
        .filter(notification::Column::TemplateId.eq(template_id))
        .filter(notification::Column::State.eq(State::Waiting))
        .order_by_asc(notification::Column::Id)
        .limit(u64::from(MOST_CREDITS.unsigned_abs()))
        .all(tx)
        .await?;
    let want =
        |row: &notification::Model| Want { identity_id, template_id: template_id.to_owned(), notification_id: row.id };
    let granted = reserve(tx, &waiting.iter().map(want).collect::<Vec<_>>(), now).await?;
    let mut released = false;
    for (row, granted) in waiting.iter().zip(granted) {
        let credit = match granted {
            Granted::Reserved => Credit::Reserved,
            Granted::Standing => Credit::None,
            Granted::No => continue,
        };
        notification::Entity::update_many()
            .set(notification::ActiveModel {
                state: Set(State::Pending),
                credit: Set(credit),
                reason: Set(None),
                due_at: Set(now.max(row.due_at)),
                ..Default::default()
            })
            .filter(notification::Column::Id.eq(row.id))
            .exec(tx)
            .await?;
        released = true;
    }
    Ok(released)
}
