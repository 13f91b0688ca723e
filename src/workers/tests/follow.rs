//! Following, with a stream that splits, repeats itself, stalls, is trimmed and is replaced.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::world::{FakeTarget, Stored, World, until};
use crate::domain::gauge::Phase;
use crate::domain::run::ErrorClass;
use crate::ports::{ErrorKind, Target as _};
use crate::workers::WorkerContext;

/// Loaded and followed, with a few books.
async fn following() -> (World, Arc<WorkerContext>) {
    let world = World::new();
    for n in 0..6 {
        world.book(&format!("b{n}"), "1.00");
    }
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up"]).await;
    (world, ctx)
}

fn price(world: &World, key: &str) -> Option<String> {
    let stored = world.new.table(world.table("books"));
    stored.rows.get(key).map(|row| format!("{:?}", row[1]))
}

#[tokio::test]
async fn changes_made_during_the_load_win_over_what_it_read() {
    let world = World::new();
    for n in 0..9 {
        world.book(&format!("b{n}"), "1.00");
    }
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture"]).await;
    let latch = Latch::default();
    world.faults.put(Op::Flush, "books", 0, u32::MAX, Fault::Latch(latch.clone()));
    let work = async {
        latch.caught().await;
        // Read by the load and not yet written: changed, deleted, deleted and made again, new.
        for n in 0..3 {
            world.book(&format!("b{n}"), "2.00");
            world.old.delete(world.table("books"), &format!("b{}", n + 3), false);
            world.old.delete(world.table("books"), &format!("b{}", n + 6), false);
            world.book(&format!("b{}", n + 6), "3.00");
            world.book(&format!("new{n}"), "4.00");
        }
        latch.release();
    };
    let (result, ()) = tokio::join!(world.perform(&ctx, "load"), work);
    result.unwrap();
    world.well(&ctx, &["catch-up"]).await;
    world.converged("books").await;
    assert_eq!(price(&world, "b3"), None, "deleted while it was being loaded");
    assert!(price(&world, "b6").is_some_and(|p| p.contains('3')), "deleted and made again");
    ctx.stop().await;
}

#[tokio::test]
async fn a_child_shard_waits_for_its_parent_however_they_are_listed() {
    let (world, ctx) = following().await;
    // The parent's records are held back while the child's could be read.
    let latch = Latch::default();
    let rule = world.faults.put(Op::Read, "shard-1-0", 0, u32::MAX, Fault::Latch(latch.clone()));
    world.faults.always(Op::Stream, Fault::Reorder);
    latch.caught().await;
    for n in 0..9 {
        world.book("b1", &format!("{n}.10"));
    }
    world.old.split(world.table("books"), 2);
    for n in 0..9 {
        world.book("b1", &format!("{n}.20"));
        world.book(&format!("b{n}"), &format!("{n}.30"));
    }
    world.old.split(world.table("books"), 2);
    world.book("b1", "77.00");
    world.faults.lift(rule);
    latch.release();
    world.converged("books").await;
    assert!(price(&world, "b1").is_some_and(|p| p.contains("77")));
    let stored = world.new.table(world.table("books")).stream.unwrap().1;
    assert_eq!(stored["shard-1-0"], None, "the parent is finished");
    ctx.stop().await;
}

