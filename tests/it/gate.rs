//! The way to a server, which a story closes: connections break and new ones are refused, as when the server is
//! down.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

pub struct Gate {
    pub address: SocketAddr,
    server: String,
    open: CancellationToken,
}

impl Gate {
    /// An open gate before the server at `host:port`.
    pub async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let gate = Self { address, server: server.to_owned(), open: CancellationToken::new() };
        gate.let_in(listener);
        gate
    }

    pub fn close(&mut self) {
        self.open.cancel();
    }

    pub async fn open(&mut self) {
        self.open = CancellationToken::new();
        self.let_in(TcpListener::bind(self.address).await.expect("the same port"));
    }

    fn let_in(&self, listener: TcpListener) {
        let (server, open) = (self.server.clone(), self.open.clone());
        tokio::spawn(self.open.clone().run_until_cancelled_owned(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(open.clone().run_until_cancelled_owned(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                }));
            }
        }));
    }
}
