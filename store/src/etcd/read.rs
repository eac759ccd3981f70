//! Ranges, page by page.

use etcd_client::GetOptions;

use super::Shared;
use super::convert::{header_revision, to_etcd};
use crate::{Error, Range, RangeResult, Revision};

/// So many keys are asked for at once, to keep answers of ordinary objects within a few MiB.
const PAGE_KEYS: usize = 500;
/// So often a read starts over because the revision of its first page was compacted before the last one.
const RESTARTS_MAX: usize = 3;

impl Shared {
    pub(super) async fn range(&self, range: &Range) -> Result<RangeResult, Error> {
        let mut restarts = 0;
        loop {
            match self.pages(range).await {
                Err(Error::Compacted { .. }) if range.at.is_none() && restarts < RESTARTS_MAX => restarts += 1,
                Err(error) => return Err(self.explain(error, range.at.unwrap_or(0)).await),
                Ok(result) => return Ok(result),
            }
        }
    }

    /// Reads page after page, all at the revision of the first one.
    async fn pages(&self, range: &Range) -> Result<RangeResult, Error> {
        let end = self.keyspace.data_end(&range.prefix);
        let mut start = self.keyspace.page_start(range);
        // etcd means "newest" by revision 0. At 1 it was as empty as at 0.
        let mut at: Option<Revision> = range.at.map(|at| at.max(1));
        let mut result = RangeResult { items: Vec::new(), revision: 0, more: false };
        if start >= end {
            result.revision = self.revision().await?;
            return Ok(result);
        }
        loop {
            let missing = if range.limit == 0 { PAGE_KEYS } else { range.limit - result.items.len() };
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(i64::try_from(missing.min(PAGE_KEYS)).unwrap_or(i64::MAX))
                .with_revision(to_etcd(at.unwrap_or(0)));
            let mut page = self.read(&start, options).await?;
            if result.revision == 0 {
                result.revision = header_revision(page.header());
            }
            at = at.or(Some(result.revision));
            result.more = page.more();
            result.items.extend(page.take_kvs().into_iter().map(|kv| self.keyspace.key_value(kv)));
            let complete = range.limit > 0 && result.items.len() >= range.limit;
            match result.items.last() {
                Some(last) if result.more && !complete => start = self.keyspace.after(&last.key),
                Some(_) | None => return Ok(result),
            }
        }
    }
}
