//! Storing logins: users, identities and sessions of all logins that wait.
//!
//! ```text
//! known identities ─▶ `known`, unless something has changed meanwhile: then with the others, in one transaction
//!
//! strangers ─▶ one insert of users, one of identities ─┐
//! a unionid that is new to an identity ─▶ by itself ───┼─▶ session keys and sessions in one go ─▶ commit
//! identities that were changed meanwhile ──────────────┘
//! ```

use std::{collections::HashMap, sync::Arc};

use entity::{IdentityId, Timestamp, UserId, identity, session, user};
use sea_orm::{
    ActiveValue::NotSet,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, IntoActiveModel, QueryFilter,
    QuerySelect,
    sea_query::{Expr, ExprTrait, LockType},
};
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::{NewLogin, known};
use crate::{
    context::Context,
    database::{
        insert::Insert,
        rows::{Rows, padded},
        writes::Writes,
    },
    error::{Code, Error},
    user::{self as users, ban},
};

/// Whether the session is the first of its user: whether its login made the user.
pub(super) async fn is_first(ctx: &Context, session: &session::Model) -> Result<bool, Error> {
    let user = user::Entity::find_by_id(session.user_id).one(ctx.db.read()).await?;
    Ok(user.is_some_and(|user| user.created_at == session.created_at))
}

/// App and openid.
pub(super) type Who = (String, String);

pub(super) fn who(login: &NewLogin) -> Who {
    (login.app_id.clone(), login.wechat.openid.clone())
}

/// Sessions of one moment begin alike. Of a banned user none is stored; a ban waits for the identity, which is locked.
pub(super) const SESSIONS: Insert<session::Entity> = Insert {
    shared: {
        use session::Column as C;
        &[&[C::AppId], &[C::Generation, C::RotatedAt, C::CreatedAt, C::ExpiresAt]]
    },
    only_if: r#"(SELECT banned_at FROM "user" WHERE "user".id = v.user_id) IS NULL"#,
    suffix: "",
};

/// A session with whether its user is new; an error for a banned user.
pub(super) type Recorded = Result<(session::Model, bool), Error>;

/// Upserts the identities and their users and makes a session for each login, in their order.
pub(super) async fn record(ctx: &Context, logins: &[Arc<NewLogin>]) -> Result<Vec<Recorded>, Error> {
    let now = ctx.clock.now();
    let mut made: Vec<_> =
        known::store(ctx, logins, now).await?.into_iter().map(|row| Some(Ok((row?, false)))).collect();
    let left: Vec<_> = logins.iter().zip(&made).filter(|(_, made)| made.is_none()).map(|(login, _)| &**login).collect();
    let mut others = match locked(ctx, &left, now).await {
        Err(error) if left.len() < logins.len() => one_by_one(ctx, &left, error, now).await,
        others => others?,
    }
    .into_iter();
    for made in made.iter_mut().filter(|made| made.is_none()) {
        *made = others.next();
    }
    Ok(made.into_iter().map(|made| made.unwrap_or_else(|| Err(Error::new(Code::Internal)))).collect())
}

/// Each by itself, after an error of theirs, where others of the group are stored and must not be stored again.
async fn one_by_one(ctx: &Context, logins: &[&NewLogin], error: Error, now: Timestamp) -> Vec<Recorded> {
    if logins.len() == 1 || error.code == Code::DatabaseUnavailable {
        return logins.iter().map(|_| Err(error.clone())).collect();
    }
    let mut made = Vec::with_capacity(logins.len());
    for login in logins {
        let recorded = locked(ctx, &[login], now).await;
        made.push(recorded.and_then(|mut one| one.pop().unwrap_or_else(|| Err(Error::new(Code::Internal)))));
    }
    made
}

