//! The reverse flow: what customers wrote on the new side is applied to the old side under faults, deaths and lost
//! answers, and what was not is reported.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::converge::seeds;
use super::faults::{Fault, Latch, Op};
use super::new_side::{conflicts, drained, mark_rolled_back, open_to_customers, unfit_row};
use super::world::{World, until};
use crate::domain::gauge::ReverseState;
use crate::domain::mapping::Winner;
use crate::domain::plan::{NEW, Step, StepKind};
use crate::domain::run::StepError;
use crate::domain::value::OwnedRow;
use crate::ports::{CaptureGap, ErrorKind, OpenWrite, ReversePorts, SeveralOutboxes, Unavailable};
use crate::workers::reverse::{ReverseApplier, drain};

/// Writes that were acknowledged to customers, by key.
pub(super) type Oracle = BTreeMap<String, OwnedRow>;

/// One write on the new side. No price comes twice, so that every write differs from all older ones.
fn write_new(world: &World, rng: &mut fastrand::Rng, oracle: &mut Oracle, n: u32) {
    let key = format!("b{}", if rng.bool() { rng.u8(0..3) } else { rng.u8(0..16) });
    if rng.u8(0..5) == 0 {
        world.new.foreign_delete(world.table("books"), &key);
        oracle.remove(&key);
    } else {
        oracle.insert(key.clone(), world.customer_puts(&key, &format!("{n}.50")));
    }
}

/// One write on the old side, after the rollback. `there` are the keys it had then.
fn write_old(world: &World, rng: &mut fastrand::Rng, oracle: &mut Oracle, n: u32, there: &[String]) {
    if rng.u8(0..4) == 0 {
        let key = &there[rng.usize(..there.len())];
        let books = world.table("books");
        if !world.new.may_have_deleted(books, key) && world.old.delete(books, key, false) {
            oracle.remove(key);
        }
        return;
    }
    let key = if rng.bool() { format!("b{}", rng.u8(0..16)) } else { format!("o{}", rng.u8(0..4)) };
    world.book(&key, &format!("{n}.25"));
    let row = world.wanted("books").remove(&key).expect("it was just put");
    oracle.insert(key, row);
}

async fn trial(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (world, mut ctx) = open_to_customers().await;
    world.old.back().batch = [1, 3, 16][rng.usize(..3)];
    let mut oracle: Oracle = world.wanted("books");
    world.faults.at_random(seed, 12, 16);
    for n in 0..60 {
        write_new(&world, &mut rng, &mut oracle, n);
        tokio::task::yield_now().await;
        if rng.u8(0..6) == 0 {
            let before = world.faults.calls(Op::Take);
            until("a carrier to look", || world.faults.calls(Op::Take) > before).await;
        }
        if rng.u8(0..20) == 0 {
            ctx = world.restart(ctx).await;
            ctx.ensure_following();
        }
    }
    let struck = world.faults.struck();
    assert!(struck > 0, "seed {seed}: no fault ever struck");
    let state = world.journal.state();
    assert!(state.reverse.values().all(|r| r.strays == 0), "seed {seed}: taken for a stranger's: {:?}", state.reverse);

    world.faults.calm();
    mark_rolled_back(&world, &ctx).await;
    if rng.bool() {
        // The console is gone, whatever its reverse applier was doing.
        ctx.stop().await;
    }
    world.faults.at_random(seed + 1, 12, 16);
    let there: Vec<String> = world.wanted("books").into_keys().collect();
    let mut n = 100;
    loop {
        let before = world.faults.calls(Op::Take);
        let dies = rng.u8(0..3) == 0;
        let meanwhile = async {
            for _ in 0..rng.u8(0..6) {
                n += 1;
                write_old(&world, &mut rng, &mut oracle, n, &there);
                tokio::task::yield_now().await;
            }
            if !dies {
                std::future::pending::<()>().await;
            }
            until("the drain to take something", || world.faults.calls(Op::Take) > before).await;
        };
        tokio::select! {
            ended = drained(&world) => {
                assert_eq!(ended.left, [""; 0], "seed {seed}");
                break;
            }
            // It died, and is started again.
            () = meanwhile => {}
        }
    }
    assert_eq!(world.wanted("books"), oracle, "seed {seed}: the old side does not hold what customers were told");
    assert_eq!(world.new.captured(), 0, "seed {seed}");
    let state = world.journal.state();
    assert!(state.reverse.values().all(|r| r.left == Some(0)), "seed {seed}: {:?}", state.reverse);
    ctx.stop().await;
}

