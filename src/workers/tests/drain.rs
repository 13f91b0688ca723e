//! The drain proof against everything that could make an undrained stream appear drained.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::world::{Entry, OldStore, World, until};
use crate::domain::gauge::Phase;
use crate::domain::run::{Event, OutcomeResult};
use crate::ports::ErrorKind;
use crate::workers::WorkerContext;

/// Everything up to the freeze is done.
async fn frozen() -> (World, Arc<WorkerContext>) {
    let world = World::new();
    for n in 0..6 {
        world.author(&format!("a{n}"));
        world.book(&format!("b{n}"), "1.00");
    }
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up", "arm", "freeze"]).await;
    (world, ctx)
}

/// Performs the drain while something keeps it from ending, until its patience is over; it must fail.
async fn never_drained(world: &World, ctx: &Arc<WorkerContext>, what: &str) {
    let put = world.faults.calls(Op::PutMarker);
    let (result, ()) = tokio::join!(world.perform(ctx, "drain"), async {
        until("the drain to begin", || world.faults.calls(Op::PutMarker) > put).await;
        for _ in 0..40 {
            world.clock.advance(2_000);
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    });
    let error = result.expect_err(what);
    assert!(!error.message.is_empty() && !error.advice.is_empty(), "{what}: {error:?}");
    assert_ne!(ctx.measured().tables["books"].phase, Phase::Drained, "{what}");
    let outcomes = world.journal.entries().into_iter().filter_map(|e| match e {
        Entry::Fact(Event::Outcome { id, result }) if id.starts_with("drain/books") => Some(result),
        _ => None,
    });
    assert!(outcomes.into_iter().all(|r| !matches!(r, OutcomeResult::Done { .. })), "{what}: its outcome says done");
}

#[tokio::test]
async fn a_drain_proves_every_table_and_leaves_no_marker_behind() {
    let (world, ctx) = frozen().await;
    let evidence = world.perform(&ctx, "drain").await.unwrap();
    for table in ["books", "authors"] {
        for proof in ["marker", "shards", "poll cycles"] {
            let name = format!("{proof} {table}");
            assert!(evidence.iter().any(|e| e.name == name && e.good), "nothing says {name}: {evidence:?}");
        }
    }
    assert_eq!((world.differing("books"), world.differing("authors")), (vec![], vec![]));
    let markers = || world.old.items(world.table("books")).keys().any(|k| k.starts_with("marker#"));
    until("the markers to be removed", || !markers()).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_drain_that_is_cancelled_leaves_no_marker_behind_either() {
    let (world, ctx) = frozen().await;
    let latch = Latch::default();
    // Its marker is written, and cannot be read back.
    world.faults.put(Op::Marker, "books", 0, u32::MAX, Fault::Latch(latch.clone()));
    let markers = || world.old.items(world.table("books")).keys().any(|k| k.starts_with("marker#"));
    tokio::select! {
        done = world.perform(&ctx, "drain") => panic!("it is held: {done:?}"),
        () = async {
            latch.caught().await;
            until("the marker to be written", markers).await;
        } => {}
    }
    until("the markers to be removed", || !markers()).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_follower_that_rests_never_looks_drained() {
    let (world, ctx) = frozen().await;
    ctx.pause();
    until("the follower to rest", || ctx.measured().tables["books"].phase == Phase::Paused).await;
    world.book("b1", "2.00");
    never_drained(&world, &ctx, "a paused follower").await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_follower_that_is_throttled_cut_off_or_held_never_looks_drained() {
    let stalls = [
        (Op::Read, Fault::Refuse(ErrorKind::Throttled)),
        (Op::Read, Fault::Refuse(ErrorKind::Unreachable)),
        (Op::Read, Fault::Latch(Latch::default())),
        (Op::Stream, Fault::Refuse(ErrorKind::Unreachable)),
        (Op::Apply, Fault::Refuse(ErrorKind::Unreachable)),
    ];
    for (op, fault) in stalls {
        let (world, ctx) = frozen().await;
        world.faults.always(op, fault.clone());
        let calls = world.faults.calls(op);
        until("the stall", || {
            world.clock.advance(300);
            world.faults.calls(op) > calls + u64::from(op != Op::Apply)
                || (op == Op::Apply && world.faults.calls(Op::Read) > 50)
        })
        .await;
        never_drained(&world, &ctx, &format!("{op:?} {fault:?}")).await;
        ctx.stop().await;
    }
}

#[tokio::test]
async fn one_shard_that_cannot_be_read_keeps_the_whole_table_from_looking_drained() {
    let (world, ctx) = frozen().await;
    world.old.split(world.table("books"), 2);
    world.clock.advance(6_000);
    let listed = || world.new.table(world.table("books")).stream.unwrap().1;
    until("the parent to end", || listed().get("shard-1-0") == Some(&None)).await;
    // The marker may well go through the other one.
    let latch = Latch::default();
    world.faults.put(Op::Read, "shard-1-1", 0, u32::MAX, Fault::Latch(latch));
    never_drained(&world, &ctx, "one shard of two").await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_shard_that_ended_before_its_child_is_listed_keeps_the_table_from_looking_drained() {
    let (world, ctx) = frozen().await;
    let books = world.table("books");
    world.old.split(books, 2);
    world.clock.advance(6_000);
    let listed = |shard: &str| world.new.table(books).stream.unwrap().1.get(shard).cloned();
    until("the first to end", || listed("shard-1-0") == Some(None)).await;
    // The second generation rolls over; of one of its shards the child is not listed.
    for child in ["shard-1-3", "shard-1-4"] {
        world.old.unlist(books, child, true);
    }
    world.old.split(books, 1);
    world.old.unlist(books, "shard-1-4", false);
    world.clock.advance(6_000);
    until("the second ones to end", || ["shard-1-1", "shard-1-2"].map(listed) == [Some(None), Some(None)]).await;
    world.clock.advance(6_000);
    for n in 0..20 {
        world.book(&format!("late{n}"), "3.00");
    }
    assert_ne!(world.differing("books"), [""; 0], "none of them went through the shard that is not listed");
    never_drained(&world, &ctx, "a child that is not listed").await;
    let lag = ctx.measured().tables["books"].lag.apply;
    assert!(lag.value.is_none_or(|ms| ms > 10_000.0), "a lag of {lag:?} while writes of a minute ago are not read");
    world.old.unlist(books, "shard-1-3", false);
    world.clock.advance(6_000);
    world.perform(&ctx, "drain").await.unwrap();
    assert_eq!(world.differing("books"), [""; 0]);
    ctx.stop().await;
}

#[tokio::test]
async fn a_transaction_that_is_open_at_the_freeze_is_waited_for_and_a_later_one_is_not() {
    let (world, ctx) = frozen().await;
    world.old.transactions(&[7]);
    let (looks, put) = (world.faults.calls(Op::OpenWrites), world.faults.calls(Op::PutMarker));
    let (result, ()) = tokio::join!(world.perform(&ctx, "drain"), async {
        until("three looks", || world.faults.calls(Op::OpenWrites) >= looks + 3).await;
        assert_eq!(world.faults.calls(Op::PutMarker), put, "a marker may stand before what it writes");
        world.book("late", "7.00");
        world.old.transactions(&[8]);
    });
    result.unwrap();
    assert_eq!(world.differing("books"), [""; 0]);
    ctx.stop().await;
}

#[tokio::test]
async fn a_transaction_that_never_ends_fails_the_drain_and_is_named() {
    let (world, ctx) = frozen().await;
    world.old.transactions(&[7]);
    let looks = world.faults.calls(Op::OpenWrites);
    let (result, ()) = tokio::join!(world.perform(&ctx, "drain"), async {
        until("two looks", || world.faults.calls(Op::OpenWrites) >= looks + 2).await;
        world.clock.advance(70_000);
    });
    let error = result.expect_err("somebody writes");
    assert!(error.message.contains("process 7"), "{error:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_sweep_that_began_before_the_marker_proves_nothing() {
    let (world, ctx) = frozen().await;
    let latch = Latch::default();
    let rule = world.faults.put(Op::Read, "Shop-books", 0, u32::MAX, Fault::Latch(latch.clone()));
    latch.caught().await;
    // The read began before the freeze settled; a straggler's write comes after it.
    let put = world.faults.calls(Op::PutMarker);
    let (result, ()) = tokio::join!(world.perform(&ctx, "drain"), async {
        until("the markers to be written", || world.faults.calls(Op::PutMarker) >= put + 2).await;
        world.book("straggler", "9.00");
        world.faults.lift(rule);
        latch.release();
    });
    result.unwrap();
    assert_eq!(world.differing("books"), [""; 0], "the straggler was left behind");
    ctx.stop().await;
}

#[tokio::test]
async fn a_marker_that_could_not_be_written_at_once_is_written_again_and_does_not_cancel_the_day() {
    for fault in [Fault::Refuse(ErrorKind::Throttled), Fault::FailAfter(ErrorKind::TimedOut)] {
        let (world, ctx) = frozen().await;
        world.faults.put(Op::PutMarker, "books", 0, 1, fault.clone());
        let result = world.perform(&ctx, "drain").await;
        assert!(result.is_ok(), "{fault:?}: one passing error took the whole cutover back: {result:?}");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn one_unanswered_look_for_the_marker_does_not_cancel_the_day() {
    let (world, ctx) = frozen().await;
    world.faults.put(Op::Marker, "books", 0, 1, Fault::Refuse(ErrorKind::Unreachable));
    let result = world.perform(&ctx, "drain").await;
    assert!(result.is_ok(), "{result:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn markers_that_can_never_be_written_fail_the_drain() {
    let (world, ctx) = frozen().await;
    world.faults.put(Op::PutMarker, "books", 0, u32::MAX, Fault::Refuse(ErrorKind::Throttled));
    never_drained(&world, &ctx, "no marker can be written").await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_drain_is_not_believed_when_its_intent_is_not_on_disk() {
    let (world, ctx) = frozen().await;
    let put = world.faults.calls(Op::PutMarker);
    world.faults.put(Op::State, "intent", 0, u32::MAX, Fault::Refuse(ErrorKind::Invalid));
    let error = world.perform(&ctx, "drain").await.expect_err("nothing may follow");
    assert!(error.message.contains("nothing was changed"), "{error:?}");
    assert_eq!(world.faults.calls(Op::PutMarker), put, "the marker was written before its intent was on disk");
    ctx.stop().await;
}

#[tokio::test]
async fn a_stream_that_was_replaced_while_frozen_fails_the_drain() {
    let (world, ctx) = frozen().await;
    world.old.turn_off(world.table("books"));
    world.old.enable(world.table("books")).unwrap();
    world.clock.advance(6_000);
    never_drained(&world, &ctx, "a stream with another ARN").await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_backlog_in_another_shard_is_not_drained_by_a_marker_that_overtook_it() {
    // Which shard gets the marker depends on its hash: several rounds, so that it almost certainly comes early at least
    // once.
    for _ in 0..6 {
        let (world, ctx) = frozen().await;
        let books = world.table("books");
        world.old.split(books, 2);
        world.clock.advance(6_000);
        let listed = || world.new.table(books).stream.unwrap().1;
        until("the parent to end", || listed().get("shard-1-0") == Some(&None)).await;
        let latch = Latch::default();
        let rule = world.faults.put(Op::Read, "Shop-books", 0, u32::MAX, Fault::Latch(latch.clone()));
        latch.caught().await;
        let mut late = 0;
        for n in 0.. {
            let key = format!("late{n}");
            if OldStore::low(&key) {
                world.book(&key, "7.00");
                late += 1;
            }
            if late == 60 {
                break;
            }
        }
        let put = world.faults.calls(Op::PutMarker);
        let (result, ()) = tokio::join!(world.perform(&ctx, "drain"), async {
            until("the markers to be written", || world.faults.calls(Op::PutMarker) >= put + 2).await;
            world.faults.lift(rule);
            latch.release();
        });
        result.unwrap();
        assert_eq!(world.differing("books"), [""; 0], "drained with a backlog in the other shard");
        ctx.stop().await;
    }
}
