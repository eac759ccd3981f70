//! One kind of object as controllers see it: a cache to read, requests to write, and the promise that the cache is
//! never older than what this process wrote itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::ObjectKey;
use super::cache::{Cache, Change, Index, IndexFn};
use super::error::{Error, Result};
use super::merge::merge_patch;

/// No request may take longer: a hung server is an error, not a wedge.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a pass waits for the informer to catch up with this process's own writes before it backs off.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);
/// Objects in doubt that are asked for side by side.
const ASK_AT_ONCE: usize = 16;
/// The name under which controllers write, as `managedFields` and audit show it.
const FIELD_MANAGER: &str = "drover-controllers";

/// What an object type must offer to be cached and written.
pub trait Object:
    kube::Resource<DynamicType: Clone + fmt::Debug + Send + Sync + 'static>
    + Clone
    + fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: kube::Resource<DynamicType: Clone + fmt::Debug + Send + Sync + 'static>
        + Clone
        + fmt::Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Objects to a page of a list: bounds the size of one answer.
const LIST_PAGE: u32 = 1000;

#[derive(serde::Deserialize)]
#[serde(bound(deserialize = "K: DeserializeOwned"))]
struct Page<K> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<K>,
}

type Handler<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// A handle on one kind; clones share the cache.
pub struct Resource<K: Object> {
    pub(super) shared: Arc<Shared<K>>,
}

pub(super) struct Shared<K: Object> {
    pub(super) client: kube::Client,
    pub(super) dynamic: K::DynamicType,
    pub(super) field_selector: Option<String>,
    pub(super) cache: Cache<K>,
    handlers: Mutex<Vec<Handler<K>>>,
    /// The highest revision the informer has reached; 0 before the first list.
    pub(super) seen: watch::Sender<u64>,
    /// The highest revision this process wrote.
    written: AtomicU64,
    /// Objects this process deleted that the cache may still show as living, by uid.
    doomed: Mutex<BTreeMap<String, ObjectKey>>,
    /// Objects that a failed write proved to be other than the cache shows, or may have changed, by how often.
    doubted: Mutex<BTreeMap<ObjectKey, u64>>,
    /// Held by whoever asks about them.
    settling: tokio::sync::Mutex<()>,
    /// When the server was last heard on this stream.
    pub(super) contact: Mutex<Option<Timestamp>>,
    /// Whether the stream is up, as far as is known.
    pub(super) connected: AtomicBool,
}

impl<K: Object> Clone for Resource<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Object> fmt::Debug for Resource<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Resource").field("kind", &self.kind()).field("seen", &self.revision()).finish()
    }
}

/// What a deletion does to the objects that the deleted one owns, and how long a pod may take.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// The object must still be this one.
    pub uid: String,
    /// The object must still be in this version, when set.
    pub resource_version: Option<String>,
    /// Seconds a pod gets to end; `None` leaves the choice to the object.
    pub grace_period_secs: Option<u32>,
    /// Background, Foreground or Orphan; `None` leaves the choice to the server.
    pub propagation: Option<kube::api::PropagationPolicy>,
}

impl DeleteOptions {
    /// Deletes exactly the object with this uid.
    pub fn uid(uid: impl Into<String>) -> Self {
        Self { uid: uid.into(), ..Self::default() }
    }
}

