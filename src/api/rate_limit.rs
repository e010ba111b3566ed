//! Limits per caller (governor: GCRA), of this node. A limit of 0 is none.

use std::{net::IpAddr, num::NonZeroU32, sync::OnceLock, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DefaultKeyedStateStore,
};
use poem::Request;

use super::problem::Failure;
use crate::{
    context::Context,
    error::{Code, Error},
};

type Limiter = RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock>;

#[derive(Default)]
struct Limiters {
    login: OnceLock<Option<Limiter>>,
    events: OnceLock<Option<Limiter>>,
}

fn limiter(per_minute: u32) -> Option<Limiter> {
    NonZeroU32::new(per_minute).map(|rate| RateLimiter::keyed(Quota::per_minute(rate)))
}

/// Logins, by the caller's address.
pub fn login(ctx: &Context, request: &Request) -> Result<(), Failure> {
    let limiters = ctx.memory::<Limiters>();
    let limiter = limiters.login.get_or_init(|| limiter(ctx.config.limits.login_per_ip));
    check(limiter.as_ref(), &client(ctx, request))
}

/// Events, by API key.
pub fn events(ctx: &Context, prefix: &str) -> Result<(), Failure> {
    let limiters = ctx.memory::<Limiters>();
    let limiter = limiters.events.get_or_init(|| limiter(ctx.config.limits.events_per_key));
    check(limiter.as_ref(), prefix)
}

fn check(limiter: Option<&Limiter>, key: &str) -> Result<(), Failure> {
    let Some(limiter) = limiter else { return Ok(()) };
    // Callers that have not come for a while cost nothing.
    if limiter.len() > 100_000 {
        limiter.retain_recent();
    }
    limiter.check_key(&key.to_owned()).map_err(|until| {
        let wait = until.wait_time_from(DefaultClock::default().now());
        Error::new(Code::RateLimited).retry_after(wait.max(Duration::from_secs(1))).into()
    })
}

/// The caller's address: the connection's, or what a trusted proxy says. The last entry of
/// X-Forwarded-For that is no trusted proxy is the one nobody outside could make up.
fn client(ctx: &Context, request: &Request) -> String {
    let Some(peer) = request.remote_addr().as_socket_addr().map(std::net::SocketAddr::ip) else {
        return "unknown".into();
    };
    let trusted = |address: &IpAddr| {
        ctx.config.trusted_proxies.iter().any(|network| {
            network.parse::<IpAddr>().is_ok_and(|proxy| proxy == *address)
                || network.parse::<ipnet::IpNet>().is_ok_and(|network| network.contains(address))
        })
    };
    if !trusted(&peer) {
        return peer.to_string();
    }
    let forwarded = request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<IpAddr> =
        forwarded.flat_map(|value| value.split(',')).filter_map(|hop| hop.trim().parse().ok()).collect();
    hops.into_iter().rev().find(|hop| !trusted(hop)).unwrap_or(peer).to_string()
}