#[tokio::test]
async fn every_write_of_the_new_side_comes_back_under_any_seed() {
    futures::future::join_all(seeds().into_iter().map(trial)).await;
}

#[tokio::test]
async fn a_drain_whose_answer_was_lost_carries_everything_once() {
    let calls = [
        Op::Armed,
        Op::MarkRolledBack,
        Op::Sample,
        Op::Waiting,
        Op::Take,
        Op::ItemRead,
        Op::RecordOwnWrite,
        Op::ItemWrite,
        Op::Clear,
        Op::Done,
        Op::PutBackMarker,
        Op::Exercise,
        Op::Tally,
        Op::Settle,
    ];
    let kinds = [ErrorKind::TimedOut, ErrorKind::Unreachable];
    let faults = kinds.into_iter().flat_map(|kind| [Fault::FailAfter(kind), Fault::Refuse(kind)]);
    let one = |op: Op, fault: Fault, batch: usize| async move {
        let (world, ctx) = open_to_customers().await;
        world.old.back().batch = batch;
        let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
        let mut oracle = world.wanted("books");
        for (key, price) in [("b0", "2.00"), ("b1", "3.00"), ("new", "4.00")] {
            oracle.insert(key.into(), world.customer_puts(key, price));
        }
        assert!(world.new.foreign_delete(world.table("books"), "b2"));
        oracle.remove("b2");
        mark_rolled_back(&world, &ctx).await;
        ctx.stop().await;
        world.faults.lift(off);
        let struck = world.faults.struck();
        world.faults.put(op, "", 0, 1, fault.clone());
        let ended = drained(&world).await;
        assert_eq!(ended.left, [""; 0], "{op:?} {fault:?}");
        assert_eq!(world.faults.struck(), struck + 1, "{op:?} {fault:?} was never called");
        assert_eq!(world.wanted("books"), oracle, "{op:?} {fault:?}");
        let reverse = &world.journal.state().reverse["books"];
        assert_eq!((reverse.carried, reverse.conflicts), (Some(4), 0), "{op:?} {fault:?}");
    };
    let each = faults.flat_map(|fault| calls.into_iter().map(move |op| (op, fault.clone())));
    let all = each.flat_map(|(op, fault)| [1, 8].into_iter().map(move |batch| Box::pin(one(op, fault.clone(), batch))));
    futures::future::join_all(all).await;
}

