//! One HTTP client for all calls: bounded in time and size, no redirects, no environment proxy.
//!
//! An address holds the access token or the `AppSecret` in its query, so no address is ever part of an
//! error or a log line.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};

use super::{Error, answer};
use crate::config::Config;

/// No answer of the APIs in use comes near this; more is a fault or an attack.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// Shorter than what servers usually keep a silent connection for, so that a call rarely meets a
/// connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// Why no client could be made: the system's certificates or the settings.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ClientError(#[from] reqwest::Error);

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base_url: String,
}

impl Client {
    /// A client of WeChat, or of a simulator, at `wechat.base_url`.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that makes WeChat's client")]
        let builder = reqwest::Client::builder();
        let http = builder
            .connect_timeout(config.wechat.connect_timeout.min(config.delivery.request_timeout))
            .timeout(config.delivery.request_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(config.delivery.concurrency)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!("magpie/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, base_url: config.wechat.base_url.clone() })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Error> {
        self.call(self.http.get(self.address(path)).query(query)).await
    }

    /// Posts raw UTF-8 JSON: WeChat refuses or shows escaped non-ASCII text (40033).
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(self.http.post(self.address(path)).query(query).json(body)).await
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = request.send().await.map_err(transport_error)?;
        let status = response.status();
        let body = read(response).await?;
        if status != StatusCode::OK {
            return Err(Error::Garbled { status: status.as_u16(), problem: "the status is not 200".into() });
        }
        answer::parse(&body)
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(transport_error)? {
        if body.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Error::Garbled { status: 200, problem: "the answer is too long".into() });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Only a connection that was never made proves that the request was not carried out.
fn transport_error(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_connect() || error.is_builder() { Error::NotSent(error) } else { Error::NoAnswer(error) }
}
