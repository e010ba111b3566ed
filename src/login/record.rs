//! Storing logins: user, identity and session in one transaction, over a slice so that waiting logins
//! may share it.

use std::collections::HashMap;

use entity::{IdentityId, Timestamp, identity, session, user};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    sea_query::{Condition, Expr, ExprTrait},
};
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::NewLogin;
use crate::{context::Context, error::Error, user as users};

/// Whether the session is the first of its user: whether its login made the user.
pub(super) async fn is_first(ctx: &Context, session: &session::Model) -> Result<bool, Error> {
    let user = user::Entity::find_by_id(session.user_id).one(ctx.db.read()).await?;
    Ok(user.is_some_and(|user| user.created_at == session.created_at))
}

/// Upserts the identities and their users and makes a session for each login, in their order, with
/// whether the user is new.
pub(super) async fn record(ctx: &Context, logins: &[NewLogin<'_>]) -> Result<Vec<(session::Model, bool)>, Error> {
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    users::lock_persons(&tx, logins.iter().filter_map(|login| login.wechat.unionid.as_deref())).await?;
    let mut known = identities(&tx, logins).await?;
    let mut sessions = Vec::with_capacity(logins.len());
    for login in logins {
        let key = (login.app.app_id.clone(), login.wechat.openid.clone());
        let (identity, is_new) = match known.remove(&key) {
            Some(identity) => (again(ctx, &tx, identity, login).await?, false),
            None => first_time(ctx, &tx, login, now).await?,
        };
        let of = (identity.user_id, identity.id, login.app.app_id.as_str());
        let row = crate::session::new_row(ctx, now, of, login.code_mac.clone());
        let session = session::Entity::insert(row).exec_with_returning(&tx).await?;
        known.insert(key, identity);
        sessions.push((session, is_new));
    }
    tx.commit().await?;
    Ok(sessions)
}

type Identities = HashMap<(String, String), identity::Model>;

async fn identities(tx: &DatabaseTransaction, logins: &[NewLogin<'_>]) -> Result<Identities, Error> {
    let any = logins.iter().fold(Condition::any(), |any, login| {
        any.add(identity::Column::AppId.eq(&login.app.app_id).and(identity::Column::Openid.eq(&login.wechat.openid)))
    });
    let found = identity::Entity::find().filter(any).all(tx).await?;
    Ok(found.into_iter().map(|row| ((row.app_id.clone(), row.openid.clone()), row)).collect())
}

/// A known identity logs in again: the newest `session_key` wins, a new unionid may join two users.
async fn again(
    ctx: &Context,
    tx: &DatabaseTransaction,
    mut identity: identity::Model,
    login: &NewLogin<'_>,
) -> Result<identity::Model, Error> {
    let mut change = identity::Entity::update_many()
        .col_expr(identity::Column::SessionKey, Expr::value(seal_session_key(ctx, identity.id, login)))
        .col_expr(identity::Column::SessionKeyAt, Expr::value(login.began_at))
        .filter(identity::Column::Id.eq(identity.id))
        .filter(identity::Column::SessionKeyAt.is_null().or(identity::Column::SessionKeyAt.lte(login.began_at)));
    let told = login.wechat.unionid.as_ref();
    if told.is_some() && told != identity.unionid.as_ref() {
        change = change.col_expr(identity::Column::Unionid, Expr::value(told.cloned()));
        identity.unionid = told.cloned();
    }
    change.exec(tx).await?;
    if let Some(unionid) = told {
        identity.user_id = users::join_person(ctx, tx, unionid, identity.user_id, ctx.clock.now()).await?;
    }
    Ok(identity)
}

/// An identity nobody has seen: of a person known by unionid, or of a new user.
async fn first_time(
    ctx: &Context,
    tx: &DatabaseTransaction,
    login: &NewLogin<'_>,
    now: Timestamp,
) -> Result<(identity::Model, bool), Error> {
    let id = IdentityId(Uuid::now_v7());
    let new = users::NewIdentity {
        id,
        app_id: &login.app.app_id,
        openid: &login.wechat.openid,
        unionid: login.wechat.unionid.as_deref(),
        session_key: Some((seal_session_key(ctx, id, login), login.began_at)),
    };
    if let Some(added) = users::add_identity(tx, new, now).await? {
        return Ok(added);
    }
    // Another node was faster with the same identity.
    let mut found = identities(tx, std::slice::from_ref(login)).await?;
    let identity = found.drain().next().map(|(_, row)| row);
    let identity = identity.ok_or_else(|| sea_orm::DbErr::RecordNotFound("identity".into()))?;
    Ok((again(ctx, tx, identity, login).await?, false))
}

fn seal_session_key(ctx: &Context, id: IdentityId, login: &NewLogin<'_>) -> Vec<u8> {
    ctx.keys.seal(&users::session_key_context(id), login.wechat.session_key.expose_secret().as_bytes())
}