#[tokio::test]
async fn a_conflict_while_customers_are_on_the_new_side_is_counted_and_listed_and_the_new_value_stays() {
    // A lost answer must not hide it: read again, the item would be taken for one that was applied before.
    for lost in [None, Some(Op::ItemWrite), Some(Op::Clear)] {
        let (world, ctx) = open_to_customers().await;
        let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
        let mut oracle = world.wanted("books");
        oracle.insert("b1".into(), world.customer_puts("b1", "7.00"));
        world.book("b1", "8.00");
        if let Some(op) = lost {
            world.faults.put(op, "books", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
        }
        world.faults.lift(off);
        until("the conflict to be told", || !conflicts(&world).is_empty()).await;
        assert_eq!(conflicts(&world), [(vec!["b1".to_owned()], "new".to_owned())], "{lost:?}");
        until("the outbox to be empty", || world.new.captured() == 0).await;
        assert_eq!(world.wanted("books"), oracle, "{lost:?}");
        mark_rolled_back(&world, &ctx).await;
        ctx.stop().await;
        assert_eq!(drained(&world).await.left, [""; 0]);
        assert_eq!(world.journal.state().reverse["books"].conflicts, 1, "{lost:?}");
    }
}

#[tokio::test]
async fn a_conflict_is_counted_when_its_carrier_dies_before_its_records_are_cleared() {
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    world.customer_puts("b1", "7.00");
    world.book("b1", "8.00");
    let dies = world.faults.always(Op::Clear, Fault::Refuse(ErrorKind::TimedOut));
    let before = world.faults.calls(Op::Clear);
    world.faults.lift(off);
    until("a carrier to have written", || world.faults.calls(Op::Clear) > before).await;
    ctx.stop().await;
    // What it was about to record was lost with it.
    world.faults.lift(dies);
    mark_rolled_back(&world, &ctx).await;
    assert_eq!(drained(&world).await.left, [""; 0]);
    let tally = world.reverse().outbox.tally(&world.plan.tables).await.unwrap();
    assert_eq!((tally["books"].carried, tally["books"].conflicts), (1, 1));
    assert_eq!(world.wanted("books")["b1"], world.new.table(world.table("books")).rows["b1"]);
}

#[tokio::test]
async fn what_came_late_is_carried_under_a_customers_write_to_an_item_its_carrier_died_with() {
    let (world, ctx) = open_to_customers().await;
    let dies = world.faults.always(Op::Clear, Fault::Refuse(ErrorKind::TimedOut));
    world.customer_puts("b1", "7.00");
    until("a carrier to have written", || world.wanted("books")["b1"] == world.row_of("b1", "7.00", None)).await;
    ctx.stop().await;
    // The console is gone; the new side goes on, and then customers go back and write another field.
    world.customer_puts("b1", "8.00");
    mark_rolled_back(&world, &ctx).await;
    world.book_of("b1", "7.00", None, Some("a0"));
    world.faults.lift(dies);
    assert_eq!(drained(&world).await.left, [""; 0]);
    assert_eq!(world.wanted("books")["b1"], world.row_of("b1", "8.00", Some("a0")));
    assert_eq!(conflicts(&world), []);
    assert_eq!(world.reverse().outbox.tally(&world.plan.tables).await.unwrap()["books"].merged, 1);
}

#[tokio::test]
async fn a_row_made_anew_on_the_new_side_does_not_come_back_over_a_customers_delete() {
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    let books = world.table("books").clone();
    assert!(world.new.foreign_delete(&books, "b1"));
    world.customer_puts("b1", "7.00");
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    assert!(world.old.delete(&books, "b1", false));
    world.faults.lift(off);
    assert_eq!(drained(&world).await.left, [""; 0]);
    assert!(!world.wanted("books").contains_key("b1"), "it came back");
    assert_eq!(conflicts(&world), [(vec!["b1".to_owned()], "old".to_owned())]);
}

#[tokio::test]
async fn a_conflict_is_named_when_its_carrier_dies_after_clearing_it() {
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    world.customer_puts("b1", "7.00");
    world.book("b1", "8.00");
    let latch = Latch::default();
    world.faults.put(Op::Done, "books", 0, 1, Fault::Latch(latch.clone()));
    world.faults.lift(off);
    latch.caught().await;
    ctx.stop().await;
    assert_eq!(conflicts(&world), [], "it died before it told");
    mark_rolled_back(&world, &ctx).await;
    assert_eq!(drained(&world).await.left, [""; 0]);
    assert_eq!(conflicts(&world), [(vec!["b1".to_owned()], "new".to_owned())]);
    assert_eq!(world.journal.state().reverse["books"].conflicts, 1);
}

#[tokio::test]
async fn keys_the_old_side_cannot_take_hold_up_no_other_however_many_come_first() {
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    let books = world.table("books").clone();
    // More records than are taken at a time.
    let unfit = 2 * world.plan.reverse.batch + 1;
    for n in 0..unfit {
        world.new.foreign_put(&books, unfit_row(&world, &format!("u{n}")));
    }
    let mut oracle = world.wanted("books");
    for n in 0..9 {
        oracle.insert(format!("g{n}"), world.customer_puts(&format!("g{n}"), "7.00"));
    }
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    world.faults.lift(off);
    // Asked again it is no other.
    for _ in 0..2 {
        let ended = drained(&world).await;
        assert_eq!(world.wanted("books"), oracle);
        assert_eq!(world.new.captured(), unfit as usize);
        let said = format!("books: {unfit} writes of the new side are not carried back ({unfit} keys cannot be held");
        assert!(ended.left[0].starts_with(&said), "{:?}", ended.left);
    }
}

#[tokio::test]
async fn a_drain_that_never_grows_less_ends_and_says_so() {
    let (world, ctx) = open_to_customers().await;
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    let mut plan = (*world.plan).clone();
    plan.reverse.patience_ms = 300;
    // A machine that stands still for a moment must not look like a stranger who does.
    plan.reverse.settle_ms = 60_000;
    let stranger = async {
        for n in 0.. {
            world.customer_puts("b1", &format!("{n}.00"));
            tokio::task::yield_now().await;
        }
    };
    let (ports, clock) = (world.reverse(), &*world.clock);
    let run = world.journal.state().run;
    let ended = tokio::select! {
        ended = drain(&plan, &run, &ports, &world.journal, clock, true) => ended,
        () = stranger => unreachable!("it writes for ever"),
    };
    assert!(ended.left[0].contains("records keep arriving"), "{:?}", ended.left);
}

#[tokio::test]
async fn a_drain_waits_for_a_transaction_that_is_open_and_names_it_at_the_end() {
    let (world, ctx) = open_to_customers().await;
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    let open = OpenWrite { id: "7".into(), words: "process 7".into() };
    world.new.locked().outbox.open.push(open);
    let mut plan = (*world.plan).clone();
    plan.reverse.patience_ms = 300;
    let run = world.journal.state().run;
    let found = drain(&plan, &run, &world.reverse(), &world.journal, &*world.clock, true).await;
    assert!(!found.left.is_empty() && found.left.iter().all(|left| left.contains("process 7")), "{found:?}");
    let (found, row) = tokio::join!(drained(&world), async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let row = world.customer_puts("b1", "77.00");
        world.new.locked().outbox.open.clear();
        row
    });
    assert_eq!(found.left, [""; 0]);
    assert_eq!(world.wanted("books")["b1"], row, "what was committed late stayed on the new side");
}

