//! WeChat's template as mirrored from the account.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Timestamp;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "template")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub app_id: String,
    /// WeChat's `priTmplId` or `template_id`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub template_id: String,
    pub title: String,
    pub kind: Kind,
    /// The template's text with its placeholders, as WeChat gives it.
    pub content: String,
    pub example: String,
    #[sea_orm(column_type = "Json")]
    pub fields: Fields,
    pub state: State,
    /// Why the template is not active, in words for the operator.
    pub paused_because: Option<String>,
    pub synced_at: Timestamp,
}

impl ActiveModelBehavior for ActiveModel {}

/// How the right to send is gained and spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(20))", rename_all = "snake_case")]
pub enum Kind {
    /// Each acceptance is worth one message.
    OneTime,
    /// One acceptance is worth any number of messages until the user refuses.
    LongTerm,
    /// A service account's template message: no consent, followers only.
    ServiceAccount,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::N(20))", rename_all = "snake_case")]
pub enum State {
    Active,
    Paused,
    /// No longer in the account.
    Deleted,
}

/// The fields of a template in its own order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Fields(pub Vec<Field>);

/// One placeholder of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// The key in `data`, such as `thing1`.
    pub key: String,
    /// The label before the placeholder, such as 商品名称.
    pub label: String,
    /// The keyword type, such as `thing`.
    pub keyword: String,
    /// The only values an `enum_string` field takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enum_values: Vec<String>,
}
