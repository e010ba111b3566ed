//! What a control call asks: an optional JSON body, with query parameters laid over it.

use poem::{FromRequest, Request, RequestBody, Result, http::StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem;

pub(super) struct Asked<T> {
    pub ask: T,
    /// `?format=`, which is about the answer, not about the ask.
    pub format: Option<String>,
}

impl<'a, T: DeserializeOwned> FromRequest<'a> for Asked<T> {
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = body.take()?.into_vec().await?;
        let bad = |error: serde_json::Error| problem(StatusCode::BAD_REQUEST, error.to_string());
        let mut members: Map<String, Value> = if bytes.iter().all(u8::is_ascii_whitespace) {
            Map::new()
        } else {
            serde_json::from_slice(&bytes).map_err(bad)?
        };
        let mut format = None;
        for (name, value) in request.params::<Vec<(String, String)>>().unwrap_or_default() {
            if name == "format" {
                format = Some(value);
            } else {
                members.insert(name, Value::String(value));
            }
        }
        let ask = serde_json::from_value(Value::Object(members)).map_err(bad)?;
        Ok(Self { ask, format })
    }
}
