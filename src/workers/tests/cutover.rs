//! Capture, freeze, switch, thaw and rollback: facts before effects, read-backs after, and no dead ends.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::world::{World, until};
use crate::domain::run::{ErrorClass, Event, OutcomeResult, RunStatus, SwitchStatus};
use crate::domain::value::Cell;
use crate::ports::{ErrorKind, Sequence, SequenceScan};
use crate::workers::{CapturedValues, WorkerContext};

/// Everything up to `last` is done.
async fn up_to(last: &str) -> (World, Arc<WorkerContext>) {
    let world = World::new();
    for n in 0..4 {
        world.book(&format!("b{n}"), "1.00");
    }
    let ctx = world.ctx().await;
    let steps: Vec<&str> = world.plan.steps.iter().map(|s| s.id.as_str()).collect();
    let end = steps.iter().position(|s| *s == last).unwrap();
    world.well(&ctx, &steps[..=end]).await;
    (world, ctx)
}

fn on_the_new_side(world: &World) -> bool {
    world.switches.now("/reads") == "new" && world.switches.now("/writes") == "new"
}

fn on_the_old_side(world: &World) -> bool {
    ["/reads", "/writes"].iter().all(|p| world.switches.now(p) == "old") && world.switches.now("/mode") == "open"
}

#[tokio::test]
async fn a_whole_day_has_an_intent_before_every_effect() {
    let (world, ctx) = up_to("thaw").await;
    assert!(on_the_new_side(&world));
    assert_eq!(world.switches.now("/mode"), "open");
    assert_eq!(world.journal.effects_without_intent(), [""; 0]);
    assert!(world.journal.state().open_intents.is_empty());
    assert!(world.journal.state().downtime.ms.is_some());
    ctx.stop().await;
}

#[tokio::test]
async fn a_target_that_somebody_else_filled_is_never_emptied() {
    let world = World::new();
    let row = vec![Cell::Text("theirs".into()), Cell::Null, Cell::Null, Cell::Null];
    world.new.foreign_put(world.table("books"), row);
    let ctx = world.ctx().await;
    let error = world.perform(&ctx, "capture").await.expect_err("rows of another program");
    assert!(error.message.contains("no load of ours wrote"), "{error:?}");
    assert!(world.new.table(world.table("books")).rows.contains_key("theirs"));
    ctx.stop().await;
}

#[tokio::test]
async fn a_target_customers_wrote_to_is_never_emptied_by_a_new_run() {
    let (world, ctx) = up_to("thaw").await;
    let row = vec![Cell::Text("customer".into()), Cell::Null, Cell::Null, Cell::Null];
    world.new.foreign_put(world.table("books"), row);
    ctx.stop().await;
    world
        .journal
        .fact(Event::Note { level: crate::domain::run::Level::Info, source: "t".into(), text: "x".into() })
        .unwrap();
    let ctx = world.ctx().await;
    let step = world.plan.step("capture").unwrap().clone();
    // A new run knows nothing of what the older one recorded, at its first attempt or at a later one.
    let mut state = world.journal.state();
    state.tables.clear();
    for attempt in [1, 2] {
        let error = ctx.perform(&step, attempt, &state).await.expect_err("customers' rows");
        assert!(error.message.contains("customers have written"), "{error:?}");
    }
    assert!(world.new.table(world.table("books")).rows.contains_key("customer"));
    ctx.stop().await;
}

