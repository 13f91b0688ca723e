//! What every store promises behind a port, told as cases that run on each implementation: on the stores in memory, by which
//! the workers are tested, and on the adapters with real servers behind them. A fake that promises more or less than an
//! adapter makes the workers' tests worthless.

use std::sync::Arc;

use super::Target;

pub(crate) mod source;
pub(crate) mod tables;
pub(crate) mod target;

/// A store to try cases on, empty, of a plan with the tables of [`tables`].
pub(crate) trait TargetStore: Send + Sync {
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

/// A case that stands in no list is run on nothing.
#[test]
fn every_case_is_run() {
    let (listed, told) = (include_str!("mod.rs"), [include_str!("target.rs"), include_str!("source.rs")].concat());
    let cases = told.lines().filter_map(|line| line.strip_prefix("pub(crate) async fn ")?.split_once('('));
    let missing: Vec<&str> =
        cases.map(|(name, _)| name).filter(|name| !listed.contains(&format!("            {name},\n"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
