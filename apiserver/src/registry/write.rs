//! Reading the state a write starts from, and committing the write against it.

use std::sync::Arc;

use bytes::Bytes;
use drover_api::{
    kinds::{Durability, Kind},
    object::metadata_mut,
    status::ApiError,
};
use drover_store::{Compare, Operation, Revision, Transaction, TransactionResult};
use serde_json::Value;

use super::{Registry, from_store, keys, unreadable};
use crate::{
    admission::Effects,
    cache::{Object, ObjectError},
    fence::Fence,
};

/// One object of one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    /// The kind that is stored.
    pub(super) kind: &'static Kind,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// Largest object, in its stored form: what etcd takes in one request (1.5 MiB), less room for keys and comparisons.
const OBJECT_BYTES_MAX: usize = (3 << 19) - (16 << 10);

/// Tries of one write against others that got in between, before it gives up with a conflict.
///
/// Every try lost is another write that was stored, so that the writers together always move on, and one of them may
/// lose to a faster server many times in a row.
pub(super) const TRIES: usize = 64;

/// How a commit ended.
#[derive(Debug)]
pub(super) enum Written {
    Committed(Revision),
    /// The object itself is in another state than expected.
    Changed,
    /// Something else that the write depends on has changed.
    Outdated,
}

/// How one object is to change.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Put(&'a Bytes),
    Delete,
}

impl Target<'_> {
    pub(super) fn key(&self) -> Bytes {
        keys::key(self.kind, self.namespace, self.name).into()
    }
}

impl Registry {
    /// Returns the object to start a write from: the cached state, or with `fresh` the store's.
    pub(super) async fn current(&self, target: Target<'_>, fresh: bool) -> Result<Option<Arc<Object>>, ApiError> {
        if !fresh && let Some(object) = self.peek(target.kind, target.namespace, target.name) {
            return Ok(Some(object));
        }
        let found = self.backend(target.kind).get(&target.key()).await.map_err(|error| from_store(&error))?;
        let Some(found) = found else { return Ok(None) };
        let object = Object::decode(target.kind, found.mod_revision, &found.value).map_err(|error| {
            unreadable(target.kind, &keys::local(target.kind, target.namespace, target.name), &error.to_string())
        })?;
        Ok(Some(Arc::new(object)))
    }

    /// Writes one object whose stored state must be of revision `expected` (0: must not exist), with its effects.
    pub(super) async fn commit(
        &self,
        target: Target<'_>,
        expected: Revision,
        change: Change<'_>,
        effects: Effects,
    ) -> Result<Written, ApiError> {
        let key = target.key();
        let mut compares = vec![Compare { key: key.clone(), mod_revision: expected }];
        if drover_api::mutants::active("S03-blind-commit") {
            compares.clear();
        }
        let mut operations = vec![match change {
            Change::Put(value) => Operation::Put { key, value: value.clone() },
            Change::Delete => Operation::Delete { key },
        }];
        // Effects and fences are durable keys; the memory-only class cannot be tied to them.
        let durable = target.kind.durability == Durability::Durable;
        let fence = Fence::current().filter(|_| durable);
        if durable {
            compares.extend(effects.compares);
            operations.extend(effects.operations);
            compares.extend(fence.iter().map(|fence| fence.compare()));
        }
        let transaction = Transaction { compares, operations };
        match self.backend(target.kind).commit(transaction).await.map_err(|error| from_store(&error))? {
            TransactionResult::Committed { revision } => Ok(Written::Committed(revision)),
            TransactionResult::Conflict { current, .. } => {
                if let Some(fence) = fence {
                    fence.check(current.last().and_then(Option::as_ref))?;
                }
                let found = current.into_iter().next().flatten().map_or(0, |found| found.mod_revision);
                Ok(if found == expected { Written::Outdated } else { Written::Changed })
            }
        }
    }

    /// Waits until admission sees every durable write acknowledged before now.
    pub(super) async fn refresh_admission(&self) -> Result<(), ApiError> {
        let revision = self.durable.revision().await.map_err(|error| from_store(&error))?;
        self.durable_cache.wait_for(revision).await
    }
}

/// Removes `resourceVersion`, which is never stored.
pub(super) fn unversioned(mut object: Value) -> Value {
    metadata_mut(&mut object).remove("resourceVersion");
    object
}

/// Refuses an object that is too large for a store, before anything is done with it.
///
/// # Errors
/// 413 that says the limit.
pub(super) fn check_size(object: &Value) -> Result<(), ApiError> {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > OBJECT_BYTES_MAX { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes.len()) }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let text = format!("Request entity too large: an object is at most {OBJECT_BYTES_MAX} bytes");
    serde_json::to_writer(Count(0), object).map_err(|_| ApiError::new(413, "RequestEntityTooLarge", text))
}

/// 500 for a stored value that cannot be read.
pub(super) fn broken(error: &ObjectError) -> ApiError {
    tracing::error!(error = %error, "a stored object cannot be read");
    ApiError::internal("a stored object cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_at_most_what_every_store_takes() {
        let of = |bytes: usize| check_size(&serde_json::json!("x".repeat(bytes - 2))).map_err(|error| error.code);
        assert_eq!(of(OBJECT_BYTES_MAX), Ok(()));
        assert_eq!(of(OBJECT_BYTES_MAX + 1), Err(413));
    }
}
