//! Bare HTTP/1.1 for all parts of the benchmark: keep-alive connections, and a server that is one function.

use std::{convert::Infallible, io::Write, net::SocketAddr, sync::Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::Result;

/// One keep-alive connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender, host: address.to_string() })
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.get_as(path, None).await
    }

    pub async fn get_as(&mut self, path: &str, bearer: Option<&str>) -> Result<Answer> {
        self.call(Method::GET, path, bearer, Bytes::new()).await
    }

    pub async fn post(&mut self, path: &str, bearer: Option<&str>, body: Bytes) -> Result<Answer> {
        self.call(Method::POST, path, bearer, body).await
    }

    async fn call(&mut self, method: Method, path: &str, bearer: Option<&str>, body: Bytes) -> Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(bearer) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body))?).await?;
        let status = response.status();
        Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
    }
}

impl Answer {
    /// The body, or an error that shows it when the status is not a success.
    pub fn json(&self) -> Result<serde_json::Value> {
        if !self.status.is_success() {
            return Err(format!("{}: {}", self.status, String::from_utf8_lossy(&self.body)).into());
        }
        Ok(serde_json::from_slice(&self.body)?)
    }
}

/// Connections that nobody is using just now; the one used last is taken first.
pub struct Pool {
    address: SocketAddr,
    free: Mutex<Vec<Connection>>,
}

impl Pool {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, free: Mutex::default() }
    }

    pub async fn take(&self) -> Result<Connection> {
        let free = self.free.lock().map_err(|_| "a call panicked")?.pop();
        match free {
            Some(connection) if !connection.sender.is_closed() => Ok(connection),
            _ => Connection::open(self.address).await,
        }
    }

    pub fn give_back(&self, connection: Connection) {
        if let Ok(mut free) = self.free.lock() {
            free.push(connection);
        }
    }
}

/// Listens on a free port, prints the address as this process' first line, and answers for ever.
pub async fn serve<F, Fut>(answer: F) -> Result<()>
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = hyper::service::service_fn(move |request| {
            let answering = answer(request);
            async move { Ok::<_, Infallible>(answering.await) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// A JSON answer.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The whole body of a request; empty when the caller broke off.
pub async fn body(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default()
}
