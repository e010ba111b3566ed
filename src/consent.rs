//! The consent ledger and the credits derived from it.
//!
//! ```text
//! tap, told by report and popup event: accept +1, once │ reserved −1 (when a notification is made) │ returned +1 (it did not spend it)
//! answer 43101: zeroed −all │ refusal in the settings: cancel −all
//! ```
//!
//! Messages that wait take what is there as soon as it is there: while any waits no credit is left for newer ones.
//!
//! Every change is an entry; `credit.credits` is always the sum of the entries' deltas. A long-term
//! template counts 1 for on and 0 for off, and nothing is reserved.
//!
//! Who locks rows in one transaction takes them in this order, so that transactions wait for each other instead of
//! deadlocking: the identity; the balances by identity, then by template to the letter; a notification, and a new event,
//! after its balance. What is to be learnt from a notification first is read without a lock, and once more under it.

pub mod ask;
mod forget;
pub mod popup;
pub mod rebuild;
mod release;
pub mod report;
mod reserve;
pub mod tap;
pub mod withdrawal;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entity::{
    ConsentId, IdentityId, NotificationId, Timestamp,
    consent::{self as entry, Kind, Source},
    credit, identity, notification, template,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    QuerySelect,
    sea_query::{Expr, LockType},
};
use uuid::Uuid;

use crate::{
    database::{
        Lock,
        insert::Insert,
        rows::{Rows, padded},
        writes::Writes,
    },
    error::Error,
};

pub use forget::forget;
pub use reserve::{Granted, Reservations, Want, reserve, set_aside};

/// WeChat keeps no more for a user and template, and neither do we (abuse by a made-up report).
pub const MOST_CREDITS: i32 = 100;

/// Lets what a person says go one after another, and after events that are being accepted: they hold the identity, and
/// may have found no balance that could be locked. False when the person is erased.
pub async fn hold_person(tx: &DatabaseTransaction, identity_id: IdentityId) -> Result<bool, Error> {
    let mut query = identity::Entity::find_by_id(identity_id);
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    Ok(query.one(tx).await?.is_some())
}

/// Locks the balances of messages that may end: before the messages themselves. SQLite has one writer.
pub async fn hold<'a>(
    tx: &DatabaseTransaction,
    rows: impl Iterator<Item = &'a notification::Model>,
) -> Result<(), Error> {
    if tx.get_database_backend() == DbBackend::Postgres {
        lock(tx, rows.map(|row| (row.identity_id, row.template_id.as_str()))).await?;
    }
    Ok(())
}

/// Gives back the credits of messages that ended without spending them; those who waited for one go before whatever
/// comes next. Whoever ends the messages holds their balances. Gives the apps that have something to send.
pub async fn give_back(
    tx: &DatabaseTransaction,
    rows: &[&notification::Model],
    now: Timestamp,
) -> Result<BTreeSet<String>, Error> {
    let holding: Vec<_> = rows.iter().filter(|row| row.credit == notification::Credit::Reserved).collect();
    if holding.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut entries = Vec::new();
    let mut deltas: BTreeMap<_, i32> = BTreeMap::new();
    for row in &holding {
        let want = Want { identity_id: row.identity_id, template_id: row.template_id.clone(), notification_id: row.id };
        *deltas.entry((row.identity_id, row.template_id.as_str())).or_default() += 1;
        entries.push(delivery_entry(&want, Kind::Returned, 1, now));
    }
    let each = deltas.iter().map(|((identity_id, template_id), delta)| (*identity_id, *template_id, *delta));
    change_all(tx, each, now).await?;
    write(tx, entries).await?;
    release::waiting(tx, deltas.into_keys(), now).await
}

/// Nothing is left: WeChat's answer or the user says so. Gives how many credits that took.
pub async fn zero(
    tx: &DatabaseTransaction,
    identity_id: IdentityId,
    template_id: &str,
    proof: (Source, Option<NotificationId>),
    now: Timestamp,
) -> Result<i32, Error> {
    zero_all(tx, &[(identity_id, template_id, proof.1)], proof.0, now).await
}

