//! How the benchmark asks the upstream stub what it saw.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Result, child::Child, http::Connection};

/// One call that sends a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Push {
    pub label: String,
    /// Nanoseconds since 1970.
    pub at: u64,
}

/// The stub, running.
pub struct Upstream {
    pub address: SocketAddr,
    _child: Child,
}

impl Upstream {
    pub fn start() -> Result<Self> {
        let (child, address) = Child::of_our_own(&["upstream"])?;
        Ok(Self { address, _child: child })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Forgets everything; from now on sending takes this long.
    pub async fn reset(&self, latency: Duration) -> Result<()> {
        self.ask(&format!("/bench/reset?latency_ms={}", latency.as_millis())).await?;
        Ok(())
    }

    /// Waits until so many different messages were seen; gives when the last of them came, in nanoseconds
    /// since 1970.
    pub async fn wait_for(&self, messages: usize, patience: Duration) -> Result<u64> {
        let path = format!("/bench/wait?labels={messages}");
        let answer = tokio::time::timeout(patience, self.ask(&path)).await;
        let answer = answer.map_err(|_| format!("{messages} messages did not come in {patience:?}"))??;
        answer.as_u64().ok_or_else(|| "not a time".into())
    }

    pub async fn pushes(&self) -> Result<Vec<Push>> {
        Ok(serde_json::from_value(self.ask("/bench/pushes").await?)?)
    }

    async fn ask(&self, path: &str) -> Result<serde_json::Value> {
        Connection::open(self.address).await?.get(path).await?.json()
    }
}
