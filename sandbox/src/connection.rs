//! TCP connections that can be closed before the first byte of an answer.
//!
//! HTTP has no way to say "no answer at all": a handler must return something. So every stream
//! carries a switch; once it is cut, writing fails, the HTTP layer gives up, and the socket closes.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use poem::{
    http::uri::Scheme,
    listener::Acceptor,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

type Switches = Arc<Mutex<HashMap<SocketAddr, Arc<AtomicBool>>>>;

/// The open connections by the caller's address.
#[derive(Clone, Default)]
pub(crate) struct Lines(Switches);

impl Lines {
    /// From now on nothing is written to this caller any more.
    pub(crate) fn cut(&self, caller: SocketAddr) {
        let switches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(switch) = switches.get(&caller) {
            switch.store(true, Ordering::Release);
        }
    }
}

pub(crate) struct LineAcceptor {
    listener: TcpListener,
    local: SocketAddr,
    lines: Lines,
}

impl LineAcceptor {
    pub(crate) fn new(listener: TcpListener, local: SocketAddr, lines: Lines) -> Self {
        Self { listener, local, lines }
    }
}

impl Acceptor for LineAcceptor {
    type Io = Line;

    fn local_addr(&self) -> Vec<LocalAddr> {
        vec![LocalAddr(self.local.into())]
    }

    async fn accept(&mut self) -> io::Result<(Line, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, caller) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        let cut = Arc::new(AtomicBool::new(false));
        self.lines.0.lock().unwrap_or_else(PoisonError::into_inner).insert(caller, cut.clone());
        let line = Line { stream, caller, cut, lines: self.lines.clone() };
        Ok((line, LocalAddr(self.local.into()), RemoteAddr(caller.into()), Scheme::HTTP))
    }
}

pub(crate) struct Line {
    stream: TcpStream,
    caller: SocketAddr,
    cut: Arc<AtomicBool>,
    lines: Lines,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.lines.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.caller);
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