/// Nothing is left of several balances, each with the message that found out.
pub async fn zero_all(
    tx: &DatabaseTransaction,
    of: &[(IdentityId, &str, Option<NotificationId>)],
    source: Source,
    now: Timestamp,
) -> Result<i32, Error> {
    let mut balances = lock(tx, of.iter().map(|(identity_id, template_id, _)| (*identity_id, *template_id))).await?;
    let (mut entries, mut deltas, mut taken) = (Vec::new(), Vec::new(), 0);
    for (identity_id, template_id, notification_id) in of {
        // The second of two messages finds nothing left.
        let balance = balances.get_mut(&(*identity_id, (*template_id).to_owned()));
        let left = balance.map_or(0, |row| std::mem::take(&mut row.credits));
        if left > 0 {
            deltas.push((*identity_id, *template_id, -left));
            taken += left;
        }
        entries.push(entry::ActiveModel {
            notification_id: Set(*notification_id),
            ..entry_of(*identity_id, template_id, (Kind::Zeroed, -left, source), now)
        });
    }
    change_all(tx, deltas.into_iter(), now).await?;
    write(tx, entries).await?;
    Ok(taken)
}

/// The balances of an identity, most recently changed first.
pub async fn balances(db: &impl ConnectionTrait, identity_id: IdentityId) -> Result<Vec<credit::Model>, Error> {
    let rows = credit::Entity::find()
        .filter(credit::Column::IdentityId.eq(identity_id))
        .order_by_desc(credit::Column::UpdatedAt)
        .order_by_asc(credit::Column::TemplateId)
        .all(db)
        .await?;
    Ok(rows)
}

/// The ledger of an identity, newest first.
pub async fn entries(
    db: &impl ConnectionTrait,
    identity_id: IdentityId,
    limit: u64,
) -> Result<Vec<entry::Model>, Error> {
    let rows = entry::Entity::find()
        .filter(entry::Column::IdentityId.eq(identity_id))
        .order_by_desc(entry::Column::Id)
        .limit(limit)
        .all(db)
        .await?;
    Ok(rows)
}

/// Whose, and for which template.
type Of = (IdentityId, String);

type Balances = HashMap<Of, credit::Model>;

/// What is left for a person's messages from a template.
#[derive(Clone, Copy, Debug)]
pub struct Balance {
    pub kind: template::Kind,
    pub credits: i32,
}

/// Balances that were looked for; None where there is none.
pub type Seen = HashMap<Of, Option<Balance>>;

/// Looks for the balances that are not among those seen, and adds them.
pub async fn see<'a>(
    db: &impl ConnectionTrait,
    of: impl Iterator<Item = (IdentityId, &'a str)>,
    lock: Lock,
    seen: &mut Seen,
) -> Result<(), Error> {
    let of: Vec<_> = of.filter(|(id, template_id)| !seen.contains_key(&(*id, (*template_id).to_owned()))).collect();
    let mut found = balances_of(db, of.iter().copied(), lock).await?;
    for (identity_id, template_id) in of {
        let of = (identity_id, template_id.to_owned());
        let balance = found.remove(&of).map(|row| Balance { kind: row.kind, credits: row.credits });
        // Two messages of one balance name it twice; the second time it is taken out already.
        seen.entry(of).or_insert(balance);
    }
    Ok(())
}

/// Locks the balances in one order, so that transactions wait for each other instead of deadlocking.
async fn lock<'a>(
    db: &impl ConnectionTrait,
    of: impl Iterator<Item = (IdentityId, &'a str)>,
) -> Result<Balances, Error> {
    balances_of(db, of, Lock::Held).await
}

