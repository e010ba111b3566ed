//! The WeChat accounts.

use entity::app as rows;
use poem::web::Data;
use poem_openapi::{Enum, Object, OpenApi, param::Path, payload::Json, types::Example};
use serde::Deserialize;

use super::{Tag, body::Body, object::example_app_id, principal::Key, problem::Failure, time::Time};
use crate::{
    access_token, app_account,
    config::{self, Kind},
    context::Context,
    error::{Code, Error},
};

pub struct AppsApi;

#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum AppKind {
    MiniProgram,
    ServiceAccount,
}

/// A configured WeChat account. Its secrets are never shown.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct App {
    app_id: String,
    kind: AppKind,
    name: String,
    /// No message is sent before this time.
    paused_until: Option<Time>,
    /// Why.
    paused_because: Option<String>,
    /// The access token this node holds; missing before the first call.
    token: Option<TokenState>,
    /// When WeChat last told what became of a message.
    last_receipt_at: Option<Time>,
}

#[derive(Object)]
struct TokenState {
    age_seconds: u64,
    expires_in: u64,
}

#[derive(Object)]
struct AppList {
    data: Vec<App>,
}

#[OpenApi(prefix_path = "/v1/apps", tag = "Tag::Apps")]
impl AppsApi {
    /// List the apps
    ///
    /// Needs `apps:read`.
    #[oai(path = "/", method = "get", operation_id = "list_apps")]
    async fn list(&self, Data(ctx): Data<&Context>, key: Key) -> Result<Json<AppList>, Failure> {
        key.require("apps:read")?;
        let mut data = Vec::new();
        for (app, row) in app_account::all(ctx).await? {
            data.push(show(ctx, &app, row).await);
        }
        Ok(Json(AppList { data }))
    }

    /// One app
    ///
    /// Needs `apps:read`.
    #[oai(path = "/:app_id", method = "get", operation_id = "get_app")]
    async fn get(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
    ) -> Result<Json<App>, Failure> {
        key.require("apps:read")?;
        one(ctx, &app_id.0).await
    }

    /// Pause an app: nothing of it is sent
    ///
    /// Messages are kept until it is resumed or their time to live ends. Needs `apps:write`.
    #[oai(path = "/:app_id/pause", method = "post", operation_id = "pause_app")]
    async fn pause(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
        Body(body): Body<Pause>,
    ) -> Result<Json<App>, Failure> {
        key.require("apps:write")?;
        app_account::pause_by_hand(ctx, &app_id.0, body.until.map(|time| time.0), &body.because).await?;
        one(ctx, &app_id.0).await
    }

    /// Resume an app
    ///
    /// Whatever it was paused for. Needs `apps:write`.
    #[oai(path = "/:app_id/resume", method = "post", operation_id = "resume_app")]
    async fn resume(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
    ) -> Result<Json<App>, Failure> {
        key.require("apps:write")?;
        app_account::resume(ctx.db.write(), &app_id.0).await?;
        ctx.wake.delivery.notify_one();
        one(ctx, &app_id.0).await
    }
}

async fn one(ctx: &Context, app_id: &str) -> Result<Json<App>, Failure> {
    let all = app_account::all(ctx).await?;
    let found = all.into_iter().find(|(app, _)| app.app_id == app_id);
    let (app, row) = found.ok_or(Error::new(Code::AppNotFound))?;
    Ok(Json(show(ctx, &app, row).await))
}

/// Why and how long an app rests.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct Pause {
    /// Shown to whoever asks why nothing is sent.
    because: String,
    /// Until then; until it is resumed by hand when missing.
    until: Option<Time>,
}

impl Example for Pause {
    fn example() -> Self {
        Self { because: "Maintenance of the shop".into(), until: None }
    }
}

async fn show(ctx: &Context, app: &config::App, row: rows::Model) -> App {
    let now = ctx.clock.now();
    let token = access_token::held(ctx, app).await.map(|token| TokenState {
        age_seconds: now.since(token.fetched_at).as_secs(),
        expires_in: token.expires_at.since(now).as_secs(),
    });
    let paused = row.paused_until.filter(|until| *until > now);
    App {
        app_id: app.app_id.clone(),
        kind: match app.kind {
            Kind::MiniProgram => AppKind::MiniProgram,
            Kind::ServiceAccount => AppKind::ServiceAccount,
        },
        name: app.display_name().to_owned(),
        paused_until: paused.map(Time),
        paused_because: row.paused_because.filter(|_| paused.is_some()),
        token,
        last_receipt_at: row.last_receipt_at.map(Time),
    }
}
