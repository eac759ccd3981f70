//! Whether the store answers: a shared store can be cut off, and then everybody shall know at once.
//!
//! [`Guarded`] asks the store again and again, and fails every call as soon as it is silent, instead of letting each wait
//! for a time-out of its own. While it is silent, people read from memory and are told so ([`scope`]); writes, watches of
//! revisions to come, and every reader that acts on what it reads (agents, controllers, service accounts) are refused.

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use drover_store::{
    Backend, ChangeStream, Error, KeyValue, Range, RangeResult, Revision, Transaction, TransactionResult,
};
use http::{HeaderValue, header};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    front::Response,
    request::{RequestInfo, User},
};

/// How often the store is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A store that answers a read of nothing no sooner is silent. A healthy one takes a few milliseconds.
const SILENCE: Duration = Duration::from_millis(1500);

/// What is known of a store that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Silent {
    since: Instant,
    why: String,
}

impl Silent {
    fn error(&self) -> Error {
        let secs = self.since.elapsed().as_secs();
        Error::Unavailable(format!("the store has not answered for {secs} s (has etcd lost its quorum?): {}", self.why))
    }
}

/// The state of a store, as it was last known. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    silent: watch::Receiver<Option<Silent>>,
}

impl Reach {
    /// Says why the store is silent; `None` while it answers.
    pub(crate) fn silence(&self) -> Option<Silent> {
        self.silent.borrow().clone()
    }
}

/// A store behind a guard.
#[derive(Debug)]
pub(crate) struct Guarded {
    store: Arc<dyn Backend>,
    silent: watch::Sender<Option<Silent>>,
}

impl Guarded {
    /// Guards a store, which must have answered already. Nothing is noticed before [`watch`](Self::watch) runs.
    pub(crate) fn new(store: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Self { store, silent: watch::Sender::new(None) })
    }

    /// The state of the store.
    pub(crate) fn reach(&self) -> Reach {
        Reach { silent: self.silent.subscribe() }
    }

    /// Asks the store for ever. The caller ends it by dropping it.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            let why = match timeout(SILENCE, self.store.revision()).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            self.note(why);
            sleep(ASK_EVERY).await;
        }
    }

    fn note(&self, why: Option<String>) {
        self.silent.send_if_modified(|silent| match (silent.is_some(), why) {
            (false, Some(why)) => {
                tracing::error!(%why, "the store is silent: writes are refused, people read from memory");
                *silent = Some(Silent { since: Instant::now(), why });
                true
            }
            (true, None) => {
                let secs = silent.as_ref().map_or(0, |silent| silent.since.elapsed().as_secs());
                tracing::warn!(secs, "the store answers again");
                *silent = None;
                true
            }
            (true, Some(_)) | (false, None) => false,
        });
    }

    async fn ask<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let mut states = self.silent.subscribe();
        tokio::select! {
            biased;
            // Not resumed: whether a write happened that was under way, nobody knows, and the error does not say.
            silent = states.wait_for(Option::is_some) => {
                let silent = silent.ok().and_then(|silent| silent.clone());
                Err(silent.map_or_else(|| Error::Unavailable("the server is shutting down".to_owned()), |silent| silent.error()))
            }
            answer = answer => answer,
        }
    }
}

#[async_trait]
impl Backend for Guarded {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.ask(self.store.get(key)).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.ask(self.store.range(range)).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        self.ask(self.store.commit(transaction)).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.ask(self.store.changes(prefix, after)).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.ask(self.store.revision()).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }
}

tokio::task_local! {
    /// Set while a request is answered that may be answered from memory; noted when it was.
    static FROM_MEMORY: Arc<AtomicBool>;
}

/// Answers a request of somebody who may read from memory while the store is silent, and says so when that happened.
pub(crate) async fn scope(
    user: &User,
    info: &RequestInfo,
    answer: impl Future<Output = Result<Response, drover_api::status::ApiError>>,
) -> Result<Response, drover_api::status::ApiError> {
    if !may_read_from_memory(user, info) {
        return answer.await;
    }
    let noted = Arc::new(AtomicBool::new(false));
    let mut response = FROM_MEMORY.scope(Arc::clone(&noted), answer).await?;
    if noted.load(Ordering::Acquire) {
        let text = "299 - \"the store does not answer: this is what the server last knew\"";
        response.headers_mut().insert(header::WARNING, HeaderValue::from_static(text));
    }
    Ok(response)
}

/// Whether the read that is being answered may be answered from memory although the store is silent.
pub(crate) fn settle_for_memory(error: &Error) -> bool {
    let silent = matches!(error, Error::Unavailable(_));
    silent && FROM_MEMORY.try_with(|noted| noted.store(true, Ordering::Release)).is_ok()
}

/// People may; what acts on what it reads may not: an object that is only missing from memory would be taken for gone.
fn may_read_from_memory(user: &User, info: &RequestInfo) -> bool {
    const ACTORS: [&str; 2] = ["system:nodes", "system:serviceaccounts"];
    let acts = ACTORS.iter().any(|group| user.in_group(group)) || user.name.starts_with("system:");
    !acts && info.is_resource && matches!(info.verb, "get" | "list") && info.query("continue").is_none()
}