async fn balances_of<'a>(
    db: &impl ConnectionTrait,
    of: impl Iterator<Item = (IdentityId, &'a str)>,
    lock: Lock,
) -> Result<Balances, Error> {
    let mut pairs: Vec<_> = of.collect();
    pairs.sort_unstable();
    pairs.dedup();
    if pairs.is_empty() {
        return Ok(Balances::new());
    }
    let mut templates: Vec<_> = pairs.iter().map(|(_, template_id)| *template_id).collect();
    templates.sort_unstable();
    templates.dedup();
    // Another template of the same person may be locked along with it, which does no harm.
    let mut query = credit::Entity::find()
        .filter(credit::Column::IdentityId.is_in(padded(pairs.iter().map(|(identity_id, _)| *identity_id))))
        .filter(credit::Column::TemplateId.is_in(padded(templates)));
    if lock == Lock::Held && db.get_database_backend() == DbBackend::Postgres {
        // To the letter, whatever the order of the database's own language.
        query = query
            .order_by_asc(credit::Column::IdentityId)
            .order_by_asc(Expr::cust(r#""template_id" COLLATE "C""#))
            .lock(LockType::Update);
    }
    let rows = query.all(db).await?.into_iter();
    let wanted = rows.filter(|row| pairs.binary_search(&(row.identity_id, row.template_id.as_str())).is_ok());
    Ok(wanted.map(|row| ((row.identity_id, row.template_id.clone()), row)).collect())
}

/// Changes several balances at once; each is named once.
async fn change_all<'a>(
    tx: &DatabaseTransaction,
    deltas: impl Iterator<Item = (IdentityId, &'a str, i32)>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut rows = Rows::of(&["v_identity_id", "v_template_id", "v_delta"]).with(now);
    for (identity_id, template_id, delta) in deltas {
        rows.push([identity_id.into(), template_id.into(), delta.into()]);
    }
    if !rows.is_empty() {
        let sql = "UPDATE credit SET credits = credits + v_delta, updated_at = $same FROM v \
                   WHERE identity_id = v_identity_id AND template_id = v_template_id";
        tx.execute_raw(rows.statement(tx.get_database_backend(), sql)?).await?;
    }
    Ok(())
}

async fn change(
    tx: &DatabaseTransaction,
    identity_id: IdentityId,
    template_id: &str,
    delta: i32,
    now: Timestamp,
) -> Result<(), Error> {
    credit::Entity::update_many()
        .col_expr(credit::Column::Credits, credit::Column::Credits.into_expr().add(delta))
        .col_expr(credit::Column::UpdatedAt, Expr::value(now))
        .filter(credit::Column::IdentityId.eq(identity_id))
        .filter(credit::Column::TemplateId.eq(template_id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Reservations of one moment say much the same.
const ENTRIES: Insert<entry::Entity> = Insert {
    shared: {
        use entry::Column as C;
        &[&[C::TemplateId, C::Kind, C::Delta, C::Source], &[C::ReportId, C::Twin, C::TappedAt, C::CreatedAt]]
    },
    only_if: "",
    suffix: "",
};

async fn write(tx: &DatabaseTransaction, entries: Vec<entry::ActiveModel>) -> Result<(), Error> {
    let mut writes = Writes::on(tx.get_database_backend());
    writes.insert(&ENTRIES, entries)?;
    writes.exec(tx).await?;
    Ok(())
}

fn delivery_entry(want: &Want, kind: Kind, delta: i32, now: Timestamp) -> entry::ActiveModel {
    entry::ActiveModel {
        notification_id: Set(Some(want.notification_id)),
        ..entry_of(want.identity_id, &want.template_id, (kind, delta, Source::Delivery), now)
    }
}

fn entry_of(
    identity_id: IdentityId,
    template_id: &str,
    (kind, delta, source): (Kind, i32, Source),
    now: Timestamp,
) -> entry::ActiveModel {
    entry::ActiveModel {
        id: Set(ConsentId(Uuid::now_v7())),
        identity_id: Set(identity_id),
        template_id: Set(template_id.to_owned()),
        kind: Set(kind),
        delta: Set(delta),
        source: Set(source),
        report_id: Set(None),
        twin: Set(None),
        notification_id: Set(None),
        tapped_at: Set(now),
        created_at: Set(now),
    }
}
