//! Verification must see what differs, explain what is parked, and forgive what is only late.

use std::sync::Arc;

use super::faults::{Fault, Op};
use super::world::{World, until};
use crate::domain::plan::{Signal, SignalSource};
use crate::domain::run::{ErrorClass, VerifySummary, signal_value};
use crate::domain::value::Cell;
use crate::ports::ErrorKind;
use crate::workers::WorkerContext;

async fn caught_up() -> (World, Arc<WorkerContext>) {
    let world = World::new();
    for n in 0..20 {
        world.author(&format!("a{n}"));
        world.book_of(&format!("b{n:02}"), &format!("{n}.50"), None, Some(&format!("a{n}")));
    }
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up"]).await;
    // A difference settles after a few reads, without anybody waiting for it.
    world.clock.query_takes(300);
    (world, ctx)
}

async fn compared(world: &World, ctx: &Arc<WorkerContext>) -> (bool, VerifySummary) {
    let (step, state) = (world.plan.step("verify").unwrap(), world.journal.state());
    let result = ctx.perform(step, 1, &state).await;
    if let Err(e) = &result {
        assert_eq!(e.class, ErrorClass::Verification, "{e:?}");
    }
    let state = world.journal.state();
    (result.is_ok(), state.tables["books"].verified.clone().expect("a comparison of books").1)
}

