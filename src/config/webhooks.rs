//! What is told to business systems, and to which addresses.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::duration;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    pub allow_http: bool,
    /// Besides the public Internet.
    #[serde(deserialize_with = "networks")]
    pub allowed_networks: Vec<IpNet>,
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Calls in flight per endpoint and node.
    pub concurrency: usize,
    #[serde(deserialize_with = "duration")]
    pub disable_after: Duration,
}

/// Networks such as `10.1.0.0/16`, or single addresses.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let read = |text: String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| de::Error::custom(format!("`{text}` is no network; write it as \"10.1.0.0/16\"")))
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().map(read).collect()
}
