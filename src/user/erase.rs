//! Erasing a person, or one kind of their data.
//!
//! | what | becomes |
//! | --- | --- |
//! | identity, ledger, balances; the user with the last identity | deleted |
//! | sessions | revoked |
//! | notifications | without fields, links, detail and openid; what was under way is cancelled |
//! | attempts | without WeChat's words and the rid by which WeChat would tell them again |
//! | events that notified the person or named them in vain | without the person's names, and without data if about nobody else |
//! | what webhooks are told of the person | without body, not told if it was not told yet; then `user.erased` |
//! | receipts, callbacks | without openid, callbacks without body |
//!
//! The emptied rows stay for statistics. An audit entry without personal data says what was done.

mod event;

use entity::{
    CallbackId, Timestamp, UserId, attempt, callback, identity,
    notification::{self, Credit, FieldValues, State},
    receipt, session,
    session::RevokedBecause,
    user,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, PaginatorTrait, QueryFilter,
    QuerySelect, QueryTrait,
    sea_query::{Expr, LockType},
};
use serde_json::json;

use super::lookup;
use crate::{
    audit::{self, Entry},
    consent,
    context::Context,
    database::again,
    error::Error,
    signed_request,
    webhook::{
        deliveries,
        kind::Kind,
        outbox::{self, Person},
    },
};

/// What `RevokeInfo` may name, and where Magpie holds such data: columns of `user` that become NULL.
const REVOCABLE: &[(&str, &str, &[user::Column])] = &[
    ("1", "car plate", &[]),
    ("2", "address", &[]),
    ("3", "invoice", &[]),
    ("4", "Bluetooth", &[]),
    ("5", "microphone", &[]),
    ("6", "nickname and avatar", &[user::Column::Nickname, user::Column::AvatarUrl]),
    ("7", "camera", &[]),
    ("8", "phone number", &[user::Column::Phone, user::Column::PhoneIndex, user::Column::PhoneAt]),
    ("12", "steps", &[]),
    ("13", "location", &[]),
    ("14", "chosen pictures and videos", &[]),
    ("15", "chosen files", &[]),
    ("16", "e-mail", &[]),
    ("18", "chosen location", &[]),
    ("19", "nickname from the keyboard", &[user::Column::Nickname]),
    ("20", "chosen avatar", &[user::Column::AvatarUrl]),
];

/// Erases the kinds of data that the person no longer allows this app to hold.
pub async fn revoke(
    tx: &DatabaseTransaction,
    (app_id, openid): (&str, &str),
    codes: &[String],
    actor: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(identity) = identity::Entity::of_app(app_id, [openid.to_owned()]).one(tx).await? else { return Ok(()) };
    let known: Vec<_> = REVOCABLE.iter().filter(|(code, ..)| codes.iter().any(|said| said == code)).collect();
    for column in known.iter().flat_map(|(.., columns)| *columns) {
        user::Entity::update_many()
            .col_expr(*column, Expr::null())
            .col_expr(user::Column::UpdatedAt, Expr::value(now))
            .filter(user::Column::Id.eq(identity.user_id))
            .exec(tx)
            .await?;
    }
    let kinds: Vec<_> = known.iter().map(|(_, kind, _)| kind).collect();
    let detail = json!({ "codes": codes, "kinds": kinds });
    let subject = Some(identity.user_id);
    let entry = Entry { actor, action: "user.data_revoked", app_id: Some(app_id), subject, detail };
    audit::record(tx, entry, now).await
}

