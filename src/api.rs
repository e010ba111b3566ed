//! HTTP, and only HTTP: poem and poem-openapi, one file per audience and resource. A handler reads the
//! request, calls one use-case and writes the answer.
//!
//! | file | who |
//! | --- | --- |
//! | `login.rs` `me.rs` `me_data.rs` `user_data.rs` | Mini Program front ends |
//! | `events.rs` `notifications.rs` `rules.rs` `webhooks.rs` | business systems |
//! | `apps.rs` `templates.rs` `callback_log.rs` `rids.rs` `users.rs` | operators and integrators |
//! | `keys.rs` `audit.rs` | operators |
//! | `callback.rs` | WeChat |
//! | `wellknown.rs` | other backends, probes, scrapers |

mod apps;
mod audit;
mod body;
mod bounds;
mod callback;
mod callback_log;
mod events;
mod export;
mod keys;
mod login;
mod me;
mod me_data;
mod notifications;
mod nul;
mod object;
mod operations;
mod page;
mod principal;
mod problem;
mod rate_limit;
mod request;
mod rids;
mod rules;
mod signed;
mod template_library;
mod templates;
mod time;
mod user_data;
mod users;
mod webhooks;
mod wechat_errors;
mod wellknown;

use poem::{Endpoint, EndpointExt, IntoEndpoint, IntoResponse, Request, Response, Result, Route, get};
use poem_openapi::{ContactObject, LicenseObject, OpenApiService, Tags};

use crate::context::Context;

/// The groups of the document.
#[derive(Tags)]
enum Tag {
    /// For Mini Program front ends: exchange a `wx.login` code for tokens.
    Login,
    /// For Mini Program front ends: what the signed-in user sees and says.
    Me,
    /// For business systems: tell what happened.
    Events,
    /// What became of every message, and why.
    Notifications,
    /// Which events become which messages.
    Rules,
    /// The WeChat accounts and their templates.
    Apps,
    /// People, in all apps.
    Users,
    /// What business systems are told, and where.
    Webhooks,
    /// API keys of business systems.
    Keys,
    /// What was done, and by whom.
    Audit,
    /// For WeChat.
    Callback,
    /// For probes and other backends.
    Operation,
}

// poem-openapi takes tuples of up to 16; they may be nested.
type FrontEnd = (login::LoginApi, me::MeApi, me_data::MeDataApi, user_data::UserDataApi);
type Business = (
    events::EventsApi,
    notifications::NotificationsApi,
    rules::RulesApi,
    webhooks::WebhooksApi,
    users::UsersApi,
    wechat_errors::WeChatErrorsApi,
);
type Operators = (
    apps::AppsApi,
    templates::TemplatesApi,
    template_library::TemplateLibraryApi,
    callback_log::CallbackLogApi,
    rids::RidsApi,
    keys::KeysApi,
    audit::AuditApi,
);
type Others = (callback::CallbackApi, wellknown::WellKnownApi, wellknown::HealthApi);
type Service = OpenApiService<(FrontEnd, Business, Operators, Others), ()>;

fn service() -> Service {
    let front_end = (login::LoginApi, me::MeApi, me_data::MeDataApi, user_data::UserDataApi);
    let business = (
        events::EventsApi,
        notifications::NotificationsApi,
        rules::RulesApi,
        webhooks::WebhooksApi,
        users::UsersApi,
        wechat_errors::WeChatErrorsApi,
    );
    let operators = (
        apps::AppsApi,
        templates::TemplatesApi,
        template_library::TemplateLibraryApi,
        callback_log::CallbackLogApi,
        rids::RidsApi,
        keys::KeysApi,
        audit::AuditApi,
    );
    let others = (callback::CallbackApi, wellknown::WellKnownApi, wellknown::HealthApi);
    OpenApiService::new((front_end, business, operators, others), "Magpie", env!("CARGO_PKG_VERSION"))
        .summary("Login, consent and notifications for WeChat Mini Programs")
        .description(include_str!("api/description.md"))
        .contact(ContactObject::new().name("Magpie"))
        .license(LicenseObject::new("Apache-2.0").identifier("Apache-2.0"))
}

/// The OpenAPI document, as it is checked in.
pub fn document() -> String {
    let mut document: serde_json::Value = serde_json::from_str(&service().spec()).unwrap_or_default();
    // A choice of a text and a list is written as an object, too, which nothing could be.
    for schema in document["components"]["schemas"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        if let Some(schema) = schema.as_object_mut().filter(|schema| schema.contains_key("oneOf")) {
            schema.remove("type");
        }
    }
    // The address differs from server to server, so the checked-in document names none.
    if let Some(object) = document.as_object_mut() {
        object.remove("servers");
    }
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// What a node answers that only works: how it is.
pub fn probes(ctx: &Context) -> impl Endpoint + use<> {
    let service = OpenApiService::new(wellknown::HealthApi, "Magpie", env!("CARGO_PKG_VERSION"));
    Route::new()
        .at("/metrics", get(wellknown::metrics))
        .nest("/", service)
        .data(ctx.clone())
        .around(request::handle)
        .data(ctx.clone())
        .into_endpoint()
}

/// The pages beside the API have a router of their own: going through it costs each request of the API.
struct Site<P, A> {
    pages: P,
    api: A,
}

const PAGES: [&str; 4] = ["docs", "openapi.json", "problems", "metrics"];

impl<P: Endpoint, A: Endpoint> Endpoint for Site<P, A> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let first = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        if PAGES.contains(&first) {
            return Ok(self.pages.call(request).await?.into_response());
        }
        Ok(self.api.call(request).await?.into_response())
    }
}

/// Everything the server answers.
pub fn endpoint(ctx: &Context) -> impl Endpoint + use<> {
    let service = service();
    let pages = Route::new()
        .at("/docs", get(wellknown::swagger_ui))
        .at("/docs/", get(wellknown::swagger_ui))
        .at("/openapi.json", get(wellknown::openapi_document))
        .at("/problems/:code", get(wellknown::problem_page))
        .at("/metrics", get(wellknown::metrics));
    Site { pages, api: service.into_endpoint() }
        .data(ctx.clone())
        .around(request::handle)
        .data(ctx.clone())
        .into_endpoint()
}
