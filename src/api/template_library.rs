//! Choosing from WeChat's public library of templates.

use super::{
    Tag,
    object::{TemplateKind, example_app_id},
    principal::Key,
    problem::Failure,
    templates::app,
};
use crate::{
    context::Context,
    template::library::{self, MOST_TITLES},
};
use poem::web::Data;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

pub struct TemplateLibraryApi;

/// A service category of the account.
#[derive(Object)]
struct LibraryCategory {
    id: i64,
    name: String,
}

#[derive(Object)]
struct LibraryCategoryList {
    data: Vec<LibraryCategory>,
}

/// A template of the library.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct LibraryTitle {
    tid: String,
    title: String,
    kind: TemplateKind,
    category_id: Option<String>,
}

#[derive(Object)]
struct LibraryTitleList {
    data: Vec<LibraryTitle>,
    /// How many there are in all.
    total: i64,
}

/// A keyword a template of the library may have.
#[derive(Object)]
struct LibraryKeyword {
    keyword_id: i64,
    name: String,
    example: String,
    /// The keyword type, such as `thing`.
    keyword: String,
}

#[derive(Object)]
struct LibraryKeywordList {
    data: Vec<LibraryKeyword>,
}

#[derive(ApiResponse)]
enum Deleted {
    /// Gone from the account; rules that use it are paused.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/v1/apps", tag = "Tag::Apps")]
impl TemplateLibraryApi {
    /// The account's service categories
    ///
    /// Needs `templates:read`.
    #[oai(path = "/:app_id/template-library/categories", method = "get", operation_id = "list_library_categories")]
    async fn categories(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
    ) -> Result<Json<LibraryCategoryList>, Failure> {
        key.require_in("templates:read", &app_id.0)?;
        let found = library::categories(ctx, &*app(ctx, &app_id.0)?).await?;
        let data = found.into_iter().map(|category| LibraryCategory { id: category.id, name: category.name });
        Ok(Json(LibraryCategoryList { data: data.collect() }))
    }

    /// Templates of the public library
    ///
    /// Needs `templates:read`.
    #[oai(path = "/:app_id/template-library/titles", method = "get", operation_id = "list_library_titles")]
    async fn titles(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
        /// Categories, separated by commas; all of the account when missing.
        category_ids: Query<Option<String>>,
        /// How many to pass over.
        start: Query<Option<u64>>,
        /// At most 30.
        limit: Query<Option<u64>>,
    ) -> Result<Json<LibraryTitleList>, Failure> {
        key.require_in("templates:read", &app_id.0)?;
        let app = app(ctx, &app_id.0)?;
        let limit = limit.0.unwrap_or(MOST_TITLES);
        let (found, total) = library::titles(ctx, &app, category_ids.0, start.0.unwrap_or(0), limit).await?;
        let data = found.into_iter().map(|title| LibraryTitle {
            tid: title.id(),
            kind: if title.is_long_term() { TemplateKind::LongTerm } else { TemplateKind::OneTime },
            category_id: title.category_id(),
            title: title.title,
        });
        Ok(Json(LibraryTitleList { data: data.collect(), total }))
    }

    /// The keywords a template of the library may have
    ///
    /// Needs `templates:read`.
    #[oai(
        path = "/:app_id/template-library/titles/:tid/keywords",
        method = "get",
        operation_id = "list_library_keywords"
    )]
    async fn keywords(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
        tid: Path<String>,
    ) -> Result<Json<LibraryKeywordList>, Failure> {
        key.require_in("templates:read", &app_id.0)?;
        let found = library::keywords(ctx, &*app(ctx, &app_id.0)?, &tid.0).await?;
        let data = found.into_iter().map(|keyword| LibraryKeyword {
            keyword_id: keyword.kid,
            name: keyword.name,
            example: keyword.example,
            keyword: keyword.rule,
        });
        Ok(Json(LibraryKeywordList { data: data.collect() }))
    }

    /// Delete a template from the account
    ///
    /// Rules that use it are paused and say so. Needs `templates:write`.
    #[oai(path = "/:app_id/templates/:template_id", method = "delete", operation_id = "delete_template")]
    async fn delete(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
        template_id: Path<String>,
    ) -> Result<Deleted, Failure> {
        key.require_in("templates:write", &app_id.0)?;
        library::delete(ctx, &*app(ctx, &app_id.0)?, &template_id.0).await?;
        Ok(Deleted::Done)
    }
}
