//! What the user says about themselves.

use entity::user;
use poem_openapi::{
    Object,
    types::{Example, MaybeUndefined},
};
use serde::Deserialize;

use crate::{
    api::time::Time,
    user::profile::{Change, Part},
};

/// The signed-in user.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Profile {
    /// `usr_…`
    id: String,
    /// The app the user is signed in to.
    app_id: String,
    /// What the business system calls the user.
    external_id: Option<String>,
    nickname: Option<String>,
    avatar_url: Option<String>,
    language: Option<String>,
    /// Whether a phone number is kept.
    has_phone: bool,
    created_at: Time,
    updated_at: Time,
}

/// What the user says about themselves (JSON Merge Patch): a missing part stays, `null` takes it away.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub struct ProfileChange {
    /// 1 to 50 characters.
    #[serde(default)]
    nickname: MaybeUndefined<String>,
    /// Where the picture was uploaded to.
    #[serde(default)]
    avatar_url: MaybeUndefined<String>,
    /// A language tag, such as `zh-CN`.
    #[serde(default)]
    language: MaybeUndefined<String>,
}

impl Example for ProfileChange {
    fn example() -> Self {
        Self {
            nickname: MaybeUndefined::Value("小喜".into()),
            avatar_url: MaybeUndefined::Value("https://shop.example.com/pictures/42.png".into()),
            language: MaybeUndefined::Value("zh-CN".into()),
        }
    }
}

impl From<ProfileChange> for Change {
    fn from(body: ProfileChange) -> Self {
        Self { nickname: part(body.nickname), avatar_url: part(body.avatar_url), language: part(body.language) }
    }
}

fn part(given: MaybeUndefined<String>) -> Part {
    match given {
        MaybeUndefined::Undefined => Part::Stays,
        MaybeUndefined::Null => Part::Goes,
        MaybeUndefined::Value(text) => Part::Becomes(text),
    }
}

pub fn profile_of(app_id: String, row: user::Model) -> Profile {
    Profile {
        id: row.id.to_string(),
        app_id,
        external_id: row.external_id,
        nickname: row.nickname,
        avatar_url: row.avatar_url,
        language: row.language,
        has_phone: row.phone.is_some(),
        created_at: Time(row.created_at),
        updated_at: Time(row.updated_at),
    }
}
