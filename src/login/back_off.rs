//! Rest from code2Session when WeChat says that it is asked too often (45011).
//!
//! WeChat counts by user, whom only the spent code would tell, so the address the login came from rests: one
//! second after the first such answer, twice as long after each further one, a minute at most. Any other
//! answer ends it. When many addresses of an app rest, it is a flood, and the whole app does. Each node
//! counts for itself. One user who is refused thus keeps nobody else out.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use entity::Timestamp;

use crate::{
    context::Context,
    error::{Code, Error},
};

/// WeChat: called too often.
const TOO_OFTEN: i64 = 45011;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// This many resting addresses are a flood.
const FLOOD: usize = 8;
/// How long an address is remembered after its rest, so that the next one is longer.
const REMEMBERED: Duration = Duration::from_mins(2);

#[derive(Clone, Copy)]
struct Rest {
    until: Timestamp,
    span: Duration,
}

/// The addresses that rest, by app.
#[derive(Default)]
struct Resting(Mutex<HashMap<String, HashMap<String, Rest>>>);

/// Refuses a login while the address, or all of the app, rests: WeChat is not asked.
pub(super) fn check(ctx: &Context, app_id: &str, address: &str) -> Result<(), Error> {
    let (resting, now) = (ctx.memory::<Resting>(), ctx.clock.now());
    let resting = resting.0.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(of_app) = resting.get(app_id) else { return Ok(()) };
    let own = of_app.get(address).map(|rest| rest.until).filter(|until| *until > now);
    let now_resting: Vec<_> = of_app.values().map(|rest| rest.until).filter(|until| *until > now).collect();
    let flood = now_resting.iter().copied().min().filter(|_| now_resting.len() >= FLOOD);
    match own.or(flood) {
        Some(until) => Err(Error::new(Code::LoginTooOften).retry_after(until.since(now))),
        None => Ok(()),
    }
}

/// Notes what WeChat answered to a login from this address: its error code, 0 for none.
pub(super) fn note(ctx: &Context, app_id: &str, address: &str, errcode: i64) {
    let (resting, now) = (ctx.memory::<Resting>(), ctx.clock.now());
    let mut resting = resting.0.lock().unwrap_or_else(PoisonError::into_inner);
    if errcode != TOO_OFTEN {
        if let Some(of_app) = resting.get_mut(app_id) {
            of_app.remove(address);
        }
        return;
    }
    let of_app = resting.entry(app_id.to_owned()).or_default();
    of_app.retain(|_, rest| rest.until + REMEMBERED > now);
    let before = of_app.get(address).copied();
    // Calls that were under way together count as one refusal.
    if before.is_some_and(|rest| rest.until > now) {
        return;
    }
    let span = before.map_or(SHORTEST, |rest| (rest.span * 2).min(LONGEST));
    tracing::warn!(app.id = app_id, rest_seconds = span.as_secs(), resting = of_app.len() + 1, "login.rests");
    of_app.insert(address.to_owned(), Rest { until: now + span, span });
}
