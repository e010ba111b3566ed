//! What every use-case is given: the database, WeChat, the clock, the configuration, the keys. A
//! cheap clone without logic.

use std::{
    any::{Any, TypeId},
    collections::{BTreeSet, HashMap, HashSet},
    ops::Deref,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::{App, Config},
    database::Database,
    secret::MasterKeys,
    wechat,
};

#[derive(Clone)]
pub struct Context(Arc<Parts>);

pub struct Parts {
    pub db: Database,
    pub wechat: wechat::Client,
    pub clock: Clock,
    pub config: Config,
    pub keys: MasterKeys,
    pub wake: Wake,
    apps: RwLock<Arc<Vec<Arc<App>>>>,
    /// Cancelled when the process is told to stop.
    pub stop: CancellationToken,
    memory: Memory,
}

/// Bells that wake a duty of the worker at once; each duty also runs on a period, so a lost ring only
/// costs time.
#[derive(Default)]
pub struct Wake {
    /// Something of an app may be sent.
    pub delivery: Bell,
    /// A callback was stored.
    pub callbacks: Notify,
    /// An event is for many people.
    pub fan_out: Notify,
    /// Something is to be told to an endpoint; rung with the endpoint's id.
    pub webhooks: Bell,
}

/// A bell that remembers for which apps (or endpoints) it was rung.
#[derive(Default)]
pub struct Bell {
    rung: Mutex<Rung>,
    here: Notify,
    others: Notify,
}

/// For whom a bell was rung.
#[derive(Debug, Default)]
pub struct Rung {
    pub all: bool,
    pub apps: HashSet<String>,
}

impl Bell {
    /// Rings for one app, also on the other nodes.
    pub fn ring(&self, app_id: &str) {
        self.ring_here(|rung| rung.apps.extend([app_id.to_owned()]));
        self.others.notify_one();
    }

    pub fn ring_each(&self, app_ids: &BTreeSet<String>) {
        for app_id in app_ids {
            self.ring(app_id);
        }
    }

    /// Rings for all apps, on this node only: another one rang, or nothing new is to be told.
    pub fn ring_all_here(&self) {
        self.ring_here(|rung| rung.all = true);
    }

    /// Rings for one app on this node only: what became free here is of no use elsewhere.
    pub fn ring_app_here(&self, app_id: &str) {
        self.ring_here(|rung| rung.apps.extend([app_id.to_owned()]));
    }

    fn ring_here(&self, note: impl FnOnce(&mut Rung)) {
        note(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        self.here.notify_one();
    }

    /// Waits until it was rung on this node.
    pub async fn heard(&self) {
        self.here.notified().await;
    }

    /// Waits until it was rung for the other nodes, too.
    pub async fn heard_for_others(&self) {
        self.others.notified().await;
    }

    /// For whom it was rung since the last time.
    pub fn take(&self) -> Rung {
        std::mem::take(&mut *self.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Context {
    pub fn new(db: Database, wechat: wechat::Client, clock: Clock, config: Config, keys: MasterKeys) -> Self {
        let (wake, memory) = (Wake::default(), Memory::default());
        let stop = CancellationToken::new();
        let apps = RwLock::new(shared(&config.apps));
        Self(Arc::new(Parts { db, wechat, clock, config, keys, wake, apps, stop, memory }))
    }

    /// The configured apps, as last loaded.
    pub fn apps(&self) -> Arc<Vec<Arc<App>>> {
        self.0.apps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The app with this AppID.
    pub fn app(&self, app_id: &str) -> Option<Arc<App>> {
        self.apps().iter().find(|app| app.app_id == app_id).cloned()
    }

    /// Takes over the apps of a configuration that was read again.
    pub fn replace_apps(&self, apps: &[App]) {
        *self.0.apps.write().unwrap_or_else(PoisonError::into_inner) = shared(apps);
    }

    /// What this node remembers of one kind, made empty at the first call: caches and connections
    /// that belong to one product file, so that the type stays private to it.
    pub fn memory<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.0.memory.get()
    }
}

impl Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

fn shared(apps: &[App]) -> Arc<Vec<Arc<App>>> {
    Arc::new(apps.iter().cloned().map(Arc::new).collect())
}

#[derive(Default)]
struct Memory(RwLock<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Memory {
    fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let kind = TypeId::of::<T>();
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&kind).cloned();
        let kept = known.unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.entry(kind).or_insert_with(|| Arc::new(T::default())).clone()
        });
        kept.downcast().unwrap_or_else(|_| unreachable!("the key is the type's own id"))
    }
}
