//! The phone number: fetched by the code of the phone-number button, sealed on the user, found again by
//! its MAC.

use entity::{Timestamp, UserId, identity, session, user};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, ExprTrait,
    QueryFilter, QuerySelect, sea_query::LockType,
};

use crate::{
    access_token::{self, Failed},
    config::App,
    context::Context,
    error::{Code, Error},
    secret::MasterKeys,
    wechat::phone::PhoneInfo,
    wechat_problem,
};

/// Codes are 64 characters today; WeChat promises no length.
const LONGEST_CODE: usize = 512;

/// A user's phone number.
pub struct Phone {
    /// `+8613800000001` (E.164).
    pub number: String,
    /// `86`
    pub country_code: String,
    /// Without the country code.
    pub pure_number: String,
    pub told_at: Timestamp,
}

/// Exchanges the code of the phone-number button for the number and keeps it on the user.
pub async fn take(ctx: &Context, session: &session::Model, code: &str) -> Result<Phone, Error> {
    let app = ctx.app(&session.app_id).ok_or(Error::new(Code::AppNotFound))?;
    if code.is_empty() || code.len() > LONGEST_CODE {
        return Err(Error::field("/code", "must be the code that the phone-number button gave"));
    }
    let identity = identity::Entity::find_by_id(session.identity_id).one(ctx.db.read()).await?;
    let identity = identity.ok_or(Error::new(Code::SessionEnded))?;
    let told = fetch(ctx, &app, &identity.openid, code).await?;
    if !told.is_for(&app.app_id) {
        return Err(Error::new(Code::PhoneCodeOfOtherApp));
    }
    let phone = Phone {
        number: told.e164(),
        country_code: told.country_code(),
        pure_number: told.pure_number,
        told_at: ctx.clock.now(),
    };
    store(ctx, session, &phone).await?;
    Ok(phone)
}

const INDEX: &str = "phone number";

/// By what a phone number in E.164 is found: `user.phone_index`.
pub fn index(keys: &MasterKeys, number: &str) -> Vec<u8> {
    keys.mac(INDEX, number.as_bytes()).to_vec()
}

/// What `user.phone_index` may hold for a number while the master key is changed. Spaces and hyphens do not count;
/// it begins with + and the country code.
pub fn indexes(keys: &MasterKeys, number: &str) -> Result<Vec<Vec<u8>>, Error> {
    let number: String = number.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    let digits = number.strip_prefix('+').unwrap_or_default();
    if !(4..=20).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(Error::field("/phone_number", "must be a number with its country code, such as +8613800000001"));
    }
    Ok(keys.macs(INDEX, number.as_bytes()))
}

/// The user's phone number, if it is known.
pub fn of(keys: &MasterKeys, user: &user::Model) -> Result<Option<String>, Error> {
    let Some(sealed) = &user.phone else { return Ok(None) };
    let opened = keys.open(&seal_context(user.id), sealed)?;
    Ok(String::from_utf8(opened).ok())
}

/// Of two users that turned out to be one person the later number is kept.
pub async fn carry_over(
    tx: &DatabaseTransaction,
    keys: &MasterKeys,
    from: &user::Model,
    into: UserId,
) -> Result<(), Error> {
    let Some(number) = of(keys, from)? else { return Ok(()) };
    user::Entity::update_many()
        .set(user::ActiveModel {
            phone: Set(Some(keys.seal(&seal_context(into), number.as_bytes()))),
            phone_index: Set(Some(index(keys, &number))),
            phone_at: Set(from.phone_at),
            ..Default::default()
        })
        .filter(user::Column::Id.eq(into))
        .filter(user::Column::PhoneAt.is_null().or(user::Column::PhoneAt.lt(from.phone_at)))
        .exec(tx)
        .await?;
    let none =
        user::ActiveModel { phone: Set(None), phone_index: Set(None), phone_at: Set(None), ..Default::default() };
    user::Entity::update_many().set(none).filter(user::Column::Id.eq(from.id)).exec(tx).await?;
    Ok(())
}

/// The identity is locked, so that a merge of its user cannot come between.
async fn store(ctx: &Context, session: &session::Model, phone: &Phone) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    let mut query = identity::Entity::find_by_id(session.identity_id);
    if tx.get_database_backend() == DbBackend::Postgres {
        query = query.lock(LockType::Update);
    }
    let identity = query.one(&tx).await?.ok_or(Error::new(Code::SessionEnded))?;
    user::Entity::update_many()
        .set(user::ActiveModel {
            phone: Set(Some(ctx.keys.seal(&seal_context(identity.user_id), phone.number.as_bytes()))),
            phone_index: Set(Some(index(&ctx.keys, &phone.number))),
            phone_at: Set(Some(phone.told_at)),
            updated_at: Set(phone.told_at),
            ..Default::default()
        })
        .filter(user::Column::Id.eq(identity.user_id))
        .exec(&tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// The context a phone number is sealed with: it opens for its own user only.
pub fn seal_context(id: UserId) -> String {
    format!("phone number of {id}")
}

/// The code is not spent by a refused token, so the call may be repeated.
async fn fetch(ctx: &Context, app: &App, openid: &str, code: &str) -> Result<PhoneInfo, Error> {
    let asked =
        access_token::with(ctx, app, |token| async move { ctx.wechat.phone_number(&token, openid, code).await });
    asked.await.map_err(|failed| match failed {
        Failed::Call(error) => wechat_problem::of_phone(&error),
        failed => wechat_problem::of_failed(&failed),
    })
}
