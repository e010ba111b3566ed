//! WeChat's own account of a call that failed.

use entity::Timestamp;
use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};

use super::{Tag, object::example_app_id, principal::Key, problem::Failure, time::Time};
use crate::{context::Context, rid, wechat};

pub struct RidsApi;

/// A call that failed, as WeChat saw it. Tokens, secrets, codes and phone numbers are shown as `***`.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct FailedCall {
    rid: String,
    invoked_at: Option<Time>,
    duration_ms: Option<i64>,
    /// The path, the query, or both, as WeChat tells them.
    request_url: String,
    /// JSON as text; of anything else only the length is told.
    request_body: String,
    response_body: String,
    /// The address WeChat saw the call come from.
    client_ip: String,
}

#[OpenApi(prefix_path = "/v1/apps", tag = "Tag::Apps")]
impl RidsApi {
    /// Ask WeChat about a call that failed
    ///
    /// `rid` is on the attempts of a notification and in `wechat` of a problem; WeChat knows it for seven days,
    /// and only of the app's own calls. Needs `apps:read`.
    #[oai(path = "/:app_id/rids/:rid", method = "get", operation_id = "get_failed_call")]
    async fn get(
        &self,
        Data(ctx): Data<&Context>,
        key: Key,
        #[oai(example = "example_app_id")] app_id: Path<String>,
        /// Such as `6201abcd-12345678-0badcafe`.
        rid: Path<String>,
    ) -> Result<Json<FailedCall>, Failure> {
        key.require_in("apps:read", &app_id.0)?;
        let wechat::rid::FailedCall { invoked_at, cost_in_ms, request_url, request_body, response_body, client_ip } =
            rid::look_up(ctx, &app_id.0, &rid.0).await?;
        let invoked_at = invoked_at.map(|seconds| Time(Timestamp(seconds.saturating_mul(1000))));
        Ok(Json(FailedCall {
            rid: rid.0,
            invoked_at,
            duration_ms: cost_in_ms,
            request_url,
            request_body,
            response_body,
            client_ip,
        }))
    }
}
