//! For other backends, probes and scrapers.

use std::sync::LazyLock;

use poem::{
    IntoResponse, Response, handler,
    http::StatusCode,
    web::{Data, Html, Path as RoutePath},
};
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};

use super::{Tag, problem::Failure};
use crate::{
    context::Context,
    error::{Code, Error},
    signing_key, telemetry,
};

pub struct WellKnownApi;

/// Public keys (RFC 7517).
#[derive(Object)]
struct Jwks {
    keys: Vec<PublicKey>,
}

/// A public P-256 key.
#[derive(Object)]
struct PublicKey {
    kty: String,
    crv: String,
    x: String,
    y: String,
    kid: String,
    alg: String,
    #[oai(rename = "use")]
    usage: String,
}

#[derive(ApiResponse)]
enum JwksResponse {
    /// All keys that verify access tokens.
    #[oai(status = 200)]
    Keys(Json<Jwks>, #[oai(header = "Cache-Control")] String),
}

#[derive(Object)]
struct Health {
    /// `ok`
    status: String,
}

#[OpenApi(tag = "Tag::Operation")]
impl WellKnownApi {
    /// The public keys of access tokens
    #[oai(path = "/.well-known/jwks.json", method = "get", operation_id = "jwks")]
    async fn jwks(&self, Data(ctx): Data<&Context>) -> Result<JwksResponse, Failure> {
        let keys = signing_key::all(ctx).await?;
        let show = |key: &signing_key::SigningKey| PublicKey {
            kty: key.jwk.kty.into(),
            crv: key.jwk.crv.into(),
            x: key.jwk.x.clone(),
            y: key.jwk.y.clone(),
            kid: key.jwk.kid.clone(),
            alg: key.jwk.alg.into(),
            usage: key.jwk.usage.into(),
        };
        let jwks = Jwks { keys: keys.iter().map(show).collect() };
        Ok(JwksResponse::Keys(Json(jwks), "public, max-age=300".into()))
    }
}

/// How a node is, whatever its roles.
pub struct HealthApi;

#[OpenApi(tag = "Tag::Operation")]
impl HealthApi {
    /// Whether the process lives
    #[oai(path = "/healthz", method = "get", operation_id = "healthz")]
    async fn healthz(&self) -> Result<Json<Health>, Failure> {
        Ok(Json(Health { status: "ok".into() }))
    }

    /// Whether it can serve: the database answers and the process is not stopping
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn readyz(&self, Data(ctx): Data<&Context>) -> Result<Json<Health>, Failure> {
        if ctx.stop.is_cancelled() {
            return Err(Error::new(Code::DatabaseUnavailable).detail("This node is stopping.").into());
        }
        ctx.db.ping().await.map_err(|error| Error::new(Code::DatabaseUnavailable).because(error))?;
        Ok(Json(Health { status: "ok".into() }))
    }
}

/// The document of this server, with its own address.
#[handler]
pub(super) fn openapi_document(Data(ctx): Data<&Context>) -> Response {
    let mut document: serde_json::Value = serde_json::from_str(&super::document()).unwrap_or_default();
    document["servers"] = serde_json::json!([{ "url": ctx.config.public_url }]);
    document.to_string().with_content_type("application/json").into_response()
}

/// Swagger UI, out of the binary. It takes megabytes, so it is made when somebody looks at it.
#[handler]
pub(super) fn swagger_ui() -> Html<&'static str> {
    static PAGE: LazyLock<String> = LazyLock::new(|| super::service().swagger_ui_html());
    Html(&PAGE)
}

/// Where `type` of a problem leads.
#[handler]
pub(super) fn problem_page(RoutePath(code): RoutePath<String>) -> Response {
    let Some(code) = Code::ALL.iter().find(|known| known.as_str() == code) else {
        return Failure::from(Error::new(Code::NotFound)).into_response();
    };
    let ((title, zh_title), (help, zh_help)) = (code.title(), code.help());
    let text = format!(
        "{} (HTTP {})\n\n{title}\n{help}\n\n{zh_title}\n{zh_help}\n",
        code.as_str(),
        super::problem::status(*code).as_u16()
    );
    text.into_response()
}

/// Metrics in Prometheus' text format.
#[handler]
pub(super) fn metrics() -> Response {
    match telemetry::render_metrics() {
        Some(text) => Response::builder().content_type("text/plain; version=0.0.4").body(text),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
