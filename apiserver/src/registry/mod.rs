//! The generic store of objects: what every verb means for every kind, without HTTP.
//!
//! Owns metadata, optimistic concurrency, deletion and paging. Reads come from [`crate::cache`], writes go to the
//! backend of the kind's class. May not know of requests or bytes on a connection. Called by [`crate::rest`] and by
//! the server's own start-up and authorisation code.

mod allocation;
mod binding;
mod collection;
mod create;
mod delete;
mod environment;
mod error;
mod eviction;
mod keys;
mod list;
mod options;
mod patch;
mod plan;
mod seal;
mod strategy;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod update;
mod view;
mod watch;
mod write;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use drover_api::{
    kinds::{self, Durability, Kind},
    status::ApiError,
};
use drover_store::{Backend, Error, Operation, Revision, Transaction, TransactionResult};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use binding::Bind;
pub use delete::Deleted;
pub use environment::{Environment, System, format_time};
pub use error::from_store;
pub use keys::{ROOT, key, local, prefix};
pub(crate) use keys::{SEALED, SEALING_RECORD, SERVICE_ALLOCATIONS};
pub use list::List;
pub use options::{DeleteOptions, ListOptions, Propagation, VersionMatch, WriteOptions, parse_revision};
pub use patch::Patch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use seal::unseal_any;
pub use update::Part;
pub use view::to_view;
pub use watch::{Frame, WatchOptions, Watching};

use crate::{
    admission::Admission,
    authz::{Attributes, Authorizer, MASTERS},
    cache::{Cache, KindCache, Object, Snapshot},
    reach,
    request::User,
    volatile::{Limit, Overflow, Volatile, kept::Kept},
};

/// Events kept in memory; beyond it the oldest goes.
const EVENTS_MAX: usize = 10_000;
/// Leases kept in memory: one a node and one a controller, with room to spare.
const LEASES_MAX: usize = 20_000;
/// Kubernetes' default life of an Event.
const EVENT_LIFE: Duration = Duration::from_secs(3600);

/// Every object of the cluster.
#[derive(Debug)]
pub struct Registry {
    durable: Arc<dyn Backend>,
    volatile: Arc<dyn Backend>,
    durable_cache: Arc<Cache>,
    volatile_cache: Arc<Cache>,
    environment: Arc<dyn Environment>,
    admission: Admission,
    seal: seal::Seal,
    /// Held from reading the addresses in use to writing the Service that takes one.
    allocations: tokio::sync::Mutex<()>,
    /// Held while a budget is charged, so that a hundred evictions at once queue instead of racing each other.
    evictions: tokio::sync::Mutex<()>,
    /// Weak, because authorisation itself reads the registry.
    authorizer: std::sync::OnceLock<std::sync::Weak<Authorizer>>,
    shutdown: CancellationToken,
}

/// Where the two classes of objects are.
#[derive(Debug)]
pub(crate) struct Stores {
    /// What lasts.
    pub(crate) durable: Arc<dyn Backend>,
    /// Leases and Events.
    pub(crate) volatile: Arc<dyn Backend>,
}

impl Registry {
    /// Opens the registry on a backend and fills its caches. The tasks end with `shutdown`.
    ///
    /// # Errors
    /// The backend's error when it cannot be written to or read.
    pub async fn start(
        backend: Arc<dyn Backend>,
        environment: Arc<dyn Environment>,
        admission: Admission,
        shutdown: CancellationToken,
    ) -> Result<(Arc<Self>, Vec<JoinHandle<()>>), Error> {
        let epoch = write_epoch(&*backend).await?;
        let memory = Volatile::new(epoch, volatile_limits());
        let volatile: Arc<dyn Backend> = Arc::new(Kept::open(memory, Arc::clone(&backend), None, Vec::new()).await?);
        Self::start_on(Stores { durable: backend, volatile }, environment, admission, shutdown).await
    }

