//! Leases that must outlive every server, kept in the durable store as well: those of other people's leader elections.
//!
//! A [`Backend`] over the memory-only class. A write to a kept key goes to the durable store first, in one transaction
//! with the proof that this server still owns the class, and into memory when it is on disk: so it is acknowledged by
//! one owner only, and the next owner finds it. Everything else never leaves memory.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use drover_store::{
    Backend, ChangeStream, Compare, Error, KeyValue, Operation, Range, RangeResult, Revision, Transaction,
    TransactionResult,
};
use tokio::sync::Mutex;

use super::Volatile;

/// Where the durable copies are; what follows is the key itself.
const COPIES: &str = "/registry/.drover/kept";
/// Every Lease.
const LEASES: &[u8] = b"/registry/coordination.k8s.io/leases/";
/// Leases that are renewed all the time and that nobody misses: heartbeats of nodes, and the lead of our controllers,
/// which the fence makes safe.
const FLEETING: [&[u8]; 2] = [b"kube-node-lease/", b"kube-system/drover-controllers"];

/// The memory-only class of the server that owns it.
#[derive(Debug)]
pub(crate) struct Kept {
    memory: Volatile,
    durable: Arc<dyn Backend>,
    /// Proves that this server still owns the class; `None` where there can be no other.
    ownership: Option<Compare>,
    copies: Mutex<BTreeMap<Bytes, Copy>>,
}

/// What is known of a durable copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    At(Revision),
    /// A write had no answer.
    Unknown,
}

impl Kept {
    /// Fills an empty class with `seed`, what another server last showed, and with what was kept.
    ///
    /// # Errors
    /// The durable store's.
    pub(crate) async fn open(
        memory: Volatile,
        durable: Arc<dyn Backend>,
        ownership: Option<Compare>,
        seed: Vec<(Bytes, Bytes)>,
    ) -> Result<Self, Error> {
        let kept = durable.range(Range { prefix: COPIES.into(), ..Range::default() }).await?.items;
        let mut values: BTreeMap<Bytes, Bytes> = seed.into_iter().filter(|(key, _)| !is_kept(key)).collect();
        let mut copies = BTreeMap::new();
        for found in kept {
            let key = found.key.slice(COPIES.len()..);
            copies.insert(key.clone(), Copy::At(found.mod_revision));
            values.insert(key, found.value);
        }
        if !values.is_empty() {
            let operations = values.into_iter().map(|(key, value)| Operation::Put { key, value }).collect();
            memory.commit(Transaction { compares: Vec::new(), operations }).await?;
        }
        Ok(Self { memory, durable, ownership, copies: Mutex::new(copies) })
    }

    async fn commit_kept(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        let mut copies = self.copies.lock().await;
        let keys: Vec<Bytes> =
            transaction.operations.iter().map(Operation::key).filter(|key| is_kept(key)).cloned().collect();
        for key in &keys {
            if copies.get(key) == Some(&Copy::Unknown) {
                self.adopt(key, &mut copies).await?;
            }
        }
        if let Some(conflict) = self.memory.examine(&transaction)? {
            return Ok(conflict);
        }
        let durable = self.durable_transaction(&transaction, &copies);
        match self.durable.commit(durable).await {
            Ok(TransactionResult::Committed { revision }) => {
                for operation in transaction.operations.iter().filter(|operation| is_kept(operation.key())) {
                    match operation {
                        Operation::Put { key, .. } => copies.insert(key.clone(), Copy::At(revision)),
                        Operation::Delete { key } => copies.remove(key),
                    };
                }
                self.memory.commit(transaction).await
            }
            Ok(TransactionResult::Conflict { .. }) => {
                copies.extend(keys.into_iter().map(|key| (key, Copy::Unknown)));
                Err(Error::Unavailable("this server does not own the memory-only class any more".to_owned()))
            }
            Err(error) => {
                copies.extend(keys.into_iter().map(|key| (key, Copy::Unknown)));
                Err(error)
            }
        }
    }

    /// Takes the durable copy of a key into memory, after a write of which nobody knows whether it happened.
    async fn adopt(&self, key: &Bytes, copies: &mut BTreeMap<Bytes, Copy>) -> Result<(), Error> {
        let copy = self.durable.get(&copy_key(key)).await?;
        let known = self.memory.get(key).await?.map(|found| found.value);
        let operation = match &copy {
            Some(copy) if known.as_ref() != Some(&copy.value) => {
                Some(Operation::Put { key: key.clone(), value: copy.value.clone() })
            }
            None if known.is_some() => Some(Operation::Delete { key: key.clone() }),
            Some(_) | None => None,
        };
        if let Some(operation) = operation {
            self.memory.commit(Transaction { compares: Vec::new(), operations: vec![operation] }).await?;
        }
        match copy {
            Some(copy) => copies.insert(key.clone(), Copy::At(copy.mod_revision)),
            None => copies.remove(key),
        };
        Ok(())
    }

    fn durable_transaction(&self, transaction: &Transaction, copies: &BTreeMap<Bytes, Copy>) -> Transaction {
        let kept = || transaction.operations.iter().filter(|operation| is_kept(operation.key()));
        let copied = kept().map(|operation| {
            let mod_revision = match copies.get(operation.key()) {
                Some(Copy::At(revision)) => *revision,
                Some(Copy::Unknown) | None => 0,
            };
            Compare { key: copy_key(operation.key()).into(), mod_revision }
        });
        let operations = kept().map(|operation| match operation {
            Operation::Put { key, value } => Operation::Put { key: copy_key(key).into(), value: value.clone() },
            Operation::Delete { key } => Operation::Delete { key: copy_key(key).into() },
        });
        Transaction {
            compares: self.ownership.clone().into_iter().chain(copied).collect(),
            operations: operations.collect(),
        }
    }
}

#[async_trait]
impl Backend for Kept {
    async fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Error> {
        self.memory.get(key).await
    }

    async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        self.memory.range(range).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<TransactionResult, Error> {
        if transaction.operations.iter().any(|operation| is_kept(operation.key())) {
            return self.commit_kept(transaction).await;
        }
        self.memory.commit(transaction).await
    }

    async fn changes(&self, prefix: &[u8], after: Revision) -> Result<ChangeStream, Error> {
        self.memory.changes(prefix, after).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.memory.revision().await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.memory.compact(revision).await
    }
}

fn is_kept(key: &[u8]) -> bool {
    key.strip_prefix(LEASES).is_some_and(|lease| {
        let fleeting = |prefix: &[u8]| lease == prefix || (prefix.ends_with(b"/") && lease.starts_with(prefix));
        !FLEETING.into_iter().any(fleeting)
    })
}

fn copy_key(key: &[u8]) -> Vec<u8> {
    [COPIES.as_bytes(), key].concat()
}
