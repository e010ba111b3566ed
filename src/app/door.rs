//! The door: connections of HTTP/1.1, each bounded in what the head of a request may hold and how long it may take.
//!
//! ```text
//! listen ─▶ a task for each connection: head (in time, not too large) ─▶ endpoint ─▶ answer ─▶ next head …
//! stop ─▶ nobody else comes in ─▶ requests under way are answered, for as long as is allowed
//! ```
//!
//! poem's own server sets no time for the head, so whoever sends a byte of it now and then would hold a connection
//! for ever.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::{
    Addr, Endpoint, Request,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Bytes of a request's line and headers that are read at all; `api` refuses far less with a problem, and what is
/// larger than this gets a bare 431.
const LARGEST_HEAD: usize = 64 * 1024;
/// Without a file descriptor to be had, trying again at once would only burn a core.
const AFTER_A_FAULT: Duration = Duration::from_millis(200);

/// How long things may take.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// A request's head, counted from the end of the request before it.
    pub head: Duration,
    /// Requests that are under way at the stop.
    pub stop: Duration,
}

/// Lets requests in until `stop`; comes back when those that are in have been answered.
pub(super) async fn keep<E: Endpoint + 'static>(
    listener: TcpListener,
    endpoint: E,
    times: Times,
    stop: CancellationToken,
) -> io::Result<()> {
    let (endpoint, connections) = (Arc::new(endpoint), TaskTracker::new());
    let here = listener.local_addr()?;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(serve(stream, (here, peer), endpoint.clone(), times, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "door.accept_failed");
                tokio::time::sleep(AFTER_A_FAULT).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn serve<E: Endpoint + 'static>(
    stream: TcpStream,
    (here, peer): (SocketAddr, SocketAddr),
    endpoint: Arc<E>,
    times: Times,
    stop: CancellationToken,
) {
    // An answer is written in one go; waiting for more would only delay it.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let endpoint = endpoint.clone();
        let addresses = (LocalAddr(Addr::SocketAddr(here)), RemoteAddr(Addr::SocketAddr(peer)));
        async move {
            let request = Request::from((request, addresses.0, addresses.1, Scheme::HTTP));
            Ok::<_, Infallible>(hyper::Response::from(endpoint.get_response(request).await))
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(times.head).max_header_size(LARGEST_HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    // What goes wrong on a connection is the other side's affair: it went away, was too slow, or spoke no HTTP.
    tokio::select! {
        ended = connection.as_mut() => return drop(ended),
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(times.stop, connection).await;
}
