//! What users say about themselves: their own word, shown to nobody but those who may look users up.

use entity::{UserId, session, user};
use sea_orm::{
    ActiveValue::{self, NotSet, Set},
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
};

use crate::{
    context::Context,
    error::{Code, Error, FieldError},
};

/// In characters; WeChat's own nicknames are shorter.
const LONGEST_NICKNAME: usize = 50;
const LONGEST_URL: usize = 1000;

/// What becomes of one part (RFC 7396).
#[derive(Default)]
pub enum Part {
    #[default]
    Stays,
    Goes,
    Becomes(String),
}

/// Each part by itself.
#[derive(Default)]
pub struct Change {
    pub nickname: Part,
    pub avatar_url: Part,
    pub language: Part,
}

impl Part {
    fn text(&self) -> Option<&String> {
        if let Self::Becomes(text) = self { Some(text) } else { None }
    }

    fn column(self) -> ActiveValue<Option<String>> {
        match self {
            Self::Stays => NotSet,
            Self::Goes => Set(None),
            Self::Becomes(text) => Set(Some(text)),
        }
    }
}

/// The signed-in user.
pub async fn get(ctx: &Context, session: &session::Model) -> Result<user::Model, Error> {
    let user = user::Entity::find_by_id(session.user_id).one(ctx.db.read()).await?;
    user.ok_or(Error::new(Code::SessionEnded))
}

/// Changes what is named; gives the user as they then are.
pub async fn change(ctx: &Context, session: &session::Model, change: Change) -> Result<user::Model, Error> {
    check(&change)?;
    let row = user::ActiveModel {
        nickname: change.nickname.column(),
        avatar_url: change.avatar_url.column(),
        language: change.language.column(),
        updated_at: Set(ctx.clock.now()),
        ..Default::default()
    };
    let tx = ctx.db.begin().await?;
    user::Entity::update_many().set(row).filter(user::Column::Id.eq(session.user_id)).exec(&tx).await?;
    let user = user::Entity::find_by_id(session.user_id).one(&tx).await?.ok_or(Error::new(Code::SessionEnded))?;
    tx.commit().await?;
    Ok(user)
}

fn check(change: &Change) -> Result<(), Error> {
    let mut faults = Vec::new();
    let mut wrong = |pointer: &str, reason: &str| faults.push(FieldError::new(pointer, reason));
    if change.nickname.text().is_some_and(|name| {
        name.trim().is_empty() || name.chars().count() > LONGEST_NICKNAME || name.chars().any(char::is_control)
    }) {
        wrong("/nickname", "must be 1 to 50 characters in one line");
    }
    let is_address = |url: &String| {
        ["https://", "http://", "cloud://"].iter().any(|start| url.starts_with(start))
            && url.len() <= LONGEST_URL
            && url.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if change.avatar_url.text().is_some_and(|url| !is_address(url)) {
        wrong(
            "/avatar_url",
            "must be an address (https://…) of at most 1000 characters: upload what chooseAvatar gave first",
        );
    }
    let is_tag = |tag: &String| {
        tag.len() <= 35
            && tag
                .split(['-', '_'])
                .all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    };
    if change.language.text().is_some_and(|tag| !is_tag(tag)) {
        wrong("/language", "must be a language tag such as zh-CN");
    }
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

/// What the surviving user of two does not say, the other's word fills in.
pub(super) async fn carry_over(tx: &DatabaseTransaction, from: &user::Model, into: UserId) -> Result<(), Error> {
    let parts = [
        (user::Column::Nickname, &from.nickname),
        (user::Column::AvatarUrl, &from.avatar_url),
        (user::Column::Language, &from.language),
    ];
    for (column, value) in parts {
        let Some(value) = value else { continue };
        user::Entity::update_many()
            .col_expr(column, sea_orm::sea_query::Expr::value(value.clone()))
            .filter(user::Column::Id.eq(into))
            .filter(column.is_null())
            .exec(tx)
            .await?;
    }
    let nothing =
        user::ActiveModel { nickname: Set(None), avatar_url: Set(None), language: Set(None), ..Default::default() };
    user::Entity::update_many().set(nothing).filter(user::Column::Id.eq(from.id)).exec(tx).await?;
    Ok(())
}
