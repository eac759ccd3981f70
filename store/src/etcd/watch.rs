//! The stream of changes: one etcd watch over all our keys, filtered here, so that every revision of ours is seen.
//!
//! etcd sends the events of one revision in one message as long as fragments are not asked for, which they are not.
//! The watch starts at the revision it resumes from, whose events are dropped: etcd then refuses exactly when that
//! revision was compacted, and cannot skip a delete at the boundary (etcd issues 18089, 19179).
//! A lost connection ends the stream; the consumer resumes from the last revision it saw.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Txn, TxnOp, WatchOptions, WatchResponse, WatchStream};
use futures::stream::{self, StreamExt};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, timeout_at};

use super::convert::{self, Keyspace, from_etcd, to_etcd};
use super::{ANSWER_BYTES_MAX, Repeat, Shared};
use crate::{ChangeStream, Changes, Error, Event, EventKind, Revision};

/// A revision that somebody was told of arrives within milliseconds, unless it was not ours.
const LAG_MIN: Duration = Duration::from_millis(100);
const LAG_MAX: Duration = Duration::from_secs(5);

pub(super) async fn open(shared: Arc<Shared>, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
    // Taken first: a member that is given up while the watch is opened counts as well.
    let mut member = shared.endpoints.subscribe();
    member.mark_unchanged();
    let stream = shared.open_watch(after.max(1)).await?;
    let watcher = Watcher {
        member,
        wanted: shared.wanted.subscribe(),
        shared,
        stream,
        prefix: prefix.to_vec(),
        delivered: after,
        fetched: VecDeque::new(),
        lag: LAG_MIN,
    };
    let changes = stream::try_unfold(watcher, |mut watcher| async move {
        let changes = watcher.next().await?;
        Ok(Some((changes, watcher)))
    });
    Ok(changes.boxed())
}

struct Watcher {
    shared: Arc<Shared>,
    stream: WatchStream,
    /// Changes when the member that the watch is at may have been given up.
    member: Receiver<usize>,
    wanted: Receiver<Revision>,
    prefix: Vec<u8>,
    delivered: Revision,
    fetched: VecDeque<Changes>,
    /// So long a wanted revision may stay out before it is looked into.
    lag: Duration,
}

impl Watcher {
    async fn next(&mut self) -> Result<Changes, Error> {
        loop {
            if let Some(changes) = self.fetched.pop_front() {
                if changes.events.iter().any(lacks_previous) {
                    return Err(self.shared.explain(Error::Compacted { oldest: 0 }, changes.revision).await);
                }
                self.delivered = changes.revision;
                self.lag = LAG_MIN;
                return Ok(changes);
            }
            tokio::select! {
                // Cancel-safe: a message that is not complete stays in the connection's buffer.
                message = self.stream.message() => {
                    let message = message.map_err(|err| convert::error(&err))?.ok_or_else(lost)?;
                    if let Some(error) = refusal(&message) {
                        return Err(error);
                    }
                    self.fetched = group(&self.shared.keyspace, &message, &self.prefix, self.delivered);
                }
                // Cancel-safe: only waits. The stream of a member that hangs would be silent, not broken.
                Ok(()) = self.member.changed() => return Err(lost()),
                // Cancel-safe: only waits.
                () = lagging(&mut self.wanted, self.delivered, self.lag) => self.tick().await,
            }
        }
    }

    /// Writes a key of our own: its event comes after everything before it, and proves that nothing was missed.
    /// Needed only when others write to the same etcd, whose revisions we are told of but do not see.
    async fn tick(&mut self) {
        self.lag = (self.lag * 2).min(LAG_MAX);
        let put = TxnOp::put(self.shared.keyspace.meta("tick"), Vec::new(), None);
        if let Err(error) = self.shared.txn(Txn::new().and_then([put])).await {
            tracing::debug!(%error, "no tick; the watch waits for etcd");
        }
    }
}

