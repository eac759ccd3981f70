//! What every backend must do, as one suite run on each of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod concurrent;
mod durable;
mod etcd;
mod etcd_only;
mod harness;
mod read;
mod watch;
mod write;

/// Names every case once, and runs it on every backend.
macro_rules! suite {
    ($($area:ident: $($case:ident),+;)+) => {
        mod on_embedded {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    crate::$area::$case(&mut crate::harness::Embedded::start()).await;
                }
            )+)+
        }

        mod on_etcd {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(mut etcd) = crate::etcd::Server::start().await {
                        crate::$area::$case(&mut etcd).await;
                    }
                }
            )+)+
        }
    };
}

suite! {
    read:
        a_key_that_was_never_written_is_none,
        a_key_is_read_back_with_its_revisions,
        an_overwrite_keeps_the_create_revision_and_a_recreate_does_not,
        empty_values_and_binary_keys_are_kept_as_they_are,
        a_value_of_one_and_a_half_mebibytes_is_kept,
        a_range_holds_the_keys_of_its_prefix_in_order,
        pages_join_to_the_whole_without_gap_or_overlap,
        a_limit_that_fits_exactly_leaves_no_more,
        a_page_may_start_after_a_key_that_is_gone,
        a_range_at_a_revision_shows_the_past,
        pages_at_one_revision_ignore_later_writes,
        a_range_in_the_future_is_refused,
        ten_thousand_keys_are_listed;
    write:
        create_only_succeeds_once,
        a_write_with_the_right_revision_succeeds_and_with_a_stale_one_conflicts,
        a_conflict_tells_the_current_state_of_every_compared_key,
        a_conflict_writes_nothing_and_takes_no_revision,
        the_writes_of_a_transaction_share_one_revision,
        a_compare_may_be_on_another_key_than_the_write,
        every_compare_must_hold,
        deleting_a_missing_key_takes_no_revision,
        a_transaction_without_operations_takes_no_revision,
        a_delete_with_a_stale_revision_conflicts,
        revisions_strictly_increase;
    watch:
        a_watch_delivers_what_happened_after_its_revision_in_order,
        a_watch_goes_on_with_live_events,
        an_event_carries_the_state_before_it,
        a_transaction_arrives_as_one_item_in_key_order,
        a_big_transaction_arrives_as_one_item,
        a_watch_sees_its_prefix_only,
        changes_tell_of_revisions_that_touch_other_keys,
        a_watch_resumed_at_every_revision_continues_exactly_there,
        a_watch_in_the_future_is_refused,
        a_watch_from_before_the_compaction_is_refused_exactly_at_the_boundary,
        an_open_watch_survives_compaction_of_what_it_has_seen,
        a_stalled_watch_gets_everything_or_is_told_that_it_was_compacted;
    durable:
        state_and_revision_survive_reopening,
        a_watch_resumes_across_reopening,
        compaction_survives_reopening,
        the_revision_never_goes_back_when_everything_was_deleted_and_compacted,
        reads_at_compacted_revisions_are_refused_exactly_at_the_boundary,
        compacting_twice_or_backwards_changes_nothing,
        compacting_the_future_is_refused,
        live_keys_survive_compaction_whatever_their_age;
    concurrent:
        fifty_writers_with_compare_and_swap_lose_no_update,
        one_of_many_concurrent_creates_wins,
        a_rebuilt_replica_equals_the_list_at_every_checked_revision,
        concurrent_transactions_get_different_revisions,
        reads_after_an_acknowledged_write_see_it;
}
