//! Which member of etcd is asked: one at a time, and another one when that one does not answer.
//!
//! A connection spread over all members would send every third request to a member that hangs, for as long as it hangs.
//! So each member has a client of its own, one is in use, and a watchdog asks it again and again. What is under way at a
//! member that is given up ends at once: reads are sent to the next one, of writes nobody knows whether they happened.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, GetOptions};
use futures::future::select_ok;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Options, Shared, connect_options};

/// How often the member in use is asked.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// A member that has not answered a read by then is given up, if another one answers. Leaders are elected in about 1 s.
const PATIENCE: Duration = Duration::from_millis(700);

/// The members, and which one is in use.
pub(super) struct Endpoints {
    clients: Vec<Client>,
    current: watch::Sender<usize>,
}

impl Endpoints {
    /// Makes a client for each member. Where etcd asks for a password, members that do not answer are left out.
    pub(super) async fn connect(endpoints: &[&str], options: &Options) -> Result<Self, etcd_client::Error> {
        let (mut clients, mut failed) = (Vec::new(), None);
        for endpoint in endpoints {
            match Client::connect([endpoint], Some(connect_options(options))).await {
                Ok(client) => clients.push(client),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if clients.is_empty() => Err(error),
            Some(_) | None => Ok(Self { clients, current: watch::Sender::new(0) }),
        }
    }

    /// The member in use, and its number.
    pub(super) fn current(&self) -> (usize, &Client) {
        let index = *self.current.borrow();
        (index, &self.clients[index])
    }

    /// Takes the next member into use, unless somebody was quicker than the finding that `index` does not answer.
    pub(super) fn give_up(&self, index: usize) {
        self.use_instead(index, (index + 1) % self.clients.len());
    }

    /// Returns once the member `index` is not in use any more.
    pub(super) async fn moved_from(&self, index: usize) {
        // The sender lives as long as we do.
        drop(self.current.subscribe().wait_for(|current| *current != index).await);
    }

    /// The same, for a stream that outlives the call.
    pub(super) fn subscribe(&self) -> watch::Receiver<usize> {
        self.current.subscribe()
    }

    fn use_instead(&self, index: usize, next: usize) {
        self.current.send_if_modified(|current| {
            let is_due = *current == index && next != index;
            if is_due {
                *current = next;
            }
            is_due
        });
    }
}

/// Asks the member in use, for ever. The caller ends it by dropping the task.
pub(super) async fn watch(shared: Arc<Shared>) {
    let endpoints = &shared.endpoints;
    if endpoints.clients.len() < 2 {
        return;
    }
    loop {
        sleep(ASK_EVERY).await;
        let (index, _) = endpoints.current();
        if ask(&shared, index).await.is_ok() {
            continue;
        }
        let others = (0..endpoints.clients.len()).filter(|other| *other != index);
        // When nobody answers, etcd itself is down, and one member is as good as another.
        if let Ok((next, _)) = select_ok(others.map(|other| Box::pin(ask(&shared, other)))).await {
            tracing::warn!(member = index, next, "a member of etcd does not answer; asking another one");
            endpoints.use_instead(index, next);
        }
    }
}

/// A linearizable read of nothing: it needs a leader and a majority, as every request does.
async fn ask(shared: &Shared, index: usize) -> Result<usize, ()> {
    let key = shared.keyspace.meta("revision");
    let mut kv = shared.endpoints.clients[index].kv_client();
    let answer = timeout(PATIENCE, kv.get(key, Some(GetOptions::new().with_count_only()))).await;
    match answer {
        Ok(Ok(_)) => Ok(index),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}