impl Shared {
    async fn open_watch(&self, start: Revision) -> Result<WatchStream, Error> {
        let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(to_etcd(start));
        self.request(Repeat::Read, |client| {
            let mut client = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            let options = options.clone();
            async move { client.watch(self.keyspace.root(), Some(options)).await }
        })
        .await
    }

    /// The oldest readable revision, which etcd tells only to a watch that asks for too much.
    pub(super) async fn oldest(&self) -> Result<Revision, Error> {
        let mut stream = self.open_watch(1).await?;
        let deadline = Instant::now() + self.request_timeout;
        loop {
            let message = timeout_at(deadline, stream.message()).await.map_err(|_| lost())?;
            let message = message.map_err(|err| convert::error(&err))?.ok_or_else(lost)?;
            match refusal(&message) {
                Some(Error::Compacted { oldest }) => return Ok(oldest),
                Some(error) => return Err(error),
                None if message.events().is_empty() => {}
                // It began at the beginning, so nothing was compacted.
                None => return Ok(1),
            }
        }
    }
}

/// Returns once `wanted` has been ahead of `delivered` for as long as `lag`.
async fn lagging(wanted: &mut Receiver<Revision>, delivered: Revision, lag: Duration) {
    if wanted.wait_for(|wanted| *wanted > delivered).await.is_err() {
        // Nobody can want anything any more.
        std::future::pending::<()>().await;
    }
    sleep(lag).await;
}

/// Whether the state before the event is missing. etcd looks it up when it sends, and leaves it out without a word when
/// it was compacted meanwhile: the change would pass for a create, and the delete for one of nothing.
fn lacks_previous(event: &Event) -> bool {
    let has_one = match event.kind {
        EventKind::Put => event.current.create_revision < event.current.mod_revision,
        EventKind::Delete => true,
    };
    has_one && event.previous.is_none()
}

fn refusal(message: &WatchResponse) -> Option<Error> {
    if message.compact_revision() > 0 {
        return Some(Error::Compacted { oldest: from_etcd(message.compact_revision()) });
    }
    message.canceled().then(|| Error::Unavailable(format!("etcd ended the watch: {}", message.cancel_reason())))
}

/// Sorts a message's events into their revisions, leaving out what was delivered already.
fn group(keyspace: &Keyspace, message: &WatchResponse, prefix: &[u8], delivered: Revision) -> VecDeque<Changes> {
    let mut grouped: VecDeque<Changes> = VecDeque::new();
    for event in message.events() {
        let revision = event.kv().map_or(0, |kv| from_etcd(kv.mod_revision()));
        if revision <= delivered {
            continue;
        }
        if grouped.back().is_none_or(|changes| changes.revision != revision) {
            grouped.push_back(Changes { revision, events: Vec::new() });
        }
        if let Some(changes) = grouped.back_mut() {
            changes.events.extend(keyspace.event(event, prefix));
        }
    }
    for changes in &mut grouped {
        changes.events.sort_by(|a, b| a.current.key.cmp(&b.current.key));
    }
    grouped
}

fn lost() -> Error {
    Error::Unavailable("the watch's connection to etcd was lost".to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::KeyValue;

    #[test]
    fn an_event_whose_previous_state_was_compacted_is_noticed() {
        let kv = |create_revision, mod_revision| KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::new(),
            create_revision,
            mod_revision,
        };
        let event = |kind, current, previous| Event { kind, current, previous };
        assert!(!lacks_previous(&event(EventKind::Put, kv(7, 7), None)));
        assert!(!lacks_previous(&event(EventKind::Put, kv(3, 7), Some(kv(3, 5)))));
        assert!(lacks_previous(&event(EventKind::Put, kv(3, 7), None)));
        assert!(!lacks_previous(&event(EventKind::Delete, kv(0, 7), Some(kv(3, 5)))));
        assert!(lacks_previous(&event(EventKind::Delete, kv(0, 7), None)));
    }
}
