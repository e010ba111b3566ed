//! Finding people, and what the business systems call them.

use entity::{UserId, identity, user as row};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, sea_query::Expr};

use crate::{
    context::Context,
    database::is_taken,
    error::{Code, Error},
    user_data::phone,
};

const LONGEST_EXTERNAL_ID: usize = 200;

/// What to look for; everything given must fit.
#[derive(Default)]
pub struct Filter {
    pub openid: Option<String>,
    pub unionid: Option<String>,
    pub external_id: Option<String>,
    /// Only people in these apps, and only what they are there.
    pub app_ids: Option<Vec<String>>,
}

/// A user with the identities in all apps.
pub struct Person {
    pub user: row::Model,
    pub identities: Vec<identity::Model>,
}

impl Person {
    /// The person as these apps know them; None when they do not. All apps know everybody.
    fn within(mut self, app_ids: Option<&[String]>) -> Option<Self> {
        let Some(app_ids) = app_ids else { return Some(self) };
        self.identities.retain(|identity| app_ids.contains(&identity.app_id));
        (!self.identities.is_empty()).then_some(self)
    }
}

/// A user by id, as these apps know them (None for all).
pub async fn get_in(ctx: &Context, app_ids: Option<&[String]>, id: UserId) -> Result<Person, Error> {
    let person = get(ctx, id).await?.within(app_ids);
    person.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no user {id}.")))
}

/// Users older than `before`, newest first.
pub async fn list(ctx: &Context, filter: &Filter, before: Option<UserId>, limit: u64) -> Result<Vec<Person>, Error> {
    let mut query =
        row::Entity::find().filter(row::Column::MergedInto.is_null()).order_by_desc(row::Column::Id).limit(limit);
    if let Some(before) = before {
        query = query.filter(row::Column::Id.lt(before));
    }
    if let Some(external_id) = &filter.external_id {
        query = query.filter(row::Column::ExternalId.eq(external_id));
    }
    for (column, value) in [(identity::Column::Openid, &filter.openid), (identity::Column::Unionid, &filter.unionid)] {
        if let Some(value) = value {
            let of_it =
                identity::Entity::find().select_only().column(identity::Column::UserId).filter(column.eq(value));
            let of_it = match &filter.app_ids {
                Some(app_ids) => of_it.filter(identity::Column::AppId.is_in(app_ids)),
                None => of_it,
            };
            query = query.filter(row::Column::Id.in_subquery(of_it.into_query()));
        }
    }
    if let Some(app_ids) = &filter.app_ids {
        let there = identity::Entity::find()
            .select_only()
            .column(identity::Column::UserId)
            .filter(identity::Column::AppId.is_in(app_ids))
            .into_query();
        query = query.filter(row::Column::Id.in_subquery(there));
    }
    let people = with_identities(ctx, query.all(ctx.db.read()).await?).await?;
    Ok(people.into_iter().filter_map(|person| person.within(filter.app_ids.as_deref())).collect())
}

/// Most people who may share a number, such as that of a desk.
const MOST_WITH_A_NUMBER: u64 = 200;

/// Everybody with this phone number, newest first.
pub async fn with_phone(ctx: &Context, number: &str) -> Result<Vec<Person>, Error> {
    let indexes = phone::indexes(&ctx.keys, number)?;
    let users = row::Entity::find()
        .filter(row::Column::PhoneIndex.is_in(indexes))
        .order_by_desc(row::Column::Id)
        .limit(MOST_WITH_A_NUMBER)
        .all(ctx.db.read())
        .await?;
    with_identities(ctx, users).await
}

/// A user by id; an alias leads to the user it was merged into.
pub async fn get(ctx: &Context, id: UserId) -> Result<Person, Error> {
    let find = async |id: UserId| row::Entity::find_by_id(id).one(ctx.db.read()).await;
    let mut found = find(id).await?;
    if let Some(survivor) = found.as_ref().and_then(|user| user.merged_into) {
        found = find(survivor).await?;
    }
    let found = found.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no user {id}.")))?;
    let person = with_identities(ctx, vec![found]).await?.pop();
    person.ok_or(Error::new(Code::Internal))
}

/// Takes over what the business systems call this person: unique, None to forget it.
pub async fn set_external_id(ctx: &Context, id: UserId, external_id: Option<&str>) -> Result<Person, Error> {
    if external_id.is_some_and(|id| id.is_empty() || id.len() > LONGEST_EXTERNAL_ID || id.chars().any(char::is_control))
    {
        let reason = format!("must be 1 to {LONGEST_EXTERNAL_ID} characters, or null");
        return Err(Error::field("/external_id", reason));
    }
    let person = get(ctx, id).await?;
    let changed = row::Entity::update_many()
        .col_expr(row::Column::ExternalId, Expr::value(external_id.map(str::to_owned)))
        .col_expr(row::Column::UpdatedAt, Expr::value(ctx.clock.now()))
        .filter(row::Column::Id.eq(person.user.id))
        .exec(ctx.db.write())
        .await;
    match changed {
        Ok(_) => get(ctx, id).await,
        Err(error) if is_taken(&error) => {
            Err(Error::new(Code::StateConflict).detail("Another user has this external id."))
        }
        Err(error) => Err(error.into()),
    }
}

async fn with_identities(ctx: &Context, users: Vec<row::Model>) -> Result<Vec<Person>, Error> {
    let identities = identity::Entity::find()
        .filter(identity::Column::UserId.is_in(users.iter().map(|user| user.id)))
        .order_by_asc(identity::Column::Id)
        .all(ctx.db.read())
        .await?;
    let of = |user: &row::Model| identities.iter().filter(|identity| identity.user_id == user.id).cloned().collect();
    Ok(users.into_iter().map(|user| Person { identities: of(&user), user }).collect())
}
