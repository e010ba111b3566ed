//! The person's names in the events that were about them.

use std::collections::HashSet;

use entity::{EventId, UserId, event as row, identity, notification, user};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
};
use serde_json::{Value, json};

use crate::{
    error::Error,
    event::{fan_out, unreached},
    recipient::ERASED,
};

/// Events dealt with in one statement.
const BATCH: usize = 256;

/// Takes the person's names out of the events that notified this identity or named it in vain; the data
/// too where the event was about nobody else.
pub(super) async fn forget(tx: &DatabaseTransaction, identity: &identity::Model) -> Result<(), Error> {
    let user = user::Entity::find_by_id(identity.user_id).one(tx).await?;
    let external_id = user.and_then(|user| user.external_id);
    // In other apps the person is still known by the other names.
    let is_last = identity::Entity::of_user(identity.user_id).count(tx).await? <= 1;
    let ours = our_names(tx, identity.user_id).await?;
    let mut named = vec![identity.openid.clone()];
    if is_last {
        named.extend([identity.unionid.clone(), external_id.clone()].into_iter().flatten());
        named.extend(ours.iter().cloned());
    }
    fan_out::forget_names(tx, &named).await?;
    let named = unreached::take(tx, &named).await?;
    let erased = Names {
        inside: [Some(identity.openid.clone()), identity.unionid.clone()].into_iter().flatten().collect(),
        whole: external_id.map(|id| format!("external:{id}")),
        ours,
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
    ids.extend(named);
    ids.sort_unstable();
    ids.dedup();
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
            let alone = !shared.contains(&event.id) && erased.are_all_unreached(&event.outcomes);
            let data = if alone { json!({}) } else { erased.without(event.data) };
            let outcomes = erased.without(event.outcomes);
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
    /// Our own ids say nothing once the person is gone, so they stay.
    ours: Vec<String>,
}

/// The user's id and its aliases.
async fn our_names(tx: &DatabaseTransaction, user_id: UserId) -> Result<Vec<String>, Error> {
    let aliases = user::Entity::find().filter(user::Column::MergedInto.eq(user_id)).all(tx).await?;
    Ok(aliases.into_iter().map(|user| user.id).chain([user_id]).map(|id| id.to_string()).collect())
}

impl Names {
    /// Whether every recipient that became no notification is the person.
    fn are_all_unreached(&self, outcomes: &Value) -> bool {
        let mut unreached = outcomes.as_array().into_iter().flatten().filter(|outcome| outcome["id"].is_null());
        unreached.all(|outcome| {
            let recipient = outcome["recipient"].as_str().unwrap_or_default();
            self.ours.iter().any(|id| id == recipient) || self.without(recipient.into()) != recipient
        })
    }

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
