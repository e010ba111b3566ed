//! Access tokens: JWTs signed with ES256 (RFC 7519, RFC 9068), so that a company's other backends can
//! verify them with the JWKS alone.

use entity::{SessionId, Timestamp, session as row};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    context::Context,
    error::{Code, Error},
    signing_key,
};

/// The claims, as they stand in the token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
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
    sid: SessionId,
    /// The AppID the user logged in to.
    app: String,
}

pub(super) async fn sign(ctx: &Context, session: &row::Model) -> Result<String, Error> {
    let keys = signing_key::all(ctx).await?;
    let key = keys.first().ok_or(Error::new(Code::Internal).detail("there is no signing key"))?;
    let issued_at = ctx.clock.now().0 / 1000;
    let claims = Claims {
        iss: ctx.config.public_url.clone(),
        aud: ctx.config.public_url.clone(),
        exp: issued_at + i64::try_from(ctx.config.session.access_token_ttl.as_secs()).unwrap_or(0),
        iat: issued_at,
        sub: session.user_id.to_string(),
        jti: Uuid::now_v7().simple().to_string(),
        sid: session.id,
        app: session.app_id.clone(),
    };
    let header = Header { kid: Some(key.kid.clone()), typ: Some("at+jwt".into()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &claims, &key.encoding).map_err(|error| Error::new(Code::Internal).because(error))
}

/// The session a token names; the token is genuine, meant for us and not over.
pub(super) async fn verify(ctx: &Context, token: &str) -> Result<SessionId, Error> {
    let invalid = |_| Error::new(Code::InvalidToken);
    let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
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
    Ok(claims.sid)
}
