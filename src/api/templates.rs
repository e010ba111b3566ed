//! The mirror of the apps' templates.

use std::sync::Arc;

use entity::template as rows;
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json, types::Example};
use serde::Deserialize;

use super::{
    Tag,
    body::Body,
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
    template::{self, library},
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
    #[oai(skip_serializing_if_is_empty, default)]
    enum_values: Vec<String>,
}

#[derive(Object)]
struct TemplateList {
    data: Vec<Template>,
}

/// A template to take from the library.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct NewTemplate {
    /// The title's id.
    tid: String,
    /// Two to five keywords, in the wanted order.
    keyword_ids: Vec<i64>,
    /// What the messages are for, at most 15 characters.
    scene: String,
}

impl Example for NewTemplate {
    fn example() -> Self {
        Self { tid: "1128".into(), keyword_ids: vec![1, 2], scene: "取餐提醒".into() }
    }
}

#[derive(ApiResponse)]
enum Added {
    /// The template is in the account; rules may use it.
    #[oai(status = 201)]
    Template(Json<Template>),
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
        key.require_in("templates:read", &app_id.0)?;
        let app = app(ctx, &app_id.0)?;
        Ok(list(template::of_app(ctx.db.read(), &app.app_id).await?))
    }

    /// Take a template from the library
    ///
    /// Needs `templates:write`.
    #[oai(path = "/:app_id/templates", method = "post", operation_id = "add_template")]
    async fn add(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
        Body(body): Body<NewTemplate>,
    ) -> Result<Added, Failure> {
        key.require_in("templates:write", &app_id.0)?;
        let app = app(ctx, &app_id.0)?;
        let row = library::add(ctx, &app, &body.tid, &body.keyword_ids, &body.scene).await?;
        Ok(Added::Template(Json(row.into())))
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
        key.require_in("templates:write", &app_id.0)?;
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
