//! Storing the logins of people who are known, as nearly all are: read ahead with nothing locked, and written alone.
//!
//! What has changed meanwhile comes to light by a row that is not written: the person was erased, has become one with
//! another user, was banned or has logged in elsewhere. Then nothing is, and `record` does it with locks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use entity::{IdentityId, Timestamp, UserId, session};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult};

use super::{
    NewLogin,
    record::{SESSIONS, Who, new_session, seal_session_key, unrevoked, who},
};
use crate::{
    context::Context,
    database::{insert::Insert, rows::Rows, writes::Writes},
    error::Error,
};

/// What a login needs to know of an identity.
struct Known {
    id: IdentityId,
    user_id: UserId,
    unionid: Option<String>,
    /// When the latest login began; None for somebody who has never logged in.
    session_key_at: Option<Timestamp>,
}

impl Known {
    /// Whether the login changes nothing but the session key.
    fn only_logs_in(&self, login: &NewLogin) -> bool {
        let told = login.wechat.unionid.as_ref();
        (told.is_none() || told == self.unionid.as_ref()) && self.session_key_at.is_some_and(|at| at <= login.began_at)
    }
}

/// The session of each login that was stored, in their order; none of the others is stored.
pub(super) async fn store(
    ctx: &Context,
    logins: &[Arc<NewLogin>],
    now: Timestamp,
) -> Result<Vec<Option<session::Model>>, Error> {
    let known = look(ctx.db.planned_once(), logins).await?;
    let (mut newest, mut made) = (BTreeMap::new(), Vec::with_capacity(logins.len()));
    for login in logins {
        let identity = known.get(&who(login)).filter(|identity| identity.only_logs_in(login));
        if let Some(identity) = identity {
            let (_, kept) = newest.entry((&login.wechat.openid, &login.app_id)).or_insert((identity, &**login));
            if kept.began_at <= login.began_at {
                *kept = login;
            }
        }
        made.push(identity.map(|identity| new_session(ctx, login, identity.user_id, identity.id, now)));
    }
    let mut writes = ctx.db.writes();
    only_if_nobody_is_banned(newest.values().map(|(identity, _)| identity.user_id), &mut writes)?;
    renew_session_keys(ctx, newest.into_values(), &mut writes)?;
    let new = if ctx.db.is_sqlite() { SESSIONS } else { NEW_SESSIONS };
    writes.insert(&new, made.iter().flatten().cloned().map(unrevoked).collect())?;
    if ctx.db.write_alone(writes).await? { Ok(made) } else { Ok(logins.iter().map(|_| None).collect()) }
}

/// Where those who are banned were looked for in the same statement.
const NEW_SESSIONS: Insert<session::Entity> = Insert { only_if: "", ..SESSIONS };

/// PostgreSQL looks for the banned first; on SQLite their sessions are rows that are not stored. A ban that is written in
/// this moment changes `session_key_at`.
fn only_if_nobody_is_banned(users: impl Iterator<Item = UserId>, writes: &mut Writes) -> Result<(), Error> {
    let mut users: Vec<_> = users.collect();
    users.sort_unstable();
    users.dedup();
    let (mut rows, found) = (Rows::of(&["v_id"]), users.len());
    for id in users {
        rows.push([id.into()]);
    }
    let welcome = r#"SELECT 1 FROM "user" JOIN v ON "user".id = v_id WHERE banned_at IS NULL"#;
    Ok(writes.only_if(rows, welcome, found)?)
}

/// In the order of the openids, in which `record` locks the identities.
fn renew_session_keys<'a>(
    ctx: &Context,
    newest: impl Iterator<Item = (&'a Known, &'a NewLogin)>,
    writes: &mut Writes,
) -> Result<(), Error> {
    let mut rows = Rows::of(&["v_id", "v_user_id", "v_seen_at", "v_key", "v_at"]);
    for (Known { id, user_id, session_key_at, .. }, login) in newest {
        let key = seal_session_key(ctx, *id, login);
        rows.push([(*id).into(), (*user_id).into(), (*session_key_at).into(), key.into(), login.began_at.into()]);
    }
    let sql = "UPDATE identity SET session_key = v_key, session_key_at = v_at FROM v \
               WHERE id = v_id AND user_id = v_user_id AND session_key_at = v_seen_at";
    Ok(writes.change(rows, sql)?)
}

/// Each row is looked up by the unique index, however small PostgreSQL believes the table to be.
const ON_POSTGRES: &str = "SELECT i.app_id, i.openid, i.id, i.user_id, i.unionid, i.session_key_at FROM v \
    CROSS JOIN LATERAL (SELECT * FROM identity WHERE openid = v_openid AND app_id = v_app_id LIMIT 1) i";
/// A cross join is done in the order in which it is written.
const ON_SQLITE: &str = "SELECT i.app_id, i.openid, i.id, i.user_id, i.unionid, i.session_key_at FROM v \
    CROSS JOIN identity i ON i.openid = v_openid AND i.app_id = v_app_id";

async fn look(db: &impl ConnectionTrait, logins: &[Arc<NewLogin>]) -> Result<HashMap<Who, Known>, Error> {
    let mut rows = Rows::of(&["v_app_id", "v_openid"]);
    for login in logins {
        rows.push([login.app_id.as_str().into(), login.wechat.openid.as_str().into()]);
    }
    let backend = db.get_database_backend();
    let sql = if backend == DbBackend::Postgres { ON_POSTGRES } else { ON_SQLITE };
    let found = db.query_all_raw(rows.statement(backend, sql)?).await?;
    Ok(found.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &QueryResult) -> Result<(Who, Known), DbErr> {
    let known = Known {
        id: row.try_get_by_index(2)?,
        user_id: row.try_get_by_index(3)?,
        unionid: row.try_get_by_index(4)?,
        session_key_at: row.try_get_by_index(5)?,
    };
    Ok(((row.try_get_by_index(0)?, row.try_get_by_index(1)?), known))
}
