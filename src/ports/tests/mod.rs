//! What every store promises behind a port, told as cases that run on each implementation: on the stores in memory, by which
//! the workers are tested, and on the adapters with real servers behind them. A fake that promises more or less than an
//! adapter makes the workers' tests worthless.

use std::sync::Arc;

use super::Target;

pub(crate) mod items;
pub(crate) mod outbox;
pub(crate) mod source;
pub(crate) mod tables;
pub(crate) mod target;

/// What a store does besides what every target promises. A case that is about one of these holds a store to what it
/// says: one that does not have it must not seem to have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// It refuses to delete a row that others refer to.
    pub references: bool,
    /// It refuses a second row with a value that a column holds once.
    pub unique: bool,
}

impl Abilities {
    /// Of a relational store.
    #[cfg_attr(not(feature = "postgresql"), allow(dead_code))]
    pub(crate) const RELATIONAL: Self = Self { references: true, unique: true };
    /// Of a store of single items.
    #[cfg_attr(not(feature = "dynamodb"), allow(dead_code))]
    pub(crate) const ITEMS: Self = Self { references: false, unique: false };
}

/// A store to try cases on, empty, of a plan with the tables of [`tables`].
pub(crate) trait TargetStore: Send + Sync {
    /// What it does besides.
    fn abilities(&self) -> Abilities;

    /// The store as the process under test sees it.
    fn target(&self) -> Arc<dyn Target>;

    /// The same store as another process sees it, with connections and memory of its own.
    fn another(&self) -> Arc<dyn Target>;
}

/// One test of a store for each case.
macro_rules! target_cases {
    ($store:expr) => {
        $crate::ports::tests::target_cases! { $store;
            a_flush_lands_rows_parked_rows_and_checkpoint_together,
            two_rows_with_one_key_in_one_flush_are_not_folded_into_one,
            a_flush_of_an_overtaken_process_writes_nothing,
            a_start_is_kept_and_another_stream_is_a_conflict,
            a_token_is_never_given_out_twice_and_the_earlier_one_is_refused,
            following_is_not_resumed_by_a_process_that_lost_the_lease,
            positions_never_go_back,
            only_rows_that_were_there_count_as_deleted,
            a_delete_that_a_reference_refuses_is_parked_as_still_referenced,
            rows_of_a_process_without_the_lease_are_refused_without_positions_too,
            a_table_that_is_open_to_customers_refuses_rows_and_no_other_does,
            two_rows_with_one_unique_value_are_one_row_where_the_store_knows_unique_columns,
            a_large_batch_lands_whole_with_its_positions,
            a_large_batch_of_an_overtaken_follower_lands_nowhere,
            the_ledger_is_read_in_pages_and_by_key,
            a_load_that_goes_on_from_elsewhere_is_told_so,
        }
    };
    ($store:expr; $($case:ident),* $(,)?) => { $(
        #[tokio::test]
        async fn $case() {
            let store = $store.await;
            $crate::ports::tests::target::$case(&store).await;
        }
    )* };
}
pub(crate) use target_cases;

/// One test of a source for each case.
macro_rules! source_cases {
    ($store:expr) => {
        $crate::ports::tests::source_cases! { $store;
            all_parts_of_a_reading_give_each_row_once,
            rows_are_given_in_the_order_of_their_keys_and_absent_ones_are_named,
            changes_of_a_key_come_in_order_and_whole,
            another_process_goes_on_behind_what_is_durable,
            what_is_not_durable_is_given_again,
            a_marker_comes_behind_everything_that_was_written_before,
        }
    };
    ($store:expr; $($case:ident),* $(,)?) => { $(
        #[tokio::test]
        async fn $case() {
            let store = $store.await;
            $crate::ports::tests::source::$case(&store).await;
        }
    )* };
}
pub(crate) use source_cases;

/// One test of an outbox for each case.
macro_rules! outbox_cases {
    ($store:expr) => {
        $crate::ports::tests::outbox_cases! { $store;
            what_is_ours_leaves_no_record_and_what_a_customer_writes_does,
            each_key_is_taken_whole_with_every_state_it_had,
            only_one_applies_at_a_time_and_what_is_given_back_comes_again,
            what_is_cleared_counts_once_and_conflicts_keep_their_key,
            what_was_signed_is_known_until_its_records_are_cleared,
            a_rollback_is_told_to_whoever_has_the_turn_and_that_of_another_run_is_refused,
            capture_does_not_end_while_anything_waits,
            a_marker_comes_with_what_is_taken_and_does_not_wait,
        }
    };
    ($store:expr; $($case:ident),* $(,)?) => { $(
        #[tokio::test]
        async fn $case() {
            let store = $store.await;
            $crate::ports::tests::outbox::$case(&store).await;
        }
    )* };
}
pub(crate) use outbox_cases;

/// One test of a store whose items are written back for each case.
macro_rules! items_cases {
    ($store:expr) => {
        $crate::ports::tests::items_cases! { $store;
            an_item_is_made_once_and_changed_only_over_what_was_read,
            an_item_goes_only_as_it_was_read,
            items_are_read_in_the_order_of_their_keys_and_absent_ones_are_named,
            what_becomes_of_one_change_of_a_batch_says_nothing_of_another,
            what_belongs_together_is_written_whole_or_not_at_all,
            an_exercise_leaves_nothing_behind,
        }
    };
    ($store:expr; $($case:ident),* $(,)?) => { $(
        #[tokio::test]
        async fn $case() {
            let store = $store.await;
            $crate::ports::tests::items::$case(&store).await;
        }
    )* };
}
pub(crate) use items_cases;

/// A case that stands in no list is run on nothing.
#[test]
fn every_case_is_run() {
    let told =
        [include_str!("target.rs"), include_str!("source.rs"), include_str!("outbox.rs"), include_str!("items.rs")];
    let (listed, told) = (include_str!("mod.rs"), told.concat());
    let cases = told.lines().filter_map(|line| line.strip_prefix("pub(crate) async fn ")?.split_once('('));
    let missing: Vec<&str> =
        cases.map(|(name, _)| name).filter(|name| !listed.contains(&format!("            {name},\n"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
