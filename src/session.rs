//! Sessions: our login of a user in an app.
//!
//! ```text
//! log in ─▶ session row (generation 1) ─▶ access token (JWT, minutes) + refresh token (weeks)
//!                     │ refresh: generation + 1; the one before works 30 s longer
//!                     └ logout, ban, erasure, replay of an older refresh token ─▶ revoked, on every node at once
//! ```
//!
//! There is no table of tokens: a refresh token is `session id . generation . MAC`, and our own
//! endpoints re-read the session by its id.

pub mod access_token;
pub mod refresh_token;

use std::time::Duration;

use entity::{IdentityId, SessionId, Timestamp, UserId, session as row, session::RevokedBecause};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder};
use uuid::Uuid;

use crate::{
    context::Context,
    error::{Code, Error},
};
use refresh_token::RefreshToken;

/// How long after a rotation the refresh token before it gets the current one again: the answer may
/// have been lost on the way.
const GRACE: Duration = Duration::from_secs(30);

/// What a signed-in front end holds.
pub struct Tokens {
    pub access_token: String,
    /// How long the access token works.
    pub expires_in: Duration,
    pub refresh_token: String,
}

/// A new session's row.
pub fn new_row(ctx: &Context, at: Timestamp, of: (UserId, IdentityId, &str), code_mac: Vec<u8>) -> row::Model {
    let (user_id, identity_id, app_id) = of;
    row::Model {
        id: SessionId(Uuid::now_v7()),
        user_id,
        identity_id,
        app_id: app_id.to_owned(),
        generation: 1,
        rotated_at: at,
        code_mac,
        created_at: at,
        expires_at: end(ctx, at, at),
        revoked_at: None,
        revoked_because: None,
    }
}

/// When a session ends that began then and is refreshed now: it idles for `refresh_token_ttl` at most and
/// lasts no longer than `longest`.
fn end(ctx: &Context, began: Timestamp, now: Timestamp) -> Timestamp {
    let config = &ctx.config.session;
    let idle = now + config.refresh_token_ttl;
    if config.longest.is_zero() { idle } else { Ord::min(idle, began + config.longest) }
}

/// The tokens of the session's current generation.
pub async fn tokens(ctx: &Context, session: &row::Model) -> Result<Tokens, Error> {
    Ok(Tokens {
        access_token: access_token::sign(ctx, session).await?,
        expires_in: access_token::lifetime(ctx, session),
        refresh_token: RefreshToken::of(session).sign(&ctx.keys),
    })
}

/// The session behind an access token, if it still lives.
pub async fn authenticate(ctx: &Context, token: &str) -> Result<row::Model, Error> {
    let claims = access_token::verify(ctx, token).await?;
    let session = live(ctx, claims.sid).await?;
    if session.app_id == claims.app { Ok(session) } else { Err(Error::new(Code::InvalidToken)) }
}

/// Exchanges a refresh token for new tokens (RFC 9700 section 4.14: rotation with reuse detection).
pub async fn refresh(ctx: &Context, token: &str) -> Result<(Tokens, row::Model), Error> {
    let token = RefreshToken::verify(token, &ctx.keys).ok_or(Error::new(Code::InvalidRefreshToken))?;
    let mut session = live(ctx, token.session_id).await?;
    let now = ctx.clock.now();
    if token.generation == session.generation && rotate(ctx, &session, now).await? {
        session.generation += 1;
        session.expires_at = end(ctx, session.created_at, now);
        return Ok((tokens(ctx, &session).await?, session));
    }
    // Read again: another request may just have rotated it.
    let session = live(ctx, token.session_id).await?;
    let is_previous = token.generation == session.generation - 1;
    if is_previous && now.since(session.rotated_at) <= GRACE {
        return Ok((tokens(ctx, &session).await?, session));
    }
    revoke(ctx, session.id, RevokedBecause::Replay).await?;
    tracing::warn!(session.id = %session.id, user.id = %session.user_id, "session.replay");
    Err(Error::new(Code::SessionEnded).detail("An old refresh token was used again, so the session was ended."))
}

/// Ends the session at once, on every node.
pub async fn revoke(ctx: &Context, id: SessionId, because: RevokedBecause) -> Result<(), Error> {
    row::Entity::update_many()
        .set(row::ActiveModel {
            revoked_at: Set(Some(ctx.clock.now())),
            revoked_because: Set(Some(because)),
            ..Default::default()
        })
        .filter(row::Column::Id.eq(id))
        .filter(row::Column::RevokedAt.is_null())
        .exec(ctx.db.write())
        .await?;
    Ok(())
}

/// The user's live sessions in all apps, newest first.
pub async fn live_of(ctx: &Context, user_id: UserId) -> Result<Vec<row::Model>, Error> {
    let live = row::Entity::find()
        .filter(row::Column::UserId.eq(user_id))
        .filter(row::Column::RevokedAt.is_null())
        .filter(row::Column::ExpiresAt.gt(ctx.clock.now()))
        .order_by_desc(row::Column::Id);
    Ok(live.all(ctx.db.read()).await?)
}

/// The user ends one of their sessions.
pub async fn close(ctx: &Context, user_id: UserId, id: SessionId) -> Result<(), Error> {
    let theirs = row::Entity::find_by_id(id).filter(row::Column::UserId.eq(user_id)).one(ctx.db.read()).await?;
    theirs.ok_or_else(|| Error::new(Code::NotFound).detail(format!("There is no session {id}.")))?;
    revoke(ctx, id, RevokedBecause::Closed).await
}

/// The session that this login code made within `window`, while nobody has refreshed it.
pub async fn of_code(
    db: &impl ConnectionTrait,
    code_mac: &[u8],
    not_before: Timestamp,
) -> Result<Option<row::Model>, Error> {
    let session = row::Entity::find()
        .filter(row::Column::CodeMac.eq(code_mac))
        .filter(row::Column::CreatedAt.gte(not_before))
        .filter(row::Column::Generation.eq(1))
        .filter(row::Column::RevokedAt.is_null())
        .one(db)
        .await?;
    Ok(session)
}

async fn rotate(ctx: &Context, session: &row::Model, now: Timestamp) -> Result<bool, Error> {
    let rotated = row::Entity::update_many()
        .col_expr(row::Column::Generation, row::Column::Generation.into_expr().add(1))
        .set(row::ActiveModel {
            rotated_at: Set(now),
            expires_at: Set(end(ctx, session.created_at, now)),
            ..Default::default()
        })
        .filter(row::Column::Id.eq(session.id))
        .filter(row::Column::Generation.eq(session.generation))
        .filter(row::Column::RevokedAt.is_null())
        .exec(ctx.db.write())
        .await?;
    Ok(rotated.rows_affected == 1)
}

async fn live(ctx: &Context, id: SessionId) -> Result<row::Model, Error> {
    let session = row::Entity::find_by_id(id).one(ctx.db.read()).await?;
    session
        .filter(|session| session.revoked_at.is_none() && session.expires_at > ctx.clock.now())
        .ok_or(Error::new(Code::SessionEnded))
}