#[tokio::test]
async fn what_is_delivered_again_changes_nothing_for_good() {
    let (world, ctx) = following().await;
    let rule = world.faults.always(Op::Read, Fault::Duplicate);
    for n in 0..12 {
        world.book("b1", &format!("{n}.00"));
        world.old.delete(world.table("books"), "b2", false);
        world.book("b2", &format!("{n}.00"));
    }
    world.old.delete(world.table("books"), "b2", false);
    world.converged("books").await;
    world.faults.lift(rule);
    assert_eq!(price(&world, "b2"), None, "a repeated insert brought a deleted row back");
    ctx.stop().await;
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_read_back_and_not_guessed() {
    let (world, ctx) = following().await;
    world.faults.put(Op::Apply, "books", 0, 2, Fault::FailAfter(ErrorKind::TimedOut));
    for n in 0..9 {
        world.book(&format!("b{n}"), "5.00");
    }
    let opened = world.faults.calls(Op::ResumeFollow);
    world.converged("books").await;
    until("the follower to read its positions back", || world.faults.calls(Op::ResumeFollow) > opened).await;
    ctx.stop().await;
}

#[tokio::test]
async fn what_a_failover_lost_is_applied_anew_and_told() {
    let (world, ctx) = following().await;
    world.book("b1", "2.00");
    world.converged("books").await;
    let replica = world.new.table(world.table("books"));
    world.book("b2", "2.00");
    world.book("b3", "2.00");
    world.converged("books").await;
    // Transactions that the replica never received: rows and positions go back together.
    let mut lost = replica.clone();
    lost.fence = world.new.table(world.table("books")).fence;
    world.new.locked().tables.insert("books".into(), lost.clone());
    world.book("b4", "2.00");
    world.converged("books").await;
    assert!(price(&world, "b2").is_some_and(|p| p.contains('2')));
    let told = || {
        let said = |e: &super::world::Entry| {
            matches!(e, super::world::Entry::Fact(crate::domain::run::Event::Note { text, .. })
            if text.contains("books went back to an earlier position"))
        };
        world.journal.entries().iter().filter(|e| said(e)).count()
    };
    until("it to be told", || told() == 1).await;
    // Also while nothing comes that would have to be applied.
    lost.fence = world.new.table(world.table("books")).fence;
    world.new.locked().tables.insert("books".into(), lost);
    until("it to be told again", || {
        world.clock.advance(100);
        told() == 2
    })
    .await;
    world.converged("books").await;
    assert!(price(&world, "b4").is_some_and(|p| p.contains('2')));
    ctx.stop().await;
}

/// What a failover does to whoever follows: the server is away, and when it answers it stands earlier.
async fn fails_over(world: &World, earlier: Stored) {
    let away = [Op::Apply, Op::ResumeFollow].map(|op| world.faults.always(op, Fault::Refuse(ErrorKind::Unreachable)));
    let opened = world.faults.calls(Op::ResumeFollow);
    world.book("b4", "3.00");
    until("the following to have ended", || world.faults.calls(Op::ResumeFollow) > opened).await;
    let fence = world.new.table(world.table("books")).fence;
    world.new.locked().tables.insert("books".into(), Stored { fence, ..earlier });
    away.into_iter().for_each(|rule| world.faults.lift(rule));
}

#[tokio::test]
async fn what_a_failover_lost_is_told_though_another_error_ended_the_following() {
    let (world, ctx) = following().await;
    let earlier = world.new.table(world.table("books"));
    world.book("b2", "2.00");
    world.converged("books").await;
    fails_over(&world, earlier).await;
    world.converged("books").await;
    let told = |e: &super::world::Entry| {
        matches!(e, super::world::Entry::Fact(crate::domain::run::Event::Note { text, .. })
            if text.contains("books went back to an earlier position"))
    };
    assert_eq!(world.journal.entries().iter().filter(|e| told(e)).count(), 1);
    ctx.stop().await;
}

#[tokio::test]
async fn rows_of_the_load_that_a_failover_lost_end_the_following() {
    let (world, ctx) = following().await;
    let earlier = world.new.table(world.table("books"));
    let without = |keep: usize| {
        let mut earlier = earlier.clone();
        earlier.checkpoints = earlier.checkpoints.into_iter().take(keep).collect();
        earlier
    };
    assert!(earlier.checkpoints.len() > 1, "the load has several segments");
    fails_over(&world, without(1)).await;
    until("it to be noticed", || ctx.any_ended().is_some_and(|why| why.contains("rows of the load are missing"))).await;
    ctx.stop().await;
    // Nor does another process follow what is not whole, whatever its record says.
    let ctx = world.ctx().await;
    ctx.ensure_following();
    until("it to be noticed", || ctx.any_ended().is_some_and(|why| why.contains("rows of the load are missing"))).await;
    ctx.stop().await;
}

#[tokio::test]
async fn an_iterator_that_is_too_old_is_replaced_at_the_stored_position() {
    let (world, ctx) = following().await;
    ctx.pause();
    until("the follower to rest", || ctx.measured().tables["books"].phase == Phase::Paused).await;
    world.clock.advance(20 * 60_000);
    world.book("b1", "9.00");
    ctx.resume();
    world.converged("books").await;
    assert_eq!(ctx.measured().tables["books"].retries, 0, "an old iterator is no trouble");
    ctx.stop().await;
}

#[tokio::test]
async fn another_process_goes_on_where_the_last_transaction_ended() {
    let (world, mut ctx) = following().await;
    for n in 0..8 {
        for b in 0..6 {
            world.book(&format!("b{b}"), &format!("{n}.{b}0"));
        }
        world.old.split(world.table("books"), 1 + n % 2);
        ctx = world.restart(ctx).await;
        ctx.ensure_following();
    }
    world.converged("books").await;
    ctx.stop().await;
}

#[tokio::test]
async fn rows_that_expired_are_gone_and_counted_as_expired() {
    let (world, ctx) = following().await;
    world.old.delete(world.table("books"), "b1", true);
    world.old.delete(world.table("books"), "b2", false);
    world.converged("books").await;
    let stored = world.new.table(world.table("books"));
    assert_eq!(stored.expired, 1, "deleted by TTL, and only that one");
    assert!(!stored.rows.contains_key("b1") && !stored.rows.contains_key("b2"));
    ctx.stop().await;
}

/// Whatever comes again, is applied and not answered, or is read by another process: each insert and each delete counts
/// once, and what came while the load read is unsure and said to be.
#[tokio::test]
async fn the_sources_count_is_right_over_delivery_again_lost_answers_and_restarts() {
    let (world, ctx) = following().await;
    let books = world.table("books").clone();
    // Past the seconds the load read in.
    world.clock.advance(60_000);
    let live = || world.wanted("books").len();
    let counted = async || {
        let found = FakeTarget::new(world.new.clone()).source_count(&books).await.unwrap().unwrap();
        (found.items, found.unsure)
    };
    assert_eq!(counted().await, (Some(6), 0));
    world.faults.put(Op::Apply, "books", 0, 3, Fault::FailAfter(ErrorKind::TimedOut));
    world.faults.put(Op::Read, "books", 0, 6, Fault::Duplicate);
    for n in 0..20 {
        world.book(&format!("new{n}"), "4.00");
    }
    for n in 0..4 {
        world.book(&format!("b{n}"), "5.00");
        world.old.delete(&books, &format!("b{n}"), n % 2 == 0);
    }
    world.converged("books").await;
    assert_eq!(live(), 22);
    assert_eq!(counted().await, (Some(22), 0));
    assert_eq!(world.new.table(&books).expired, 2, "counted once too");
    let ctx = world.restart(ctx).await;
    ctx.ensure_following();
    world.book("late", "1.00");
    world.converged("books").await;
    assert_eq!(counted().await, (Some(23), 0));
    ctx.stop().await;
}

#[tokio::test]
async fn an_item_that_no_longer_fits_leaves_the_table_and_stands_in_the_ledger() {
    let (world, ctx) = following().await;
    world.book("b1", "123456789.00");
    let parked = || world.new.table(world.table("books")).parked;
    until("the misfit to be parked", || parked().contains_key("b1")).await;
    assert_eq!(price(&world, "b1"), None, "an older version would count as carried");
    world.book("b1", "1.25");
    world.converged("books").await;
    ctx.stop().await;
}

#[tokio::test]
async fn two_rows_with_one_unique_value_are_one_row_and_one_entry_of_the_ledger() {
    let (world, ctx) = following().await;
    world.book_of("b1", "1.00", Some("same"), None);
    until("the first", || world.differing("books").is_empty()).await;
    world.book_of("b2", "1.00", Some("same"), None);
    let stored = || world.new.table(world.table("books"));
    until("the second to be parked", || stored().parked.contains_key("b2")).await;
    assert!(!stored().rows.contains_key("b2"));
    // The value becomes free: the row is tried again and comes in.
    world.book_of("b1", "1.00", Some("other"), None);
    until("the retry", || {
        world.clock.advance(500);
        stored().parked.is_empty()
    })
    .await;
    assert_eq!(world.differing("books"), [""; 0]);
    ctx.stop().await;
}

/// Following must end for good, the lag must be unknown, and no step may call that caught up or drained.
async fn is_red(world: &World, ctx: &Arc<WorkerContext>, says: &str) {
    let told = || ctx.measured().tables["books"].trouble.clone().unwrap_or_default();
    until(says, || told().contains(says)).await;
    let lag = ctx.measured().tables["books"].lag;
    assert_eq!((lag.apply.value, lag.capture.value), (None, None), "a gap has no lag: nobody knows");
    assert_eq!(ctx.measured().tables["books"].phase, Phase::Retrying);
    let ctx = ctx.clone();
    let step = world.plan.step("catch-up").unwrap().clone();
    let state = world.journal.state();
    let error = ctx.perform(&step, 9, &state).await.expect_err("it is not caught up");
    assert_eq!(error.class, ErrorClass::World);
    assert!(error.advice.contains("new run"), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_was_replaced_ends_following_for_good() {
    let (world, ctx) = following().await;
    world.old.turn_off(world.table("books"));
    world.book("b1", "8.00");
    world.old.enable(world.table("books")).unwrap();
    world.clock.advance(6_000);
    is_red(&world, &ctx, "replaced under us").await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_stream_that_was_turned_off_ends_following_for_good() {
    let (world, ctx) = following().await;
    world.old.turn_off(world.table("books"));
    world.clock.advance(6_000);
    is_red(&world, &ctx, "stream").await;
    ctx.stop().await;
}

#[tokio::test]
async fn records_trimmed_before_they_were_read_are_a_gap() {
    let (world, ctx) = following().await;
    ctx.pause();
    until("the follower to rest", || ctx.measured().tables["books"].phase == Phase::Paused).await;
    for n in 0..9 {
        world.book(&format!("b{n}"), "6.00");
    }
    world.old.trim(world.table("books"), 2);
    ctx.resume();
    is_red(&world, &ctx, "trimmed").await;
    assert!(!world.differing("books").is_empty(), "the gap is real");
    ctx.stop().await;
}

#[tokio::test]
async fn a_shard_that_was_trimmed_unread_is_a_gap() {
    let (world, ctx) = following().await;
    ctx.pause();
    until("the follower to rest", || ctx.measured().tables["books"].phase == Phase::Paused).await;
    for n in 0..9 {
        world.book(&format!("b{n}"), "6.00");
    }
    world.old.split(world.table("books"), 1);
    world.old.trim(world.table("books"), 0);
    // Longer than anything is kept.
    world.clock.advance(25 * 3_600_000);
    ctx.resume();
    is_red(&world, &ctx, "trimmed").await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_start_older_than_the_stream_keeps_is_a_gap_even_when_nothing_says_trimmed() {
    let world = World::new();
    world.book("b1", "1.00");
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load"]).await;
    world.clock.advance(24 * 3_600_000);
    ctx.ensure_following();
    is_red(&world, &ctx, "older than the stream keeps").await;
    ctx.stop().await;
}

#[tokio::test]
async fn lag_grows_while_reads_are_throttled_refused_or_held() {
    let stalls = [
        Fault::Refuse(ErrorKind::Throttled),
        Fault::Refuse(ErrorKind::Unreachable),
        Fault::Refuse(ErrorKind::Denied),
        Fault::Latch(Latch::default()),
    ];
    for fault in stalls {
        let (world, ctx) = following().await;
        until("a lag", || ctx.measured().tables["books"].lag.apply.value.is_some()).await;
        world.faults.put(Op::Read, "Shop-books", 0, u32::MAX, fault.clone());
        let calls = world.faults.calls(Op::Read);
        until("the stall", || world.faults.calls(Op::Read) > calls + 2).await;
        world.clock.advance(900_000);
        // Unknown and stale are correct as well; a small number that is shown as current is not.
        let measured = ctx.measured();
        let fresh = measured.tables["books"].lag.apply.fresh(measured.at, 5_000);
        assert!(fresh.is_none_or(|ms| ms >= 900_000.0), "{fault:?}: {fresh:?} ms behind, it says");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn a_shard_that_is_throttled_is_not_hidden_by_a_busy_one() {
    let mut world = World::new();
    world.old.page = 8;
    world.book("b1", "1.00");
    world.old.enable(world.table("books")).unwrap();
    world.old.split(world.table("books"), 2);
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up"]).await;
    world.faults.put(Op::Read, "shard-1-2", 0, u32::MAX, Fault::Refuse(ErrorKind::Throttled));
    let throttled = || world.faults.struck();
    let before = throttled();
    until("throttling", || throttled() > before).await;
    let since = world.clock.peek();
    for round in 0..6 {
        world.clock.advance(150_000);
        let applied = ctx.measured().tables["books"].applied;
        for n in 0..32 {
            world.book(&format!("b{n}"), &format!("{round}.{n:02}"));
        }
        until("the busy shard to be applied", || ctx.measured().tables["books"].applied > applied).await;
        let m = ctx.measured();
        let lag = m.tables["books"].lag.apply.fresh(m.at, 5_000);
        let behind = (world.clock.peek() - since) as f64 - 10_000.0;
        assert!(lag.is_none_or(|ms| ms >= behind), "{lag:?} while a shard was not read for {behind} ms");
    }
    ctx.stop().await;
}

#[tokio::test]
async fn a_listing_of_shards_that_hangs_or_is_throttled_holds_no_change_up() {
    for fault in [Fault::Refuse(ErrorKind::Throttled), Fault::Latch(Latch::default())] {
        let (world, ctx) = following().await;
        until("a listing", || world.faults.calls(Op::Stream) > 0).await;
        let listed = world.faults.calls(Op::Stream);
        world.faults.put(Op::Stream, "books", 0, u32::MAX, fault.clone());
        // Shards are listed again by now, and no answer comes.
        world.clock.advance(60_000);
        until("another listing", || world.faults.calls(Op::Stream) > listed).await;
        for n in 0..5 {
            world.book(&format!("b{n}"), "7.50");
            until("the change", || price(&world, &format!("b{n}")).is_some_and(|p| p.contains("7.5"))).await;
        }
        // It is said as long as it lasts, and a drain knows that the list is old.
        if matches!(fault, Fault::Refuse(_)) {
            until("the trouble", || ctx.measured().tables["books"].trouble.is_some()).await;
        }
        ctx.stop().await;
    }
}

#[tokio::test]
async fn lag_comes_to_life_again_and_never_says_zero_for_a_throttled_quarter_of_an_hour() {
    let (world, ctx) = following().await;
    let lag = || {
        let m = ctx.measured();
        m.tables["books"].lag.apply.fresh(m.at, 5_000)
    };
    until("a lag", || lag().is_some()).await;
    let rule = world.faults.put(Op::Read, "Shop-books", 0, u32::MAX, Fault::Refuse(ErrorKind::Throttled));
    let calls = world.faults.calls(Op::Read);
    until("throttling", || world.faults.calls(Op::Read) > calls + 1).await;
    let since = world.clock.peek();
    for _ in 0..30 {
        world.clock.advance(30_000);
        let known = lag();
        assert!(known.is_none_or(|ms| ms + 10_000.0 >= (world.clock.peek() - since) as f64), "{known:?}");
        tokio::task::yield_now().await;
    }
    world.faults.lift(rule);
    until("a small lag again", || lag().is_some_and(|ms| ms < 60_000.0)).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_wall_clock_that_steps_makes_no_lag_negative_and_loses_nothing() {
    let (world, ctx) = following().await;
    for (n, step) in [-3_600_000, 7_200_000, -3_600_000].into_iter().enumerate() {
        world.clock.step_wall(step);
        world.book("b1", &format!("{n}.70"));
        world.converged("books").await;
        let lag = ctx.measured().tables["books"].lag;
        for reading in [lag.apply, lag.capture, lag.marker] {
            assert!(reading.value.is_none_or(|ms| ms >= 0.0), "{reading:?}");
        }
    }
    ctx.stop().await;
}

#[tokio::test]
async fn a_full_batch_of_empty_reads_is_not_the_end() {
    let (world, ctx) = following().await;
    // Many calls in a row give nothing although there is something, as the developer guide warns.
    world.faults.put(Op::Read, "Shop-books", 0, 6, Fault::Cut);
    for n in 0..9 {
        world.book(&format!("b{n}"), "2.50");
    }
    world.converged("books").await;
    ctx.stop().await;
}

#[tokio::test]
async fn an_idle_stream_that_is_read_does_not_look_lagging() {
    let (world, ctx) = following().await;
    let lag = || {
        let m = ctx.measured();
        m.tables["books"].lag.apply.fresh(m.at, 5_000)
    };
    for _ in 0..5 {
        world.clock.advance(600_000);
        until("a small, fresh lag on an idle table", || lag().is_some_and(|ms| ms < 5_000.0)).await;
    }
    assert_eq!(ctx.measured().tables["books"].retries, 0);
    ctx.stop().await;
}

#[tokio::test]
async fn items_past_their_ttl_or_without_one_are_carried_and_compared_like_all_others() {
    let world = World::new();
    world.book("none", "1.00");
    let books = world.table("books");
    for (key, expires) in [("past", "1"), ("future", "99999999999")] {
        let mut item = world.old.items(books)["none"].clone();
        item.fields[0].1 = crate::domain::value::Value::Text(key.to_owned().into());
        item.fields.push(("expires".into(), crate::domain::value::Value::Decimal(expires.to_owned().into())));
        world.old.put(books, item);
    }
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load", "catch-up", "verify"]).await;
    assert_eq!(world.new.table(books).rows.len(), 3, "an item was skipped for its TTL");
    // Lost in the target, it is missed: the comparison has no filter of its own.
    world.new.foreign_delete(books, "past");
    world.clock.query_takes(300);
    let (step, state) = (world.plan.step("verify").unwrap(), world.journal.state());
    assert!(ctx.perform(step, 2, &state).await.is_err());
    ctx.stop().await;
}

#[tokio::test]
async fn a_process_that_was_overtaken_cannot_move_positions_back() {
    let (world, first) = following().await;
    let latch = Latch::default();
    let rule = world.faults.put(Op::Apply, "books", 0, 1, Fault::Latch(latch.clone()));
    world.book("b1", "2.00");
    latch.caught().await;
    world.faults.lift(rule);
    // Another process goes on from what is stored, and further.
    let second = world.ctx().await;
    second.ensure_following();
    for n in 3..7 {
        world.book("b1", &format!("{n}.00"));
    }
    world.converged("books").await;
    latch.release();
    let told = || first.measured().tables["books"].trouble.clone().unwrap_or_default();
    until("the first to learn that it was overtaken", || told().contains("resumed by another follower")).await;
    assert_eq!(world.differing("books"), [""; 0], "a batch of a process that was overtaken came in");
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_lane_that_landed_before_a_death_is_not_applied_a_second_time() {
    let (world, ctx) = following().await;
    let books = world.table("books");
    let lanes: std::collections::BTreeSet<u32> =
        (0..6).map(|n| crate::domain::value::Key(format!("b{n}")).lane(ctx.plan.follow.lanes)).collect();
    assert!(lanes.len() > 1, "the books stand in several lanes");
    let before = world.new.locked().writes;
    // Two of three lanes land, then the process dies before positions move; once more while it catches up.
    let rule = world.faults.put(Op::Apply, "books", 0, 2, Fault::Cut);
    for n in 0..6 {
        world.book(&format!("b{n}"), "2.00");
    }
    until("both deaths", || world.faults.struck() == 2).await;
    world.faults.lift(rule);
    world.converged("books").await;
    let landed = world.new.locked().writes - before;
    assert_eq!(landed, 6, "each change landed once");
    // The next change of the same books is past what the lanes had reached.
    for n in 0..6 {
        world.book(&format!("b{n}"), "3.00");
    }
    world.converged("books").await;
    assert!(price(&world, "b5").is_some_and(|p| p.contains('3')), "{:?}", world.new.table(books).rows.get("b5"));
    ctx.stop().await;
}
