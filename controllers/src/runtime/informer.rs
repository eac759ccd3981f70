//! Keeps one cache equal to the server: list, then watch from there, for ever.
//!
//! The loop is ours rather than kube's `watcher` because bookmarks must be visible here: they are what proves that a
//! quiet stream is alive and how far it has come. Each stream has its own backoff, so that one kind in trouble never
//! delays another.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt};
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, Status};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::clock::Environment;
use super::error::chain;
use super::key::ObjectKey;
use super::resource::{Object, Resource};

/// First pause after a failure; doubled each time, so that a blip costs nothing.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// A healed network is noticed within this time.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// The server ends a watch after this long; the next one resumes where it ended.
const WATCH_TIMEOUT_SECS: u32 = 60;
/// A stream that outlives its own end by this much lost its peer without a word.
const WATCH_SILENCE_MAX: Duration = Duration::from_secs(75);
/// Objects to a page: bounds the size of one answer.
const PAGE_SIZE: u32 = 1000;
/// A list must be answered within this time.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("cannot build the request")]
    Build(#[source] kube::core::request::Error),
    #[error("cannot list")]
    List(#[source] kube::Error),
    #[error("the list did not come in time")]
    ListTimeout,
    #[error("the list is not JSON")]
    ListBody(#[source] serde_json::Error),
    #[error("cannot start the watch")]
    WatchStart(#[source] kube::Error),
    #[error("the watch broke")]
    WatchBroken(#[source] std::io::Error),
    #[error("the watch sent no JSON")]
    WatchBody(#[source] serde_json::Error),
    #[error("the watch reported {code} {message}")]
    WatchStatus { code: u16, message: String },
    #[error("the watch fell silent")]
    Silent,
}

impl StreamError {
    /// Whether the revision to resume from is no longer kept: only a new list helps.
    fn is_expired(&self) -> bool {
        match self {
            Self::WatchStatus { code, .. } => *code == 410,
            Self::WatchStart(kube::Error::Api(status)) | Self::List(kube::Error::Api(status)) => status.code == 410,
            _ => false,
        }
    }
}

/// Where the stream stands.
enum State {
    Listing,
    Watching { revision: String },
}

/// What came to its proper end.
enum Ended {
    Listed,
    Watched,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListBody {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(default)]
    items: Vec<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: Option<String>,
}

#[derive(Deserialize)]
struct WatchLine<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct MetadataOnly {
    #[serde(default)]
    metadata: kube::api::ObjectMeta,
}

/// Lets the handlers go when their informer ends, however it does. They hold handles on each other's caches: in a ring,
/// none of it would ever be freed.
struct Unhandled<'a, K: Object>(&'a Resource<K>);

impl<K: Object> Drop for Unhandled<'_, K> {
    fn drop(&mut self) {
        self.0.forget_handlers();
    }
}

impl<K: Object> Resource<K> {
    /// Keeps the cache equal to the server until shut down, and counts its lists in `lists`.
    pub async fn run_informer(self, environment: Environment, lists: watch::Sender<u64>, shutdown: CancellationToken) {
        let _end = Unhandled(&self);
        // Cancel-safe: an informer's state is the cache, which is consistent between any two of its awaits.
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow(&environment, &lists) => {}
        }
    }

    async fn follow(&self, environment: &Environment, lists: &watch::Sender<u64>) {
        let mut state = State::Listing;
        let mut backoff = BACKOFF_MIN;
        loop {
            let started = tokio::time::Instant::now();
            let result = self.advance(&mut state, environment, lists).await;
            if started.elapsed() > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            let delay = environment.jitter(backoff);
            match result {
                Ok(Ended::Listed) => continue,
                // A server that ends every watch at once must not be asked again at once.
                Ok(Ended::Watched) if started.elapsed() > BACKOFF_MAX => continue,
                Ok(Ended::Watched) => {}
                Err(failure) => {
                    self.shared.connected.store(false, Ordering::Release);
                    if failure.is_expired() {
                        state = State::Listing;
                    }
                    let (kind, delay_ms) = (self.kind(), delay.as_millis() as u64);
                    tracing::warn!(informer.kind = %kind, delay_ms, error = %chain(&failure), "informer stream failed");
                }
            }
            if drover_api::mutants::active("C19-stream-never-returns") {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(delay).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn advance(
        &self,
        state: &mut State,
        environment: &Environment,
        lists: &watch::Sender<u64>,
    ) -> Result<Ended, StreamError> {
        match state {
            State::Listing => {
                let revision = self.list(environment, lists).await?;
                *state = State::Watching { revision };
                Ok(Ended::Listed)
            }
            State::Watching { revision } => self.watch(revision, environment).await.map(|()| Ended::Watched),
        }
    }

    async fn list(&self, environment: &Environment, lists: &watch::Sender<u64>) -> Result<String, StreamError> {
        let mut objects = Vec::new();
        let mut params = ListParams { field_selector: self.shared.field_selector.clone(), ..ListParams::default() };
        params.limit = Some(PAGE_SIZE);
        let revision = loop {
            let request = self.collection().list(&params).map_err(StreamError::Build)?;
            let answer = tokio::time::timeout(LIST_TIMEOUT, self.shared.client.request_text(request));
            let text = answer.await.map_err(|_| StreamError::ListTimeout)?.map_err(StreamError::List)?;
            let page: ListBody = serde_json::from_str(&text).map_err(StreamError::ListBody)?;
            objects.extend(page.items.iter().filter_map(|item| self.decode(item.get())));
            let last = drover_api::mutants::active("C17-first-page-only");
            match page.metadata.continue_token.filter(|token| !token.is_empty() && !last) {
                Some(token) => params.continue_token = Some(token),
                None => break page.metadata.resource_version,
            }
        };
        self.heard(environment);
        let changes = self.shared.cache.replace(objects);
        for change in &changes {
            self.dispatch(change);
        }
        // Before anybody is told that the first list is there: that one is no reason to look at everything once more.
        lists.send_modify(|lists| *lists += 1);
        // A list tells all there is; the revision may go back when a store was restored, and waiters must see that.
        let reached = revision.parse().unwrap_or(0).max(1);
        self.shared.seen.send_modify(|seen| *seen = reached);
        Ok(revision)
    }

    async fn watch(&self, revision: &mut String, environment: &Environment) -> Result<(), StreamError> {
        let params = WatchParams {
            field_selector: self.shared.field_selector.clone(),
            timeout: Some(WATCH_TIMEOUT_SECS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = self.collection().watch(&params, revision).map_err(StreamError::Build)?;
        let started = tokio::time::timeout(LIST_TIMEOUT, self.shared.client.request_stream(request));
        let stream = started.await.map_err(|_| StreamError::Silent)?.map_err(StreamError::WatchStart)?;
        self.heard(environment);
        let mut lines = Box::pin(stream.lines());
        loop {
            let next = tokio::time::timeout(WATCH_SILENCE_MAX, lines.next());
            let Some(line) = next.await.map_err(|_| StreamError::Silent)? else { return Ok(()) };
            let line = line.map_err(StreamError::WatchBroken)?;
            self.heard(environment);
            if !line.is_empty() {
                self.take_line(&line, revision)?;
            }
        }
    }

    fn take_line(&self, line: &str, revision: &mut String) -> Result<(), StreamError> {
        let event: WatchLine<'_> = serde_json::from_str(line).map_err(StreamError::WatchBody)?;
        let body = event.object.get();
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_str(body).map_err(StreamError::WatchBody)?;
            return Err(StreamError::WatchStatus { code: status.code, message: status.message });
        }
        let metadata = serde_json::from_str::<MetadataOnly>(body).map_err(StreamError::WatchBody)?.metadata;
        let change = match event.kind {
            "ADDED" | "MODIFIED" => self.decode(body).map(|object| self.shared.cache.apply(object)),
            "DELETED" => {
                let key = ObjectKey::new(metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default());
                self.shared.cache.remove(&key)
            }
            // BOOKMARK, and whatever a later server may add.
            _ => None,
        };
        if let Some(change) = change {
            self.dispatch(&change);
        }
        if let Some(reached) = metadata.resource_version {
            let number = reached.parse().unwrap_or(0);
            *revision = reached;
            self.shared.seen.send_modify(|seen| *seen = number.max(*seen));
        }
        Ok(())
    }

    /// Decodes one object. One that this version cannot read is reported and left out: it must not stop the others.
    fn decode(&self, body: &str) -> Option<K> {
        match serde_json::from_str(body) {
            Ok(object) => Some(object),
            Err(error) => {
                let metadata = serde_json::from_str::<MetadataOnly>(body).map(|object| object.metadata);
                let name = metadata.ok().and_then(|metadata| metadata.name).unwrap_or_default();
                tracing::error!(informer.kind = %self.kind(), object.name = %name, %error, "object cannot be decoded");
                None
            }
        }
    }

    fn heard(&self, environment: &Environment) {
        self.shared.connected.store(true, Ordering::Release);
        *self.shared.contact.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(environment.now());
    }

    fn collection(&self) -> Request {
        Request::new(K::url_path(&self.shared.dynamic, None))
    }
}
