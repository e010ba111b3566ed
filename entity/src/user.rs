//! A person.

use sea_orm::entity::prelude::*;

use crate::{Timestamp, UserId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "user")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UserId,
    /// What the business systems call this person.
    #[sea_orm(unique)]
    pub external_id: Option<String>,
    /// Set when this user turned out to be the same person as an older one, whose id it is: this id
    /// stays valid as an alias.
    pub merged_into: Option<UserId>,
    /// The phone number (E.164), sealed under the master key with the user's id as context.
    pub phone: Option<Vec<u8>>,
    /// The phone number's MAC, by which it is found without being opened.
    pub phone_index: Option<Vec<u8>>,
    /// When WeChat told the phone number.
    pub phone_at: Option<Timestamp>,
    /// Since when the person may not log in.
    pub banned_at: Option<Timestamp>,
    #[sea_orm(column_type = "Text", nullable)]
    pub banned_because: Option<String>,
    /// What the user says about themselves.
    pub nickname: Option<String>,
    pub avatar_url: Option<String>,
    /// A language tag, such as `zh-CN`.
    pub language: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    #[sea_orm(has_many)]
    pub identities: HasMany<super::identity::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}