    /// Like [`start`](Self::start), with a memory-only class that may be another server's.
    ///
    /// # Errors
    /// The durable backend's; a memory-only class that cannot be read yet is filled in later.
    pub(crate) async fn start_on(
        Stores { durable: backend, volatile }: Stores,
        environment: Arc<dyn Environment>,
        admission: Admission,
        shutdown: CancellationToken,
    ) -> Result<(Arc<Self>, Vec<JoinHandle<()>>), Error> {
        let seal = seal::Seal::open(&*backend, &*environment).await?;
        let durable_cache = Arc::new(Cache::new(stored_kinds(Durability::Durable), keys::prefix));
        let volatile_cache = Arc::new(Cache::new(stored_kinds(Durability::Volatile), keys::prefix));
        let mut tasks = vec![
            durable_cache.start(Arc::clone(&backend), keys::ROOT, shutdown.clone()).await?,
            volatile_cache.start_lazily(Arc::clone(&volatile), keys::ROOT, shutdown.clone()).await,
        ];
        let registry = Arc::new(Self {
            durable: backend,
            volatile,
            durable_cache,
            volatile_cache,
            environment,
            admission,
            seal,
            allocations: tokio::sync::Mutex::new(()),
            evictions: tokio::sync::Mutex::new(()),
            authorizer: std::sync::OnceLock::new(),
            shutdown,
        });
        tasks.push(tokio::spawn(Arc::clone(&registry).expire_events()));
        Ok((registry, tasks))
    }

    /// Says who decides about roles and bindings; until then only `system:masters` may write them.
    pub fn set_authorizer(&self, authorizer: &Arc<Authorizer>) {
        // A second call would be a second server on one registry, which nothing builds; the first one stays.
        _ = self.authorizer.set(Arc::downgrade(authorizer));
    }

    /// Returns the newest cached snapshot of a kind without waiting: for authorisation, indexes and metrics.
    pub fn snapshot(&self, kind: &'static Kind) -> Snapshot {
        self.kind_cache(kind).map(|(_, cache)| cache.snapshot()).unwrap_or_default()
    }

    /// Returns one object from the cache without waiting for the newest revision.
    pub fn peek(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.kind_cache(kind)?.1.get(&keys::local(kind, namespace, name))
    }

    /// Reads one object, as new as the request.
    ///
    /// # Errors
    /// 404, or the store's error.
    pub async fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Result<Arc<Object>, ApiError> {
        self.synchronise(kind).await?;
        self.readable(kind, namespace, name)
    }

    /// Reads one object at least as new as `revision` (0: any).
    ///
    /// # Errors
    /// 404, 504 for a revision that has not happened, or the store's error.
    pub async fn get_since(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        revision: Revision,
    ) -> Result<Arc<Object>, ApiError> {
        let (cache, _) = self.kind_cache(kind).ok_or_else(|| unserved(kind))?;
        cache.wait_for(revision).await?;
        self.readable(kind, namespace, name)
    }

    /// Returns one object from the cache; an object that is there but cannot be read is an error, not absent.
    fn readable(&self, kind: &'static Kind, namespace: &str, name: &str) -> Result<Arc<Object>, ApiError> {
        let (_, cache) = self.kind_cache(kind).ok_or_else(|| unserved(kind))?;
        let key = keys::local(kind, namespace, name);
        let snapshot = cache.snapshot();
        if let Some(why) = snapshot.unreadable.get(&*key) {
            return Err(unreadable(kind, &key, why));
        }
        snapshot.objects.get(&*key).cloned().ok_or_else(|| ApiError::not_found(kind, name))
    }

    /// Waits until the caches show everything that was acknowledged before this call; returns that revision.
    ///
    /// # Errors
    /// 504 when they cannot catch up, or the store's error.
    pub async fn synchronise(&self, kind: &'static Kind) -> Result<Revision, ApiError> {
        let (cache, _) = self.kind_cache(kind).ok_or_else(|| unserved(kind))?;
        let revision = match self.backend(kind).revision().await {
            Ok(revision) => revision,
            Err(error) if reach::settle_for_memory(&error) => return Ok(cache.applied()),
            Err(error) => return Err(from_store(&error)),
        };
        if !drover_api::mutants::active("W04-serves-stale") {
            cache.wait_for(revision).await?;
        }
        Ok(revision)
    }

    /// Returns every object of the memory-only class as it is stored, as this server last saw it.
    pub(crate) fn volatile_objects(&self) -> Vec<(Bytes, Bytes)> {
        self.volatile_cache.stored()
    }

    /// The clock, identities and chance of this server.
    pub fn environment(&self) -> &dyn Environment {
        &*self.environment
    }

    /// The store of everything that must last.
    pub(crate) fn durable(&self) -> &dyn Backend {
        &*self.durable
    }

    pub(crate) fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    fn backend(&self, kind: &'static Kind) -> &dyn Backend {
        match kind.storage_kind().durability {
            Durability::Durable => &*self.durable,
            Durability::Volatile | Durability::Virtual => &*self.volatile,
        }
    }