/// In one transaction, with the identities locked.
async fn locked(ctx: &Context, logins: &[&NewLogin], now: Timestamp) -> Result<Vec<Recorded>, Error> {
    if logins.is_empty() {
        return Ok(Vec::new());
    }
    let tx = ctx.db.begin().await?;
    users::lock_persons(&tx, logins.iter().filter_map(|login| login.wechat.unionid.as_deref())).await?;
    let mut known = identities(&tx, logins).await?;
    let mut new = HashMap::new();
    let together = logins.len() > 1;
    let (mut again, mut strangers, mut singly) = (Vec::new(), Vec::new(), Vec::new());
    for login in logins {
        let told = login.wechat.unionid.as_ref();
        match known.get(&who(login)) {
            Some(identity) if told.is_none() || told == identity.unionid.as_ref() => again.push(*login),
            None if told.is_none() && together => strangers.push(*login),
            _ => singly.push(*login),
        }
    }
    let mut writes = ctx.db.writes();
    renew_session_keys(ctx, &known, &again, &mut writes)?;
    for identity in first_times(ctx, &tx, strangers, now).await? {
        let who = (identity.app_id.clone(), identity.openid.clone());
        new.insert(who.clone(), true);
        known.insert(who, identity);
    }
    for login in singly {
        let (identity, is_new) = one(ctx, &tx, login, now).await?;
        new.entry(who(login)).or_insert(is_new);
        known.insert(who(login), identity);
    }
    let mut sessions: Vec<Recorded> = logins
        .iter()
        .filter_map(|login| {
            let identity = known.get(&who(login))?;
            // Of two logins of one stranger the first made the user.
            let is_new = new.get_mut(&who(login)).is_some_and(std::mem::take);
            Some(Ok((new_session(ctx, login, identity.user_id, identity.id, now), is_new)))
        })
        .collect();
    let rows: Vec<_> = sessions.iter().filter_map(|made| Some(made.as_ref().ok()?.0.clone())).collect();
    writes.insert(&SESSIONS, rows.into_iter().map(unrevoked).collect())?;
    // Where a row is not written a session key was overtaken, or a user is banned.
    if !writes.exec(&tx).await? {
        let banned = ban::among(&tx, known.values().map(|identity| identity.user_id)).await?;
        let is_banned = |made: &Recorded| made.as_ref().is_ok_and(|(row, _)| banned.contains(&row.user_id));
        sessions.iter_mut().filter(|made| is_banned(made)).for_each(|made| *made = Err(Error::new(Code::UserBanned)));
    }
    tx.commit().await?;
    Ok(sessions)
}

pub(super) fn new_session(
    ctx: &Context,
    login: &NewLogin,
    user_id: UserId,
    identity_id: IdentityId,
    now: Timestamp,
) -> session::Model {
    crate::session::new_row(ctx, now, (user_id, identity_id, &login.app_id), login.code_mac.clone())
}

/// A session as it is stored: what no new one has is left out.
pub(super) fn unrevoked(row: session::Model) -> session::ActiveModel {
    session::ActiveModel { revoked_at: NotSet, revoked_because: NotSet, ..row.into_active_model() }
}

/// The identities that are known, locked, so that nobody joins their users meanwhile. The index gives them
/// in one order; to ask for one would let a plan read the primary key from end to end.
async fn identities(tx: &DatabaseTransaction, logins: &[&NewLogin]) -> Result<HashMap<Who, identity::Model>, Error> {
    let mut apps: Vec<_> = logins.iter().map(|login| login.app_id.as_str()).collect();
    apps.sort_unstable();
    apps.dedup();
    let openids = padded(logins.iter().map(|login| login.wechat.openid.as_str()));
    let mut query = identity::Entity::find()
        .filter(identity::Column::AppId.is_in(padded(apps)))
        .filter(identity::Column::Openid.is_in(openids));
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    let found = query.all(tx).await?;
    Ok(found.into_iter().map(|row| ((row.app_id.clone(), row.openid.clone()), row)).collect())
}

/// The newest `session_key` wins: a login that took long does not overwrite a later one's.
fn renew_session_keys(
    ctx: &Context,
    known: &HashMap<Who, identity::Model>,
    logins: &[&NewLogin],
    writes: &mut Writes,
) -> Result<(), Error> {
    let mut newest: HashMap<IdentityId, &NewLogin> = HashMap::new();
    for login in logins {
        let Some(identity) = known.get(&who(login)) else { continue };
        let kept = newest.entry(identity.id).or_insert(login);
        if kept.began_at <= login.began_at {
            *kept = login;
        }
    }
    let mut rows = Rows::of(&["v_id", "v_key", "v_at"]);
    for (id, login) in newest {
        rows.push([id.into(), seal_session_key(ctx, id, login).into(), login.began_at.into()]);
    }
    // Of the same person there may be another login, which was stored by itself just before.
    let sql = "UPDATE identity SET session_key = v_key, session_key_at = v_at FROM v \
               WHERE id = v_id AND (session_key_at IS NULL OR session_key_at <= v_at)";
    Ok(writes.change(rows, sql)?)
}

