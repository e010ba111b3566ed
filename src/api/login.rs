//! Logging in, refreshing, logging out.

use entity::session::RevokedBecause;
use poem::{Request, web::Data};
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json};

use serde::Deserialize;

use super::{Tag, body::Body, object::example_app_id, principal::User, problem::Failure, rate_limit, request};
use crate::{context::Context, login, session};

pub struct LoginApi;

#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct LoginRequest {
    /// What `wx.login` gave; lives five minutes and works once.
    code: String,
}

impl poem_openapi::types::Example for LoginRequest {
    fn example() -> Self {
        Self { code: "0a1B2c000abcDE1fGh200iJkLm0a1B2c".into() }
    }
}

/// Tokens of a session (RFC 6749 section 5.1).
#[derive(Object)]
struct TokenAnswer {
    /// A JWT (ES256); other backends verify it with `/.well-known/jwks.json`.
    access_token: String,
    /// Always `Bearer`.
    token_type: String,
    /// Seconds until the access token ends.
    expires_in: u64,
    /// For `POST /v1/token/refresh`; works once.
    refresh_token: String,
    user: UserAnswer,
}

/// The signed-in user.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct UserAnswer {
    /// Our id of the person, the same in all apps.
    id: String,
    app_id: String,
    /// Whether this login made the user.
    is_new: Option<bool>,
}

#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
struct RefreshRequest {
    /// What login or the last refresh gave; works once.
    refresh_token: String,
}

impl poem_openapi::types::Example for RefreshRequest {
    fn example() -> Self {
        Self { refresh_token: "the refresh_token of the login's answer".into() }
    }
}

#[derive(ApiResponse)]
enum LoggedOut {
    /// The session has ended, on every node.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/v1", tag = "Tag::Login")]
impl LoginApi {
    /// Log in with a code of wx.login
    ///
    /// Exchanges the code through WeChat's code2Session. The `session_key` stays on the server. The same code
    /// gives the same session for a minute, so a repeated request does no harm.
    #[oai(path = "/apps/:app_id/login", method = "post", operation_id = "login")]
    async fn login(
        &self,
        Data(ctx): Data<&Context>,
        raw: &Request,
        /// The AppID of the Mini Program.
        #[oai(example = "example_app_id")]
        app_id: Path<String>,
        Body(body): Body<LoginRequest>,
    ) -> Result<Json<TokenAnswer>, Failure> {
        let address = rate_limit::login(ctx, raw, &app_id.0)?;
        let done = login::log_in(ctx, &app_id.0, &body.code, &address).await?;
        request::signed_in(done.user_id);
        let user = UserAnswer { id: done.user_id.to_string(), app_id: done.app_id, is_new: Some(done.is_new) };
        Ok(Json(answer(done.tokens, user)))
    }

    /// Exchange a refresh token for new tokens
    ///
    /// A refresh token works once; the one before gets the same new tokens again for 30 seconds, in case the
    /// answer was lost. A replay after that ends the session.
    #[oai(path = "/token/refresh", method = "post", operation_id = "refresh_token")]
    async fn refresh(
        &self,
        Data(ctx): Data<&Context>,
        Body(body): Body<RefreshRequest>,
    ) -> Result<Json<TokenAnswer>, Failure> {
        let (tokens, session) = session::refresh(ctx, &body.refresh_token).await?;
        request::signed_in(session.user_id);
        let user = UserAnswer { id: session.user_id.to_string(), app_id: session.app_id, is_new: None };
        Ok(Json(answer(tokens, user)))
    }

    /// Log out
    ///
    /// Ends the session at once: its access and refresh tokens are refused from now on.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, Data(ctx): Data<&Context>, user: User) -> Result<LoggedOut, Failure> {
        session::revoke(ctx, user.0.id, RevokedBecause::Logout).await?;
        Ok(LoggedOut::Done)
    }
}

fn answer(tokens: session::Tokens, user: UserAnswer) -> TokenAnswer {
    TokenAnswer {
        access_token: tokens.access_token,
        token_type: "Bearer".into(),
        expires_in: tokens.expires_in.as_secs(),
        refresh_token: tokens.refresh_token,
        user,
    }
}
