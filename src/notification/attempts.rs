//! The calls made for a notification: those that came to anything but success are rows of their own, the
//! latest one stands in the notification's row while it is under way and when WeChat took the message.

use entity::{
    NotificationId,
    attempt::{self as row, Outcome},
    notification::{self, State},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    sea_query::OnConflict,
};

use crate::{database::rows::portions, error::Error};

/// Rows of one insert; a bound value per column stays far below what the databases take.
const A_STATEMENT: usize = 256;

/// All calls made for a notification, the first one first.
pub async fn of(db: &impl ConnectionTrait, notification: &notification::Model) -> Result<Vec<row::Model>, Error> {
    let mut attempts = row::Entity::find()
        .filter(row::Column::NotificationId.eq(notification.id))
        .order_by_asc(row::Column::Number)
        .all(db)
        .await?;
    let latest = latest(notification);
    attempts.extend(latest.filter(|latest| attempts.iter().all(|attempt| attempt.number != latest.number)));
    Ok(attempts)
}

/// The call that stands in the notification's own row.
pub fn latest(notification: &notification::Model) -> Option<row::Model> {
    let is_under_way = notification.state == State::Sending;
    if !is_under_way && notification.attempt_ms.is_none() {
        return None;
    }
    Some(row::Model {
        notification_id: notification.id,
        number: notification.attempt_number,
        started_at: notification.attempt_at?,
        duration_ms: notification.attempt_ms.filter(|_| !is_under_way),
        outcome: (!is_under_way).then_some(Outcome::Accepted),
        errcode: (!is_under_way).then_some(0),
        errmsg: None,
        rid: None,
    })
}

/// Writes down what came of calls; what is known already of one is replaced.
pub async fn write(tx: &DatabaseTransaction, attempts: Vec<row::Model>) -> Result<(), Error> {
    use row::Column::{DurationMs, Errcode, Errmsg, NotificationId, Number, Outcome, Rid};
    for portion in portions(attempts, A_STATEMENT) {
        let known = OnConflict::columns([NotificationId, Number])
            .update_columns([DurationMs, Outcome, Errcode, Errmsg, Rid])
            .to_owned();
        let rows = portion.into_iter().map(IntoActiveModel::into_active_model);
        row::Entity::insert_many(rows).on_conflict(known).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Whether nobody knows what came of one of the message's calls.
pub async fn was_unsure(db: &impl ConnectionTrait, id: NotificationId) -> Result<bool, Error> {
    let unsure = row::Entity::find()
        .filter(row::Column::NotificationId.eq(id))
        .filter(row::Column::Outcome.eq(Outcome::Unsure))
        .one(db)
        .await?;
    Ok(unsure.is_some())
}