#[tokio::test]
async fn what_is_counted_while_something_is_not_captured_is_no_price() {
    let (world, ctx) = open_to_customers().await;
    let gap = CaptureGap { what: "a trigger is off".into(), lost: true };
    world.new.locked().outbox.gaps.push(gap);
    ctx.watch();
    let not_ready = || matches!(ctx.measured().reverse.state, ReverseState::NotReady { .. });
    until("the gap to be seen", not_ready).await;
    for n in 0..5 {
        world.customer_puts(&format!("b{n}"), "9.00");
    }
    let counted = ctx.measured().reverse.at;
    until("what waits to be counted again", || ctx.measured().reverse.at > counted).await;
    ctx.latest.put(|m| m.at_risk = Some(5));
    let counted = ctx.measured().reverse.at;
    until("what waits to be counted again", || ctx.measured().reverse.at > counted).await;
    assert_ne!(ctx.measured().at_risk, Some(0), "what was not captured waits nowhere");
    ctx.stop().await;
}

#[tokio::test]
async fn a_later_run_may_take_the_target_only_once_the_switches_are_back() {
    for switched in [false, true] {
        let (world, ctx) = open_to_customers().await;
        world.customer_puts("b1", "7.00");
        mark_rolled_back(&world, &ctx).await;
        ctx.stop().await;
        let ended =
            drain(&world.plan, &world.journal.state().run, &world.reverse(), &world.journal, &*world.clock, switched)
                .await;
        assert_eq!(ended.left, [""; 0]);
        // The mark that the new side is open to customers stays while it may still be.
        assert_eq!(world.faults.calls(Op::Settle), u64::from(switched));
        let again = world.next_run();
        let ctx = again.ctx().await;
        match again.perform(&ctx, "capture").await {
            Ok(_) => assert!(switched, "the target was taken while customers may still be let in"),
            Err(e) => assert!(!switched && e.message.contains("customers have written to the new side"), "{e:?}"),
        }
        ctx.stop().await;
    }
}

async fn equal_to_an_older_one(late: bool) {
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    let books = world.table("books").clone();
    world.customer_puts("b1", "2.00");
    // The price is the same as before, so only the author is a change.
    world.new.foreign_put(&books, world.row_of("b1", "1.00", Some("a0")));
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    world.book("b1", "2.00");
    world.faults.lift(off);
    let ports = world.reverse();
    let dies = world.faults.always(Op::Clear, Fault::Refuse(ErrorKind::TimedOut));
    let mut first = ReverseApplier::new(&ports);
    let round = first.round(&books, 10, &|| Winner::Old).await.unwrap().unwrap();
    assert!(round.trouble.is_some());
    let both = world.row_of("b1", "2.00", Some("a0"));
    assert_eq!(world.wanted("books")["b1"], both, "merged, and not cleared");
    // The next reverse applier finds what the first one left, and what came late.
    if late {
        world.new.foreign_put(&books, world.row_of("b1", "1.00", Some("a1")));
    }
    world.faults.lift(dies);
    assert_eq!(drained(&world).await.left, [""; 0]);
    assert_eq!(world.wanted("books")["b1"], world.row_of("b1", "2.00", Some(if late { "a1" } else { "a0" })));
    assert_eq!(conflicts(&world), []);
    assert_eq!(world.reverse().outbox.tally(&world.plan.tables).await.unwrap()["books"].merged, 1);
}

