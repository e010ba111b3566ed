//! Which templates the front end should ask for now.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use entity::{
    Timestamp,
    consent::Kind,
    credit,
    notification::{self, State},
    rule, session,
    template::{self, Model},
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::{MOST_CREDITS, balances};
use crate::{context::Context, error::Error, template as templates};

/// What WeChat's client takes in one call.
pub const MOST: usize = 5;
/// What older clients take.
pub const USUAL: usize = 3;

/// One template worth asking for.
pub struct Wish {
    pub template: Model,
    /// Messages the user will still take.
    pub credits: i32,
    /// Messages that wait for the user's consent.
    pub waiting: i64,
    /// When the user was last notified with it.
    pub last_used_at: Option<Timestamp>,
}

/// The templates to ask for, the most useful first: those that messages wait for, then those with the lowest
/// balance, then those used most recently. All of one kind, never two of one title: WeChat's client refuses the
/// one and drops the other. `scene` narrows them to rules for these events: a type, or its beginning (`order`).
pub async fn list(
    ctx: &Context,
    session: &session::Model,
    scene: Option<&str>,
    limit: usize,
) -> Result<Vec<Wish>, Error> {
    let db = ctx.db.read();
    let credits = balances(db, session.identity_id).await?;
    let credits: HashMap<_, _> = credits.into_iter().map(|row| (row.template_id.clone(), row)).collect();
    let used = used(ctx, session).await?;
    let ruled = ruled(ctx, &session.app_id, scene).await?;
    let mut wishes = Vec::new();
    for template in templates::of_app(db, &session.app_id).await? {
        let of_scene = match &ruled {
            Some(ruled) => ruled.contains(&template.template_id),
            // Nothing is known of what will be sent, so everything may be.
            None => scene.is_none(),
        };
        let use_of = used.get(&template.template_id).copied().unwrap_or_default();
        let balance = credits.get(&template.template_id);
        if (of_scene || use_of.waiting > 0) && is_worth_asking(&template, balance) {
            let credits = balance.map_or(0, |row| row.credits);
            wishes.push(Wish { template, credits, waiting: use_of.waiting, last_used_at: use_of.last });
        }
    }
    wishes.sort_by_key(|wish| {
        let last = Reverse(wish.last_used_at.map(|at| at.0));
        (Reverse(wish.waiting), wish.credits, last, wish.template.template_id.clone())
    });
    let kind = wishes.first().map(|wish| wish.template.kind);
    let mut titles = HashSet::new();
    wishes.retain(|wish| Some(wish.template.kind) == kind && titles.insert(wish.template.title.clone()));
    wishes.truncate(limit.min(MOST));
    Ok(wishes)
}

fn is_worth_asking(template: &Model, balance: Option<&credit::Model>) -> bool {
    let credits = balance.map_or(0, |row| row.credits);
    let room = match template.kind {
        template::Kind::OneTime => credits < MOST_CREDITS,
        template::Kind::LongTerm => credits == 0,
        template::Kind::ServiceAccount => false,
    };
    // WeChat does not ask for what it banned.
    let banned = balance.is_some_and(|row| row.last_result == Kind::Ban);
    room && !banned && template.state == template::State::Active
}

/// The templates of enabled rules; None when the app has no rule at all.
async fn ruled(ctx: &Context, app_id: &str, scene: Option<&str>) -> Result<Option<HashSet<String>>, Error> {
    let rules: Vec<(String, String)> = rule::Entity::find()
        .select_only()
        .columns([rule::Column::EventType, rule::Column::TemplateId])
        .filter(rule::Column::AppId.eq(app_id))
        .filter(rule::Column::Enabled.eq(true))
        .into_tuple()
        .all(ctx.db.read())
        .await?;
    if rules.is_empty() {
        return Ok(None);
    }
    let of_scene = |event_type: &str| {
        let rest = scene.map_or(Some(""), |scene| event_type.strip_prefix(scene));
        rest.is_some_and(|rest| scene.is_none() || rest.is_empty() || rest.starts_with('.'))
    };
    Ok(Some(rules.into_iter().filter(|(event_type, _)| of_scene(event_type)).map(|(_, id)| id).collect()))
}

#[derive(Clone, Copy, Default)]
struct Use {
    waiting: i64,
    last: Option<Timestamp>,
}

/// What became of each template with this user.
async fn used(ctx: &Context, session: &session::Model) -> Result<HashMap<String, Use>, Error> {
    let rows: Vec<(String, State, i64, Option<Timestamp>)> = notification::Entity::find()
        .select_only()
        .column(notification::Column::TemplateId)
        .column(notification::Column::State)
        .column_as(notification::Column::Id.count(), "count")
        .column_as(notification::Column::CreatedAt.max(), "last")
        .filter(notification::Column::IdentityId.eq(session.identity_id))
        .group_by(notification::Column::TemplateId)
        .group_by(notification::Column::State)
        .into_tuple()
        .all(ctx.db.read())
        .await?;
    let mut used: HashMap<String, Use> = HashMap::new();
    for (template_id, state, count, last) in rows {
        let of = used.entry(template_id).or_default();
        of.waiting += if state == State::Waiting { count } else { 0 };
        of.last = of.last.max(last);
    }
    Ok(used)
}
