//! One client's view of the changes of a kind: pulls events, applies its selectors, remembers its place.

use std::sync::Arc;

use drover_api::{
    kinds::Kind,
    labels::{FieldSelector, LabelSelector},
    status::ApiError,
};
use drover_store::Revision;
use tokio::sync::watch;

use super::{
    object::Object,
    snapshot::{Event, Snapshot},
    too_old,
};

/// Events handed over at once, so that one slow reader holds only few objects alive.
const BATCH: usize = 256;

/// Which objects of a kind a client asks for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Cache keys start with this: `namespace/`, or empty for all.
    pub prefix: String,
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
    /// The kind whose form the fields are of, when that is not the stored one.
    pub view: Option<&'static Kind>,
}

impl Selection {
    /// Whether an object is selected.
    pub fn matches(&self, key: &str, object: &Object) -> bool {
        key.starts_with(&self.prefix)
            && (self.labels.is_empty() || self.labels.matches(object.labels()))
            && (self.fields.is_empty() || self.fields_match(object))
    }

    fn fields_match(&self, object: &Object) -> bool {
        match self.view {
            Some(view) => self.fields.matches(&crate::registry::to_view(view, object.to_value())),
            None => self.fields.matches(object.selectable()),
        }
    }

    /// Whether everything in the prefix is selected.
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Classifies an event for this selection: what the client is told, or `None` when it is not concerned.
    pub fn classify(&self, event: &Event) -> Option<Change> {
        let was = event.previous.as_ref().is_some_and(|object| self.matches(&event.key, object));
        let is = event.current.as_ref().filter(|object| self.matches(&event.key, object));
        match (was, is) {
            (false, Some(object)) => Some(Change::Added(Arc::clone(object))),
            (true, Some(object)) => Some(Change::Modified(Arc::clone(object))),
            (true, None) if event.current.is_some() && drover_api::mutants::active("W10-leaves-as-modified") => {
                event.current.clone().map(Change::Modified)
            }
            (true, None) => event.gone().map(|object| Change::Deleted(Arc::clone(object))),
            (false, None) => None,
        }
    }
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The object appeared, or entered the selection.
    Added(Arc<Object>),
    /// The object changed.
    Modified(Arc<Object>),
    /// The object was removed, or left the selection: its last selected state, under the revision of the change.
    Deleted(Arc<Object>),
}

/// A place in the history of one kind.
#[derive(Debug)]
pub struct Watcher {
    kind: &'static Kind,
    state: watch::Receiver<Snapshot>,
    applied: watch::Receiver<Revision>,
    place: Revision,
    epoch: u64,
    selection: Selection,
}

impl Watcher {
    pub(super) fn new(
        kind: &'static Kind,
        state: watch::Receiver<Snapshot>,
        applied: watch::Receiver<Revision>,
        place: Revision,
        selection: Selection,
    ) -> Self {
        let epoch = state.borrow().epoch;
        Self { kind, state, applied, place, epoch, selection }
    }

    /// Waits for the next changes that concern the selection. Cancel-safe: nothing is consumed before it returns.
    ///
    /// # Errors
    /// 410 when the watcher was too slow, asked for history that is gone, or the cache was rebuilt.
    pub async fn next(&mut self) -> Result<Vec<Change>, ApiError> {
        loop {
            let changes = self.take()?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if self.state.changed().await.is_err() {
                return Err(ApiError::new(503, "ServiceUnavailable", "the server is shutting down"));
            }
        }
    }

    /// Returns a revision up to which everything was delivered: what a bookmark may say. Never ahead of events.
    pub fn delivered(&mut self) -> Revision {
        let applied = *self.applied.borrow();
        // Everything up to `applied` is in the snapshot by now; what of it is pending decides.
        let snapshot = self.state.borrow().clone();
        let pending = match snapshot.events_after(self.place) {
            Some(mut events) => events.any(|event| self.selection.classify(event).is_some()),
            None => true,
        };
        if !pending || drover_api::mutants::active("W06-bookmark-ahead") {
            self.place = self.place.max(applied).max(snapshot.revision);
        }
        self.place
    }

    /// The kind that is watched.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// Takes the selected changes between our place and now, at most [`BATCH`] events of whole revisions.
    fn take(&mut self) -> Result<Vec<Change>, ApiError> {
        loop {
            let snapshot = self.state.borrow_and_update().clone();
            if snapshot.epoch != self.epoch {
                return Err(too_old(self.place, snapshot.floor + 1));
            }
            let Some(events) = snapshot.events_after(self.place) else {
                return Err(too_old(self.place, snapshot.floor + 1));
            };
            let mut changes = Vec::new();
            let mut complete = true;
            for event in events {
                if changes.len() >= BATCH && event.revision > self.place {
                    complete = false;
                    break;
                }
                changes.extend(self.selection.classify(event));
                self.place = event.revision;
            }
            if !complete {
                self.state.mark_changed();
            }
            if !changes.is_empty() || complete {
                return Ok(changes);
            }
        }
    }
}