#[tokio::test]
async fn a_capture_that_is_repeated_keeps_its_first_start() {
    let world = World::new();
    world.book("b1", "1.00");
    let ctx = world.ctx().await;
    // Books are captured and recorded before authors.
    world.faults.put(Op::StartPositions, "authors", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
    assert!(world.perform(&ctx, "capture").await.is_err());
    let first = world.new.table(world.table("books")).stream.unwrap();
    world.book("b2", "1.00");
    world.clock.advance(10_000);
    world.well(&ctx, &["capture"]).await;
    assert_eq!(world.new.table(world.table("books")).stream.unwrap(), first, "the start moved past a change");
    ctx.stop().await;
}

#[tokio::test]
async fn a_stream_replaced_between_two_tries_of_the_capture_is_noticed() {
    let world = World::new();
    world.book("b1", "1.00");
    let ctx = world.ctx().await;
    // Books are captured and recorded before authors.
    world.faults.put(Op::StartPositions, "authors", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
    assert!(world.perform(&ctx, "capture").await.is_err());
    world.old.turn_off(world.table("books"));
    world.book("b2", "1.00");
    world.old.enable(world.table("books")).unwrap();
    let error = world.perform(&ctx, "capture").await.expect_err("continuity is lost");
    assert!(error.message.contains("replaced"), "{error:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn an_application_that_does_not_look_is_never_taken_for_frozen() {
    let (world, ctx) = up_to("arm").await;
    world.switches.deaf.store(true, std::sync::atomic::Ordering::SeqCst);
    world.clock.query_takes(200);
    let error = world.perform(&ctx, "freeze").await.expect_err("writes are still served");
    assert!(error.message.contains("not refused without a break"), "{error:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn probes_without_answer_prove_no_freeze() {
    let (world, ctx) = up_to("arm").await;
    world.faults.always(Op::Probe, Fault::Refuse(ErrorKind::Unreachable));
    world.clock.query_takes(200);
    let error = world.perform(&ctx, "freeze").await.expect_err("nobody knows whether writes are refused");
    assert_eq!(error.class, ErrorClass::Transient);
    ctx.stop().await;
}

#[tokio::test]
async fn writes_are_not_called_refused_across_probes_without_an_answer() {
    let (world, ctx) = up_to("arm").await;
    // It answers once, then not for longer than writes have to be refused, then again.
    world.faults.put(Op::Probe, "", 1, 5, Fault::Refuse(ErrorKind::Unreachable));
    world.clock.query_takes(2);
    world.well(&ctx, &["freeze"]).await;
    let probes = world.faults.calls(Op::Probe);
    assert!(probes > 7, "it was frozen at the first answer after the silence: {probes} probes");
    ctx.stop().await;
}

#[tokio::test]
async fn a_freeze_that_somebody_took_back_is_neither_drained_nor_switched_on() {
    for (last, next) in [("freeze", "drain"), ("drain", "switch")] {
        for restarted in [false, true] {
            let (world, mut ctx) = up_to(last).await;
            if restarted {
                ctx = world.restart(ctx).await;
            }
            world.switches.foreign_put("/mode", "open", Default::default());
            world.book("late", "5.00");
            let error = world.perform(&ctx, next).await.expect_err("customers write");
            assert!(error.message.contains("does not hold the freeze any more"), "{next}: {error:?}");
            assert!(on_the_old_side(&world), "{next} set a switch");
            ctx.stop().await;
            // The switch stands, and the application does not obey it any more.
            let (world, ctx) = up_to(last).await;
            world.switches.deaf.store(true, std::sync::atomic::Ordering::SeqCst);
            let error = world.perform(&ctx, next).await.expect_err("customers write");
            assert!(error.message.contains("is served in the freeze"), "{next}: {error:?}");
            assert_eq!(world.switches.now("/writes"), "old", "{next} set a switch");
            ctx.stop().await;
        }
    }
}

#[tokio::test]
async fn a_freeze_that_was_taken_back_for_a_moment_is_noticed() {
    for (last, next) in [("freeze", "drain"), ("drain", "switch")] {
        let (world, ctx) = up_to(last).await;
        let ctx = world.restart(ctx).await;
        world.switches.foreign_put("/mode", "open", Default::default());
        world.book("late", "5.00");
        world.switches.foreign_put("/mode", "frozen", Default::default());
        let error = world.perform(&ctx, next).await.expect_err("customers wrote meanwhile");
        assert!(error.message.contains("set again since the freeze"), "{next}: {error:?}");
        assert!(world.switches.now("/writes") == "old", "{next} set a switch");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn one_old_answer_takes_no_freeze_back() {
    let (world, ctx) = up_to("freeze").await;
    world.switches.answers_old("/mode", 3);
    world.well(&ctx, &["drain"]).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_switch_whose_answer_was_lost_is_read_back_and_written_once() {
    let (world, ctx) = up_to("drain").await;
    world.faults.always(Op::SwitchSet, Fault::FailAfter(ErrorKind::TimedOut));
    let result = world.perform(&ctx, "switch").await;
    // The read-back says what stands there, whatever the answer was.
    assert!(result.is_ok() && on_the_new_side(&world), "{result:?}");
    // Once over itself at the arm step, and once with the new value.
    assert_eq!((world.switches.writes("/reads"), world.switches.writes("/writes")), (2, 2));
    ctx.stop().await;
}

#[tokio::test]
async fn a_switch_that_is_refused_fails_its_step_and_leaves_the_other_known() {
    let (world, ctx) = up_to("drain").await;
    world.faults.put(Op::SwitchSet, "writes", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    let error = world.perform(&ctx, "switch").await.expect_err("half switched");
    assert_eq!(error.class, ErrorClass::Permission);
    let state = world.journal.state();
    assert_eq!(state.switches["reads"].standing, SwitchStatus::New);
    assert_eq!(state.switches["writes"].standing, SwitchStatus::Unknown);
    // Both going on and rolling back are possible.
    let report = world.roll_back(&ctx.captured()).await;
    assert_eq!(report.stuck, [""; 0]);
    assert!(on_the_old_side(&world));
    ctx.stop().await;
}

#[tokio::test]
async fn a_value_that_does_not_stay_is_not_called_switched() {
    let (world, ctx) = up_to("drain").await;
    // Somebody else sets the old value again between the write and the read-back.
    world.faults.put(Op::SwitchRead, "reads", 1, u32::MAX, Fault::Refuse(ErrorKind::Unreachable));
    let result = world.perform(&ctx, "switch").await;
    let error = result.expect_err("nothing was read back");
    assert!(!error.message.is_empty());
    assert_eq!(world.journal.state().switches["reads"].standing, SwitchStatus::Unknown);
    ctx.stop().await;
}

#[tokio::test]
async fn a_death_between_effect_and_outcome_does_nothing_twice() {
    let (world, ctx) = up_to("drain").await;
    let latch = Latch::default();
    // The outcome never reaches the disk: the process dies there.
    world.faults.put(Op::State, "outcome", 0, u32::MAX, Fault::Latch(latch.clone()));
    tokio::select! {
        result = world.perform(&ctx, "switch") => panic!("{result:?}"),
        () = latch.caught() => {}
    }
    until("both effects", || on_the_new_side(&world)).await;
    assert!(!world.journal.state().open_intents.is_empty());
    let ctx = world.restart(ctx).await;
    latch.release();
    world.well(&ctx, &["switch"]).await;
    assert_eq!((world.switches.writes("/reads"), world.switches.writes("/writes")), (2, 2), "written twice");
    assert!(world.journal.state().open_intents.is_empty(), "what was read back answers the older question");
    ctx.stop().await;
}

#[tokio::test]
async fn no_effect_follows_a_fact_that_is_not_on_disk() {
    for last in ["verify", "arm", "drain", "switch"] {
        let (world, ctx) = up_to(last).await;
        let before: Vec<usize> = ["/mode", "/reads", "/writes"].iter().map(|p| world.switches.writes(p)).collect();
        let next = world.plan.step_index(last).unwrap() + 1;
        let next = world.plan.steps[next].id.clone();
        let attempt = world.journal.start(&next);
        world.journal.disk_full(true);
        let step = world.plan.step(&next).unwrap().clone();
        let error = ctx.perform(&step, attempt, &world.journal.state()).await.expect_err("a full disk");
        assert!(error.message.contains("nothing was changed"), "{next}: {error:?}");
        let after: Vec<usize> = ["/mode", "/reads", "/writes"].iter().map(|p| world.switches.writes(p)).collect();
        assert_eq!(before, after, "{next} went on without a journal");
        // A rollback waits for no disk.
        world.journal.disk_full(false);
        world.journal.end(&next, &Err(error));
        let state_full = world.journal.clone();
        let report = {
            let captured = ctx.captured();
            let back = world.roll_back(&captured);
            let (report, ()) = tokio::join!(back, async { state_full.disk_full(true) });
            report
        };
        assert_eq!(report.stuck, [""; 0]);
        assert!(on_the_old_side(&world), "{last}");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn the_way_back_works_from_a_process_that_knows_nothing() {
    for last in ["freeze", "drain", "switch", "thaw"] {
        let (world, ctx) = up_to(last).await;
        ctx.stop().await;
        let report = world.roll_back(&CapturedValues::default()).await;
        assert_eq!(report.stuck, [""; 0], "{last}");
        assert!(on_the_old_side(&world), "{last}");
        let state = world.journal.state();
        assert_eq!(state.status, RunStatus::RollingBack);
        assert!(state.open_intents.is_empty(), "{last}: {:?}", state.open_intents);
        assert_eq!(world.journal.effects_without_intent(), [""; 0], "{last}");
    }
}

#[tokio::test]
async fn the_way_back_stands_every_passing_error_before_and_after_its_effect() {
    for op in [Op::SwitchRead, Op::SwitchSet, Op::SwitchVersion] {
        for fault in [Fault::Refuse(ErrorKind::Throttled), Fault::FailAfter(ErrorKind::TimedOut)] {
            let (world, ctx) = up_to("thaw").await;
            ctx.stop().await;
            world.faults.put(op, "", 0, 4, fault.clone());
            let report = world.roll_back(&CapturedValues::default()).await;
            assert_eq!(report.stuck, [""; 0], "{op:?} {fault:?}");
            assert!(on_the_old_side(&world), "{op:?} {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_old_answer_is_not_taken_for_what_stands_there() {
    for place in ["/reads", "/writes", "/mode"] {
        let (world, ctx) = up_to("switch").await;
        ctx.stop().await;
        // The store answers as it was before the switch, once.
        world.switches.answers_old(place, 1);
        let report = world.roll_back(&CapturedValues::default()).await;
        assert_eq!(report.stuck, [""; 0], "{place}");
        assert!(on_the_old_side(&world), "{place} was left where it was, and called restored");
    }
}

#[tokio::test]
async fn a_history_that_lags_behind_its_value_fails_no_switch() {
    let (world, ctx) = up_to("drain").await;
    world.faults.put(Op::SwitchAttributes, "", 0, 4, Fault::Refuse(ErrorKind::NotFound));
    world.well(&ctx, &["switch"]).await;
    assert!(on_the_new_side(&world));
    ctx.stop().await;
}

#[tokio::test]
async fn an_old_answer_at_the_thaw_leaves_nobody_locked_out() {
    for times in [1, 3] {
        let (world, ctx) = up_to("switch").await;
        // As it was before the freeze.
        world.switches.answers_old("/mode", times);
        world.well(&ctx, &["thaw"]).await;
        assert_eq!(world.switches.now("/mode"), "open", "{times} old answers");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn a_place_that_may_not_be_written_is_not_called_restored_by_old_answers() {
    let (world, ctx) = up_to("switch").await;
    ctx.stop().await;
    world.faults.put(Op::SwitchSet, "reads", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    world.switches.answers_old("/reads", u32::MAX);
    let report = world.roll_back(&CapturedValues::default()).await;
    assert!(report.stuck.iter().any(|stuck| stuck.contains("reads")), "{report:?}");
    assert_eq!(world.switches.now("/reads"), "new");
}

#[tokio::test]
async fn one_switch_that_is_stuck_keeps_no_other_from_going_back() {
    let (world, ctx) = up_to("switch").await;
    world.faults.put(Op::SwitchSet, "reads", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    let report = world.roll_back(&ctx.captured()).await;
    assert_eq!(report.stuck.len(), 1, "{:?}", report.stuck);
    assert!(report.stuck[0].contains("reads") && report.stuck[0].contains("by hand"), "{:?}", report.stuck);
    assert_eq!((world.switches.now("/writes"), world.switches.now("/mode")), ("old".into(), "open".into()));
    ctx.stop().await;
}

#[tokio::test]
async fn a_place_that_never_answers_is_given_up_and_keeps_no_other_from_going_back() {
    for op in [Op::SwitchSet, Op::SwitchRead] {
        let (world, ctx) = up_to("switch").await;
        let latch = Latch::default();
        world.faults.put(op, "reads", 0, u32::MAX, Fault::Latch(latch));
        let nothing = CapturedValues::default();
        let back = world.roll_back(&nothing);
        let report = tokio::time::timeout(std::time::Duration::from_secs(300), back).await;
        let report = report.unwrap_or_else(|_| panic!("{op:?}: rollback waits for ever for one place"));
        assert_eq!(report.stuck.len(), 1, "{op:?}: {:?}", report.stuck);
        assert_eq!(world.switches.now("/mode"), "open", "{op:?}: customers stay locked out");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn an_outcome_that_says_done_was_read_back() {
    let (world, ctx) = up_to("thaw").await;
    let report = world.roll_back(&ctx.captured()).await;
    assert_eq!(report.stuck, [""; 0]);
    let mut done = 0;
    for entry in world.journal.entries() {
        if let super::world::Entry::Fact(Event::Outcome { id, result: OutcomeResult::Done { read_back, version } }) =
            entry
        {
            done += 1;
            if id.contains("writes") {
                // A secret's value is never recorded, only that it was read and its version.
                assert!(read_back.starts_with("version ") && version.is_some(), "{id}: {read_back}");
            }
        }
    }
    assert!(done >= 6, "{done}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_way_back_is_not_armed_in_a_world_the_plan_was_not_made_for() {
    let (world, ctx) = up_to("verify").await;
    // Somebody has switched reads by hand: the value to restore is no longer there to be captured.
    world.switches.foreign_set("/reads", "new");
    let error = world.perform(&ctx, "arm").await.expect_err("it would go back to the new side");
    assert!(error.message.contains("/reads holds the new value already"), "{error:?}");
    assert!(!world.journal.state().switches.contains_key("reads"), "it was captured all the same");
    ctx.stop().await;
}

#[tokio::test]
async fn a_place_that_takes_too_few_more_writes_is_found_before_anything_is_changed() {
    let (world, ctx) = up_to("verify").await;
    world.switches.takes_only("/reads", 1);
    let error = world.perform(&ctx, "arm").await.expect_err("the rollback could not write it any more");
    assert!(error.message.contains("/reads takes one more value"), "{error:?}");
    assert_eq!(world.switches.writes("/reads"), 0);
    let rows = crate::workers::check(&ctx.plan, &ctx.ports, &crate::workers::Missing::default()).await;
    let says = |wrong: &String| wrong.contains("/reads takes one more value");
    assert!(rows.iter().any(|row| row.result.as_ref().is_err_and(says)), "{rows:?}");
    ctx.stop().await;
}

fn sequence(problem: Option<(&str, &str)>) -> Sequence {
    Sequence {
        name: "public.orders_id_seq".into(),
        columns: vec!["orders.id".into()],
        held: Some(5),
        looked: true,
        next: Some(1_006),
        problem: problem.map(|(what, advice)| (what.into(), advice.into())),
        ..Sequence::default()
    }
}

#[tokio::test]
async fn arming_waits_until_every_sequence_stands_past_its_rows() {
    let (world, ctx) = up_to("verify").await;
    world.new.locked().sequences = vec![sequence(Some(("the role may not move it", "GRANT UPDATE")))];
    let error = world.perform(&ctx, "arm").await.expect_err("the first customer would get an id that is taken");
    assert!(error.message.contains("sequence public.orders_id_seq: the role may not"), "{error:?}");
    assert!(error.advice.contains("GRANT UPDATE"), "{error:?}");
    assert_eq!(world.journal.effects_without_intent(), [""; 0]);
    world.new.locked().sequences = vec![sequence(None)];
    let found = world.perform(&ctx, "arm").await.expect("it stands past its rows");
    let said = found.iter().find(|e| e.name == "sequence public.orders_id_seq").expect("evidence of it");
    assert_eq!(said.value, "gives 1006 next; orders.id holds up to 5");
    // What was followed since has ids of its own: the columns are scanned once more, as quickly as possible, before the
    // switch.
    world.well(&ctx, &["freeze", "drain"]).await;
    let advanced = world.new.locked().advanced.clone();
    assert_eq!(advanced, [SequenceScan::Whole, SequenceScan::Whole, SequenceScan::Indexed]);
    ctx.stop().await;
}
