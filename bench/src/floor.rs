//! The floor: the same work by hyper and a bare database driver, in one small program.
//!
//! ```text
//! login ─▶ one keep-alive call upstream ─▶ one upsert ─▶ 200
//! event ─▶ inserter: takes what waits, one commit ─▶ 202 ─▶ queue ─▶ so many pushers, keep-alive calls
//!                                                                     ─▶ marker: takes what waits, one update
//! ```
//!
//! It keeps what the work must leave behind (the event, the message, the user's credit and its ledger entry) and does
//! only what cannot be left out: no sessions, no signatures, no rules, no leases. What was not marked as sent is
//! sent again when it starts.

mod store;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, body::Incoming};
use serde::Deserialize;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::{
    Result,
    child::{self, Child},
    database::Database,
    http::{self, Pool},
    upstream::TEMPLATE,
};
use store::Store;

/// How much is taken at once.
const MOST_TOGETHER: usize = 256;

/// How the floor is run.
pub struct Floor {
    pub upstream: SocketAddr,
    /// Calls upstream at a time.
    pub in_flight: usize,
}

impl Floor {
    pub fn start(&self, database: &Database) -> Result<(Child, SocketAddr)> {
        let (upstream, in_flight) = (self.upstream.to_string(), self.in_flight.to_string());
        Child::of_our_own(&["floor", "--upstream", &upstream, "--in-flight", &in_flight, "--database", &database.url()])
    }
}

/// A message as it is stored.
#[derive(Clone, Debug)]
pub struct Message {
    pub label: String,
    pub openid: String,
    pub item: String,
    pub at: String,
    /// The event as it was told; kept with it, not needed to send it.
    pub event: String,
}

#[derive(Deserialize)]
struct Login<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
struct CodeSession {
    openid: String,
    session_key: String,
}

#[derive(Deserialize)]
struct Event {
    id: String,
    to: String,
    data: Item,
}

#[derive(Deserialize)]
struct Item {
    item: String,
    at: String,
}

type Waiting = (Message, oneshot::Sender<()>);

struct Running {
    store: Store,
    upstream: Pool,
    events: mpsc::UnboundedSender<Waiting>,
    queue: mpsc::UnboundedSender<Message>,
}

/// Serves until the process that started this one is gone.
pub async fn run(upstream: SocketAddr, in_flight: usize, database_url: &str) -> Result<()> {
    child::end_with_parent();
    let store = Store::open(database_url).await?;
    let (events, waiting) = mpsc::unbounded_channel();
    let (queue, messages) = mpsc::unbounded_channel();
    let (sent, marks) = mpsc::unbounded_channel();
    for message in store.unsent().await? {
        queue.send(message)?;
    }
    let running = Arc::new(Running { store, upstream: Pool::new(upstream), events, queue });
    tokio::spawn(for_ever(insert(running.clone(), waiting)));
    tokio::spawn(for_ever(mark(running.clone(), marks)));
    let messages = Arc::new(Mutex::new(messages));
    for _ in 0..in_flight {
        tokio::spawn(for_ever(push(running.clone(), messages.clone(), sent.clone())));
    }
    http::serve(move |request| answer(running.clone(), request)).await
}

/// A floor that does only a part of its work would be a wrong floor.
async fn for_ever(part: impl Future<Output = Result<()>>) {
    if let Err(error) = part.await {
        eprintln!("the floor: {error}");
        std::process::exit(1);
    }
}

async fn answer(running: Arc<Running>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let is_login = request.uri().path().ends_with("/login");
    let body = http::body(request).await;
    let answered = if is_login { login(&running, &body).await } else { event(&running, &body).await };
    answered.unwrap_or_else(|error| http::json(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn login(running: &Running, body: &[u8]) -> Result<Response<Full<Bytes>>> {
    let Login { code } = serde_json::from_slice(body)?;
    let path = format!("/sns/jscode2session?appid=wx&secret=s&js_code={code}&grant_type=authorization_code");
    let mut connection = running.upstream.take().await?;
    let told = connection.get(&path).await?;
    running.upstream.give_back(connection);
    let session: CodeSession = serde_json::from_slice(&told.body)?;
    running.store.upsert(session.openid, session.session_key).await?;
    Ok(http::json(StatusCode::OK, r#"{"access_token":"none","token_type":"Bearer","expires_in":900}"#))
}

async fn event(running: &Running, body: &[u8]) -> Result<Response<Full<Bytes>>> {
    let event: Event = serde_json::from_slice(body)?;
    let openid = event.to.rsplit('/').next().unwrap_or_default().to_owned();
    let told = String::from_utf8(body.to_vec())?;
    let message = Message { label: event.id, openid, item: event.data.item, at: event.data.at, event: told };
    let answer = format!(r#"{{"event_id":"{}","status":"accepted"}}"#, message.label);
    let (stored, told) = oneshot::channel();
    running.events.send((message, stored))?;
    told.await?;
    Ok(http::json(StatusCode::ACCEPTED, answer))
}

async fn insert(running: Arc<Running>, mut waiting: mpsc::UnboundedReceiver<Waiting>) -> Result<()> {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, MOST_TOGETHER).await > 0 {
        let (messages, stored): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        running.store.insert(messages.clone()).await?;
        for (message, stored) in messages.into_iter().zip(stored) {
            running.queue.send(message)?;
            // The caller may be gone.
            let _ = stored.send(());
        }
    }
    Ok(())
}

async fn push(
    running: Arc<Running>,
    messages: Arc<Mutex<mpsc::UnboundedReceiver<Message>>>,
    sent: mpsc::UnboundedSender<String>,
) -> Result<()> {
    loop {
        let Some(message) = messages.lock().await.recv().await else { return Ok(()) };
        let Message { label, openid, item, at, .. } = message;
        let body = format!(
            r#"{{"touser":"{openid}","template_id":"{TEMPLATE}","data":{{"character_string1":{{"value":"{label}"}},"thing2":{{"value":"{item}"}},"time3":{{"value":"{at}"}}}},"miniprogram_state":"formal","lang":"zh_CN"}}"#
        );
        let mut connection = running.upstream.take().await?;
        let path = "/cgi-bin/message/subscribe/send?access_token=bench_access_token";
        let answer = connection.post(path, None, body.into()).await?;
        running.upstream.give_back(connection);
        if answer.status.is_success() {
            sent.send(label)?;
        }
    }
}

async fn mark(running: Arc<Running>, mut sent: mpsc::UnboundedReceiver<String>) -> Result<()> {
    let mut batch = Vec::new();
    while sent.recv_many(&mut batch, MOST_TOGETHER).await > 0 {
        running.store.mark_sent(std::mem::take(&mut batch)).await?;
    }
    Ok(())
}
