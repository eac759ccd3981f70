//! Watches the engine: its health, its events (hints) and its listings (the truth, every ten seconds and whenever
//! events may have been lost).

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Owner,
    engine::{ContainerSummary, Engine, EngineEvent, EventKind, ImageCache},
};

/// Between two listings when nothing hints at trouble.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// Between two pings; a hung engine is known within this plus a ping's deadline.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Between two tries to subscribe to events.
const RESUBSCRIBE_AFTER: Duration = Duration::from_millis(500);
/// Facts that wait for the manager; when it is behind the watcher waits, and the engine's ring may overflow: the
/// listing covers that.
const FACTS_LIMIT: usize = 1024;

/// Something the engine said.
#[derive(Debug)]
pub(super) enum Fact {
    /// An event.
    Event(EngineEvent),
    /// All containers that carry our labels, as of a moment.
    Listing { taken_at: Instant, containers: Vec<ContainerSummary> },
}

/// What the rest of the agent may know of the engine's state.
#[derive(Debug, Clone)]
pub struct EngineHealth {
    /// Whether the engine answers.
    pub up: watch::Receiver<bool>,
    /// Counts changes of images.
    pub images: watch::Receiver<u64>,
}

/// Starts watching; ends on `shutdown`.
pub(super) fn spawn(
    engine: Arc<dyn Engine>,
    images: ImageCache,
    owner: &Owner,
    shutdown: &CancellationToken,
) -> (EngineHealth, mpsc::Receiver<Fact>) {
    let (facts_tx, facts_rx) = mpsc::channel(FACTS_LIMIT);
    let (up_tx, up_rx) = watch::channel(true);
    let (images_tx, images_rx) = watch::channel(0);
    let (relist_tx, relist_rx) = mpsc::channel(1);
    let filter = owner.filter();
    spawn_until(shutdown, ping(Arc::clone(&engine), up_tx, relist_tx.clone()));
    spawn_until(shutdown, follow(Arc::clone(&engine), images_tx, images, facts_tx.clone(), relist_tx));
    spawn_until(shutdown, list(engine, filter, facts_tx, relist_rx));
    (EngineHealth { up: up_rx, images: images_rx }, facts_rx)
}

fn spawn_until(shutdown: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        // Cancel-safe: these tasks own nothing that must be put down in order.
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = task => {}
        }
    });
}

async fn ping(engine: Arc<dyn Engine>, up: watch::Sender<bool>, relist: mpsc::Sender<()>) {
    let mut failures = 0u32;
    loop {
        match engine.ping().await {
            Ok(()) => {
                failures = 0;
                if up.send_if_modified(|up| !std::mem::replace(up, true)) {
                    tracing::info!("the container engine answers again");
                    // A listing that is asked for already is as good.
                    let _ = relist.try_send(());
                }
            }
            Err(error) => {
                failures += 1;
                // Out of reach is certain; a slow answer must happen twice.
                let certain = error.kind != crate::engine::ErrorKind::Timeout || failures > 1;
                if certain && up.send_if_modified(|up| std::mem::replace(up, false)) {
                    tracing::warn!(%error, "the container engine does not answer");
                }
            }
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}

async fn follow(
    engine: Arc<dyn Engine>,
    images_changed: watch::Sender<u64>,
    images: ImageCache,
    facts: mpsc::Sender<Fact>,
    relist: mpsc::Sender<()>,
) {
    loop {
        let mut events = engine.events();
        // What happened between the last stream and this one is in no stream.
        refresh_images(engine.as_ref(), &images, &images_changed).await;
        let _ = relist.try_send(());
        while let Some(Ok(event)) = events.next().await {
            if event.kind == EventKind::ImagesChanged {
                refresh_images(engine.as_ref(), &images, &images_changed).await;
            } else if facts.send(Fact::Event(event)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(RESUBSCRIBE_AFTER).await;
    }
}

async fn refresh_images(engine: &dyn Engine, images: &ImageCache, changed: &watch::Sender<u64>) {
    match images.refresh(engine).await {
        Ok(()) => changed.send_modify(|count| *count += 1),
        Err(error) => tracing::debug!(%error, "images cannot be listed"),
    }
}

async fn list(
    engine: Arc<dyn Engine>,
    filter: Vec<(String, String)>,
    facts: mpsc::Sender<Fact>,
    mut relist: mpsc::Receiver<()>,
) {
    loop {
        let taken_at = Instant::now();
        let wait = match engine.list_containers(&filter).await {
            Ok(containers) => {
                if facts.send(Fact::Listing { taken_at, containers }).await.is_err() {
                    return;
                }
                LIST_EVERY
            }
            Err(error) => {
                tracing::debug!(%error, "containers cannot be listed");
                PING_EVERY
            }
        };
        // Cancel-safe: a timer and a channel.
        tokio::select! {
            () = tokio::time::sleep(wait), if !drover_api::mutants::active("N01-events-only") => {}
            _ = relist.recv() => {}
        }
    }
}
