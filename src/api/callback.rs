//! What WeChat posts (消息推送). Not for anybody else: every request is signed.

use poem::{Body, web::Data};
use poem_openapi::{
    ApiResponse, OpenApi,
    param::{Path, Query},
    payload::PlainText,
};

use super::{Tag, problem::Failure};
use crate::{
    callback,
    context::Context,
    error::{Code, Error},
};

pub struct CallbackApi;

#[derive(ApiResponse)]
enum CallbackResponse {
    /// Plain text, as WeChat wants it.
    #[oai(status = 200)]
    Text(PlainText<String>),
}

#[OpenApi(prefix_path = "/wechat", tag = "Tag::Callback")]
impl CallbackApi {
    /// URL check
    ///
    /// WeChat asks once, when the address is entered in its console, and wants `echostr` back.
    #[oai(path = "/:app_id/callback", method = "get", operation_id = "check_callback")]
    async fn check(
        &self,
        Data(ctx): Data<&Context>,
        app_id: Path<String>,
        signature: Query<String>,
        timestamp: Query<String>,
        nonce: Query<String>,
        echostr: Query<String>,
    ) -> Result<CallbackResponse, Failure> {
        let signed = callback::Signed { signature: &signature.0, timestamp: &timestamp.0, nonce: &nonce.0 };
        callback::check_url(ctx, &app_id.0, &signed)?;
        Ok(CallbackResponse::Text(PlainText(echostr.0)))
    }

    /// A push
    ///
    /// Stored before it is acknowledged with `success`, and processed afterwards. Any other answer makes WeChat
    /// repeat it.
    #[oai(path = "/:app_id/callback", method = "post", operation_id = "receive_callback")]
    #[expect(clippy::too_many_arguments, reason = "one argument for each part of WeChat's request")]
    async fn receive(
        &self,
        Data(ctx): Data<&Context>,
        app_id: Path<String>,
        signature: Query<Option<String>>,
        timestamp: Query<Option<String>>,
        nonce: Query<Option<String>>,
        msg_signature: Query<Option<String>>,
        body: Body,
    ) -> Result<CallbackResponse, Failure> {
        let body = body.into_bytes().await.map_err(|_| Error::new(Code::InvalidRequest))?;
        let [signature, timestamp, nonce] = [signature.0, timestamp.0, nonce.0].map(Option::unwrap_or_default);
        let signed = callback::Signed { signature: &signature, timestamp: &timestamp, nonce: &nonce };
        callback::receive(ctx, &app_id.0, &signed, msg_signature.0.as_deref(), &body).await?;
        Ok(CallbackResponse::Text(PlainText("success".into())))
    }
}
