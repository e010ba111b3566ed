//! The mirror of the apps' templates.

mod drift;
pub mod library;

use std::collections::HashSet;

use entity::template::{self as row, Field, Fields, Kind, State};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, OnConflict},
};

use crate::{
    access_token,
    config::{App, Kind as AppKind},
    context::Context,
    error::{Code, Error},
    revision::{self, Of},
    wechat::{self, template::PrivateTemplate},
    wechat_problem,
};

/// Fetches the app's templates from WeChat and brings the mirror up to date; gives it as it then is.
pub async fn sync(ctx: &Context, app: &App) -> Result<Vec<row::Model>, Error> {
    let fetched = access_token::with(ctx, app, |token| async move {
        match app.kind {
            AppKind::MiniProgram => ctx.wechat.private_templates(&token).await,
            AppKind::ServiceAccount => ctx.wechat.account_templates(&token).await,
        }
    })
    .await;
    let fetched = fetched.map_err(|error| wechat_problem::of_failed(&error))?;
    let now = ctx.clock.now();
    let tx = ctx.db.begin().await?;
    let ids: HashSet<_> = fetched.iter().map(|template| template.id.clone()).collect();
    if !fetched.is_empty() {
        row::Entity::insert_many(fetched.into_iter().map(|template| model(app, template, now)))
            .on_conflict(replace_all())
            .exec_without_returning(&tx)
            .await?;
    }
    row::Entity::update_many()
        .col_expr(row::Column::State, Expr::value(State::Deleted))
        .filter(row::Column::AppId.eq(&app.app_id))
        .filter(row::Column::TemplateId.is_not_in(ids))
        .exec(&tx)
        .await?;
    let templates = of_app(&tx, &app.app_id).await?;
    drift::check(&tx, &app.app_id, &templates).await?;
    revision::raise(&tx, Of::Pause).await?;
    tx.commit().await?;
    tracing::info!(app.id = %app.app_id, templates = templates.len(), "template.synced");
    Ok(templates)
}

/// The mirror of an app, by title.
pub async fn of_app(db: &impl sea_orm::ConnectionTrait, app_id: &str) -> Result<Vec<row::Model>, Error> {
    let rows = row::Entity::find()
        .filter(row::Column::AppId.eq(app_id))
        .order_by_asc(row::Column::Title)
        .order_by_asc(row::Column::TemplateId)
        .all(db)
        .await?;
    Ok(rows)
}

/// The templates with these ids, fetched anew when one is missing; an unknown id is answered with
/// those there are.
pub async fn require(ctx: &Context, app: &App, ids: &[&str]) -> Result<Vec<row::Model>, Error> {
    let missing = |known: &[row::Model]| {
        ids.iter().find(|id| !known.iter().any(|row| row.template_id == **id && row.state != State::Deleted)).copied()
    };
    let mut known = of_app(ctx.db.read(), &app.app_id).await?;
    if missing(&known).is_some() {
        known = sync(ctx, app).await?;
    }
    if let Some(id) = missing(&known) {
        return Err(unknown(&app.app_id, id, &known));
    }
    known.retain(|row| ids.contains(&row.template_id.as_str()));
    Ok(known)
}

/// The id of the template that is named by its id or its title.
pub async fn id_of(ctx: &Context, app: &App, name: &str) -> Result<String, Error> {
    let find = |known: &[row::Model]| {
        let there = || known.iter().filter(|row| row.state != State::Deleted);
        let by_id = there().find(|row| row.template_id == name);
        let mut by_title = there().filter(|row| row.title == name);
        let by_title = by_title.next().filter(|_| by_title.next().is_none());
        by_id.or(by_title).map(|row| row.template_id.clone())
    };
    let mut known = of_app(ctx.db.read(), &app.app_id).await?;
    if find(&known).is_none() {
        known = sync(ctx, app).await?;
    }
    find(&known).ok_or_else(|| unknown(&app.app_id, name, &known))
}

/// No such template; names those there are.
fn unknown(app_id: &str, name: &str, known: &[row::Model]) -> Error {
    let there = known.iter().filter(|row| row.state != State::Deleted);
    let there: Vec<_> = there.map(|row| format!("{} ({})", row.template_id, row.title)).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let detail = format!("{app_id} has no template {name}, or several of this title; there are: {there}.");
    Error::new(Code::TemplateNotFound).detail(detail)
}

/// Stops all sending of a template that WeChat refuses, until [`sync`] finds it in the account again: WeChat
/// does not tell there that it is banned, so the next message finds out.
pub async fn pause(
    db: &impl sea_orm::ConnectionTrait,
    app_id: &str,
    template_id: &str,
    because: &str,
) -> Result<(), Error> {
    row::Entity::update_many()
        .col_expr(row::Column::State, Expr::value(State::Paused))
        .col_expr(row::Column::PausedBecause, Expr::value(because))
        .filter(row::Column::AppId.eq(app_id))
        .filter(row::Column::TemplateId.eq(template_id))
        .filter(row::Column::State.eq(State::Active))
        .exec(db)
        .await?;
    revision::raise(db, Of::Pause).await?;
    tracing::warn!(app.id = app_id, template.id = template_id, because, "template.paused");
    Ok(())
}

fn model(app: &App, template: PrivateTemplate, now: entity::Timestamp) -> row::ActiveModel {
    let fields = fields(&template);
    row::ActiveModel {
        app_id: Set(app.app_id.clone()),
        kind: Set(match app.kind {
            AppKind::ServiceAccount => Kind::ServiceAccount,
            AppKind::MiniProgram if template.is_long_term() => Kind::LongTerm,
            AppKind::MiniProgram => Kind::OneTime,
        }),
        template_id: Set(template.id),
        title: Set(template.title),
        content: Set(template.content),
        example: Set(template.example),
        fields: Set(fields),
        state: Set(State::Active),
        paused_because: Set(None),
        synced_at: Set(now),
    }
}

/// Everything is taken over, so a template that was paused is active again while WeChat lists it.
fn replace_all() -> OnConflict {
    use row::Column::{AppId, Content, Example, Fields, Kind, PausedBecause, State, SyncedAt, TemplateId, Title};
    OnConflict::columns([AppId, TemplateId])
        .update_columns([Title, Kind, Content, Example, Fields, State, PausedBecause, SyncedAt])
        .to_owned()
}

fn fields(template: &PrivateTemplate) -> Fields {
    let enums = template.enum_values();
    let field = |placeholder: wechat::template::Placeholder| Field {
        keyword: placeholder.key.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
        enum_values: enums.get(placeholder.key.as_str()).map(|values| values.to_vec()).unwrap_or_default(),
        key: placeholder.key,
        label: placeholder.label,
    };
    Fields(template.placeholders().into_iter().map(field).collect())
}
