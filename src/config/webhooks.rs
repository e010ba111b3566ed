//! What is told to business systems, and to which addresses.

use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{duration, networks};

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
