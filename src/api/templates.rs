//! The mirror of the apps' templates.

use std::sync::Arc;

use entity::template as rows;
use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};

use super::{
    Tag,
    object::example_app_id,
    object::{TemplateKind, TemplateState},
    principal::Key,
    problem::Failure,
    time::Time,
};
use crate::{
    config,
    context::Context,
    error::{Code, Error},
    template,
};

pub struct TemplatesApi;

/// A template of the account.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct Template {
    template_id: String,
    title: String,
    kind: TemplateKind,
    fields: Vec<TemplateField>,
    /// The text with its placeholders.
    content: String,
    example: String,
    state: TemplateState,
    paused_because: Option<String>,
    synced_at: Time,
}

/// A placeholder of a template.
#[derive(Object)]
struct TemplateField {
    /// `thing1`
    key: String,
    /// The text before it, such as 商品名称.
    label: String,
    /// What it takes: `thing`, `amount`, `date`, …
    keyword: String,
    /// The only values an `enum_string` takes.
    #[oai(skip_serializing_if_is_empty)]
    enum_values: Vec<String>,
}

#[derive(Object)]
struct TemplateList {
    data: Vec<Template>,
}

#[OpenApi(prefix_path = "/v1/apps", tag = "Tag::Apps")]
impl TemplatesApi {
    /// The app's templates, as last fetched
    ///
    /// Needs `templates:read`.
    #[oai(path = "/:app_id/templates", method = "get", operation_id = "list_templates")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
    ) -> Result<Json<TemplateList>, Failure> {
        key.require("templates:read")?;
        let app = app(ctx, &app_id.0)?;
        Ok(list(template::of_app(ctx.db.read(), &app.app_id).await?))
    }

    /// Fetch the app's templates from WeChat now
    ///
    /// Needs `templates:write`.
    #[oai(path = "/:app_id/templates/sync", method = "post", operation_id = "sync_templates")]
    async fn sync(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
    ) -> Result<Json<TemplateList>, Failure> {
        key.require("templates:write")?;
        Ok(list(template::sync(ctx, &*app(ctx, &app_id.0)?).await?))
    }
}

pub(super) fn app(ctx: &Context, app_id: &str) -> Result<Arc<config::App>, Error> {
    ctx.app(app_id).ok_or(Error::new(Code::AppNotFound))
}

fn list(rows: Vec<rows::Model>) -> Json<TemplateList> {
    Json(TemplateList { data: rows.into_iter().map(Template::from).collect() })
}

impl From<rows::Model> for Template {
    fn from(row: rows::Model) -> Self {
        let field = |field: rows::Field| TemplateField {
            key: field.key,
            label: field.label,
            keyword: field.keyword,
            enum_values: field.enum_values,
        };
        Self {
            template_id: row.template_id,
            title: row.title,
            kind: row.kind.into(),
            fields: row.fields.0.into_iter().map(field).collect(),
            content: row.content,
            example: row.example,
            state: row.state.into(),
            paused_because: row.paused_because,
            synced_at: Time(row.synced_at),
        }
    }
}