#[tokio::test]
async fn equal_sides_are_equal_row_by_row() {
    let (world, ctx) = caught_up().await;
    let (ok, summary) = compared(&world, &ctx).await;
    assert!(ok);
    assert_eq!((summary.equal, summary.differing(), summary.parked), (20, 0, 0), "{summary:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_row_that_is_missing_extra_or_changed_is_found_and_named() {
    let (world, ctx) = caught_up().await;
    let books = world.table("books");
    let rows = world.new.table(books).rows;
    world.new.foreign_delete(books, "b01");
    let mut cheap = rows["b02"].clone();
    cheap[1] = Cell::Numeric("2.51".into());
    world.new.foreign_put(books, cheap);
    let mut stray = rows["b03"].clone();
    stray[0] = Cell::Text("stray".into());
    world.new.foreign_put(books, stray);
    let (ok, summary) = compared(&world, &ctx).await;
    assert!(!ok, "a floor of 1.0 was met by {summary:?}");
    assert_eq!((summary.missing, summary.extra, summary.mismatched), (1, 1, 1), "{summary:?}");
    for key in ["b01", "b02", "stray"] {
        assert!(summary.keys.iter().any(|k| k == key), "{key} is not named: {:?}", summary.keys);
    }
    assert!(summary.causes.keys().any(|c| c.starts_with("price")), "{:?}", summary.causes);
    ctx.stop().await;
}

#[tokio::test]
async fn values_are_compared_and_not_only_their_number() {
    // Traffic nought and equal counts are what other tools call consistent.
    let (world, ctx) = caught_up().await;
    let books = world.table("books");
    let rows = world.new.table(books).rows;
    let (mut a, mut b) = (rows["b01"].clone(), rows["b02"].clone());
    (a[1], b[1]) = (b[1].clone(), a[1].clone());
    world.new.foreign_put(books, a);
    world.new.foreign_put(books, b);
    let (ok, summary) = compared(&world, &ctx).await;
    assert!(!ok);
    assert_eq!(summary.mismatched, 2, "{summary:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_parked_row_is_explained_and_a_lost_one_is_not() {
    let (world, ctx) = caught_up().await;
    world.book("b01", "123456789.00");
    let books = world.table("books");
    until("the misfit to be parked", || world.new.table(books).parked.contains_key("b01")).await;
    let (ok, summary) = compared(&world, &ctx).await;
    assert!(ok, "{summary:?}");
    assert_eq!((summary.parked, summary.missing), (1, 0), "{summary:?}");
    // The same item without its entry: the reader and the verifier share no filter.
    world.new.locked().tables.get_mut("books").unwrap().parked.clear();
    let (ok, summary) = compared(&world, &ctx).await;
    assert!(!ok);
    assert_eq!((summary.parked, summary.missing), (0, 1), "{summary:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_table_of_parked_rows_only_is_not_verified() {
    let world = World::new();
    world.author("a0");
    for n in 0..5 {
        world.book(&format!("b{n}"), "123456789.00");
    }
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up"]).await;
    let (ok, summary) = compared(&world, &ctx).await;
    assert_eq!((summary.equal, summary.differing(), summary.parked), (0, 0, 5), "{summary:?}");
    assert!(!ok && !summary.clean(), "not one row was compared");
    let match_rate = Signal { source: SignalSource::MatchRate, ..world.plan.signals[0].clone() };
    let reading = signal_value(&world.plan, &world.journal.state(), &ctx.measured(), &match_rate);
    assert_eq!(reading.value, None, "the authors are equal, and say nothing of the books");
    ctx.stop().await;
}

#[tokio::test]
async fn two_empty_sides_are_equal() {
    let world = World::new();
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up"]).await;
    let (ok, summary) = compared(&world, &ctx).await;
    assert!(ok && summary.clean(), "{summary:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn rows_that_are_only_late_do_not_count() {
    let (world, ctx) = caught_up().await;
    world.clock.query_takes(1);
    let latch = super::faults::Latch::default();
    let rule = world.faults.put(Op::Apply, "books", 0, 1, Fault::Latch(latch.clone()));
    world.book("b01", "7.00");
    latch.caught().await;
    let ((ok, summary), ()) = tokio::join!(compared(&world, &ctx), async {
        let looks = world.faults.calls(Op::Fetch);
        until("a second look", || world.faults.calls(Op::Fetch) > looks).await;
        world.faults.lift(rule);
        latch.release();
    });
    assert!(ok, "{summary:?}");
    assert_eq!(summary.differing(), 0, "{summary:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_process_that_has_not_come_round_yet_is_waited_for() {
    let (world, ctx) = caught_up().await;
    ctx.stop().await;
    world.clock.query_takes(20);
    let latch = super::faults::Latch::default();
    let rule = world.faults.put(Op::Apply, "books", 0, 1, Fault::Latch(latch.clone()));
    world.book("b01", "7.00");
    let again = world.ctx().await;
    again.ensure_following();
    latch.caught().await;
    let ((ok, summary), ()) = tokio::join!(compared(&world, &again), async {
        // Well past the time in which a difference settles.
        let looks = world.faults.calls(Op::Fetch);
        until("many looks", || world.faults.calls(Op::Fetch) > looks + 30).await;
        world.faults.lift(rule);
        latch.release();
    });
    assert!(ok, "{summary:?}");
    assert_eq!(summary.differing(), 0, "{summary:?}");
    again.stop().await;
}

#[tokio::test]
async fn a_key_that_never_stands_still_counts_against_us() {
    let (world, ctx) = caught_up().await;
    // Nothing is applied any more while the source goes on changing between the reads.
    world.faults.always(Op::Apply, Fault::Refuse(ErrorKind::Unreachable));
    world.book("b01", "0.99");
    let busy = async {
        for n in 0_u32.. {
            world.book("b01", &format!("{}.99", n % 900));
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let (ok, summary) = tokio::select! {
        found = compared(&world, &ctx) => found,
        () = busy => unreachable!("it never ends"),
    };
    assert!(!ok, "{summary:?}");
    assert!(summary.mismatched >= 1, "{summary:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_comparison_that_could_not_be_made_is_no_comparison() {
    let (world, ctx) = caught_up().await;
    for op in [Op::Scan, Op::Page, Op::Parked] {
        let rule = world.faults.put(op, "books", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
        let error = world.perform(&ctx, "verify").await.expect_err("nothing was compared");
        assert_ne!(error.class, ErrorClass::Verification, "{op:?}");
        let verified = world.journal.state().tables.get("books").and_then(|t| t.verified.clone());
        assert_eq!(verified, None, "{op:?}: a verdict without a comparison");
        world.faults.lift(rule);
    }
    ctx.stop().await;
}

#[tokio::test]
async fn a_scan_cut_short_is_not_read_as_rows_that_are_gone() {
    let (world, ctx) = caught_up().await;
    world.faults.put(Op::Page, "books", 2, 1, Fault::Cut);
    let error = world.perform(&ctx, "verify").await.expect_err("half a page");
    assert!(error.message.contains("cannot be read"), "{error:?}");
    ctx.stop().await;
}
