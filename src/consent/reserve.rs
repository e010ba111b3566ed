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

use super::{ENTRIES, Of, delivery_entry, lock};
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

/// Credits that are set aside, as far as it is still to be written.
#[derive(Default)]
#[must_use = "nothing is set aside before it is written"]
pub struct Reservations {
    /// How many credits each balance still has to lose: on SQLite, since PostgreSQL has taken them.
    taken: BTreeMap<Of, i32>,
    entries: Vec<entry::ActiveModel>,
}

/// Not every row is written when somebody else took a credit since it was seen.
const TAKE_IF_THERE: &str = "UPDATE credit SET credits = credits - v_wanted, updated_at = $same FROM v
    WHERE identity_id = v_identity_id AND template_id = v_template_id AND kind = 'one_time' AND credits >= v_wanted";

impl Reservations {
    /// They are stored with what else the transaction writes.
    pub fn write_with(self, writes: &mut Writes, now: Timestamp) -> Result<(), Error> {
        let mut rows = wanted_rows(now);
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
    let (granted, reservations) = set_aside(tx, wants, now).await?;
    let mut writes = Writes::of(tx);
    reservations.write_with(&mut writes, now)?;
    writes.exec(tx).await?;
    Ok(granted)
}

/// The same, leaving it to the caller to store the reservations. On PostgreSQL this must be in the same transaction; on
/// SQLite not all of them are written when a credit is gone by then.
pub async fn set_aside(
    db: &impl ConnectionTrait,
    wants: &[Want],
    now: Timestamp,
) -> Result<(Vec<Granted>, Reservations), Error> {
    let balances = take(db, wants, now).await?;
    let free = free_templates(db, wants, &balances).await?;
    let mut left: HashMap<_, _> = balances.iter().map(|(of, balance)| (of, balance.credits)).collect();
    let mut granted = Vec::with_capacity(wants.len());
    let mut reservations = Reservations::default();
    let is_sqlite = db.get_database_backend() == DbBackend::Sqlite;
    for want in wants {
        let of = (want.identity_id, want.template_id.clone());
        let grant = match (balances.get(&of).map(|balance| balance.kind), left.get_mut(&of)) {
            (Some(template::Kind::LongTerm), Some(1..)) => Granted::Standing,
            (Some(template::Kind::OneTime), Some(left @ 1..)) => {
                *left -= 1;
                reservations.entries.push(delivery_entry(want, Kind::Reserved, -1, now));
                if is_sqlite {
                    *reservations.taken.entry(of).or_default() += 1;
                }
                Granted::Reserved
            }
            (None, _) if free.contains(&want.template_id) => Granted::Standing,
            _ => Granted::No,
        };
        granted.push(grant);
    }
    Ok((granted, reservations))
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

/// The balances as they are. On PostgreSQL the credits that are wanted are taken from them, as far as there are any.
async fn take(db: &impl ConnectionTrait, wants: &[Want], now: Timestamp) -> Result<HashMap<Of, Balance>, Error> {
    let mut wanted: BTreeMap<_, i32> = BTreeMap::new();
    for want in wants {
        *wanted.entry((want.identity_id, want.template_id.as_str())).or_default() += 1;
    }
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    if db.get_database_backend() == DbBackend::Sqlite {
        let balance = |row: credit::Model| Balance { kind: row.kind, credits: row.credits };
        let balances = lock(db, wanted.keys().copied()).await?.into_iter();
        return Ok(balances.map(|(of, row)| (of, balance(row))).collect());
    }
    let mut rows = wanted_rows(now);
    for ((identity_id, template_id), count) in wanted {
        rows.push([identity_id.into(), template_id.into(), count.into()]);
    }
    let found = db.query_all_raw(rows.statement(DbBackend::Postgres, TAKE)?).await?.into_iter();
    let balance = |row: QueryResult| {
        let of = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        Ok((of, Balance { kind: row.try_get_by_index(2)?, credits: row.try_get_by_index(3)? }))
    };
    found.map(balance).collect()
}

fn wanted_rows(now: Timestamp) -> Rows {
    Rows::of(&["v_identity_id", "v_template_id", "v_wanted"]).with(now)
}

/// Those templates, of the wants without a balance, that need no consent: a service account's.
async fn free_templates(
    db: &impl ConnectionTrait,
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
        .all(db)
        .await?;
    Ok(free.into_iter().collect())
}