/// Erases what one app knows of a person; the user too when no other app is left.
pub async fn in_app(
    ctx: &Context,
    tx: &DatabaseTransaction,
    (app_id, openid): (&str, &str),
    actor: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let mut query = identity::Entity::of_app(app_id, [openid.to_owned()]);
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    let Some(identity) = query.one(tx).await? else {
        return traces(tx, app_id, openid, now).await;
    };
    let emptied = one(tx, &identity, now).await?;
    let gone = delete_if_empty(tx, identity.user_id).await?;
    let told = Person { user_id: identity.user_id, app_id: Some(app_id), app_ids: &[app_id] };
    outbox::person(ctx, tx, Kind::UserErased, &told, json!({ "user_deleted": gone }), now).await?;
    let detail = json!({ "notifications": emptied, "user_deleted": gone });
    let subject = Some(identity.user_id);
    audit::record(tx, Entry { actor, action: "user.erased", app_id: Some(app_id), subject, detail }, now).await
}

/// Erases a person in all apps.
pub async fn person(
    ctx: &Context,
    tx: &DatabaseTransaction,
    user_id: UserId,
    actor: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let mut query = identity::Entity::of_user(user_id);
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    let (mut emptied, identities) = (0, query.all(tx).await?);
    for identity in &identities {
        emptied += one(tx, identity, now).await?;
    }
    delete_if_empty(tx, user_id).await?;
    let app_ids: Vec<_> = identities.iter().map(|identity| identity.app_id.as_str()).collect();
    let told = Person { user_id, app_id: None, app_ids: &app_ids };
    outbox::person(ctx, tx, Kind::UserErased, &told, json!({ "user_deleted": true }), now).await?;
    let detail = json!({ "identities": identities.len(), "notifications": emptied });
    audit::record(tx, Entry { actor, action: "user.erased", app_id: None, subject: Some(user_id), detail }, now).await
}

/// Erases a person because they or a business system ask for it: in these apps (None for all).
pub async fn by_request(ctx: &Context, id: UserId, app_ids: Option<&[String]>, actor: &str) -> Result<(), Error> {
    again(|| request_once(ctx, id, app_ids, actor)).await
}

async fn request_once(ctx: &Context, id: UserId, app_ids: Option<&[String]>, actor: &str) -> Result<(), Error> {
    let lookup::Person { user, identities } = lookup::get_in(ctx, app_ids, id).await?;
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    if app_ids.is_none() {
        person(ctx, &tx, user.id, actor, now).await?;
    } else {
        for identity in &identities {
            in_app(ctx, &tx, (&identity.app_id, &identity.openid), actor, now).await?;
        }
    }
    Ok(tx.commit().await?)
}

/// Gives how many notifications were emptied.
async fn one(tx: &DatabaseTransaction, identity: &identity::Model, now: Timestamp) -> Result<u64, Error> {
    event::forget(tx, identity).await?;
    let user = user::Entity::find_by_id(identity.user_id).one(tx).await?;
    let external = user.and_then(|user| user.external_id).map(|id| format!("external:{id}"));
    let names = [Some(identity.openid.clone()), identity.unionid.clone(), external];
    signed_request::forget_about(tx, names.into_iter().flatten()).await?;
    end_sessions(tx, identity, now).await?;
    // What changes a balance or a message of theirs from here on waits for the end of it.
    consent::forget(tx, identity.id).await?;
    let emptied = empty_notifications(tx, identity, now).await?;
    deliveries::forget_person(tx, identity.user_id, &identity.app_id, now).await?;
    traces(tx, &identity.app_id, &identity.openid, now).await?;
    identity::Entity::delete_by_id(identity.id).exec(tx).await?;
    Ok(emptied)
}

async fn end_sessions(tx: &DatabaseTransaction, identity: &identity::Model, now: Timestamp) -> Result<(), Error> {
    session::Entity::update_many()
        .set(session::ActiveModel {
            revoked_at: Set(Some(now)),
            revoked_because: Set(Some(RevokedBecause::Erased)),
            ..Default::default()
        })
        .filter(session::Column::IdentityId.eq(identity.id))
        .filter(session::Column::RevokedAt.is_null())
        .exec(tx)
        .await?;
    Ok(())
}

