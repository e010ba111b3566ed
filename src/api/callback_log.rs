//! What WeChat posted, for those who look into what happened.

use entity::{CallbackId, callback as rows};
use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    page::{self, Page},
    principal::Key,
    problem::Failure,
    time::Time,
};
use crate::{
    callback::{self, Filter},
    context::Context,
};

pub struct CallbackLogApi;

/// Something WeChat posted.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct Callback {
    id: String,
    app_id: String,
    /// In lower case, such as `subscribe_msg_sent_event`; the type of a message that is no event.
    event: String,
    /// Whom it is about.
    openid: Option<String>,
    /// As WeChat wrote it, decrypted, in JSON or XML; empty when the person was erased.
    body: String,
    received_at: Time,
    /// Missing while it waits.
    processed_at: Option<Time>,
}

impl From<rows::Model> for Callback {
    fn from(row: rows::Model) -> Self {
        Self {
            id: row.id.to_string(),
            app_id: row.app_id,
            event: row.event,
            openid: row.openid,
            body: row.body,
            received_at: Time(row.received_at),
            processed_at: row.processed_at.map(Time),
        }
    }
}

/// A page of callbacks, newest first.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct CallbackList {
    data: Vec<Callback>,
    /// Pass it as `cursor` for the next page; missing on the last one.
    next_cursor: Option<String>,
}

#[OpenApi(prefix_path = "/v1/apps", tag = "Tag::Apps")]
impl CallbackLogApi {
    /// Search what WeChat posted, newest first
    ///
    /// Needs `apps:read`.
    #[oai(path = "/:app_id/callbacks", method = "get", operation_id = "list_callbacks")]
    #[expect(clippy::too_many_arguments, reason = "one argument for each filter of the contract")]
    async fn list(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        app_id: Path<String>,
        /// Such as `subscribe_msg_sent_event`.
        event: Query<Option<String>>,
        openid: Query<Option<String>>,
        received_after: Query<Option<Time>>,
        received_before: Query<Option<Time>>,
        processed: Query<Option<bool>>,
        /// At most 200; 50 when missing.
        limit: Query<Option<u64>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<CallbackList>, Failure> {
        key.require_in("apps:read", &app_id.0)?;
        let page = Page::<CallbackId>::parse(limit.0, cursor.0)?;
        let filter = Filter {
            event: event.0,
            openid: openid.0,
            received_after: received_after.0.map(|time| time.0),
            received_before: received_before.0.map(|time| time.0),
            processed: processed.0,
        };
        let rows = callback::list(ctx, &app_id.0, &filter, page.before, page.ask_for()).await?;
        let (data, next_cursor) = page.shown(rows, |row| row.id.to_string());
        Ok(Json(CallbackList { data, next_cursor }))
    }

    /// Process a callback once more
    ///
    /// Changes nothing that it has changed before. Needs `apps:write`.
    #[oai(path = "/:app_id/callbacks/:callback_id/replay", method = "post", operation_id = "replay_callback")]
    async fn replay(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        app_id: Path<String>,
        /// `cbk_…`
        callback_id: Path<String>,
    ) -> Result<Json<Callback>, Failure> {
        key.require_in("apps:write", &app_id.0)?;
        let row = callback::replay(ctx, &app_id.0, page::id(&callback_id.0, "callback")?).await?;
        Ok(Json(row.into()))
    }
}
