//! Reading ahead of a transaction, without a lock: people, and what is left for what they are to be told.
//!
//! Those who are named by an openid of the app itself, as most are, are found together with their balances: each look at
//! the database is a round trip that everybody in a group waits for.

use std::collections::{HashMap, HashSet};

use entity::{IdentityId, UserId, template};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult};

use super::{Identity, Person, Recipient, by_openid_only, by_user};
use crate::{
    consent::{Balance, Seen},
    database::{Lock, rows::Rows},
    error::Error,
};

/// One who is to be told something: the reference, the app and the template of the message.
pub struct Wanted<'a> {
    pub recipient: &'a Recipient,
    pub app_id: &'a str,
    pub template_id: &'a str,
}

/// A bound value for each cell stays far below what SQLite takes.
const ROWS_A_STATEMENT: usize = 1_024;

/// Each row is looked up by a unique index, however small PostgreSQL believes the tables to be: with its limit a lateral
/// query is not made a join of all rows.
const ON_POSTGRES: &str = "SELECT v_place, i.id, i.user_id, i.unfollowed_at IS NOT NULL, b.kind, b.credits \
    FROM v CROSS JOIN LATERAL (SELECT * FROM identity WHERE openid = v_openid AND app_id = v_app_id LIMIT 1) i \
    LEFT JOIN LATERAL (SELECT kind, credits FROM credit WHERE identity_id = i.id AND template_id = v_template_id LIMIT 1) b \
    ON true";
/// A cross join is done in the order in which it is written.
const ON_SQLITE: &str = "SELECT v_place, i.id, i.user_id, i.unfollowed_at IS NOT NULL, b.kind, b.credits \
    FROM v CROSS JOIN identity i ON i.openid = v_openid AND i.app_id = v_app_id \
    LEFT JOIN credit b ON b.identity_id = i.id AND b.template_id = v_template_id";

/// Everybody the references stand for, as `resolve` finds them, and the balances of those whose were looked for along
/// with them.
pub async fn look<'a>(
    db: &impl ConnectionTrait,
    wanted: impl Iterator<Item = Wanted<'a>> + Clone,
) -> Result<(HashMap<Recipient, Person>, Seen), Error> {
    let by_openid = by_openid_only(wanted.clone().map(|one| (one.recipient, one.app_id)));
    let others: HashSet<_> =
        wanted.clone().map(|one| one.recipient).filter(|recipient| !by_openid.contains(recipient)).collect();
    let mut people = by_user(db, &others, Lock::Open).await?;
    let mut seen = Seen::new();
    let mut told = HashSet::new();
    let mut named = Vec::new();
    for Wanted { recipient, app_id, template_id } in wanted.filter(|one| by_openid.contains(one.recipient)) {
        if let Recipient::Openid { openid, .. } = recipient
            && told.insert((app_id, openid, template_id))
        {
            named.push((app_id, openid.as_str(), template_id));
        }
    }
    let backend = db.get_database_backend();
    let sql = if backend == DbBackend::Postgres { ON_POSTGRES } else { ON_SQLITE };
    for portion in named.chunks(ROWS_A_STATEMENT) {
        let mut rows = Rows::of(&["v_app_id", "v_openid", "v_template_id", "v_place"]);
        for ((app_id, openid, template_id), place) in portion.iter().zip(0_i32..) {
            rows.push([(*app_id).into(), (*openid).into(), (*template_id).into(), place.into()]);
        }
        for row in db.query_all_raw(rows.statement(backend, sql)?).await? {
            let place: i32 = row.try_get_by_index(0)?;
            let place = usize::try_from(place).ok().and_then(|place| portion.get(place));
            let (app_id, openid, template_id) =
                *place.ok_or_else(|| DbErr::RecordNotFound("whose place this is".into()))?;
            let (identity, balance) = read(&row, app_id, openid)?;
            seen.insert((identity.id, template_id.to_owned()), balance);
            let recipient = Recipient::Openid { app_id: app_id.to_owned(), openid: openid.to_owned() };
            people.entry(recipient).or_insert_with(|| Person { user_id: identity.user_id, identities: vec![identity] });
        }
    }
    Ok((people, seen))
}

fn read(row: &QueryResult, app_id: &str, openid: &str) -> Result<(Identity, Option<Balance>), DbErr> {
    let (id, user_id): (IdentityId, UserId) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
    let has_left = row.try_get_by_index(3)?;
    let identity = Identity { id, user_id, app_id: app_id.to_owned(), openid: openid.to_owned(), has_left };
    let kind: Option<template::Kind> = row.try_get_by_index(4)?;
    let credits: Option<i32> = row.try_get_by_index(5)?;
    Ok((identity, kind.zip(credits).map(|(kind, credits)| Balance { kind, credits })))
}
