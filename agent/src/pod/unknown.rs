//! Pods that run here and that the API does not have: ended once the server says that they may be, kept until then.
//!
//! A list without a pod is no proof that somebody deleted it: the cluster may have been restored from a backup that is
//! older than the pod (faults D09). So the server is asked afresh after the list, before anything is ended.

use std::{collections::BTreeSet, time::Duration};

use drover_api::restored::{Deletion, Unconfirmed, decide};
use tokio::{task::JoinSet, time::Instant};

use super::context::Context;
use crate::{ids::PodUid, source::PodApiError};

/// How soon to ask again while pods are kept: how long a confirmation may go unnoticed.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How soon to ask again when the server does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The question under way, and what is kept.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    asking: JoinSet<Answer>,
    ask_at: Option<Instant>,
    kept: BTreeSet<PodUid>,
}

/// What the server said, and about which pods it was asked.
type Answer = (BTreeSet<PodUid>, Result<Option<Unconfirmed>, PodApiError>);

impl Unknown {
    /// Takes note of the pods that the API does not have, and asks about them unless that is under way.
    pub(super) fn note(&mut self, context: &std::sync::Arc<Context>, pods: BTreeSet<PodUid>) {
        self.kept.retain(|uid| pods.contains(uid));
        if pods.is_empty() {
            self.ask_at = None;
            return;
        }
        let early = self.ask_at.is_some_and(|at| Instant::now() < at);
        if early || !self.asking.is_empty() {
            return;
        }
        let api = std::sync::Arc::clone(&context.api);
        self.asking.spawn(async move { (pods, api.unconfirmed_restore().await) });
    }

    /// Waits for an answer, or for the time to ask again, which is `None`. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Answer> {
        if self.asking.is_empty() {
            match self.ask_at {
                Some(at) => {
                    tokio::time::sleep_until(at).await;
                    self.ask_at = None;
                }
                None => std::future::pending().await,
            }
            return None;
        }
        // A question that panicked is asked again with the next list.
        self.asking.join_next().await.and_then(Result::ok)
    }

    /// Takes an answer in; returns the pods that may be ended.
    pub(super) fn take(&mut self, context: &Context, (pods, answer): Answer) -> BTreeSet<PodUid> {
        let state = match answer {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!(%error, "cannot ask whether unknown pods may be ended; keeping them");
                self.ask_at = Some(Instant::now() + RETRY_AFTER);
                return BTreeSet::new();
            }
        };
        let Some(reason) = decide(state.as_ref(), Deletion::UnknownPod) else {
            self.ask_at = None;
            return pods;
        };
        self.ask_at = Some(Instant::now() + ASK_AGAIN);
        for uid in pods {
            if self.kept.insert(uid.clone()) {
                tracing::warn!(pod.uid = %uid, reason, "keeping a pod that the API does not have");
            }
        }
        let message = format!("{} pods of this node: {reason}", self.kept.len());
        context.recorder.node(&context.owner.node, true, drover_api::restored::HELD_REASON, &message);
        BTreeSet::new()
    }
}
