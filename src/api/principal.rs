//! Who asks: a signed-in user, or a business system with its API key.

use entity::{api_key, session as session_row};
use poem::Request;
use poem_openapi::{SecurityScheme, auth::Bearer};

use super::{problem::Failure, request};
use crate::{
    api_key as keys,
    context::Context,
    error::{Code, Error},
    session,
};

/// The access token of `POST /v1/apps/{app_id}/login`.
#[derive(SecurityScheme)]
#[oai(rename = "access_token", ty = "bearer", bearer_format = "JWT", checker = "user")]
pub struct User(pub session_row::Model);

/// An API key (`mk_…`), made with `magpie key create`.
#[derive(SecurityScheme)]
#[oai(rename = "api_key", ty = "bearer", bearer_format = "mk_…", checker = "key")]
pub struct Key(pub api_key::Model);

impl Key {
    /// Refuses a key without this scope.
    pub fn require(&self, scope: &str) -> Result<(), Failure> {
        if keys::allows(&self.0, scope) {
            return Ok(());
        }
        Err(Error::new(Code::InsufficientScope).detail(format!("The key lacks the scope `{scope}`.")).into())
    }
}

async fn user(request: &Request, bearer: Bearer) -> poem::Result<session_row::Model> {
    let session = session::authenticate(context(request)?, &bearer.token).await.map_err(Failure::from)?;
    request::signed_in(session.user_id);
    Ok(session)
}

async fn key(request: &Request, bearer: Bearer) -> poem::Result<api_key::Model> {
    let key = keys::authenticate(context(request)?, &bearer.token).await.map_err(Failure::from)?;
    request::signed_in(&key.prefix);
    Ok(key)
}

fn context(request: &Request) -> poem::Result<&Context> {
    request.data::<Context>().ok_or_else(|| Failure::from(Error::new(Code::Internal)).into())
}
