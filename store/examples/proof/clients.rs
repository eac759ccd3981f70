//! Clients that read, write, compare, delete and compact at random, and note what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use drover_store::{Backend, Compare, Error, Operation, Range, Revision, Transaction, TransactionResult};

use crate::history::{Recorder, What};
use crate::rng::Rng;
use crate::slot::Slot;
use crate::watches::Finish;

/// Few keys, so that clients meet.
const KEYS: u64 = 12;

/// What the clients of one history share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) slot: Arc<Slot>,
    pub(crate) recorder: Recorder,
    pub(crate) finish: Arc<Finish>,
    /// The highest revision anybody asked to compact at.
    pub(crate) compacted: AtomicU64,
}

/// One client.
pub(crate) struct Client {
    shared: Arc<Shared>,
    number: u64,
    rng: Rng,
    /// The revisions it last saw of keys, for its preconditions.
    seen: BTreeMap<Bytes, Revision>,
    writes: u64,
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, number: u64, seed: u64) -> Self {
        Self { shared, number, rng: Rng::new(seed ^ number.wrapping_mul(0x9e37)), seen: BTreeMap::new(), writes: 0 }
    }

    /// Makes so many calls.
    pub(crate) async fn run(mut self, calls: u64) {
        for _ in 0..calls {
            let (generation, store) = self.shared.slot.current();
            if let Err(error) = self.call(&*store).await {
                // The store of that generation must be let go, so that the next one can be opened.
                drop(store);
                match error {
                    Error::Unavailable(_) | Error::Broken(_) => self.shared.slot.recovered(generation).await,
                    Error::Compacted { .. } | Error::Future { .. } | Error::Full(_) | Error::Locked(_) => {}
                }
            }
        }
    }

    async fn call(&mut self, store: &dyn Backend) -> Result<(), Error> {
        let key = self.key();
        let start = self.shared.recorder.now();
        let what = match self.rng.below(100) {
            0..25 => {
                let found = store.get(&key).await?;
                self.saw(&key, found.as_ref().map_or(0, |found| found.mod_revision));
                What::Get { key, found }
            }
            25..33 => {
                let range =
                    Range { prefix: self.prefix(), limit: usize::from(self.rng.percent(30)) * 3, ..Range::default() };
                What::Range { found: store.range(range.clone()).await?, range }
            }
            33..38 => return self.read_the_past(store, start).await,
            38..42 => What::Revision { found: store.revision().await? },
            42..44 => return self.compact(store).await,
            _ => {
                let transaction = self.transaction(key);
                return self.write(store, start, transaction).await;
            }
        };
        self.shared.recorder.answered(self.number, start, what);
        Ok(())
    }

    async fn write(&mut self, store: &dyn Backend, start: u64, transaction: Transaction) -> Result<(), Error> {
        match store.commit(transaction.clone()).await {
            Ok(result) => {
                match &result {
                    TransactionResult::Committed { revision } => {
                        for operation in &transaction.operations {
                            let exists = matches!(operation, Operation::Put { .. });
                            self.saw(operation.key(), if exists { *revision } else { 0 });
                        }
                    }
                    TransactionResult::Conflict { current, .. } => {
                        for (compare, current) in transaction.compares.iter().zip(current) {
                            self.saw(&compare.key, current.as_ref().map_or(0, |current| current.mod_revision));
                        }
                    }
                }
                self.shared.recorder.answered(self.number, start, What::Commit { transaction, result });
                Ok(())
            }
            Err(error) => {
                self.shared.recorder.unanswered(self.number, start, transaction);
                Err(error)
            }
        }
    }

    async fn read_the_past(&mut self, store: &dyn Backend, start: u64) -> Result<(), Error> {
        let progress = self.shared.finish.progress.load(Ordering::SeqCst);
        let at = progress.saturating_sub(self.rng.below(60)).max(self.shared.finish.base + 1);
        if at > progress {
            return Ok(());
        }
        let range = Range { prefix: self.prefix(), at: Some(at), ..Range::default() };
        let what = match store.range(range.clone()).await {
            Ok(found) => What::Range { range, found },
            Err(Error::Compacted { oldest }) => What::Refused { at, oldest },
            Err(error) => return Err(error),
        };
        self.shared.recorder.answered(self.number, start, what);
        Ok(())
    }

    /// Compacts behind the first watcher, whose log must be whole.
    async fn compact(&mut self, store: &dyn Backend) -> Result<(), Error> {
        let progress = self.shared.finish.progress.load(Ordering::SeqCst);
        let revision = progress.saturating_sub(self.rng.below(40));
        if revision <= self.shared.finish.base {
            return Ok(());
        }
        self.shared.compacted.fetch_max(revision, Ordering::SeqCst);
        store.compact(revision).await
    }

    fn transaction(&mut self, key: Bytes) -> Transaction {
        let seen = self.seen.get(&key).copied().unwrap_or(0);
        let compare = Compare { key: key.clone(), mod_revision: seen };
        match self.rng.below(10) {
            0..4 => Transaction { compares: vec![], operations: vec![self.put(key)] },
            4..7 => Transaction { compares: vec![compare], operations: vec![self.put(key)] },
            7 => Transaction { compares: vec![], operations: vec![Operation::Delete { key }] },
            8 => Transaction { compares: vec![compare], operations: vec![Operation::Delete { key }] },
            _ => {
                let second = self.key();
                let mut operations = vec![self.put(key.clone())];
                if second != key {
                    operations.push(if self.rng.percent(50) {
                        self.put(second)
                    } else {
                        Operation::Delete { key: second }
                    });
                }
                Transaction { compares: if self.rng.percent(50) { vec![compare] } else { vec![] }, operations }
            }
        }
    }

    /// A put of a value that nobody else writes.
    fn put(&mut self, key: Bytes) -> Operation {
        self.writes += 1;
        Operation::Put { key, value: Bytes::from(format!("{}.{}", self.number, self.writes)) }
    }

    fn saw(&mut self, key: &Bytes, revision: Revision) {
        self.seen.insert(key.clone(), revision);
    }

    fn key(&mut self) -> Bytes {
        let n = self.rng.below(KEYS);
        Bytes::from(format!("/{}/{n:02}", if n.is_multiple_of(2) { "even" } else { "odd" }))
    }

    fn prefix(&mut self) -> Bytes {
        Bytes::from_static([b"/".as_slice(), b"/even/", b"/odd/"][self.rng.below(3) as usize])
    }
}
