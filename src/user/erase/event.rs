//! The person's names in the events that were about them.

use std::collections::HashSet;

use entity::{EventId, event as row, identity, notification, user};
use sea_orm::{ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Value, json};

use crate::error::Error;

/// Events dealt with in one statement.
const BATCH: usize = 256;
/// What stands where a name stood.
const ERASED: &str = "erased";

/// Takes the person's names out of the events that notified this identity; the data too where the
/// event was about nobody else.
pub(super) async fn forget(tx: &DatabaseTransaction, identity: &identity::Model) -> Result<(), Error> {
    let user = user::Entity::find_by_id(identity.user_id).one(tx).await?;
    let names = Names {
        inside: [Some(identity.openid.clone()), identity.unionid.clone()].into_iter().flatten().collect(),
        whole: user.and_then(|user| user.external_id).map(|id| format!("external:{id}")),
    };
    let mut ids: Vec<EventId> = notification::Entity::find()
        .select_only()
        .column(notification::Column::EventId)
        .distinct()
        .filter(notification::Column::IdentityId.eq(identity.id))
        .filter(notification::Column::EventId.is_not_null())
        .into_tuple()
        .all(tx)
        .await?;
    ids.sort_unstable();
    for ids in ids.chunks(BATCH) {
        let shared: Vec<EventId> = notification::Entity::find()
            .select_only()
            .column(notification::Column::EventId)
            .distinct()
            .filter(notification::Column::EventId.is_in(ids.iter().copied()))
            .filter(notification::Column::IdentityId.ne(identity.id))
            .into_tuple()
            .all(tx)
            .await?;
        let shared: HashSet<_> = shared.into_iter().collect();
        for event in row::Entity::find().filter(row::Column::Id.is_in(ids.iter().copied())).all(tx).await? {
            let data = if shared.contains(&event.id) { names.without(event.data) } else { json!({}) };
            let outcomes = names.without(event.outcomes);
            let change = row::ActiveModel { data: Set(data), outcomes: Set(outcomes), ..Default::default() };
            row::Entity::update_many().set(change).filter(row::Column::Id.eq(event.id)).exec(tx).await?;
        }
    }
    Ok(())
}

struct Names {
    inside: Vec<String>,
    /// Too short to be looked for inside a text.
    whole: Option<String>,
}

impl Names {
    fn without(&self, value: Value) -> Value {
        match value {
            Value::String(text) if self.whole.as_ref() == Some(&text) => format!("external:{ERASED}").into(),
            Value::String(text) => self.inside.iter().fold(text, |text, name| text.replace(name, ERASED)).into(),
            Value::Array(values) => values.into_iter().map(|value| self.without(value)).collect(),
            Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, self.without(value))).collect(),
            other => other,
        }
    }
}
