//! Following the objects of a collection: list, watch, and list again when the watch is lost.

use std::time::Duration;

use drover_api::object;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Cluster, Error, Query, client::take_items};

/// How long to wait before a lost watch is opened again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Events that may wait for a slow reader before the watch waits too.
const QUEUED_MAX: usize = 1024;

/// What happened to a followed collection.
#[derive(Debug)]
pub(crate) enum Event {
    /// The objects there are; what was known before is void.
    Listed(Vec<Value>),
    /// An object was added or changed.
    Changed(Value),
    /// An object was deleted: its last state.
    Deleted(Value),
    /// The collection cannot be followed at the moment. It will be tried again.
    Lost(Error),
}

/// Follows a collection until the receiver is dropped.
pub(crate) fn follow(cluster: &Cluster, collection: String, query: Query) -> mpsc::Receiver<Event> {
    let (tx, rx) = mpsc::channel(QUEUED_MAX);
    let cluster = cluster.clone();
    // The task ends by itself when the receiver is gone; a command that ends takes the runtime with it.
    tokio::spawn(async move {
        let mut delay = RETRY_MIN;
        loop {
            let Err(error) = follow_once(&cluster, &collection, &query, &tx, &mut delay).await else { return };
            if let Some(error) = error
                && tx.send(Event::Lost(error)).await.is_err()
            {
                return;
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_MAX);
        }
    });
    rx
}

/// Lists and watches until the watch ends. `Ok` when nobody listens any more; `Err(None)` when the server ended the
/// watch in its ordinary way.
async fn follow_once(
    cluster: &Cluster,
    collection: &str,
    query: &Query,
    tx: &mpsc::Sender<Event>,
    delay: &mut Duration,
) -> Result<(), Option<Error>> {
    let mut list = cluster.get(&query.on(collection)).await.map_err(Some)?;
    let version = object::resource_version(&list).to_owned();
    if tx.send(Event::Listed(take_items(&mut list))).await.is_err() {
        return Ok(());
    }
    let query = query.clone().with("watch", "true").with("resourceVersion", version);
    let mut events = cluster.watch(&query.on(collection), false).await.map_err(Some)?;
    while let Some(event) = events.next().await {
        let mut event = match event {
            Ok(event) => event,
            // The window of the watch has passed: list again at once.
            Err(error) if error.code() == 410 => return Err(None),
            Err(error) => return Err(Some(error)),
        };
        *delay = RETRY_MIN;
        let object = event["object"].take();
        let event = match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => Event::Changed(object),
            Some("DELETED") => Event::Deleted(object),
            Some(_) | None => continue,
        };
        if tx.send(event).await.is_err() {
            return Ok(());
        }
    }
    Err(None)
}
