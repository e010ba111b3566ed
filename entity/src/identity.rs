//! One openid of a user in one app.

use sea_orm::entity::prelude::*;

use crate::{IdentityId, Timestamp, UserId};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "identity")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: IdentityId,
    pub user_id: UserId,
    pub app_id: String,
    pub openid: String,
    /// The same for all identities of a person whose apps share an Open Platform account.
    pub unionid: Option<String>,
    /// WeChat's `session_key`, sealed under the master key with the identity's id as context.
    pub session_key: Option<Vec<u8>>,
    /// When the login that gave `session_key` began: an older login never overwrites a newer key.
    pub session_key_at: Option<Timestamp>,
    /// When the user left the service account; none while it is followed, and for Mini Programs.
    pub unfollowed_at: Option<Timestamp>,
    pub created_at: Timestamp,
    #[sea_orm(belongs_to, from = "user_id", to = "id")]
    pub user: BelongsTo<super::user::Entity>,
}

impl ActiveModelBehavior for ActiveModel {}

impl Entity {
    /// The identities with these openids in one app.
    pub fn of_app(app_id: &str, openids: impl IntoIterator<Item = String>) -> Select<Self> {
        Self::find().filter(Column::AppId.eq(app_id)).filter(Column::Openid.is_in(openids))
    }

    /// All identities of one person.
    pub fn of_user(user_id: UserId) -> Select<Self> {
        Self::find().filter(Column::UserId.eq(user_id))
    }
}
