//! Starting and stopping the simulator.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use poem::{Endpoint, IntoResponse, Request, Response, Server};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    config::{App, Config},
    connection::LineAcceptor,
    control, door,
    platform::Platform,
    state_file,
    state_file::StateFile,
    world::World,
};

/// Requests that are still open when the simulator stops get this long.
const STOP_ALLOWANCE: Duration = Duration::from_millis(200);
/// WeChat waits five seconds for the answer to a push.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(5);

/// A running simulator. Dropping it stops it as well.
pub struct Sandbox {
    addr: SocketAddr,
    platform: Arc<Platform>,
    state_file: Option<Arc<StateFile>>,
    server: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Listens and serves until stopped or dropped.
    pub async fn start(config: Config) -> io::Result<Sandbox> {
        if let Some(complaint) = config.apps.iter().find_map(App::complaint) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, complaint));
        }
        let mut world = match &config.state_file {
            Some(path) => state_file::load(path)?,
            None => World::default(),
        };
        for app in config.apps {
            // Deletions through the API outlive a restart with the same configuration.
            match world.accounts.get_mut(&app.app_id) {
                Some(account) => account.app = app,
                None => world.configure(app),
            }
        }
        // Pushes go to this machine or its neighbours, never through a proxy.
        #[expect(clippy::disallowed_methods, reason = "the simulator's one client; it shares nothing with Magpie's")]
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALLBACK_TIMEOUT)
            .build()
            .map_err(io::Error::other)?;

        let listener = TcpListener::bind(config.listen).await?;
        let addr = listener.local_addr()?;
        let platform = Arc::new(Platform::new(world, http));
        let acceptor = LineAcceptor::new(listener, addr, platform.lines.clone());
        let front = Front { control: control::routes(platform.clone()), platform: platform.clone() };
        let closing = platform.closing.clone();
        let server = tokio::spawn(async move {
            let stopped = Server::new_with_acceptor(acceptor)
                .run_with_graceful_shutdown(front, closing.cancelled(), Some(STOP_ALLOWANCE))
                .await;
            if let Err(error) = stopped {
                tracing::error!(%error, "simulator ended");
            }
        });
        let state_file = config.state_file.map(|path| StateFile::new(path, platform.clone()));
        if let Some(file) = &state_file {
            platform.tasks.spawn(file.clone().keep());
        }
        Ok(Sandbox { addr, platform, state_file, server: Some(server) })
    }

    /// The base URL to give to a client instead of `https://api.weixin.qq.com`.
    pub fn url(&self) -> String {
        // Listening on all addresses is no address to call.
        if self.addr.ip().is_unspecified() {
            return format!("http://127.0.0.1:{}", self.addr.port());
        }
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Closes the door, ends pending pushes and writes the state file.
    pub async fn stop(mut self) {
        self.platform.closing.cancel();
        if let Some(server) = self.server.take() {
            // A failed join means the server panicked; there is nothing left to stop then.
            let _ = server.await;
        }
        self.platform.tasks.close();
        self.platform.tasks.wait().await;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.platform.closing.cancel();
        if let Some(file) = &self.state_file
            && let Err(error) = file.save_if_changed()
        {
            tracing::warn!(%error, "state file not written");
        }
    }
}

/// Sends `/sandbox…` to the fake phone and console, everything else to WeChat's door.
struct Front<C> {
    control: C,
    platform: Arc<Platform>,
}

impl<C: Endpoint> Endpoint for Front<C> {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path();
        if path == "/sandbox" || path.starts_with("/sandbox/") {
            self.control.call(request).await.map(IntoResponse::into_response)
        } else {
            Ok(door::answer(&self.platform, request).await)
        }
    }
}
