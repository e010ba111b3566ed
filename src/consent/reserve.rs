//! Setting credits aside for messages.

use std::collections::{BTreeMap, HashMap, HashSet};

use entity::{
    IdentityId, NotificationId, Timestamp,
    consent::{self as entry, Kind},
    template,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect};

use super::{ENTRIES, Of, Seen, delivery_entry, see};
use crate::{
    database::{Lock, rows::Rows, writes::Writes},
    error::Error,
};

/// One message that needs a credit.
pub struct Want {
    pub identity_id: IdentityId,
    pub template_id: String,
    pub notification_id: NotificationId,
}

/// What a message got of its user's consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// A credit is set aside.
    Reserved,
    /// The template is long-term and on, or a service account's, which needs no consent.
    Standing,
    /// There is none.
    No,
}

/// Credits that are set aside, as far as it is still to be written.
#[derive(Default)]
#[must_use = "nothing is set aside before it is written"]
pub struct Reservations {
    /// How many credits each balance has to lose, in the order in which balances are locked.
    taken: BTreeMap<Of, i32>,
    entries: Vec<entry::ActiveModel>,
}

/// Not every row is written when somebody else took a credit since it was seen.
const TAKE_IF_THERE: &str = "UPDATE credit SET credits = credits - v_wanted, updated_at = $same FROM v
    WHERE identity_id = v_identity_id AND template_id = v_template_id AND kind = 'one_time' AND credits >= v_wanted";

impl Reservations {
    /// They are stored with what else the transaction writes.
    pub fn write_with(self, writes: &mut Writes, now: Timestamp) -> Result<(), Error> {
        let mut rows = Rows::of(&["v_identity_id", "v_template_id", "v_wanted"]).with(now);
        for ((identity_id, template_id), count) in self.taken {
            rows.push([identity_id.into(), template_id.into(), count.into()]);
        }
        writes.change(rows, TAKE_IF_THERE)?;
        Ok(writes.insert(&ENTRIES, self.entries)?)
    }
}

/// Sets a credit aside for each message, in order, as far as there are any: two messages never get
/// the same one. The balances stay locked until the transaction ends.
pub async fn reserve(tx: &DatabaseTransaction, wants: &[Want], now: Timestamp) -> Result<Vec<Granted>, Error> {
    let mut seen = Seen::new();
    see(tx, wants.iter().map(|want| (want.identity_id, want.template_id.as_str())), Lock::Held, &mut seen).await?;
    let (granted, reservations) = set_aside(tx, wants, &seen, now).await?;
    let mut writes = Writes::on(tx.get_database_backend());
    reservations.write_with(&mut writes, now)?;
    writes.exec(tx).await?;
    Ok(granted)
}

/// The same of balances that were seen, leaving it to the caller to store the reservations. Not all of them are written
/// when a credit that was not locked is gone by then.
pub async fn set_aside(
    db: &impl ConnectionTrait,
    wants: &[Want],
    seen: &Seen,
    now: Timestamp,
) -> Result<(Vec<Granted>, Reservations), Error> {
    let free = free_templates(db, wants, seen).await?;
    let balance = |of: &Of| seen.get(of).copied().flatten();
    let mut left = HashMap::new();
    let mut granted = Vec::with_capacity(wants.len());
    let mut reservations = Reservations::default();
    for want in wants {
        let of = (want.identity_id, want.template_id.clone());
        let balance = balance(&of);
        let left = balance.map(|balance| left.entry(of.clone()).or_insert(balance.credits));
        let grant = match (balance.map(|balance| balance.kind), left) {
            (Some(template::Kind::LongTerm), Some(1..)) => Granted::Standing,
            (Some(template::Kind::OneTime), Some(left @ 1..)) => {
                *left -= 1;
                reservations.entries.push(delivery_entry(want, Kind::Reserved, -1, now));
                *reservations.taken.entry(of).or_default() += 1;
                Granted::Reserved
            }
            (None, _) if free.contains(&want.template_id) => Granted::Standing,
            _ => Granted::No,
        };
        granted.push(grant);
    }
    Ok((granted, reservations))
}

/// Those templates, of the wants without a balance, that need no consent: a service account's.
async fn free_templates(db: &impl ConnectionTrait, wants: &[Want], seen: &Seen) -> Result<HashSet<String>, Error> {
    let without = |want: &&Want| seen.get(&(want.identity_id, want.template_id.clone())).is_none_or(Option::is_none);
    let ids: HashSet<_> = wants.iter().filter(without).map(|want| want.template_id.as_str()).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let free = template::Entity::find()
        .select_only()
        .column(template::Column::TemplateId)
        .filter(template::Column::TemplateId.is_in(ids))
        .filter(template::Column::Kind.eq(template::Kind::ServiceAccount))
        .into_tuple()
        .all(db)
        .await?;
    Ok(free.into_iter().collect())
}
