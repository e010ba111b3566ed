//! Limits per caller (governor: GCRA), of this node. A limit of 0 is none.
//!
//! Every answer of a limited operation tells how much is left in `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers).

use std::{net::IpAddr, num::NonZeroU32, sync::OnceLock, time::Duration};

use entity::UserId;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DefaultKeyedStateStore,
};
use poem::Request;

use super::{
    problem::Failure,
    request::{self, Left},
};
use crate::{
    context::Context,
    error::{Code, Error},
};

type Keyed = RateLimiter<String, DefaultKeyedStateStore<String>, DefaultClock, StateInformationMiddleware>;

/// Callers remembered before those that have not come for a while are dropped.
const MANY: usize = 100_000;

#[derive(Default)]
struct Limiters {
    login_per_ip: OnceLock<Option<Keyed>>,
    login_per_app: OnceLock<Option<Keyed>>,
    me_per_user: OnceLock<Option<Keyed>>,
    events_per_key: OnceLock<Option<Keyed>>,
}

/// Logins, by the caller's address, which it gives, and by the app.
pub fn login(ctx: &Context, request: &Request, app_id: &str) -> Result<String, Failure> {
    let address = client(ctx, request);
    let (limiters, limits) = (ctx.memory::<Limiters>(), &ctx.config.limits);
    check(&limiters.login_per_ip, "login-per-address", limits.login_per_ip, &address)?;
    // An app that is none takes no room.
    if ctx.app(app_id).is_some() {
        check(&limiters.login_per_app, "login-per-app", limits.login_per_app, app_id)?;
    }
    Ok(address)
}

/// What a signed-in user asks.
pub fn user(ctx: &Context, user_id: UserId) -> Result<(), Failure> {
    check(&ctx.memory::<Limiters>().me_per_user, "me", ctx.config.limits.me_per_user, &user_id.to_string())
}

/// Events told in one request, by API key; all of them or none.
pub fn events(ctx: &Context, prefix: &str, told: usize) -> Result<(), Failure> {
    let per_minute = ctx.config.limits.events_per_key;
    let told = u32::try_from(told).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    if per_minute > 0 && told.get() > per_minute {
        let reason = format!("holds {told} events; limits.events_per_key lets a key tell {per_minute} a minute");
        return Err(Error::field("", reason).into());
    }
    check_some(&ctx.memory::<Limiters>().events_per_key, "events", per_minute, prefix, told)
}

fn check(
    limiter: &OnceLock<Option<Keyed>>,
    policy: &'static str,
    per_minute: u32,
    caller: &str,
) -> Result<(), Failure> {
    check_some(limiter, policy, per_minute, caller, NonZeroU32::MIN)
}

/// Takes `wanted` of what the caller has left, which must be at most what a minute gives.
fn check_some(
    limiter: &OnceLock<Option<Keyed>>,
    policy: &'static str,
    per_minute: u32,
    caller: &str,
    wanted: NonZeroU32,
) -> Result<(), Failure> {
    let limiter = limiter.get_or_init(|| {
        let rate = NonZeroU32::new(per_minute)?;
        Some(RateLimiter::keyed(Quota::per_minute(rate)).with_middleware())
    });
    let Some(limiter) = limiter else { return Ok(()) };
    if limiter.len() > MANY {
        limiter.retain_recent();
    }
    let Ok(answer) = limiter.check_key_n(&caller.to_owned(), wanted) else {
        return Err(Error::new(Code::RateLimited).into());
    };
    match answer {
        Ok(state) => {
            let left = state.remaining_burst_capacity();
            let full_in = u64::from(per_minute.saturating_sub(left)) * 60;
            let seconds = full_in.div_ceil(u64::from(per_minute));
            request::note_limit(Left { policy, per_minute, left, seconds });
            Ok(())
        }
        Err(until) => {
            let wait = until.wait_time_from(DefaultClock::default().now());
            // Rounded up: who comes back a moment too early is refused once more.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let seconds = seconds.max(1);
            request::note_limit(Left { policy, per_minute, left: 0, seconds });
            Err(Error::new(Code::RateLimited).retry_after(Duration::from_secs(seconds)).into())
        }
    }
}

/// The caller's address: the connection's, or what a trusted proxy says. The last entry of
/// X-Forwarded-For that is no trusted proxy is the one nobody outside could make up.
fn client(ctx: &Context, request: &Request) -> String {
    let Some(peer) = request.remote_addr().as_socket_addr().map(std::net::SocketAddr::ip) else {
        return "unknown".into();
    };
    let trusted = |address: &IpAddr| ctx.config.trusted_proxies.iter().any(|network| network.contains(address));
    if !trusted(&peer) {
        return counted(peer);
    }
    let forwarded = request.headers().get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<IpAddr> =
        forwarded.flat_map(|value| value.split(',')).filter_map(|hop| hop.trim().parse().ok()).collect();
    counted(hops.into_iter().rev().find(|hop| !trusted(hop)).unwrap_or(peer))
}

/// One line's customer has all of a /64, so that is what counts as one address of IPv6.
fn counted(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.to_string(),
            None => format!("{:?}/64", &address.segments()[..4]),
        },
    }
}
