//! What the client hands over about its user: the phone number's code, encrypted data.

use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    payload::Json,
    types::{Any, Example},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Tag, body::Body, principal::User, problem::Failure, time::Time};
use crate::{
    context::Context,
    error::Error,
    user_data::{self, Given, phone},
};

pub struct UserDataApi;

#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct PhoneRequest {
    /// What the phone-number button gave in `bindgetphonenumber`, not the code of `wx.login`; lives five
    /// minutes and works once.
    code: String,
}

impl Example for PhoneRequest {
    fn example() -> Self {
        Self { code: "the code of bindgetphonenumber".into() }
    }
}

/// The user's phone number.
#[derive(Object)]
struct PhoneNumber {
    /// With the country code, as `+8613800000001` (E.164).
    phone_number: String,
    /// `86`
    country_code: String,
    /// Without the country code.
    pure_phone_number: String,
    updated_at: Time,
}

/// What an open-data call of the client gave, such as `wx.getUserProfile` or `wx.getWeRunData`.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, skip_serializing_if_is_none, example)]
struct EncryptedData {
    /// `encryptedData`
    encrypted_data: String,
    iv: String,
    /// `rawData` to the letter: a text that was parsed and written again no longer fits its signature.
    #[serde(default)]
    raw_data: Option<String>,
    /// `signature`, together with `raw_data`.
    #[serde(default)]
    signature: Option<String>,
}

impl Example for EncryptedData {
    fn example() -> Self {
        Self {
            encrypted_data: "encryptedData of wx.getUserProfile, in base64".into(),
            iv: "its iv, in base64".into(),
            raw_data: None,
            signature: None,
        }
    }
}

/// The opened data.
#[derive(Object)]
struct OpenData {
    /// As WeChat made it, with its watermark.
    data: Any<Map<String, Value>>,
}

#[OpenApi(prefix_path = "/v1/me", tag = "Tag::Me")]
impl UserDataApi {
    /// Tell the user's phone number
    ///
    /// Exchanges the code of the phone-number button. The number is kept, encrypted, with the user.
    #[oai(path = "/phone", method = "post", operation_id = "set_phone")]
    async fn phone(
        &self,
        Data(ctx): Data<&Context>,
        user: User,
        Body(body): Body<PhoneRequest>,
    ) -> Result<Json<PhoneNumber>, Failure> {
        let phone = phone::take(ctx, &user.0, &body.code).await?;
        Ok(Json(PhoneNumber {
            phone_number: phone.number,
            country_code: phone.country_code,
            pure_phone_number: phone.pure_number,
            updated_at: Time(phone.told_at),
        }))
    }

    /// Open encrypted data of the client
    ///
    /// The data opens under the `session_key` of the user's last login here; `session_key_stale` says that
    /// WeChat has another one by now: log in again, then ask the user for the data anew.
    #[oai(path = "/decrypt", method = "post", operation_id = "decrypt")]
    async fn decrypt(
        &self,
        Data(ctx): Data<&Context>,
        user: User,
        Body(body): Body<EncryptedData>,
    ) -> Result<Json<OpenData>, Failure> {
        let raw_data = match (body.raw_data, body.signature) {
            (Some(raw_data), Some(signature)) => Some((raw_data, signature)),
            (None, None) => None,
            (Some(_), None) => return Err(Error::field("/signature", "is needed to check raw_data").into()),
            (None, Some(_)) => return Err(Error::field("/raw_data", "is needed to check signature").into()),
        };
        let given = Given { encrypted_data: body.encrypted_data, iv: body.iv, raw_data };
        Ok(Json(OpenData { data: Any(user_data::decrypt(ctx, &user.0, &given).await?) }))
    }
}
