//! Walks what a file holds and what the store holds side by side, both in key order.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use drover_api::backup::Record;
use drover_store::{Backend, KeyValue, Operation, Range, Revision};

use super::{
    Error, PAGE, is_ours_to_back_up,
    plan::{self, Counts},
};
use crate::registry::ROOT;

/// The walk, and what it has met so far.
pub(super) struct Merge {
    backend: Arc<dyn Backend>,
    /// The revision that is read, the newest one of each page when `None`.
    at: Option<Revision>,
    after: Bytes,
    page: VecDeque<KeyValue>,
    complete: bool,
    pub(super) counts: Counts,
}

impl Merge {
    /// Begins before the first key.
    pub(super) fn new(backend: Arc<dyn Backend>, at: Option<Revision>) -> Self {
        let (after, page) = (Bytes::new(), VecDeque::new());
        Self { backend, at, after, page, complete: false, counts: Counts::default() }
    }

    /// Takes the next step, up to the key that is wanted, which is taken when its turn has come. Returns `None` when
    /// nothing is wanted and nothing is left, else the write that the step asks for, if any.
    pub(super) async fn next(&mut self, wanted: &mut Option<Record>) -> Result<Option<Option<Operation>>, Error> {
        self.fill().await?;
        let current = self.page.front();
        let Some(step) = plan::step(wanted.as_ref(), current) else { return Ok(None) };
        self.counts.note(step, &plan::key_of(step, wanted.as_ref(), current));
        let (record, current) = match step {
            plan::Step::Create => (wanted.take(), None),
            plan::Step::Change | plan::Step::Keep => (wanted.take(), self.page.pop_front()),
            plan::Step::Remove => (None, self.page.pop_front()),
        };
        Ok(Some(plan::operation(step, record, current)))
    }

    async fn fill(&mut self) -> Result<(), Error> {
        while self.page.is_empty() && !self.complete {
            let range = Range { prefix: ROOT.into(), after: self.after.clone(), limit: PAGE, at: self.at };
            let found = self.backend.range(range).await?;
            self.complete = !found.more;
            if let Some(last) = found.items.last() {
                self.after = last.key.clone();
            }
            self.page = found.items.into_iter().filter(|item| is_ours_to_back_up(&item.key)).collect();
        }
        Ok(())
    }
}