/// Identities nobody has seen, without a unionid.
async fn first_times(
    ctx: &Context,
    tx: &DatabaseTransaction,
    logins: Vec<&NewLogin>,
    now: Timestamp,
) -> Result<Vec<identity::Model>, Error> {
    let mut newest: HashMap<Who, &NewLogin> = HashMap::new();
    for login in logins {
        let kept = newest.entry(who(login)).or_insert(login);
        if kept.began_at <= login.began_at {
            *kept = login;
        }
    }
    let strangers = newest.values().map(|login| new_identity(ctx, login)).collect();
    users::add_strangers(ctx, tx, strangers, now).await
}

/// A login that may join two users, or the only one of its transaction.
async fn one(
    ctx: &Context,
    tx: &DatabaseTransaction,
    login: &NewLogin,
    now: Timestamp,
) -> Result<(identity::Model, bool), Error> {
    if let Some(known) = find(tx, login).await? {
        return Ok((again(ctx, tx, known, login).await?, false));
    }
    if let Some(added) = users::add_identity(ctx, tx, new_identity(ctx, login), now).await? {
        return Ok(added);
    }
    // Another node was faster with the same identity.
    let known = find(tx, login).await?.ok_or_else(|| sea_orm::DbErr::RecordNotFound("identity".into()))?;
    Ok((again(ctx, tx, known, login).await?, false))
}

async fn find(tx: &DatabaseTransaction, login: &NewLogin) -> Result<Option<identity::Model>, Error> {
    Ok(identity::Entity::of_app(&login.app_id, [login.wechat.openid.clone()]).one(tx).await?)
}

/// A known identity logs in again: the newest `session_key` wins, a new unionid may join two users.
async fn again(
    ctx: &Context,
    tx: &DatabaseTransaction,
    mut identity: identity::Model,
    login: &NewLogin,
) -> Result<identity::Model, Error> {
    identity::Entity::update_many()
        .col_expr(identity::Column::SessionKey, Expr::value(seal_session_key(ctx, identity.id, login)))
        .col_expr(identity::Column::SessionKeyAt, Expr::value(login.began_at))
        .filter(identity::Column::Id.eq(identity.id))
        .filter(identity::Column::SessionKeyAt.is_null().or(identity::Column::SessionKeyAt.lte(login.began_at)))
        .exec(tx)
        .await?;
    let told = login.wechat.unionid.as_ref();
    if told.is_some() && told != identity.unionid.as_ref() {
        // Whether or not a later login's session key was there first.
        identity::Entity::update_many()
            .col_expr(identity::Column::Unionid, Expr::value(told.cloned()))
            .filter(identity::Column::Id.eq(identity.id))
            .exec(tx)
            .await?;
        identity.unionid = told.cloned();
    }
    if let Some(unionid) = told {
        identity.user_id = users::join_person(ctx, tx, unionid, identity.user_id, ctx.clock.now()).await?;
    }
    Ok(identity)
}

fn new_identity<'a>(ctx: &Context, login: &'a NewLogin) -> users::NewIdentity<'a> {
    let id = IdentityId(Uuid::now_v7());
    users::NewIdentity {
        id,
        app_id: &login.app_id,
        openid: &login.wechat.openid,
        unionid: login.wechat.unionid.as_deref(),
        session_key: Some((seal_session_key(ctx, id, login), login.began_at)),
    }
}

pub(super) fn seal_session_key(ctx: &Context, id: IdentityId, login: &NewLogin) -> Vec<u8> {
    ctx.keys.seal(&users::session_key_context(id), login.wechat.session_key.expose_secret().as_bytes())
}