#[tokio::test]
async fn a_customers_value_that_equals_an_older_one_of_ours_is_not_taken_for_ours() {
    for late in [false, true] {
        equal_to_an_older_one(late).await;
    }
}

#[tokio::test]
async fn a_write_without_an_answer_is_given_up_and_never_done_later() {
    let (world, ctx) = open_to_customers().await;
    let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
    let row = world.customer_puts("b1", "7.00");
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    world.faults.lift(off);
    let (latch, before) = (Latch::default(), world.wanted("books"));
    world.faults.put(Op::ItemWrite, "books", 0, 1, Fault::Latch(latch.clone()));
    let ports = world.reverse();
    let mut applier = ReverseApplier::new(&ports);
    // It takes as long as a write is given.
    let round = applier.round(world.table("books"), 10, &|| Winner::Old).await.unwrap().unwrap();
    assert_eq!(round.trouble.map(|e| e.kind), Some(ErrorKind::TimedOut));
    latch.release();
    tokio::task::yield_now().await;
    assert_eq!((world.wanted("books"), world.new.captured()), (before, 1), "it was written behind everybody's back");
    let round = applier.round(world.table("books"), 10, &|| Winner::Old).await.unwrap().unwrap();
    assert_eq!((round.trouble, round.tally.carried), (None, 1));
    assert_eq!(world.wanted("books")["b1"], row);
}

