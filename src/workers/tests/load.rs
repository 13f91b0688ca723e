//! The load, with every call going wrong at some time.

use super::faults::{Fault, Op};
use super::world::{World, until};
use crate::domain::run::ErrorClass;
use crate::ports::ErrorKind;

fn stocked() -> World {
    let world = World::new();
    for n in 0..40 {
        world.author(&format!("a{n}"));
        world.book_of(&format!("b{n:02}"), &format!("{n}.50"), Some(&format!("isbn-{n}")), Some(&format!("a{n}")));
    }
    world
}

#[tokio::test]
async fn every_call_may_fail_once_before_and_after_its_effect() {
    for op in [Op::Page, Op::Flush] {
        for fault in [Fault::Refuse(ErrorKind::Unreachable), Fault::FailAfter(ErrorKind::TimedOut), Fault::Delay(900)] {
            for skip in [0, 1, 5] {
                let world = stocked();
                let ctx = world.ctx().await;
                world.well(&ctx, &["capture"]).await;
                world.faults.put(op, "books", skip, 1, fault.clone());
                world.well(&ctx, &["load"]).await;
                assert_eq!(world.faults.struck(), 1, "{op:?} {fault:?} {skip}");
                assert_eq!(world.differing("books"), [""; 0], "{op:?} {fault:?} {skip}");
                let stored = world.new.table(world.table("books"));
                let counted: u64 = stored.checkpoints.values().map(|c| c.rows).sum();
                assert_eq!((counted, stored.rows.len()), (40, 40), "{op:?} {fault:?} {skip}: counted twice");
                ctx.stop().await;
            }
        }
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_not_counted_twice_on_the_board() {
    let world = stocked();
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture"]).await;
    world.faults.put(Op::Flush, "books", 2, 3, Fault::FailAfter(ErrorKind::TimedOut));
    world.well(&ctx, &["load"]).await;
    assert_eq!(ctx.measured().tables["books"].loaded, 40);
    ctx.stop().await;
}

#[tokio::test]
async fn a_page_that_ends_in_the_middle_is_never_the_end_of_a_segment() {
    let world = stocked();
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture"]).await;
    world.faults.put(Op::Page, "books", 1, 1, Fault::Cut);
    let error = world.perform(&ctx, "load").await.expect_err("half a page cannot be carried");
    assert!(error.message.contains("cannot be read"), "{error:?}");
    let stored = world.new.table(world.table("books"));
    assert!(stored.checkpoints.values().filter(|c| c.done).count() < 3, "the torn segment counts as read");
    world.well(&ctx, &["load"]).await;
    assert_eq!(world.differing("books"), [""; 0]);
    ctx.stop().await;
}

#[tokio::test]
async fn trouble_that_does_not_pass_fails_the_step_and_says_what_was_tried() {
    let world = stocked();
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture"]).await;
    let rule = world.faults.put(Op::Flush, "books", 4, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    let error = world.perform(&ctx, "load").await.expect_err("nothing can be written");
    assert_eq!(error.class, ErrorClass::Permission, "{error:?}");
    assert!(error.message.contains("Flush books"), "{error:?}");
    assert!(ctx.measured().tables["books"].phase != crate::domain::gauge::Phase::Loaded);
    // A new process goes on from the checkpoints, and counts only once.
    world.faults.lift(rule);
    let ctx = world.restart(ctx).await;
    world.well(&ctx, &["load"]).await;
    assert_eq!(world.differing("books"), [""; 0]);
    assert_eq!(ctx.measured().tables["books"].loaded, 40);
    ctx.stop().await;
}

#[tokio::test]
async fn nothing_is_loaded_before_the_stream_is_on() {
    let world = stocked();
    let ctx = world.ctx().await;
    world.journal.start("load");
    let error = world.perform(&ctx, "load").await.expect_err("changes made meanwhile would be lost");
    assert!(error.message.contains("no stream position"), "{error:?}");
    assert_eq!(world.faults.calls(Op::Page), 0);
    ctx.stop().await;
}

#[tokio::test]
async fn a_load_that_dies_anywhere_is_taken_up_where_its_rows_stand() {
    for held in 0..14 {
        let world = stocked();
        let ctx = world.ctx().await;
        world.well(&ctx, &["capture"]).await;
        let latch = super::faults::Latch::default();
        // Authors are loaded first: the hold may come in either table.
        world.faults.put(Op::Flush, "", held * 2, u32::MAX, Fault::Latch(latch.clone()));
        tokio::select! {
            result = world.perform(&ctx, "load") => panic!("the hold never came: {result:?}"),
            () = latch.caught() => {}
        }
        let before = world.new.table(world.table("books")).rows.len();
        latch.release();
        let ctx = world.restart(ctx).await;
        world.well(&ctx, &["load"]).await;
        assert!(world.new.table(world.table("books")).rows.len() >= before);
        assert_eq!(world.differing("books"), [""; 0], "died at flush {held}");
        assert_eq!(world.differing("authors"), [""; 0], "died at flush {held}");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn while_a_load_goes_on_its_rate_and_what_it_does_are_measured() {
    let world = stocked();
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture"]).await;
    let [page, last] = [super::faults::Latch::default(), super::faults::Latch::default()];
    world.faults.put(Op::Page, "books", 2, 1, Fault::Latch(page.clone()));
    world.faults.put(Op::FinishLoad, "books", 0, 1, Fault::Latch(last.clone()));
    let books = || ctx.measured().tables["books"].clone();
    let (result, ()) = tokio::join!(world.perform(&ctx, "load"), async {
        page.caught().await;
        until("a rate", || {
            world.clock.advance(100);
            books().rate > 0.0
        })
        .await;
        assert!(books().reading > 0 && books().segments.1 > 0, "{:?}", books());
        assert_eq!(books().doing, None);
        page.release();
        last.caught().await;
        let doing = books().doing.expect("what goes on after the last row").0;
        assert!(doing.contains("takes statistics"), "{doing}");
        last.release();
    });
    result.unwrap();
    assert_eq!((books().doing, books().reading), (None, 0));
    ctx.stop().await;
}

#[tokio::test]
async fn a_load_that_was_overtaken_cannot_overwrite_what_was_followed_since() {
    let world = stocked();
    let target = world.ports().target;
    target.lease("trial", "first", 1_000).await.unwrap();
    let first = world.ctx().await;
    world.well(&first, &["capture"]).await;
    // The process hangs with a page in its buffer: its lease ends, its host appears dead.
    let latch = super::faults::Latch::default();
    let rule = world.faults.put(Op::Flush, "books", 0, 1, Fault::Latch(latch.clone()));
    let step = world.plan.step("load").unwrap().clone();
    let state = world.journal.state();
    let hanging = tokio::spawn({
        let first = first.clone();
        async move { first.perform(&step, 1, &state).await }
    });
    latch.caught().await;
    world.faults.lift(rule);
    // Another process resumes the run, loads, follows, and applies a newer change of every key.
    world.clock.advance(5_000);
    target.lease("trial", "second", 60_000).await.unwrap();
    let second = world.ctx().await;
    world.well(&second, &["load", "catch-up"]).await;
    for n in 0..40 {
        world.book_of(&format!("b{n:02}"), "99.00", Some(&format!("isbn-{n}")), Some(&format!("a{n}")));
    }
    world.converged("books").await;
    latch.release();
    let error = hanging.await.unwrap().expect_err("it was overtaken");
    assert!(error.message.contains("taken the lease"), "{error:?}");
    assert_eq!(world.differing("books"), [""; 0], "stale rows came in after newer ones");
    first.stop().await;
    second.stop().await;
}
