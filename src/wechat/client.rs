//! One HTTP client for all calls: bounded in time and size, no redirects, no proxy but the configured one.
//! When no connection can be made, and only then, the call goes to the fallback host; so do the calls after it
//! for a while, without waiting for the first host again.
//!
//! An address holds the access token or the `AppSecret` in its query, so no address is ever part of an
//! error or a log line.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::{Serialize, de::DeserializeOwned};

use super::{Error, answer, hosts::Hosts};
use crate::{clock::Stopwatch, config::Config};

/// No answer of the APIs in use comes near this; more is a fault or an attack.
const LARGEST_ANSWER: usize = 4 * 1024 * 1024;
/// Shorter than what servers usually keep a silent connection for, so that a call rarely meets a
/// connection that is just being closed.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// Why no client could be made: the system's certificates or the settings.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    #[error("the address of WeChat: {0}")]
    Address(#[from] url::ParseError),
}

#[derive(Clone, Debug)]
pub struct Client {
    pub(super) http: reqwest::Client,
    hosts: Hosts,
    /// For one call, whichever host takes it in the end.
    timeout: Duration,
}

impl Client {
    /// A client of WeChat, or of a simulator, at `wechat.base_url`.
    pub fn new(config: &Config) -> Result<Self, ClientError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that makes WeChat's client")]
        let builder = reqwest::Client::builder();
        let builder = match &config.wechat.proxy {
            Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.expose_secret())?),
            None => builder.no_proxy(),
        };
        let http = builder
            .connect_timeout(config.wechat.connect_timeout.min(config.delivery.request_timeout))
            .timeout(config.delivery.request_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(config.calls_at_once())
            .redirect(reqwest::redirect::Policy::none())
            // What may be repeated is decided elsewhere; a request that is kept for it would be copied.
            .retry(reqwest::retry::never().max_retries_per_request(0))
            .tcp_nodelay(true)
            .user_agent(concat!("magpie/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, hosts: Hosts::new(&config.wechat)?, timeout: config.delivery.request_timeout })
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &[(&str, &str)],
    ) -> Result<T, Error> {
        self.call(path, |address| self.http.get(address).query(query)).await
    }

    /// Posts raw UTF-8 JSON: WeChat refuses or shows escaped non-ASCII text (40033).
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &'static str,
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.call(path, |address| self.http.post(address).query(query).json(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        path: &'static str,
        request: impl Fn(Url) -> RequestBuilder,
    ) -> Result<T, Error> {
        let response = self.send(path, request).await?;
        let status = response.status();
        let body = read(response).await?;
        if status != StatusCode::OK {
            return Err(Error::Garbled { status: status.as_u16(), problem: "the status is not 200".into() });
        }
        answer::parse(path, &body)
    }

    /// A connection that was never made proves that nothing was carried out, so the twin may be asked;
    /// both together take no longer than one call may.
    pub(super) async fn send(&self, path: &str, request: impl Fn(Url) -> RequestBuilder) -> Result<Response, Error> {
        let waited = Stopwatch::start();
        let (host, other) = self.hosts.in_turn();
        let answer = request(host.address(path)).send().await.map_err(transport_error);
        self.hosts.note(host, &answer);
        let (Err(Error::NotSent(error)), Some(other)) = (&answer, other) else { return answer };
        tracing::warn!(%error, path, "wechat.other_host");
        let left = self.timeout.saturating_sub(waited.elapsed());
        let answer = request(other.address(path)).timeout(left).send().await.map_err(transport_error);
        self.hosts.note(other, &answer);
        answer
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
