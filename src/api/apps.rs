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
    quota,
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
    /// The access token, as this node knows it.
    token: TokenState,
    /// Why no access token is to be had at present; missing while all is well.
    token_refused: Option<TokenRefused>,
    /// WeChat's quota for sending messages, at most a minute old; only when a single app is asked for,
    /// and missing when WeChat does not tell.
    quota: Option<Quota>,
    /// When WeChat last told what became of a message.
    last_receipt_at: Option<Time>,
}

#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct TokenState {
    /// Missing while this node holds no token.
    age_seconds: Option<u64>,
    /// In seconds; missing while this node holds no token.
    expires_in: Option<u64>,
    /// How often a new token may still be forced today, by all nodes together.
    force_refreshes_left: i32,
}

/// WeChat's token endpoint says no, and is left alone for a while.
#[derive(Object)]
struct TokenRefused {
    errcode: i64,
    /// The cause and the way out.
    because: String,
    /// When WeChat is asked again. Loading the configuration again (SIGHUP) asks at once.
    until: Time,
}

/// What WeChat counts over a day in China.
#[derive(Object)]
struct Quota {
    daily_limit: u64,
    used: u64,
    remain: u64,
}

#[derive(Object)]
struct AppList {
    data: Vec<App>,
}

#[OpenApi(prefix_path = "/v1/apps", tag = "Tag::Apps")]
impl AppsApi {
    /// List the apps that the key may use
    ///
    /// Needs `apps:read`.
    #[oai(path = "/", method = "get", operation_id = "list_apps")]
    async fn list(&self, Data(ctx): Data<&Context>, key: Key) -> Result<Json<AppList>, Failure> {
        key.require("apps:read")?;
        let mut data = Vec::new();
        let all = app_account::all(ctx).await?;
        for (app, row) in all.into_iter().filter(|(app, _)| key.0.reaches(&app.app_id)) {
            data.push(show(ctx, &app, row).await?);
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
        key.require_in("apps:read", &app_id.0)?;
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
        key.require_in("apps:write", &app_id.0)?;
        let until = body.until.map(|time| time.0);
        app_account::pause_by_hand(ctx, &app_id.0, until, &body.because, &key.actor()).await?;
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
        key.require_in("apps:write", &app_id.0)?;
        app_account::resume_by_hand(ctx, &app_id.0, &key.actor()).await?;
        one(ctx, &app_id.0).await
    }
}

async fn one(ctx: &Context, app_id: &str) -> Result<Json<App>, Failure> {
    let all = app_account::all(ctx).await?;
    let found = all.into_iter().find(|(app, _)| app.app_id == app_id);
    let (app, row) = found.ok_or(Error::new(Code::AppNotFound))?;
    let mut shown = show(ctx, &app, row).await?;
    shown.quota = quota::of_sending(ctx, &app).await.map(|quota| Quota {
        daily_limit: quota.daily_limit,
        used: quota.used,
        remain: quota.remain,
    });
    Ok(Json(shown))
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

async fn show(ctx: &Context, app: &config::App, row: rows::Model) -> Result<App, Error> {
    let now = ctx.clock.now();
    let token = access_token::standing(ctx, app).await?;
    let paused = row.paused_until.filter(|_| !app_account::is_awake(&row, now));
    Ok(App {
        app_id: app.app_id.clone(),
        kind: match app.kind {
            Kind::MiniProgram => AppKind::MiniProgram,
            Kind::ServiceAccount => AppKind::ServiceAccount,
        },
        name: app.display_name().to_owned(),
        paused_until: paused.map(Time),
        paused_because: row.paused_because.filter(|_| paused.is_some()),
        token: TokenState {
            age_seconds: token.age.map(|age| age.as_secs()),
            expires_in: token.expires_in.map(|left| left.as_secs()),
            force_refreshes_left: token.force_refreshes_left,
        },
        token_refused: token.breaker.map(|breaker| TokenRefused {
            errcode: breaker.refusal.errcode,
            because: breaker.to_string(),
            until: Time(breaker.until),
        }),
        quota: None,
        last_receipt_at: row.last_receipt_at.map(Time),
    })
}