/// What is under way ends here: without its lease token a call in flight writes nothing any more.
async fn empty_notifications(
    tx: &DatabaseTransaction,
    identity: &identity::Model,
    now: Timestamp,
) -> Result<u64, Error> {
    notification::Entity::update_many()
        .set(notification::ActiveModel {
            state: Set(State::Cancelled),
            reason: Set(None),
            lease_token: Set(None),
            lease_until: Set(None),
            finished_at: Set(Some(now)),
            ..Default::default()
        })
        .filter(notification::Column::IdentityId.eq(identity.id))
        .filter(notification::Column::State.is_in([State::Waiting, State::Pending, State::Sending, State::Unsure]))
        .exec(tx)
        .await?;
    let emptied = notification::Entity::update_many()
        .set(notification::ActiveModel {
            openid: Set(String::new()),
            fields: Set(FieldValues::default()),
            page: Set(None),
            url: Set(None),
            detail: Set(None),
            credit: Set(Credit::None),
            ..Default::default()
        })
        .col_expr(notification::Column::Miniprogram, Expr::null())
        .filter(notification::Column::IdentityId.eq(identity.id))
        .exec(tx)
        .await?;
    let theirs = notification::Entity::find()
        .select_only()
        .column(notification::Column::Id)
        .filter(notification::Column::IdentityId.eq(identity.id))
        .into_query();
    attempt::Entity::update_many()
        .col_expr(attempt::Column::Errmsg, Expr::null())
        .col_expr(attempt::Column::Rid, Expr::null())
        .filter(attempt::Column::NotificationId.in_subquery(theirs.clone()))
        .exec(tx)
        .await?;
    receipt::Entity::update_many()
        .col_expr(receipt::Column::Openid, Expr::value(""))
        .filter(receipt::Column::NotificationId.in_subquery(theirs))
        .exec(tx)
        .await?;
    Ok(emptied.rows_affected)
}

/// A callback about somebody nobody here knows, such as one that comes after the erasure.
pub async fn stranger(tx: &DatabaseTransaction, id: CallbackId) -> Result<(), Error> {
    callback::Entity::update_many()
        .col_expr(callback::Column::Body, Expr::value(""))
        .col_expr(callback::Column::Openid, Expr::null())
        .filter(callback::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// What WeChat told of this openid, whether or not there is such an identity.
async fn traces(tx: &DatabaseTransaction, app_id: &str, openid: &str, now: Timestamp) -> Result<(), Error> {
    receipt::Entity::update_many()
        .col_expr(receipt::Column::Openid, Expr::value(""))
        .filter(receipt::Column::NotificationId.is_null())
        .filter(receipt::Column::AppId.eq(app_id))
        .filter(receipt::Column::Openid.eq(openid))
        .exec(tx)
        .await?;
    let theirs = |query: sea_orm::UpdateMany<callback::Entity>| {
        query.filter(callback::Column::AppId.eq(app_id)).filter(callback::Column::Openid.eq(openid))
    };
    theirs(callback::Entity::update_many())
        .col_expr(callback::Column::ProcessedAt, Expr::value(now))
        .filter(callback::Column::ProcessedAt.is_null())
        .exec(tx)
        .await?;
    theirs(callback::Entity::update_many())
        .col_expr(callback::Column::Body, Expr::value(""))
        .col_expr(callback::Column::Openid, Expr::value(Option::<String>::None))
        .exec(tx)
        .await?;
    Ok(())
}

/// Whether nothing was left of the user, its aliases included.
async fn delete_if_empty(tx: &DatabaseTransaction, user_id: UserId) -> Result<bool, Error> {
    if identity::Entity::of_user(user_id).count(tx).await? > 0 {
        return Ok(false);
    }
    user::Entity::delete_many().filter(user::Column::MergedInto.eq(user_id)).exec(tx).await?;
    user::Entity::delete_by_id(user_id).exec(tx).await?;
    Ok(true)
}