impl<K: Object> Resource<K> {
    /// Makes the handle of a kind. `field_selector` narrows what the cache holds.
    pub fn new(
        client: kube::Client,
        dynamic: K::DynamicType,
        indexers: Vec<(Index, IndexFn<K>)>,
        field_selector: Option<&str>,
    ) -> Self {
        let shared = Shared {
            client,
            dynamic,
            field_selector: field_selector.map(ToOwned::to_owned),
            cache: Cache::new(indexers),
            handlers: Mutex::new(Vec::new()),
            seen: watch::Sender::new(0),
            written: AtomicU64::new(0),
            doomed: Mutex::new(BTreeMap::new()),
            doubted: Mutex::new(BTreeMap::new()),
            settling: tokio::sync::Mutex::new(()),
            contact: Mutex::new(None),
            connected: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the kind's name, for example `Pod`.
    pub fn kind(&self) -> String {
        K::kind(&self.shared.dynamic).into_owned()
    }

    /// Returns the cache.
    pub fn cache(&self) -> &Cache<K> {
        &self.shared.cache
    }

    /// Returns the highest revision the cache has reached; 0 before the first list.
    pub fn revision(&self) -> u64 {
        *self.shared.seen.borrow()
    }

    /// Returns how long the server has been silent on this stream; `None` before the first answer.
    pub fn silence(&self, now: Timestamp) -> Option<Duration> {
        let contact = *self.shared.contact.lock().unwrap_or_else(PoisonError::into_inner);
        contact.map(|contact| Duration::try_from(now.duration_since(contact)).unwrap_or_default())
    }

    /// Whether the cache follows the server at this moment: its stream is up and was heard within `patience`.
    pub fn is_live(&self, now: Timestamp, patience: Duration) -> bool {
        let heard = self.silence(now).is_some_and(|silence| silence <= patience);
        heard && self.shared.connected.load(Ordering::Acquire)
    }

    /// Calls `handler` after each change of the cache. Handlers must not block: they put keys on queues.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.lock_handlers().push(Box::new(handler));
    }

    pub(super) fn dispatch(&self, change: &Change<K>) {
        for handler in self.lock_handlers().iter() {
            handler(change);
        }
    }

    pub(super) fn forget_handlers(&self) {
        let handlers = std::mem::take(&mut *self.lock_handlers());
        drop(handlers);
    }

    fn lock_handlers(&self) -> std::sync::MutexGuard<'_, Vec<Handler<K>>> {
        self.shared.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the cache shows everything this process wrote, or may have written, or met in a conflict.
    ///
    /// # Errors
    /// [`Error::Stale`] when the informer does not catch up within five seconds; [`Error::Request`] when the server does
    /// not say what came of a write.
    pub async fn caught_up(&self) -> Result<()> {
        if drover_api::mutants::active("C05-no-wait-for-own-writes") {
            return Ok(());
        }
        self.settle_doubts().await?;
        let written = self.shared.written.load(Ordering::Acquire);
        let mut seen = self.shared.seen.subscribe();
        let reached = async {
            while *seen.borrow_and_update() < written || self.shows_doomed() {
                if seen.changed().await.is_err() {
                    break;
                }
            }
        };
        if tokio::time::timeout(CATCH_UP_TIMEOUT, reached).await.is_ok() {
            return Ok(());
        }
        // A deletion may have been undone by a lost reply; after the wait the server's word counts again.
        self.lock_doomed().clear();
        Err(Error::Stale { kind: self.kind(), revision: written })
    }

    /// Whether the cache still shows as living an object that this process deleted.
    fn shows_doomed(&self) -> bool {
        let mut doomed = self.lock_doomed();
        doomed.retain(|uid, key| {
            self.shared.cache.get(key).is_some_and(|object| {
                let metadata = object.meta();
                metadata.uid.as_deref() == Some(uid) && metadata.deletion_timestamp.is_none()
            })
        });
        !doomed.is_empty()
    }

    /// Asks the server for every object in doubt; the cache must come as far as its answers.
    async fn settle_doubts(&self) -> Result<()> {
        if self.lock_doubted().is_empty() {
            return Ok(());
        }
        // One pass asks for all of them; those that wait here find nothing left to ask.
        let _turn = self.shared.settling.lock().await;
        let doubted = self.lock_doubted().clone();
        let asked = doubted.into_iter().map(|(key, times)| self.settle(key, times));
        let mut answers = stream::iter(asked).buffer_unordered(ASK_AT_ONCE);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    }

    async fn settle(&self, key: ObjectKey, times: u64) -> Result<()> {
        match self.get_fresh(&key).await? {
            Some(object) => self.note_written(&object),
            None => {
                let uid = self.shared.cache.get(&key).and_then(|known| known.meta().uid.clone());
                uid.into_iter().for_each(|uid| drop(self.lock_doomed().insert(uid, key.clone())));
            }
        }
        // A write that failed while we asked must be asked about anew.
        let mut doubted = self.lock_doubted();
        if doubted.get(&key) == Some(&times) {
            doubted.remove(&key);
        }
        Ok(())
    }

    fn lock_doubted(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, u64>> {
        self.shared.doubted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_doomed(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, ObjectKey>> {
        self.shared.doomed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_written(&self, object: &K) {
        let revision = object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        self.shared.written.fetch_max(revision, Ordering::AcqRel);
    }

    /// Reads an object from the server, past the cache.
    ///
    /// # Errors
    /// [`Error::Request`] for anything but "not found", which is `None`.
    pub async fn get_fresh(&self, key: &ObjectKey) -> Result<Option<K>> {
        let request = self.requests(key).get(&key.name, &GetParams::default());
        match self.send("get", key, request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads every object of a namespace from the server, past the cache; of all namespaces for an empty name.
    ///
    /// # Errors
    /// [`Error::Request`].
    pub async fn list_fresh(&self, namespace: &str) -> Result<Vec<K>> {
        let key = ObjectKey::new(namespace, "");
        let mut params = ListParams { limit: Some(LIST_PAGE), ..ListParams::default() };
        let mut objects = Vec::new();
        loop {
            let page: Page<K> = self.send("list", &key, self.requests(&key).list(&params)).await?;
            objects.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(objects),
            }
        }
    }

    /// Returns the plural name of the kind with its group, for example `deployments.apps`.
    pub fn resource_name(&self) -> String {
        let (plural, group) = (K::plural(&self.shared.dynamic), K::group(&self.shared.dynamic));
        if group.is_empty() { plural.into_owned() } else { format!("{plural}.{group}") }
    }

    /// Sends a whole object to a subresource; `before` says which object and, by its version, is the precondition.
    ///
    /// # Errors
    /// [`Error::Request`]; [`Error::Encode`].
    pub async fn replace_subresource<B: Serialize>(&self, before: &K, subresource: &str, body: &B) -> Result<()> {
        let key = ObjectKey::of(before);
        let data = serde_json::to_vec(body).map_err(|source| Error::Encode { key: key.clone(), source })?;
        let request = self.requests(&key).replace_subresource(subresource, &key.name, &post_params(), data);
        self.send::<Value>("replace", &key, request).await.map(drop)
    }

    /// Creates an object. Its name is the precondition.
    ///
    /// # Errors
    /// [`Error::Request`], which knows whether the name was taken; [`Error::Encode`].
    pub async fn create(&self, object: &K) -> Result<K> {
        let key = ObjectKey::of(object);
        let data = serde_json::to_vec(object).map_err(|source| Error::Encode { key: key.clone(), source })?;
        let request = self.requests(&key).create(&post_params(), data);
        let created: K = self.send("create", &key, request).await?;
        self.note_written(&created);
        Ok(created)
    }

    /// Writes what differs between two versions of an object, or nothing; `before` is the precondition.
    /// `subresource` is `Some("status")` for status, `None` for everything else.
    ///
    /// # Errors
    /// [`Error::Request`] with a conflict when the object is no longer `before`; [`Error::Encode`].
    pub async fn update(&self, before: &K, after: &K, subresource: Option<&str>) -> Result<Option<K>> {
        let key = ObjectKey::of(before);
        let encode =
            |object: &K| serde_json::to_value(object).map_err(|source| Error::Encode { key: key.clone(), source });
        match merge_patch(&encode(before)?, &encode(after)?) {
            Some(patch) => self.patch(before, patch, subresource).await.map(Some),
            None => Ok(None),
        }
    }

    /// Applies a JSON merge patch to an object that must still be the version at hand.
    ///
    /// # Errors
    /// [`Error::Request`] with a conflict when the object is no longer `before`.
    pub async fn patch(&self, before: &K, mut patch: Value, subresource: Option<&str>) -> Result<K> {
        let key = ObjectKey::of(before);
        if !drover_api::mutants::active("C03-writes-without-precondition") {
            patch["metadata"]["resourceVersion"] = before.meta().resource_version.clone().into();
        }
        patch["metadata"]["uid"] = before.meta().uid.clone().into();
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let requests = self.requests(&key);
        let request = match subresource {
            Some(subresource) => requests.patch_subresource(subresource, &key.name, &params, &Patch::Merge(patch)),
            None => requests.patch(&key.name, &params, &Patch::Merge(patch)),
        };
        let patched: K = self.send("patch", &key, request).await?;
        self.note_written(&patched);
        Ok(patched)
    }

    /// Deletes an object with exactly the uid named. An object that is gone already, or has been replaced by
    /// another of the same name, is success.
    ///
    /// # Errors
    /// [`Error::Request`] for any other refusal.
    pub async fn delete(&self, key: &ObjectKey, options: &DeleteOptions) -> Result<()> {
        let params = DeleteParams {
            grace_period_seconds: options.grace_period_secs,
            propagation_policy: options.propagation.clone(),
            preconditions: Some(kube::api::Preconditions {
                uid: (!drover_api::mutants::active("C02-deletes-by-name")).then(|| options.uid.clone()),
                resource_version: options.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        let request = self.requests(key).delete(&key.name, &params);
        match self.send::<Value>("delete", key, request).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) if error.is_conflict() && options.resource_version.is_none() => {}
            Err(error) => return Err(error),
        }
        if self.revision() > 0 {
            // Only where a cache is kept can it be behind.
            self.lock_doomed().insert(options.uid.clone(), key.clone());
            // Wake whoever waits: the object may have gone from the cache before it was noted here.
            self.shared.seen.send_modify(|_| {});
        }
        Ok(())
    }

    /// Sends a body to a subresource, such as `pods/binding` or `serviceaccounts/token`.
    ///
    /// # Errors
    /// [`Error::Request`]; [`Error::Encode`].
    pub async fn create_subresource<B: Serialize, T: DeserializeOwned>(
        &self,
        key: &ObjectKey,
        subresource: &str,
        body: &B,
    ) -> Result<T> {
        let data = serde_json::to_vec(body).map_err(|source| Error::Encode { key: key.clone(), source })?;
        let request = self.requests(key).create_subresource(subresource, &key.name, &post_params(), data);
        self.send("create", key, request).await
    }

    fn requests(&self, key: &ObjectKey) -> Request {
        let namespace = (!key.namespace.is_empty()).then_some(key.namespace.as_str());
        Request::new(K::url_path(&self.shared.dynamic, namespace))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        key: &ObjectKey,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T> {
        let failed = |source: kube::Error| Error::Request {
            verb,
            kind: self.kind(),
            key: key.clone(),
            source: Box::new(source),
        };
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let writes = request.method() != http::Method::GET;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.shared.client.request_text(request));
        let answer = answer.await.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())));
        let answer = answer.map_err(failed);
        if writes && answer.as_ref().is_err_and(Error::leaves_doubt) {
            self.doubt(key);
        }
        serde_json::from_str(&answer?).map_err(|error| failed(kube::Error::SerdeError(error)))
    }

    fn doubt(&self, key: &ObjectKey) {
        // Only where a cache is kept can it be behind.
        if self.revision() > 0 && !key.name.is_empty() && !drover_api::mutants::active("C05-believes-in-failure") {
            *self.lock_doubted().entry(key.clone()).or_default() += 1;
        }
    }
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}
