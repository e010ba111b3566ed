//! An answer that breaks off in the middle: the header promises more than comes.

use std::{
    io::{self, Cursor},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use poem::Body;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    time::{Sleep, sleep},
};

/// The first `length` bytes, then a broken connection.
pub(crate) fn body(mut bytes: Vec<u8>, length: usize) -> Body {
    bytes.truncate(length);
    // The pause lets the HTTP layer flush what it has; it throws unflushed bytes away on an error.
    Body::from_async_read(Cursor::new(bytes).chain(Broken(Box::pin(sleep(Duration::from_millis(30))))))
}

struct Broken(Pin<Box<Sleep>>);

impl AsyncRead for Broken {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll(cx).map(|()| Err(io::ErrorKind::ConnectionAborted.into()))
    }
}
