//! Fences: numbers in the store that a leader's writes must name, so that a stale leader's write is refused there.
//!
//! Taking a lead raises the fence, one durable write whose revision is the epoch. A request that carries the header
//! [`HEADER`] is written only while its epoch is the newest: the compare stands in the transaction of the write itself
//! (S12). Owns that header, the keys, and `POST /drover/v1/fences/{name}`. Kinds of the memory-only class cannot be
//! compared with a durable key and are not fenced.

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use drover_api::status::ApiError;
use drover_store::{Backend, Compare, KeyValue, Operation, Range, Revision, Transaction, TransactionResult};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use crate::{
    front::{Response, json_response},
    registry::{ROOT, from_store},
    request::{RequestInfo, method_not_allowed},
};

/// Carries `name/epoch` in a request; in an answer, says `stale` when that is why a write was refused.
const HEADER: HeaderName = HeaderName::from_static("drover-fence");
const STALE: HeaderValue = HeaderValue::from_static("stale");
/// The paths that raise fences.
const PATH: &str = "/drover/v1/fences/";
/// A fence's name is a label of DNS, so that it can stand in a key and a path.
const NAME_MAX: usize = 63;

tokio::task_local! {
    /// The fence of the request that this task answers.
    static CURRENT: Arc<Fence>;
}

/// The lead that a request claims to have.
#[derive(Debug)]
pub(crate) struct Fence {
    name: String,
    epoch: Revision,
    refused: AtomicBool,
}

impl Fence {
    /// Returns the fence of the request that is being answered; `None` for one that claims no lead.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// The precondition of every write of the request.
    pub(crate) fn compare(&self) -> Compare {
        Compare { key: key(&self.name), mod_revision: self.epoch }
    }

    /// Refuses when `found`, the state of the fence, is not the one claimed.
    ///
    /// # Errors
    /// 409 that names both epochs.
    pub(crate) fn check(&self, found: Option<&KeyValue>) -> Result<(), ApiError> {
        let newest = found.map_or(0, |found| found.mod_revision);
        if newest == self.epoch {
            return Ok(());
        }
        self.refused.store(true, Ordering::Release);
        let (name, epoch) = (&self.name, self.epoch);
        let message = format!(
            "the write is of epoch {epoch} of the fence {name:?}, and the newest is {newest}: another leader has taken over"
        );
        let mut error = ApiError::new(409, "Conflict", message);
        error.details = json!({"name": name, "kind": "fences", "causes": [{"reason": "StaleLeader"}]});
        Err(error)
    }

    fn read(value: &HeaderValue) -> Result<Self, ApiError> {
        let parsed = value.to_str().ok().and_then(|text| text.split_once('/')).and_then(|(name, epoch)| {
            let epoch = epoch.parse().ok().filter(|epoch| *epoch > 0)?;
            is_name(name).then(|| Self { name: name.to_owned(), epoch, refused: AtomicBool::new(false) })
        });
        parsed.ok_or_else(|| ApiError::bad_request("the header drover-fence must be name/epoch"))
    }
}

/// Returns the lead that a request claims to have, unread.
pub(crate) fn claimed(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(HEADER).cloned()
}

/// Answers a request in the scope of the fence that it claims.
pub(crate) async fn scope(
    claim: Option<HeaderValue>,
    refuse: impl FnOnce(&ApiError) -> Response,
    answer: impl Future<Output = Response>,
) -> Response {
    let fence = match claim.as_ref().map(Fence::read) {
        None => return answer.await,
        Some(Ok(fence)) => Arc::new(fence),
        Some(Err(error)) => return refuse(&error),
    };
    let mut response = CURRENT.scope(Arc::clone(&fence), answer).await;
    if fence.refused.load(Ordering::Acquire) {
        response.headers_mut().insert(HEADER, STALE);
    }
    response
}

/// Returns the name of the fence that a path is about; `None` for other paths.
pub(crate) fn named(info: &RequestInfo) -> Option<&str> {
    info.path.strip_prefix(PATH)
}

/// Answers `POST /drover/v1/fences/{name}`: raises the fence and returns its new epoch, after which every write of an
/// earlier one is refused.
///
/// # Errors
/// 404 for what is no name, 405 for other methods, the store's.
pub(crate) async fn answer(backend: &dyn Backend, info: &RequestInfo, name: &str) -> Result<Response, ApiError> {
    if !is_name(name) {
        return Err(ApiError::new(404, "NotFound", format!("{name:?} is not the name of a fence")));
    }
    if info.verb != "post" {
        return Err(method_not_allowed());
    }
    let put = Operation::Put { key: key(name), value: Bytes::from_static(b"{}") };
    let transaction = Transaction { compares: Vec::new(), operations: vec![put] };
    match backend.commit(transaction).await.map_err(|error| from_store(&error))? {
        TransactionResult::Committed { revision } | TransactionResult::Conflict { revision, .. } => {
            Ok(json_response(201, &json!({"kind": "Fence", "name": name, "epoch": revision})))
        }
    }
}

/// Returns the writes that end every lead: what a leader knows is of before them.
///
/// # Errors
/// The store's.
pub(crate) async fn raise_all(backend: &dyn Backend) -> Result<Vec<Operation>, drover_store::Error> {
    let fences = backend.range(Range { prefix: key(""), ..Range::default() }).await?;
    Ok(fences.items.into_iter().map(|fence| Operation::Put { key: fence.key, value: fence.value }).collect())
}

fn key(name: &str) -> Bytes {
    format!("{ROOT}.drover/fences/{name}").into()
}

fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(valid)
}
