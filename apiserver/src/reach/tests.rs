//! A store that hangs is noticed, said, and forgotten when it is back; people read on meanwhile, and nobody else does.

use std::sync::{Arc, Mutex};

use super::*;
use crate::volatile::Volatile;

/// A store that can be made to hang.
#[derive(Debug)]
struct Hanging {
    inner: Volatile,
    hangs: watch::Sender<bool>,
}

impl Hanging {
    async fn pass(&self) {
        drop(self.hangs.subscribe().wait_for(|hangs| !hangs).await);
    }
}

#[async_trait]
impl Backend for Hanging {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.pass().await;
        self.inner.get(key).await
    }
    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.pass().await;
        self.inner.range(range).await
    }
    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        self.pass().await;
        self.inner.commit(transaction).await
    }
    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.inner.changes(prefix, after).await
    }
    async fn revision(&self) -> Result<Revision, Error> {
        self.pass().await;
        self.inner.revision().await
    }
    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}

fn store() -> (Arc<Hanging>, Arc<Guarded>) {
    let hanging = Arc::new(Hanging { inner: Volatile::new(1, Vec::new()), hangs: watch::Sender::new(false) });
    let guarded = Guarded::new(Arc::clone(&hanging) as Arc<dyn Backend>);
    tokio::spawn(Arc::clone(&guarded).watch());
    (hanging, guarded)
}

#[tokio::test(start_paused = true)]
async fn a_write_into_a_silent_store_is_refused_within_two_seconds_and_the_next_one_at_once() {
    let (hanging, guarded) = store();
    assert!(guarded.commit(Transaction::default()).await.is_ok());
    hanging.hangs.send_replace(true);
    let started = Instant::now();
    let refused = guarded.commit(Transaction::default()).await;
    assert!(matches!(&refused, Err(Error::Unavailable(text)) if text.contains("quorum")), "{refused:?}");
    assert!(started.elapsed() <= Duration::from_secs(2), "took {:?}", started.elapsed());
    let started = Instant::now();
    assert!(guarded.get(b"k").await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
    hanging.hangs.send_replace(false);
    sleep(ASK_EVERY * 2).await;
    assert!(guarded.commit(Transaction::default()).await.is_ok(), "recovers by itself");
    assert_eq!(guarded.reach().silence(), None);
}

#[tokio::test]
async fn people_read_on_from_memory_and_are_told_while_actors_are_refused() {
    let list = RequestInfo::parse(&http::Method::GET, "/api/v1/pods", None).unwrap();
    let post = RequestInfo::parse(&http::Method::POST, "/api/v1/namespaces/d/pods", None).unwrap();
    let next = RequestInfo::parse(&http::Method::GET, "/api/v1/pods", Some("continue=x")).unwrap();
    let admin = User::new("drover-admin", &["system:masters"]);
    let node = User::new("system:node:n", &["system:nodes"]);
    let controllers = User::new("system:drover:controllers", &["system:masters"]);
    let unavailable = Error::Unavailable("no".to_owned());
    for (user, info, settles) in [
        (&admin, &list, true),
        (&admin, &post, false),
        (&admin, &next, false),
        (&node, &list, false),
        (&controllers, &list, false),
    ] {
        let settled = Mutex::new(false);
        let answer = async {
            *settled.lock().unwrap() = settle_for_memory(&unavailable);
            Ok(Response::default())
        };
        let response = scope(user, info, answer).await.unwrap();
        assert_eq!((*settled.lock().unwrap(), response.headers().contains_key(header::WARNING)), (settles, settles));
    }
    assert!(!settle_for_memory(&unavailable), "outside of any request");
}
