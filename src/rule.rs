//! Rules: which events become which messages.

pub mod check;
pub mod compiled;
mod filter;
mod language;
mod output;
mod text;
mod vocabulary;

use std::sync::Arc;

use entity::{RuleId, rule as row, template};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use uuid::Uuid;

use crate::{
    context::Context,
    error::{Code, Error},
    revision::{self, Of, Remembered, Revisions},
};
use compiled::CompiledRule;

/// What a rule says, without what Magpie adds.
pub struct Definition {
    pub name: String,
    pub event_type: String,
    pub app_id: String,
    pub template_id: String,
    pub fields: row::FieldExpressions,
    pub page: Option<String>,
    pub url: Option<String>,
    pub miniprogram: Option<row::MiniProgramLink>,
    pub when: Option<String>,
    pub recipients: Option<String>,
    pub no_credit: row::NoCredit,
    pub unsure: row::Unsure,
    pub overflow: row::Overflow,
    pub ttl_seconds: Option<i64>,
    pub delay_seconds: Option<i64>,
    pub priority: i32,
    pub enabled: bool,
}

/// Checks a rule against its template and stores it.
///
/// The template may be named by its title where only one has it.
pub async fn create(ctx: &Context, mut definition: Definition) -> Result<row::Model, Error> {
    check::check(ctx, &mut definition).await?;
    let now = ctx.clock.now();
    let row = model(RuleId(Uuid::now_v7()), definition, now, now);
    let tx = ctx.db.begin().await?;
    row::Entity::insert(row.clone().into_active_model()).exec_without_returning(&tx).await?;
    revision::raise(&tx, Of::Rule).await?;
    tx.commit().await?;
    Ok(row)
}

/// Replaces what a rule says. Events accepted from now on, on every node, see the new rule.
pub async fn replace(ctx: &Context, id: RuleId, mut definition: Definition) -> Result<row::Model, Error> {
    let known = get(ctx, id).await?;
    check::check(ctx, &mut definition).await?;
    let row = model(id, definition, known.created_at, ctx.clock.now());
    let tx = ctx.db.begin().await?;
    let changed = row::Entity::update_many()
        .set(row.clone().into_active_model().reset_all())
        .filter(row::Column::Id.eq(id))
        .exec(&tx)
        .await?;
    if changed.rows_affected == 0 {
        return Err(Error::new(Code::NotFound));
    }
    revision::raise(&tx, Of::Rule).await?;
    tx.commit().await?;
    Ok(row)
}

/// Messages already made by the rule are sent all the same.
pub async fn delete(ctx: &Context, id: RuleId) -> Result<(), Error> {
    let tx = ctx.db.begin().await?;
    if row::Entity::delete_by_id(id).exec(&tx).await?.rows_affected == 0 {
        return Err(Error::new(Code::NotFound).detail(format!("There is no rule {id}.")));
    }
    revision::raise(&tx, Of::Rule).await?;
    tx.commit().await?;
    Ok(())
}

pub async fn get(ctx: &Context, id: RuleId) -> Result<row::Model, Error> {
    let row = row::Entity::find_by_id(id).one(ctx.db.read()).await?;
    row.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no rule {id}.")))
}

/// Rules older than `before`, newest first.
pub async fn list(ctx: &Context, before: Option<RuleId>, limit: u64) -> Result<Vec<row::Model>, Error> {
    list_in(ctx, None, before, limit).await
}

/// The same of these apps only; None for all.
pub async fn list_in(
    ctx: &Context,
    app_ids: Option<&[String]>,
    before: Option<RuleId>,
    limit: u64,
) -> Result<Vec<row::Model>, Error> {
    use sea_orm::QuerySelect;
    let mut query = row::Entity::find().order_by_desc(row::Column::Id).limit(limit);
    if let Some(app_ids) = app_ids {
        query = query.filter(row::Column::AppId.is_in(app_ids));
    }
    if let Some(before) = before {
        query = query.filter(row::Column::Id.lt(before));
    }
    Ok(query.all(ctx.db.read()).await?)
}

/// The enabled rules, ready to be applied.
pub async fn current(ctx: &Context, revisions: &Revisions) -> Result<Arc<Vec<CompiledRule>>, Error> {
    ctx.memory::<Remembered<Vec<CompiledRule>>>().get((Of::Rule, revisions), || read(ctx)).await
}

async fn read(ctx: &Context) -> Result<Vec<CompiledRule>, Error> {
    let enabled = row::Entity::find().filter(row::Column::Enabled.eq(true)).order_by_asc(row::Column::Id);
    let templates = template::Entity::find().all(ctx.db.read()).await?;
    let compile = |row: row::Model| {
        let of =
            |template: &&template::Model| (&template.app_id, &template.template_id) == (&row.app_id, &row.template_id);
        let fields = templates.iter().find(of).map_or(template::Fields(Vec::new()), |template| template.fields.clone());
        compile(row, &fields)
    };
    Ok(enabled.all(ctx.db.read()).await?.into_iter().map(compile).collect())
}

/// A rule is checked before it is stored; an earlier version may have allowed what this one does not.
fn compile(row: row::Model, fields: &template::Fields) -> CompiledRule {
    let rule = CompiledRule::new(row, fields);
    if let Some(fault) = rule.fault() {
        tracing::error!(rule.id = %rule.row.id, fault.pointer, fault.reason, "rule.does_not_compile");
    }
    rule
}

fn model(id: RuleId, d: Definition, created_at: entity::Timestamp, updated_at: entity::Timestamp) -> row::Model {
    row::Model {
        id,
        name: d.name,
        event_type: d.event_type,
        app_id: d.app_id,
        template_id: d.template_id,
        fields: d.fields,
        page: d.page,
        url: d.url,
        miniprogram: d.miniprogram,
        when: d.when,
        recipients: d.recipients,
        no_credit: d.no_credit,
        unsure: d.unsure,
        overflow: d.overflow,
        ttl_seconds: d.ttl_seconds,
        delay_seconds: d.delay_seconds,
        priority: d.priority,
        enabled: d.enabled,
        // It was just checked against the template as it is.
        paused_because: None,
        created_at,
        updated_at,
    }
}
