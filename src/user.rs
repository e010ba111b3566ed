//! Users: one person each, whatever the number of apps. A unionid joins the identities of a person.

pub mod ban;
pub mod erase;
pub mod export;
pub mod lookup;
pub mod profile;

use entity::{IdentityId, Timestamp, UserId, identity, notification, session, user};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, TryInsertResult,
    sea_query::{Expr, OnConflict},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    context::Context,
    database::rows::{Rows, portions},
    error::{Code, Error},
    user_data::phone,
    webhook::{
        deliveries,
        kind::Kind,
        outbox::{self, Person},
    },
};

/// Rows of one insert; a bound value per column stays far below what the databases take.
const ROWS_A_STATEMENT: usize = 256;

/// The context a `session_key` is sealed with: it opens for its own identity only.
pub fn session_key_context(id: IdentityId) -> String {
    format!("session key of {id}")
}

/// A new user's id.
pub async fn create(tx: &DatabaseTransaction, now: Timestamp) -> Result<UserId, Error> {
    let id = UserId(Uuid::now_v7());
    user::Entity::insert(new_user(id, now)).exec_without_returning(tx).await?;
    Ok(id)
}

fn new_user(id: UserId, now: Timestamp) -> user::ActiveModel {
    user::ActiveModel {
        id: Set(id),
        external_id: Set(None),
        merged_into: Set(None),
        phone: Set(None),
        phone_index: Set(None),
        phone_at: Set(None),
        banned_at: Set(None),
        banned_because: Set(None),
        nickname: Set(None),
        avatar_url: Set(None),
        language: Set(None),
        created_at: Set(now),
        updated_at: Set(now),
    }
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

impl NewIdentity<'_> {
    fn row(self, user_id: UserId, now: Timestamp) -> identity::Model {
        let (session_key, session_key_at) = self.session_key.unzip();
        identity::Model {
            id: self.id,
            user_id,
            app_id: self.app_id.to_owned(),
            openid: self.openid.to_owned(),
            unionid: self.unionid.map(str::to_owned),
            session_key,
            session_key_at,
            unfollowed_at: None,
            created_at: now,
        }
    }
}

fn unless_known() -> OnConflict {
    OnConflict::columns([identity::Column::AppId, identity::Column::Openid]).do_nothing().to_owned()
}

/// Stores identities that nobody has seen and that name no unionid, each with a user of its own; an
/// error when another node has stored one of them since.
pub async fn add_strangers(
    ctx: &Context,
    tx: &DatabaseTransaction,
    strangers: Vec<NewIdentity<'_>>,
    now: Timestamp,
) -> Result<Vec<identity::Model>, Error> {
    let rows: Vec<_> = strangers.into_iter().map(|new| new.row(UserId(Uuid::now_v7()), now)).collect();
    for portion in portions(rows.clone(), ROWS_A_STATEMENT) {
        let users = portion.iter().map(|row| new_user(row.user_id, now));
        user::Entity::insert_many(users).exec_without_returning(tx).await?;
        let (wanted, identities) = (portion.len(), portion.into_iter().map(IntoActiveModel::into_active_model));
        let stored = identity::Entity::insert_many(identities)
            .on_conflict(unless_known())
            .try_insert()
            .exec_without_returning(tx)
            .await?;
        if !matches!(stored, TryInsertResult::Inserted(count) if usize::try_from(count).is_ok_and(|count| count == wanted))
        {
            return Err(Error::new(Code::Internal).because("another node stored one of these identities first"));
        }
    }
    outbox::came(ctx, tx, rows.iter().map(|row| (row, true)), now).await?;
    Ok(rows)
}

/// Stores an identity, of the person known by its unionid or of a new user, and says whether the user
/// is new; None when another node has stored the same one since.
pub async fn add_identity(
    ctx: &Context,
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
    let row = new.row(user_id, now);
    let inserted = identity::Entity::insert(row.into_active_model())
        .on_conflict(unless_known())
        .try_insert()
        .exec_with_returning(tx)
        .await?;
    if let TryInsertResult::Inserted(identity) = inserted {
        outbox::came(ctx, tx, std::iter::once((&identity, person.is_none())), now).await?;
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
    let mut rows = Rows::of(&["unionid"]);
    for unionid in unionids {
        rows.push([unionid.into()]);
    }
    if !rows.is_empty() {
        // In their order, so that two transactions wait for each other instead of deadlocking.
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended(unionid, 0)) FROM v";
        tx.execute_raw(rows.statement(DbBackend::Postgres, sql)?).await?;
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
        profile::carry_over(tx, younger, into).await?;
    }
    if let Some(younger) = &younger {
        ban::carry_over(tx, younger, into, now).await?;
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
    tell_merged(ctx, tx, from, into, now).await?;
    tracing::info!(user.id = %into, merged.user.id = %from, "user.merged");
    Ok(())
}

async fn tell_merged(
    ctx: &Context,
    tx: &DatabaseTransaction,
    from: UserId,
    into: UserId,
    now: Timestamp,
) -> Result<(), Error> {
    deliveries::carry_over(tx, from, into).await?;
    tell(ctx, tx, (Kind::UserMerged, into), json!({ "merged_user_id": from }), now).await
}

/// Tells business systems something about a person that concerns all apps the person uses.
async fn tell(
    ctx: &Context,
    tx: &DatabaseTransaction,
    (kind, user_id): (Kind, UserId),
    more: Value,
    now: Timestamp,
) -> Result<(), Error> {
    let identities = identity::Entity::of_user(user_id).all(tx).await?;
    let app_ids: Vec<_> = identities.iter().map(|identity| identity.app_id.as_str()).collect();
    outbox::person(ctx, tx, kind, &Person { user_id, app_id: None, app_ids: &app_ids }, more, now).await
}
