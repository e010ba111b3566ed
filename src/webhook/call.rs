//! One call to an endpoint: bounded in time and size, no redirects, no proxy, and only to an address that was
//! checked. The URL may hold a token of the business system, so no part of it is in an error or a log line.

use std::{error::Error as _, sync::Arc, time::Duration};

use entity::{Timestamp, webhook, webhook_delivery::Problem};
use reqwest::{
    Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use tokio::sync::OnceCell;

use super::{address, signature};
use crate::{
    clock::{Stopwatch, from_http_date},
    config::Webhooks,
    context::Context,
    error::{Code, Error},
};

/// Of an answer nothing is used but its status; so much is read that the connection can serve again.
const READ_OF_AN_ANSWER: usize = 512;
/// Shorter than what servers usually keep a silent connection for.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// What is sent.
pub(super) struct Message<'a> {
    /// `webhook-id`
    pub id: String,
    pub body: &'a str,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// An answer, with how long the endpoint asks to be left alone.
    Answer {
        status: u16,
        retry_after: Option<Duration>,
    },
    Nothing(Problem),
}

#[derive(Default)]
struct Client(OnceCell<reqwest::Client>);

/// Calls the endpoint; says what came of it and how long it took in milliseconds.
pub(super) async fn call(
    ctx: &Context,
    endpoint: &webhook::Model,
    message: &Message<'_>,
) -> Result<(Came, i32), Error> {
    let at = ctx.clock.now();
    // The rules may have become stricter since the endpoint was saved.
    let Ok(url) = address::parse(&ctx.config.webhooks, &endpoint.url) else {
        return Ok((Came::Nothing(Problem::AddressRefused), 0));
    };
    let signature = signature::header(ctx, endpoint, (&message.id, at, message.body))?;
    let memory = ctx.memory::<Client>();
    let http = memory.0.get_or_try_init(|| async { build(ctx) }).await?;
    let stopwatch = Stopwatch::start();
    let sent = http
        .post(url)
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", signature::seconds(at))
        .header("webhook-signature", signature)
        .body(message.body.to_owned())
        .send()
        .await;
    let came = match sent {
        Ok(response) => answer(response, at).await,
        Err(error) => Came::Nothing(problem(&error)),
    };
    Ok((came, stopwatch.millis()))
}

fn build(ctx: &Context) -> Result<reqwest::Client, Error> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that makes the client of webhooks")]
    let builder = reqwest::Client::builder();
    let timeout = ctx.config.webhooks.timeout;
    builder
        .no_proxy()
        .dns_resolver(Arc::new(Checked(ctx.config.webhooks.clone())))
        .connect_timeout(timeout)
        .timeout(timeout)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(ctx.config.webhooks.concurrency)
        .redirect(reqwest::redirect::Policy::none())
        .tcp_nodelay(true)
        .user_agent(concat!("magpie/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::new(Code::Internal).because(error))
}

/// Looks names up, and gives only what may be called.
struct Checked(Webhooks);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let config = self.0.clone();
        Box::pin(async move {
            let found = address::lookup(&config, name.as_str()).await?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

async fn answer(mut response: Response, now: Timestamp) -> Came {
    let status = response.status();
    let retry_after = retry_after(&response, now);
    let mut read = 0;
    // What cannot be read does not change what the status says.
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > READ_OF_AN_ANSWER {
            break;
        }
    }
    Came::Answer { status: status.as_u16(), retry_after: retry_after.filter(|_| status != StatusCode::OK) }
}

/// Seconds, or a date.
fn retry_after(response: &Response, now: Timestamp) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => from_http_date(text).map(|at| at.since(now)),
    }
}

fn problem(error: &reqwest::Error) -> Problem {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.downcast_ref::<address::Fault>() == Some(&address::Fault::Internal) {
            return Problem::AddressRefused;
        }
        cause = inner.source();
    }
    if error.is_timeout() { Problem::TimedOut } else { Problem::Unreachable }
}
