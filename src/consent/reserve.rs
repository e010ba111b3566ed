//! Setting credits aside for messages.

use std::collections::{BTreeMap, HashMap, HashSet};

use entity::{
    IdentityId, NotificationId, Timestamp,
    consent::{self as entry, Kind},
    credit, template,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QueryResult, QuerySelect,
};

use super::{ENTRIES, Of, change_all, delivery_entry, lock, write};
use crate::{
    database::{rows::Rows, writes::Writes},
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

/// Entries that the ledger still lacks.
#[derive(Default)]
#[must_use = "the balances are changed already"]
pub struct Entries(Vec<entry::ActiveModel>);

impl Entries {
    /// They are stored with what else the transaction writes.
    pub fn write_with(self, writes: &mut Writes) -> Result<(), Error> {
        Ok(writes.insert(&ENTRIES, self.0)?)
    }
}

/// Sets a credit aside for each message, in order, as far as there are any: two messages never get
/// the same one. The balances stay locked until the transaction ends.
pub async fn reserve(tx: &DatabaseTransaction, wants: &[Want], now: Timestamp) -> Result<Vec<Granted>, Error> {
    let (granted, entries) = set_aside(tx, wants, now).await?;
    write(tx, entries.0).await?;
    Ok(granted)
}

/// The same, leaving it to the caller to store the ledger's entries in this transaction.
pub async fn set_aside(
    tx: &DatabaseTransaction,
    wants: &[Want],
    now: Timestamp,
) -> Result<(Vec<Granted>, Entries), Error> {
    let balances = take(tx, wants, now).await?;
    let free = free_templates(tx, wants, &balances).await?;
    let mut left: HashMap<_, _> = balances.iter().map(|(of, balance)| (of, balance.credits)).collect();
    let mut granted = Vec::with_capacity(wants.len());
    let mut entries = Vec::new();
    for want in wants {
        let of = (want.identity_id, want.template_id.clone());
        let grant = match (balances.get(&of).map(|balance| balance.kind), left.get_mut(&of)) {
            (Some(template::Kind::LongTerm), Some(1..)) => Granted::Standing,
            (Some(template::Kind::OneTime), Some(left @ 1..)) => {
                *left -= 1;
                entries.push(delivery_entry(want, Kind::Reserved, -1, now));
                Granted::Reserved
            }
            (None, _) if free.contains(&want.template_id) => Granted::Standing,
            _ => Granted::No,
        };
        granted.push(grant);
    }
    Ok((granted, Entries(entries)))
}

/// What `take` does where there is more than one writer: locks the balances in one order, so that transactions wait
/// for each other instead of deadlocking.
const TAKE: &str = r#", held AS (
        SELECT credit.*, v_wanted FROM credit JOIN v ON identity_id = v_identity_id AND template_id = v_template_id
        ORDER BY identity_id, template_id COLLATE "C" FOR UPDATE OF credit
    ), taken AS (
        UPDATE credit SET credits = held.credits - LEAST(held.credits, v_wanted), updated_at = $same FROM held
        WHERE credit.identity_id = held.identity_id AND credit.template_id = held.template_id
          AND held.kind = 'one_time' AND held.credits > 0
    )
    SELECT identity_id, template_id, kind, credits FROM held"#;

/// A balance before credits were taken from it.
struct Balance {
    kind: template::Kind,
    credits: i32,
}

/// Takes the credits that are wanted, as far as there are any; gives the balances as they were before.
async fn take(tx: &DatabaseTransaction, wants: &[Want], now: Timestamp) -> Result<HashMap<Of, Balance>, Error> {
    let mut wanted: BTreeMap<_, i32> = BTreeMap::new();
    for want in wants {
        *wanted.entry((want.identity_id, want.template_id.as_str())).or_default() += 1;
    }
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    if tx.get_database_backend() == DbBackend::Sqlite {
        let balances = lock(tx, wanted.keys().copied()).await?;
        let counted = balances.values().filter(|row| row.kind == template::Kind::OneTime && row.credits > 0);
        let taken = counted.map(|row| {
            let of = (row.identity_id, row.template_id.as_str());
            (of.0, of.1, -std::cmp::Ord::min(row.credits, wanted[&of]))
        });
        change_all(tx, taken, now).await?;
        let balance = |row: credit::Model| Balance { kind: row.kind, credits: row.credits };
        return Ok(balances.into_iter().map(|(of, row)| (of, balance(row))).collect());
    }
    let mut rows = Rows::of(&["v_identity_id", "v_template_id", "v_wanted"]).with(now);
    for ((identity_id, template_id), count) in wanted {
        rows.push([identity_id.into(), template_id.into(), count.into()]);
    }
    let found = tx.query_all_raw(rows.statement(DbBackend::Postgres, TAKE)?).await?.into_iter();
    let balance = |row: QueryResult| {
        let of = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        Ok((of, Balance { kind: row.try_get_by_index(2)?, credits: row.try_get_by_index(3)? }))
    };
    found.map(balance).collect()
}

/// Those templates, of the wants without a balance, that need no consent: a service account's.
async fn free_templates(
    tx: &DatabaseTransaction,
    wants: &[Want],
    balances: &HashMap<Of, Balance>,
) -> Result<HashSet<String>, Error> {
    let without = |want: &&Want| !balances.contains_key(&(want.identity_id, want.template_id.clone()));
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
        .all(tx)
        .await?;
    Ok(free.into_iter().collect())
}
