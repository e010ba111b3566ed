//! Access tokens: JWTs signed with ES256 (RFC 7519, RFC 9068), so that a company's other backends can
//! verify them with the JWKS alone.

use std::time::Duration;

use entity::{SessionId, Timestamp, session as row};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    context::Context,
    error::{Code, Error},
    secret::base64_url,
    signing_key,
};

/// An access token, and no other JWT that may be signed some day (RFC 9068).
const TYPE: &str = "at+jwt";

/// The claims, as they stand in the token.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    /// `public_url` of the configuration.
    iss: String,
    /// The same: the token is for this server and for backends that trust it.
    aud: String,
    /// Seconds since 1970.
    exp: i64,
    iat: i64,
    /// The user.
    sub: String,
    jti: String,
    /// The session.
    pub sid: SessionId,
    /// The AppID the user logged in to.
    pub app: String,
}

/// How long an access token made now works: no longer than its session.
pub(super) fn lifetime(ctx: &Context, session: &row::Model) -> Duration {
    ctx.config.session.access_token_ttl.min(session.expires_at.since(ctx.clock.now()))
}

pub(super) async fn sign(ctx: &Context, session: &row::Model) -> Result<String, Error> {
    let keys = signing_key::all(ctx).await?;
    let now = ctx.clock.now();
    let key = signing_key::signer(&keys, now).ok_or(Error::new(Code::Internal).detail("there is no signing key"))?;
    let issued_at = now.0 / 1000;
    let claims = Claims {
        iss: ctx.config.public_url.clone(),
        aud: ctx.config.public_url.clone(),
        exp: issued_at + i64::try_from(lifetime(ctx, session).as_secs()).unwrap_or(0),
        iat: issued_at,
        sub: session.user_id.to_string(),
        jti: Uuid::now_v7().simple().to_string(),
        sid: session.id,
        app: session.app_id.clone(),
    };
    let header = Header { kid: Some(key.kid.clone()), typ: Some(TYPE.into()), ..Header::new(Algorithm::ES256) };
    // jsonwebtoken would read and check the key for each token.
    let said = format!("{}.{}", part(&header)?, part(&claims)?);
    let signature = base64_url(&key.sign(&said)?);
    Ok(format!("{said}.{signature}"))
}

/// A part of a token (RFC 7515 section 7.1).
fn part(said: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_vec(said).map_err(|error| Error::new(Code::Internal).because(error))?;
    Ok(base64_url(&json))
}

/// What a token says; it is genuine, an access token, meant for us and not over.
pub(super) async fn verify(ctx: &Context, token: &str) -> Result<Claims, Error> {
    let invalid = |_| Error::new(Code::InvalidToken);
    let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
    if header.typ.as_deref() != Some(TYPE) {
        return Err(Error::new(Code::InvalidToken));
    }
    let kid = header.kid.ok_or(Error::new(Code::InvalidToken))?;
    let known = |keys: &[signing_key::SigningKey]| keys.iter().position(|key| key.kid == kid);
    let mut keys = signing_key::all(ctx).await?;
    if known(&keys).is_none() {
        keys = signing_key::reload(ctx).await?;
    }
    let key = known(&keys).map(|index| &keys[index]).ok_or(Error::new(Code::InvalidToken))?;

    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_issuer(&[&ctx.config.public_url]);
    validation.set_audience(&[&ctx.config.public_url]);
    // Our clock decides below, which tests move by hand.
    validation.validate_exp = false;
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation).map_err(invalid)?.claims;
    if Timestamp(claims.exp.saturating_mul(1000)) <= ctx.clock.now() {
        return Err(Error::new(Code::InvalidToken).detail("The access token has expired."));
    }
    Ok(claims)
}
