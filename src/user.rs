//! Users: one person each, whatever the number of apps. A unionid joins the identities of a person.

pub mod erase;
pub mod lookup;

use entity::{IdentityId, Timestamp, UserId, identity, notification, session, user};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Statement, TryInsertResult,
    sea_query::{Expr, OnConflict},
};
use uuid::Uuid;

use crate::{context::Context, error::Error, user_data::phone};

/// The context a `session_key` is sealed with: it opens for its own identity only.
pub fn session_key_context(id: IdentityId) -> String {
    format!("session key of {id}")
}

/// A new user's id.
pub async fn create(tx: &DatabaseTransaction, now: Timestamp) -> Result<UserId, Error> {
    let id = UserId(Uuid::now_v7());
    let row = user::ActiveModel {
        id: Set(id),
        external_id: Set(None),
        merged_into: Set(None),
        phone: Set(None),
        phone_index: Set(None),
        phone_at: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
    };
    user::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(id)
}

/// An identity nobody has seen.
pub struct NewIdentity<'a> {
    pub id: IdentityId,
    pub app_id: &'a str,
    pub openid: &'a str,
    pub unionid: Option<&'a str>,
    /// Sealed, with the beginning of its login.
    pub session_key: Option<(Vec<u8>, Timestamp)>,
}

/// Stores an identity, of the person known by its unionid or of a new user, and says whether the user
/// is new; None when another node has stored the same one since.
pub async fn add_identity(
    tx: &DatabaseTransaction,
    new: NewIdentity<'_>,
    now: Timestamp,
) -> Result<Option<(identity::Model, bool)>, Error> {
    let person = match new.unionid {
        Some(unionid) => person_of(tx, unionid).await?,
        None => None,
    };
    let user_id = match person {
        Some(user_id) => user_id,
        None => create(tx, now).await?,
    };
    let (session_key, session_key_at) = new.session_key.unzip();
    let row = identity::ActiveModel {
        id: Set(new.id),
        user_id: Set(user_id),
        app_id: Set(new.app_id.to_owned()),
        openid: Set(new.openid.to_owned()),
        unionid: Set(new.unionid.map(str::to_owned)),
        session_key: Set(session_key),
        session_key_at: Set(session_key_at),
        unfollowed_at: Set(None),
        created_at: Set(now),
    };
    let fresh = OnConflict::columns([identity::Column::AppId, identity::Column::Openid]).do_nothing().to_owned();
    let inserted = identity::Entity::insert(row).on_conflict(fresh).try_insert().exec_with_returning(tx).await?;
    if let TryInsertResult::Inserted(identity) = inserted {
        return Ok(Some((identity, person.is_none())));
    }
    // The user made above has nobody.
    if person.is_none() {
        user::Entity::delete_by_id(user_id).exec(tx).await?;
    }
    Ok(None)
}

/// The user whose identities carry this unionid.
async fn person_of(tx: &DatabaseTransaction, unionid: &str) -> Result<Option<UserId>, Error> {
    let row = identity::Entity::find()
        .filter(identity::Column::Unionid.eq(unionid))
        .order_by_asc(identity::Column::UserId)
        .one(tx)
        .await?;
    Ok(row.map(|row| row.user_id))
}

/// Lets one transaction at a time deal with a person, so that two first logins of one person in two
/// apps do not make two users. SQLite has one writer anyway.
pub async fn lock_persons<'a>(tx: &DatabaseTransaction, unionids: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    if tx.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let mut unionids: Vec<_> = unionids.collect();
    unionids.sort_unstable();
    unionids.dedup();
    for unionid in unionids {
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        tx.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [unionid.into()])).await?;
    }
    Ok(())
}

/// All users with an identity of this unionid are one person: the oldest survives, the ids of the
/// others stay valid as aliases. Gives the survivor.
pub async fn join_person(
    ctx: &Context,
    tx: &DatabaseTransaction,
    unionid: &str,
    user_id: UserId,
    now: Timestamp,
) -> Result<UserId, Error> {
    let rows: Vec<UserId> = identity::Entity::find()
        .select_only()
        .column(identity::Column::UserId)
        .filter(identity::Column::Unionid.eq(unionid))
        .into_tuple()
        .all(tx)
        .await?;
    let survivor = rows.iter().copied().chain([user_id]).min().unwrap_or(user_id);
    let mut younger: Vec<_> = rows.into_iter().chain([user_id]).filter(|id| *id != survivor).collect();
    younger.sort_unstable();
    younger.dedup();
    for id in younger {
        merge(ctx, tx, id, survivor, now).await?;
    }
    Ok(survivor)
}

async fn merge(
    ctx: &Context,
    tx: &DatabaseTransaction,
    from: UserId,
    into: UserId,
    now: Timestamp,
) -> Result<(), Error> {
    identity::Entity::update_many()
        .col_expr(identity::Column::UserId, Expr::value(into))
        .filter(identity::Column::UserId.eq(from))
        .exec(tx)
        .await?;
    session::Entity::update_many()
        .col_expr(session::Column::UserId, Expr::value(into))
        .filter(session::Column::UserId.eq(from))
        .exec(tx)
        .await?;
    let moved = identity::Entity::of_user(into).select_only().column(identity::Column::Id).into_query();
    notification::Entity::update_many()
        .col_expr(notification::Column::UserId, Expr::value(into))
        .filter(notification::Column::IdentityId.in_subquery(moved))
        .filter(notification::Column::UserId.eq(from))
        .exec(tx)
        .await?;
    // The external id names a person to the business system, so it moves along if there is room.
    let younger = user::Entity::find_by_id(from).one(tx).await?;
    if let Some(younger) = &younger {
        phone::carry_over(tx, &ctx.keys, younger, into).await?;
    }
    let external_id = younger.and_then(|user| user.external_id);
    user::Entity::update_many()
        .set(user::ActiveModel {
            external_id: Set(None),
            merged_into: Set(Some(into)),
            updated_at: Set(now),
            ..Default::default()
        })
        .filter(user::Column::Id.eq(from))
        .exec(tx)
        .await?;
    user::Entity::update_many()
        .col_expr(user::Column::MergedInto, Expr::value(into))
        .filter(user::Column::MergedInto.eq(from))
        .exec(tx)
        .await?;
    user::Entity::update_many()
        .set(user::ActiveModel { external_id: Set(external_id), updated_at: Set(now), ..Default::default() })
        .filter(user::Column::Id.eq(into))
        .filter(user::Column::ExternalId.is_null())
        .exec(tx)
        .await?;
    tracing::info!(user.id = %into, merged.user.id = %from, "user.merged");
    Ok(())
}