#[tokio::test]
async fn a_conflict_after_the_way_back_is_counted_and_listed_and_the_old_value_stays() {
    for lost in [None, Some(Op::Clear)] {
        let (world, ctx) = open_to_customers().await;
        let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
        world.customer_puts("b1", "7.00");
        let other = world.customer_puts("b2", "9.00");
        mark_rolled_back(&world, &ctx).await;
        ctx.stop().await;
        world.book("b1", "8.00");
        let mut oracle = world.wanted("books");
        oracle.insert("b2".into(), other);
        world.faults.lift(off);
        if let Some(op) = lost {
            world.faults.put(op, "books", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
        }
        let ended = drained(&world).await;
        assert_eq!(ended.left, [""; 0]);
        assert_eq!(world.wanted("books"), oracle, "{lost:?}");
        assert_eq!(conflicts(&world), [(vec!["b1".to_owned()], "old".to_owned())], "{lost:?}");
        let reverse = &world.journal.state().reverse["books"];
        assert_eq!((reverse.carried, reverse.conflicts, reverse.left), (Some(2), 1, Some(0)), "{lost:?}");
        assert!(ended.evidence.iter().any(|e| e.value.contains("1 changed by both sides")), "{:?}", ended.evidence);
    }
}

#[tokio::test]
async fn a_second_run_whose_capture_fails_once_starts_from_nothing_all_the_same() {
    let calls = [
        (Op::Waiting, ""),
        (Op::Disarm, ""),
        (Op::Reset, "books"),
        (Op::Reset, "authors"),
        (Op::StartPositions, "authors"),
    ];
    let kind = ErrorKind::TimedOut;
    for ((op, on), fault) in calls.into_iter().flat_map(|c| [(c, Fault::Refuse(kind)), (c, Fault::FailAfter(kind))]) {
        let (world, ctx) = open_to_customers().await;
        world.customer_puts("b1", "7.00");
        mark_rolled_back(&world, &ctx).await;
        ctx.stop().await;
        assert_eq!(drained(&world).await.left, [""; 0]);
        // A row that the first run left there, of an item that is gone since.
        world.old.delete(world.table("books"), "b5", false);

        let again = world.next_run();
        let ctx = again.ctx().await;
        again.faults.put(op, on, 0, 1, fault.clone());
        assert!(again.perform(&ctx, "capture").await.is_err(), "{op:?} {fault:?}");
        again.well(&ctx, &["capture"]).await;
        assert!(again.new.table(again.table("books")).rows.is_empty(), "{op:?} {fault:?}");
        again.well(&ctx, &["load", "catch-up"]).await;
        again.converged("books").await;
        assert!(!again.new.table(again.table("books")).rows.contains_key("b5"), "{op:?} {fault:?}");
        // Nothing of the first run is applied to the old side by the second.
        let ports = again.reverse();
        assert!(!ports.outbox.armed(&again.plan.tables).await.unwrap());
        assert_eq!(again.new.captured(), 0);
        ctx.stop().await;
    }
}

#[tokio::test]
async fn a_second_run_never_forgets_writes_that_were_not_carried_back() {
    for fault in [Fault::Refuse(ErrorKind::TimedOut), Fault::FailAfter(ErrorKind::TimedOut)] {
        let (world, ctx) = open_to_customers().await;
        let off = world.faults.always(Op::Take, Fault::Refuse(ErrorKind::Throttled));
        world.customer_puts("b1", "7.00");
        mark_rolled_back(&world, &ctx).await;
        ctx.stop().await;
        world.faults.lift(off);
        // Somebody removes the mark that the new side is open to customers, and not what they wrote.
        world.reverse().outbox.settle(&world.journal.state().run, &world.plan.tables).await.unwrap();

        let again = world.next_run();
        let ctx = again.ctx().await;
        let refused = |error: StepError| {
            assert!(error.message.contains("1 writes of the new side were never carried back"), "{error:?}");
        };
        let set_up = Step { kind: StepKind::SetUp, ..again.plan.steps[0].clone() };
        let error = ctx.perform(&set_up, 1, &again.journal.state()).await;
        refused(error.expect_err("the tables would be this run's"));
        again.faults.put(Op::Waiting, "", 0, 1, fault);
        assert!(again.perform(&ctx, "capture").await.is_err());
        refused(again.perform(&ctx, "capture").await.expect_err("a write that is nowhere else"));
        assert_eq!(again.new.captured(), 1);
        ctx.stop().await;
    }
}

#[tokio::test]
async fn a_change_of_the_old_side_never_lands_on_what_customers_wrote() {
    let (world, ctx) = open_to_customers().await;
    let row = world.customer_puts("b1", "7.00");
    // Anybody else who writes the old side now makes stray writes, and they are named; our own writes are not.
    world.book("b3", "8.00");
    let strays = || world.journal.state().reverse.get("books").map_or(0, |r| r.strays);
    until("the stranger to be named", || strays() > 0).await;
    until("the write to be carried", || world.new.captured() == 0).await;
    let reverse = &world.journal.state().reverse["books"];
    assert_eq!((reverse.strays, &reverse.stray_keys), (1, &vec!["b3".to_owned()]));
    let stored = world.new.table(world.table("books"));
    assert_eq!((&stored.rows["b1"], world.wanted("books").get("b1")), (&row, Some(&row)));
    assert_ne!(Some(&stored.rows["b3"]), world.wanted("books").get("b3"), "it was applied over the new side");
    ctx.stop().await;
}

#[tokio::test]
async fn a_target_out_of_reach_holds_nothing_of_another_one() {
    let (world, ctx) = open_to_customers().await;
    world.customer_puts("b1", "7.00");
    mark_rolled_back(&world, &ctx).await;
    ctx.stop().await;
    let mut plan = (*world.plan).clone();
    plan.tables.iter_mut().filter(|t| t.id == "authors").for_each(|t| t.to = "archive".into());
    let reachable = world.reverse();
    let outboxes = BTreeMap::from([("archive".to_owned(), Arc::new(Unavailable("its password is gone".into())) as _)]);
    let ports =
        ReversePorts { outbox: SeveralOutboxes::as_one((NEW.to_owned(), reachable.outbox), outboxes), ..reachable };
    let ended = drain(&plan, &world.journal.state().run, &ports, &world.journal, &*world.clock, true).await;
    assert!(ended.evidence.iter().any(|e| e.name == "carried back books" && e.good), "{:?}", ended.evidence);
    assert!(
        ended.left.len() == 1 && ended.left[0].contains("authors") && ended.left[0].contains("its password is gone"),
        "{:?}",
        ended.left
    );
    assert_eq!(world.new.captured(), 0);
}
