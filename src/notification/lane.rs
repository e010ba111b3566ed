//! An app's lane on this node: how many calls may begin now.
//!
//! ```text
//! slots    at most `concurrency` calls in flight, one per identity (43108)
//! pace     after a limit of the minute: half of what went through, doubled again bit by bit
//! breaker  WeChat fails time after time: one call in a while, until one succeeds; then from a slow pace up
//! ```
//!
//! A message that finds its lane free is sent by the node that accepted it, without being claimed
//! first: its row is born `sending`. Everything else is claimed.

mod breaker;
mod pace;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use entity::{IdentityId, notification};
use tokio::sync::{Notify, mpsc};

use crate::{context::Context, notification::state::Came, wechat::Verdict};
use breaker::Breaker;
use pace::Pace;

/// A row of this node with the right to call WeChat for it.
pub struct Claimed {
    pub row: notification::Model,
    pub ticket: Ticket,
}

/// The lanes of this node. Closed until a worker opens them.
#[derive(Default)]
pub struct Lanes {
    by_app: Mutex<HashMap<String, Arc<Lane>>>,
    open: Mutex<Option<mpsc::UnboundedSender<Claimed>>>,
    /// Tickets that were given and not come back.
    out: Arc<Out>,
}

#[derive(Default)]
struct Out {
    tickets: AtomicUsize,
    all_back: Notify,
}

/// The calls of one app.
#[derive(Default)]
pub struct Lane {
    in_flight: Mutex<HashSet<IdentityId>>,
    pace: Mutex<Pace>,
    breaker: Mutex<Breaker>,
    /// Whether due messages wait for a free call: then nobody goes ahead of them.
    backlog: AtomicBool,
    /// Whether any message waits, be it only for the one before it to the same user.
    pending: AtomicBool,
}

/// The right to one call; given back when dropped.
pub struct Ticket {
    lane: Arc<Lane>,
    identity_id: IdentityId,
    out: Arc<Out>,
    /// Whether a call was made with it and ended.
    told: AtomicBool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.told.load(Ordering::Relaxed) {
            // It may have been the one call that was to find out whether WeChat is back.
            self.lane.found_nothing();
        }
        lock(&self.lane.in_flight).remove(&self.identity_id);
        if self.out.tickets.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.out.all_back.notify_waiters();
        }
    }
}

impl Ticket {
    /// Notes how the call ended.
    pub fn ended(&self, came: &Came) {
        self.told.store(true, Ordering::Relaxed);
        self.lane.ended(came);
    }
}

/// The lanes of the node.
pub fn lanes(ctx: &Context) -> Arc<Lanes> {
    ctx.memory()
}

impl Lanes {
    pub fn of(&self, app_id: &str) -> Arc<Lane> {
        let mut by_app = lock(&self.by_app);
        if let Some(lane) = by_app.get(app_id) {
            return lane.clone();
        }
        by_app.entry(app_id.to_owned()).or_default().clone()
    }

    /// From now on messages are handed over to whoever receives here.
    pub fn open(&self) -> mpsc::UnboundedReceiver<Claimed> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *lock(&self.open) = Some(sender);
        receiver
    }

    /// Nothing new is handed over; what has a ticket still is.
    pub fn close(&self) {
        *lock(&self.open) = None;
    }

    /// A ticket for a new message that is handed over after its commit; None when it must queue.
    pub fn take_for_new(&self, ctx: &Context, app_id: &str, identity_id: IdentityId) -> Option<(Ticket, Handover)> {
        let handover = Handover(lock(&self.open).clone()?);
        let lane = self.of(app_id);
        if lane.backlog.load(Ordering::Relaxed) {
            return None;
        }
        if lane.room(ctx, 1) == 0 {
            lane.backlog.store(true, Ordering::Relaxed);
            return None;
        }
        let ticket = self.take(&lane, identity_id);
        if ticket.is_none() {
            lane.found_nothing();
        }
        Some((ticket?, handover))
    }

    /// The ticket of a row that was claimed; None when the identity has a call in flight.
    pub fn take(&self, lane: &Arc<Lane>, identity_id: IdentityId) -> Option<Ticket> {
        if !lock(&lane.in_flight).insert(identity_id) {
            return None;
        }
        self.out.tickets.fetch_add(1, Ordering::SeqCst);
        Some(Ticket { lane: lane.clone(), identity_id, out: self.out.clone(), told: AtomicBool::new(false) })
    }

    /// Waits until no call is in flight and nothing can be handed over any more.
    pub async fn all_back(&self) {
        loop {
            let back = self.out.all_back.notified();
            tokio::pin!(back);
            back.as_mut().enable();
            if self.out.tickets.load(Ordering::SeqCst) == 0 {
                return;
            }
            back.await;
        }
    }

    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.out.tickets.load(Ordering::SeqCst)
    }
}

/// Where new messages go that need no claim.
#[derive(Clone)]
pub struct Handover(mpsc::UnboundedSender<Claimed>);

impl Handover {
    /// To be called after the row's commit.
    pub fn give(&self, claimed: Claimed) {
        // Without a receiver the worker has died, and with it soon the process; the lease tells.
        let _ = self.0.send(claimed);
    }
}

impl Lane {
    /// How many calls may begin now, at most `most`. What is asked for counts against the pace.
    pub fn room(&self, ctx: &Context, most: usize) -> usize {
        let free = ctx.config.calls_at_once().saturating_sub(lock(&self.in_flight).len()).min(most);
        let free = lock(&self.breaker).room(free);
        lock(&self.pace).room(free)
    }

    /// There was room, but no message for it.
    pub fn found_nothing(&self) {
        lock(&self.breaker).not_tried();
    }

    /// When it is worth asking for room again; None when a call that ends makes some.
    pub fn room_in(&self) -> Option<Duration> {
        lock(&self.breaker).opens_in().or_else(|| lock(&self.pace).room_in())
    }

    pub fn set_backlog(&self, backlog: bool) {
        self.backlog.store(backlog, Ordering::Relaxed);
    }

    pub fn set_pending(&self, pending: bool) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    pub fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    fn ended(&self, came: &Came) {
        if matches!(came, Came::NotCalled { .. }) {
            lock(&self.breaker).not_tried();
            return;
        }
        {
            let mut pace = lock(&self.pace);
            pace.called();
            if matches!(came, Came::Refused { verdict: Verdict::SlowDown, .. } | Came::Limited { .. }) {
                pace.slow_down();
            }
        }
        let failed =
            matches!(came, Came::NotSent | Came::Unknown { .. } | Came::Refused { verdict: Verdict::Retry, .. });
        if lock(&self.breaker).ended(failed) {
            lock(&self.pace).begin_slowly();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_never_became_a_call_is_given_back() {
        let lanes = Lanes::default();
        let lane = lanes.of("wx1");
        *lock(&lane.breaker) = Breaker::Trying { pause: Duration::ZERO };
        assert_eq!(lock(&lane.breaker).room(1), 0, "one call is to find out");
        // The transaction of its message was rolled back.
        drop(lanes.take(&lane, IdentityId(uuid::Uuid::now_v7())));
        assert_eq!(lock(&lane.breaker).room(1), 1, "another one may");
        assert_eq!(lanes.in_flight(), 0);
    }
}
