//! Who asks: a signed-in user, or a business system with its API key.

use std::sync::Arc;

use entity::{api_key, session as session_row};
use poem::Request;
use poem_openapi::{
    SecurityScheme,
    auth::{ApiKey, Bearer},
};

use super::{problem::Failure, rate_limit, request, signed};
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

/// An API key (`mk_…`), made with `magpie key create` or `POST /v1/keys`.
#[derive(SecurityScheme)]
#[oai(rename = "api_key", ty = "bearer", bearer_format = "mk_…", checker = "key")]
pub struct Key(pub Arc<api_key::Model>);

/// A request signed as Standard Webhooks do, with `webhook-id`, `webhook-timestamp` (within 5 minutes) and
/// `webhook-signature` (`v1,…`, several separated by blanks), under the key's signing secret (`whsec_…`).
/// `X-Magpie-Key` names the key by its prefix; without it the 16 newest secrets are tried. The same
/// `webhook-id` is answered as the first time.
#[derive(SecurityScheme)]
#[oai(
    rename = "signed_request",
    ty = "api_key",
    key_in = "header",
    key_name = "webhook-signature",
    checker = "signature"
)]
pub struct Signed(pub Arc<api_key::Model>);

/// A business system: with its key, or with a signed request.
#[derive(SecurityScheme)]
pub enum Sender {
    Signed(Signed),
    Key(Key),
}

impl Sender {
    /// Either way a key is behind it.
    pub fn into_key(self) -> Key {
        match self {
            Self::Key(key) => key,
            Self::Signed(Signed(row)) => Key(row),
        }
    }
}

impl Key {
    /// Refuses a key without this scope.
    pub fn require(&self, scope: &str) -> Result<(), Failure> {
        if keys::allows(&self.0, scope) {
            return Ok(());
        }
        Err(Error::new(Code::InsufficientScope).detail(format!("The key lacks the scope `{scope}`.")).into())
    }

    /// Refuses a key without this scope or for other apps only.
    pub fn require_in(&self, scope: &str, app_id: &str) -> Result<(), Failure> {
        self.require(scope)?;
        if self.0.reaches(app_id) {
            return Ok(());
        }
        Err(Error::new(Code::AppNotAllowed).detail(format!("The key is for other apps than {app_id}.")).into())
    }

    /// Refuses a key without this scope or for some apps only.
    pub fn require_for_all(&self, scope: &str) -> Result<(), Failure> {
        self.require(scope)?;
        if self.apps().is_none() {
            return Ok(());
        }
        Err(Error::new(Code::AppNotAllowed).detail("This needs a key that is for all apps.").into())
    }

    /// The only apps the key may use; None means all.
    pub fn apps(&self) -> Option<Vec<String>> {
        self.0.app_ids.as_ref().map(|ids| ids.0.clone())
    }

    /// What belongs to an app the key may not use is simply not there.
    pub fn sees(&self, app_id: &str, what: impl std::fmt::Display) -> Result<(), Failure> {
        if self.0.reaches(app_id) {
            return Ok(());
        }
        Err(Error::new(Code::NotFound).detail(format!("There is no {what}.")).into())
    }

    /// Who acts, for the audit log.
    pub fn actor(&self) -> String {
        self.0.id.to_string()
    }
}

async fn user(request: &Request, bearer: Bearer) -> poem::Result<session_row::Model> {
    let ctx = context(request)?;
    let session = session::authenticate(ctx, &bearer.token).await.map_err(Failure::from)?;
    request::signed_in(session.user_id);
    rate_limit::user(ctx, session.user_id)?;
    Ok(session)
}

async fn key(request: &Request, bearer: Bearer) -> poem::Result<Arc<api_key::Model>> {
    let key = keys::authenticate(context(request)?, &bearer.token).await.map_err(Failure::from)?;
    request::signed_in(&key.prefix);
    Ok(key)
}

/// The signature was verified on the way in, where the whole body is at hand.
async fn signature(request: &Request, _signature: ApiKey) -> poem::Result<Arc<api_key::Model>> {
    match request.extensions().get::<signed::Verified>() {
        Some(signed::Verified(key)) => Ok(key.clone()),
        None => Err(Failure::from(Error::new(Code::MissingCredentials)).into()),
    }
}

fn context(request: &Request) -> poem::Result<&Context> {
    request.data::<Context>().ok_or_else(|| Failure::from(Error::new(Code::Internal)).into())
}
