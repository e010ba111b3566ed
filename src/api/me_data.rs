//! The signed-in user's own data and sessions: see them, take them along, end them.

mod words;

use entity::{SessionId, session as rows};
use poem::web::Data;
use poem_openapi::{ApiResponse, Object, OpenApi, param::Path, payload::Json};

use super::{Tag, body::Body, export::UserExport, page, principal::User, problem::Failure, time::Time};
use crate::{
    context::Context,
    session,
    user::{erase, export, profile},
};
use words::{Profile, ProfileChange, profile_of};

pub struct MeDataApi;

/// A login of the user.
#[derive(Object)]
struct Session {
    id: String,
    app_id: String,
    created_at: Time,
    /// When its tokens were last refreshed.
    last_refreshed_at: Time,
    /// When it ends unless it is refreshed before.
    expires_at: Time,
    /// Whether it is the one that asks.
    current: bool,
}

/// The user's live sessions, newest first.
#[derive(Object)]
struct SessionList {
    data: Vec<Session>,
}

#[derive(ApiResponse)]
enum Done {
    /// Done, on every node.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/v1/me", tag = "Tag::Me")]
impl MeDataApi {
    /// The signed-in user
    #[oai(path = "/", method = "get", operation_id = "get_me")]
    async fn get(&self, Data(ctx): Data<&Context>, user: User) -> Result<Json<Profile>, Failure> {
        Ok(Json(profile_of(user.0.app_id.clone(), profile::get(ctx, &user.0).await?)))
    }

    /// Change what the user says about themselves
    #[oai(path = "/", method = "patch", operation_id = "change_me")]
    async fn change(
        &self,
        Data(ctx): Data<&Context>,
        user: User,
        Body(body): Body<ProfileChange>,
    ) -> Result<Json<Profile>, Failure> {
        Ok(Json(profile_of(user.0.app_id.clone(), profile::change(ctx, &user.0, body.into()).await?)))
    }

    /// The user's sessions, in all apps
    #[oai(path = "/sessions", method = "get", operation_id = "list_my_sessions")]
    async fn sessions(&self, Data(ctx): Data<&Context>, user: User) -> Result<Json<SessionList>, Failure> {
        let show = |row: rows::Model| Session {
            id: row.id.to_string(),
            app_id: row.app_id,
            created_at: Time(row.created_at),
            last_refreshed_at: Time(row.rotated_at),
            expires_at: Time(row.expires_at),
            current: row.id == user.0.id,
        };
        let live = session::live_of(ctx, user.0.user_id).await?;
        Ok(Json(SessionList { data: live.into_iter().map(show).collect() }))
    }

    /// End one of the user's sessions
    ///
    /// Its access and refresh tokens are refused from now on.
    #[oai(path = "/sessions/:session_id", method = "delete", operation_id = "end_my_session")]
    async fn end_session(
        &self,
        Data(ctx): Data<&Context>,
        user: User,
        /// `ses_…`
        session_id: Path<String>,
    ) -> Result<Done, Failure> {
        let id: SessionId = page::id(&session_id.0, "session")?;
        session::close(ctx, user.0.user_id, id).await?;
        Ok(Done::Done)
    }

    /// Everything that is known of the user, in all apps
    #[oai(path = "/export", method = "get", operation_id = "export_me")]
    async fn export(&self, Data(ctx): Data<&Context>, user: User) -> Result<Json<UserExport>, Failure> {
        let id = user.0.user_id;
        Ok(Json(export::export(ctx, id, None, &id.to_string()).await?.into()))
    }

    /// Erase the user, in all apps
    ///
    /// Identities, consents and balances are deleted, messages, events and callbacks emptied, sessions ended. It
    /// cannot be undone; who logs in again is somebody new.
    #[oai(path = "/", method = "delete", operation_id = "erase_me")]
    async fn erase(&self, Data(ctx): Data<&Context>, user: User) -> Result<Done, Failure> {
        let id = user.0.user_id;
        erase::by_request(ctx, id, None, &id.to_string()).await?;
        Ok(Done::Done)
    }
}
