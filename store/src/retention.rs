//! How much history is kept: a pure rule, run by each backend's maintenance.

use std::time::Duration;

use crate::Revision;

/// How much history a store keeps, and how often it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest revisions stay readable and watchable.
    pub keep_revisions: u64,
    /// Time between two looks.
    pub interval: Duration,
}

impl Default for Retention {
    /// 10,000 revisions: at 2 KiB an object 20 MiB of disk, and minutes of history in a busy cluster, which is what a
    /// client needs to resume a watch. Looked at twice a minute, so that history overshoots by half a minute of writes.
    fn default() -> Self {
        Self { keep_revisions: 10_000, interval: Duration::from_secs(30) }
    }
}

/// Decides the revision to compact at, or `None` when nothing is due.
///
/// `newest` is the store's revision and `compacted` the oldest one that can still be read. The answer, if any, is
/// always greater than `compacted` and never greater than `newest`. Repeating the question after compacting at the
/// answer gives `None`. A tenth of the retention is left to gather, so that a slow trickle does not compact each time.
pub fn plan_compaction(retention: &Retention, newest: Revision, compacted: Revision) -> Option<Revision> {
    let target = newest.checked_sub(retention.keep_revisions)?;
    if drover_api::mutants::active("D04-never-compacts") {
        return None;
    }
    let gathered = target.checked_sub(compacted)?;
    let worth_it = (retention.keep_revisions / 10).max(1);
    (gathered >= worth_it).then_some(target)
}

/// Decides between two looks whether so much history has gathered that it must not wait: more than twice the retention.
///
/// Keeps a store that is written to at full speed within bounds, however long the interval. The answer is as of
/// [`plan_compaction`].
pub(crate) fn plan_overdue_compaction(
    retention: &Retention,
    newest: Revision,
    compacted: Revision,
) -> Option<Revision> {
    // A hundred revisions are nothing: below, each commit would compact.
    const TRIFLE: u64 = 100;
    let most = retention.keep_revisions.saturating_mul(2).max(TRIFLE);
    let is_overdue = newest.saturating_sub(compacted) > most;
    if is_overdue { plan_compaction(retention, newest, compacted) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retention(keep_revisions: u64) -> Retention {
        Retention { keep_revisions, interval: Duration::from_secs(1) }
    }

    #[test]
    fn a_young_store_is_left_alone() {
        assert_eq!(plan_compaction(&retention(100), 99, 0), None);
        assert_eq!(plan_compaction(&retention(100), 100, 0), None);
    }

    #[test]
    fn history_beyond_the_retention_goes() {
        assert_eq!(plan_compaction(&retention(100), 250, 0), Some(150));
    }

    #[test]
    fn a_trickle_gathers_until_it_is_worth_a_compaction() {
        assert_eq!(plan_compaction(&retention(100), 259, 150), None);
        assert_eq!(plan_compaction(&retention(100), 260, 150), Some(160));
    }

    #[test]
    fn keeping_nothing_compacts_at_the_newest() {
        assert_eq!(plan_compaction(&retention(0), 7, 6), Some(7));
    }

    #[test]
    fn twice_the_retention_is_compacted_at_once_and_less_waits() {
        assert_eq!(plan_overdue_compaction(&retention(1000), 2000, 0), None);
        assert_eq!(plan_overdue_compaction(&retention(1000), 2001, 0), Some(1001));
        assert_eq!(plan_overdue_compaction(&retention(0), 100, 0), None);
        assert_eq!(plan_overdue_compaction(&retention(0), 101, 0), Some(101));
        assert_eq!(plan_overdue_compaction(&retention(u64::MAX), u64::MAX, 0), None);
    }

    proptest! {
        #[test]
        fn stays_in_bounds_and_reaches_a_fixed_point(keep in 0u64..1000, newest in 0u64..10_000, compacted in 0u64..10_000) {
            if let Some(target) = plan_compaction(&retention(keep), newest, compacted) {
                prop_assert!(target > compacted);
                prop_assert!(target <= newest);
                prop_assert!(newest - target >= keep);
                prop_assert_eq!(plan_compaction(&retention(keep), newest, target), None);
            }
        }
    }
}
