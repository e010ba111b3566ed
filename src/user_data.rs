//! What the client hands over about its user: encrypted data and the phone number.
//!
//! ```text
//! encryptedData, iv ─▶ opens under the identity's session_key? ─yes─▶ watermark, signature ─▶ the data
//!                                    │ no
//!                                    └▶ checksession: key stale ─▶ log in again; key good ─▶ garbage
//! phone-number code ─▶ getPhoneNumber ─▶ watermark ─▶ sealed on the user, with a blind index
//! ```

pub mod phone;

use entity::{identity, session};
use sea_orm::EntityTrait;
use secrecy::SecretString;
use serde_json::{Map, Value};

use crate::{
    access_token,
    config::App,
    context::Context,
    error::{Code, Error, FieldError},
    user::session_key_context,
    wechat::user_data::{Misshapen, Sealed, Unopenable, is_signed},
};

/// What an open-data call of the client gave.
pub struct Given {
    pub encrypted_data: String,
    pub iv: String,
    /// `rawData` with its `signature`, to the letter.
    pub raw_data: Option<(String, String)>,
}

/// Opens the client's encrypted data and checks that it is of this app and, where `rawData` is given,
/// that the user's client signed it.
pub async fn decrypt(ctx: &Context, session: &session::Model, given: &Given) -> Result<Map<String, Value>, Error> {
    let app = ctx.app(&session.app_id).ok_or(Error::new(Code::AppNotFound))?;
    let sealed = Sealed::decode(&given.encrypted_data, &given.iv).map_err(|misshapen| match misshapen {
        Misshapen::EncryptedData => Error::field("/encrypted_data", "must be the client's encryptedData, in base64"),
        Misshapen::Iv => Error::field("/iv", "must be the client's iv, 16 bytes in base64"),
    })?;
    let identity = identity::Entity::find_by_id(session.identity_id).one(ctx.db.read()).await?;
    let identity = identity.ok_or(Error::new(Code::SessionEnded))?;
    let session_key = session_key(ctx, &identity)?.ok_or(Error::new(Code::SessionKeyStale))?;
    let data = match sealed.open(&session_key, &app.app_id) {
        Ok(data) => data,
        Err(Unopenable::AppId) => {
            return Err(refused("/encrypted_data", "its watermark does not name this session's app"));
        }
        Err(Unopenable::WrongKey) if is_current(ctx, &app, &identity.openid, &session_key).await => {
            let reason = "WeChat says that the session_key is still the user's: the data itself is damaged";
            return Err(refused("/encrypted_data", reason));
        }
        Err(Unopenable::WrongKey) => return Err(Error::new(Code::SessionKeyStale)),
    };
    match &given.raw_data {
        Some((raw_data, signature)) if !is_signed(raw_data, &session_key, signature) => {
            Err(refused("/signature", "is not that of raw_data; send both to the letter, as the client gave them"))
        }
        _ => Ok(data),
    }
}

fn session_key(ctx: &Context, identity: &identity::Model) -> Result<Option<SecretString>, Error> {
    let Some(sealed) = &identity.session_key else { return Ok(None) };
    let opened = ctx.keys.open(&session_key_context(identity.id), sealed)?;
    Ok(String::from_utf8(opened).ok().map(SecretString::from))
}

/// Whether WeChat knows the key as the user's present one. Data that does not open is mostly the sign of
/// a stale key, so no answer counts as one.
async fn is_current(ctx: &Context, app: &App, openid: &str, session_key: &SecretString) -> bool {
    let asked =
        access_token::with(
            ctx,
            app,
            |token| async move { ctx.wechat.check_session(&token, openid, session_key).await },
        );
    match asked.await {
        Ok(current) => current,
        Err(error) => {
            tracing::debug!(app.id = %app.app_id, %error, "user_data.session_not_checked");
            false
        }
    }
}

fn refused(pointer: &str, reason: &str) -> Error {
    Error::fields(Code::UserDataRefused, vec![FieldError::new(pointer, reason)])
}
