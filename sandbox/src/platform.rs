//! What all requests share: the world behind its lock, the clock, and the tasks that outlive a request.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    connection::Lines,
    world::{InFlight, World},
};

pub(crate) struct Platform {
    world: Mutex<World>,
    changed: AtomicBool,
    pub clock: Clock,
    pub in_flight: InFlight,
    pub lines: Lines,
    /// Posts pushes to the apps' callback URLs.
    pub http: reqwest::Client,
    pub tasks: TaskTracker,
    pub closing: CancellationToken,
}

impl Platform {
    pub(crate) fn new(world: World, http: reqwest::Client) -> Self {
        let clock = Clock::default();
        clock.set_offset_ms(world.clock_offset_ms);
        Self {
            world: Mutex::new(world),
            changed: AtomicBool::new(true),
            clock,
            in_flight: InFlight::default(),
            lines: Lines::default(),
            http,
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// For reading. Never held across an await.
    pub(crate) fn look(&self) -> MutexGuard<'_, World> {
        // A panic in one request must not take the simulator away from all others.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For changing: the state file will be written. Never held across an await.
    pub(crate) fn change(&self) -> MutexGuard<'_, World> {
        self.changed.store(true, Ordering::Relaxed);
        self.look()
    }

    pub(crate) fn take_changed(&self) -> bool {
        self.changed.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn mark_changed(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Runs work that no longer depends on the caller's connection, until the simulator stops.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = closing.cancelled() => {}
            }
        });
    }
}