    fn kind_cache(&self, kind: &'static Kind) -> Option<(&Cache, &KindCache)> {
        let stored = kind.storage_kind();
        let cache = match stored.durability {
            Durability::Durable => &self.durable_cache,
            Durability::Volatile | Durability::Virtual => &self.volatile_cache,
        };
        cache.kind(stored).map(|kind_cache| (&**cache, kind_cache))
    }

    /// Drops Events that nobody touched for an hour.
    async fn expire_events(self: Arc<Self>) {
        let Some(events) = kinds::by_resource("", "v1", "events") else { return };
        let mut old = 0;
        loop {
            tokio::select! {
                // Cancel-safe: both arms only wait.
                () = tokio::time::sleep(EVENT_LIFE / 2) => {}
                () = self.shutdown.cancelled() => return,
            }
            let snapshot = self.snapshot(events);
            let stale = snapshot.objects.iter().filter(|(_, object)| object.revision <= old);
            let operations: Vec<Operation> =
                stale.map(|(name, _)| Operation::Delete { key: (keys::prefix(events) + name).into() }).collect();
            old = snapshot.revision;
            let transaction = Transaction { compares: Vec::new(), operations };
            if let Err(error) = self.volatile.commit(transaction).await {
                tracing::warn!(error = %error, "could not expire events");
            }
        }
    }
}

/// 500 that names an object which is stored but cannot be read.
pub(crate) fn unreadable(kind: &Kind, key: &str, why: &str) -> ApiError {
    ApiError::internal(format!("{} {key:?} cannot be read: {why}", kind.qualified_resource()))
}

/// The error of a kind that has no storage, which no route leads to.
fn unserved(kind: &Kind) -> ApiError {
    ApiError::new(404, "NotFound", format!("the server could not find the requested resource ({})", kind.plural))
}

fn stored_kinds(durability: Durability) -> impl Iterator<Item = &'static Kind> {
    kinds::all().iter().filter(move |kind| kind.durability == durability && kind.stored_as.is_none())
}

pub(crate) fn volatile_limits() -> Vec<Limit> {
    let limits = [("events", EVENTS_MAX, Overflow::EvictOldest), ("leases", LEASES_MAX, Overflow::Refuse)];
    let of = |plural| stored_kinds(Durability::Volatile).find(move |kind| kind.plural == plural);
    limits
        .into_iter()
        .filter_map(|(plural, keys_max, overflow)| {
            of(plural).map(|kind| Limit { prefix: keys::prefix(kind), keys_max, overflow })
        })
        .collect()
}

async fn write_epoch(backend: &dyn Backend) -> Result<Revision, Error> {
    let put = Operation::Put { key: keys::EPOCH.into(), value: Bytes::from_static(b"{}") };
    match backend.commit(Transaction { compares: Vec::new(), operations: vec![put] }).await? {
        TransactionResult::Committed { revision } | TransactionResult::Conflict { revision, .. } => Ok(revision),
    }
}

impl crate::admission::World for Registry {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.peek(stored_kind(group, plural)?, namespace, name)
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Object>> {
        let Some(kind) = stored_kind(group, plural) else { return Vec::new() };
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let snapshot = self.snapshot(kind);
        crate::cache::range(&snapshot.objects, &prefix, "").map(|(_, object)| Arc::clone(object)).collect()
    }

    fn allows(&self, user: &User, attributes: &Attributes) -> bool {
        if user.in_group(MASTERS) {
            return true;
        }
        let authorizer = self.authorizer.get().and_then(std::sync::Weak::upgrade);
        authorizer.is_some_and(|authorizer| authorizer.check(user, attributes).is_ok())
    }

    fn check_escalation(
        &self,
        user: &User,
        resource: &str,
        object: &serde_json::Value,
        old: Option<&serde_json::Value>,
    ) -> Result<(), ApiError> {
        if user.in_group(MASTERS) {
            return Ok(());
        }
        match self.authorizer.get().and_then(std::sync::Weak::upgrade) {
            Some(authorizer) => authorizer.check_escalation(user, resource, object, old),
            None => Err(ApiError::new(403, "Forbidden", "roles cannot be written before authorisation is ready")),
        }
    }
}

fn stored_kind(group: &str, plural: &str) -> Option<&'static Kind> {
    kinds::all().iter().find(|kind| kind.group == group && kind.plural == plural)
}
