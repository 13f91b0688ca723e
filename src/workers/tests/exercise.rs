//! A right that is missing stops the run at the arm step, while customers are served.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::world::{STAGE, World, under_key, until};
use crate::domain::plan::Plan;
use crate::domain::run::{ErrorClass, Evidence, StepError, SwitchStatus, rollback_plan};
use crate::ports::ErrorKind;
use crate::workers::{CapturedValues, WorkerContext};

/// Everything up to the arm step is done, and it is not.
async fn before_arming(plan: Plan) -> (World, Arc<WorkerContext>) {
    let world = World::with(plan);
    for n in 0..4 {
        world.book(&format!("b{n}"), "1.00");
    }
    let ctx = world.ctx().await;
    let steps: Vec<&str> = world.plan.steps.iter().map(|s| s.id.as_str()).take_while(|s| *s != "arm").collect();
    world.well(&ctx, &steps).await;
    (world, ctx)
}

async fn ready() -> (World, Arc<WorkerContext>) {
    before_arming(super::plan::plan()).await
}

fn standings(world: &World) -> Vec<SwitchStatus> {
    world.journal.state().switches.values().map(|s| s.standing).collect()
}

fn line<'e>(found: &'e [Evidence], name: &str) -> &'e Evidence {
    found.iter().find(|e| e.name == name).unwrap_or_else(|| panic!("no {name}: {found:?}"))
}

#[tokio::test]
async fn every_value_is_written_over_itself_with_all_that_is_kept_beside_it() {
    let (world, ctx) = ready().await;
    let found = world.perform(&ctx, "arm").await.unwrap();
    for (switch, place, value) in [("mode", "/mode", "open"), ("reads", "/reads", "old"), ("writes", "/writes", "old")]
    {
        assert_eq!((world.switches.writes(place), world.switches.now(place).as_str()), (1, value));
        let state = &world.journal.state().switches[switch];
        assert_eq!((state.captured_version, state.standing), (Some(2), SwitchStatus::Old), "{switch}");
        let told = line(&found, &format!("right to set {switch}"));
        assert!(told.good && told.value.contains("version 1, now 2"), "{told:?}");
    }
    assert_eq!(world.switches.attributes_now("/writes"), under_key("alias/orders"));
    assert_eq!(world.journal.effects_without_intent(), [""; 0]);
    assert!(world.journal.state().open_intents.is_empty());
    assert!(rollback_plan(&world.plan, &world.journal.state()).is_empty());
    for table in &world.plan.tables {
        assert!(line(&found, &format!("marker {}", table.id)).good);
    }
    // From a process that knows nothing the secret is found in the version that was written.
    world.well(&ctx, &["freeze", "drain", "switch"]).await;
    for table in &world.plan.tables {
        let rows = world.new.table(table).rows;
        assert!(rows.keys().all(|key| !key.contains(&table.marker_prefix)), "a marker became a row: {rows:?}");
    }
    ctx.stop().await;
    assert_eq!(world.roll_back(&CapturedValues::default()).await.stuck, [""; 0]);
    assert_eq!(world.switches.now("/writes"), "old");
}

#[tokio::test]
async fn a_switch_that_may_not_be_written_stops_the_run_before_the_freeze() {
    let (world, ctx) = ready().await;
    world.faults.put(Op::SwitchSet, "writes", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    let error = world.perform(&ctx, "arm").await.expect_err("it may not be set");
    assert_eq!(error.class, ErrorClass::Permission);
    assert!(error.message.contains("writes"), "{error:?}");
    assert!(error.advice.contains("/writes") && error.advice.contains("exercise = false"), "{error:?}");
    assert_eq!(world.switches.now("/mode"), "open");
    assert_eq!(standings(&world), [SwitchStatus::Old; 3], "it was read, and holds what it held");
    assert!(world.journal.state().open_intents.is_empty());
    ctx.stop().await;
}

#[tokio::test]
async fn an_answer_that_was_lost_leaves_nothing_half_done() {
    let (world, ctx) = ready().await;
    world.faults.put(Op::SwitchSet, "reads", 0, 1, Fault::FailAfter(ErrorKind::TimedOut));
    let error = world.perform(&ctx, "arm").await.expect_err("no answer");
    assert_eq!(error.class, ErrorClass::Transient);
    assert!(standings(&world).iter().all(|s| *s == SwitchStatus::Old), "{:?}", standings(&world));
    world.well(&ctx, &["arm", "freeze", "drain", "switch"]).await;
    ctx.stop().await;
}

#[tokio::test]
async fn a_death_between_the_write_and_its_read_back_is_taken_up_again() {
    let (world, ctx) = ready().await;
    let latch = Latch::default();
    world.faults.put(Op::State, "outcome", 0, u32::MAX, Fault::Latch(latch.clone()));
    tokio::select! {
        result = world.perform(&ctx, "arm") => panic!("{result:?}"),
        () = latch.caught() => {}
    }
    until("a write", || ["/mode", "/reads", "/writes"].iter().any(|p| world.switches.writes(p) > 0)).await;
    let back = rollback_plan(&world.plan, &world.journal.state());
    assert!(back.actions().all(|a| a.captured), "what is not known can be put back: {back:?}");
    let ctx = world.restart(ctx).await;
    latch.release();
    world.well(&ctx, &["arm"]).await;
    assert_eq!(standings(&world), [SwitchStatus::Old; 3]);
    assert!(world.journal.state().open_intents.is_empty());
    ctx.stop().await;
}

#[tokio::test]
async fn a_switch_the_plan_leaves_out_is_not_written_and_stands_there_as_not_exercised() {
    let mut plan = super::plan::plan();
    plan.switches.iter_mut().filter(|s| s.id == "writes").for_each(|s| s.exercise = false);
    let (world, ctx) = before_arming(plan).await;
    let found = world.perform(&ctx, "arm").await.unwrap();
    assert_eq!((world.switches.writes("/writes"), world.switches.writes("/reads")), (0, 1));
    let told = line(&found, "right to set writes");
    assert!(!told.good && told.value.contains("not exercised"), "{told:?}");
    assert_eq!(world.journal.state().switches["writes"].captured_version, Some(1));
    ctx.stop().await;
}

#[tokio::test]
async fn a_marker_that_may_not_be_put_or_deleted_stops_the_run_before_the_freeze() {
    for op in [Op::PutMarker, Op::DeleteMarker] {
        let (world, ctx) = ready().await;
        world.faults.put(op, "authors", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
        let error = world.perform(&ctx, "arm").await.expect_err("no drain could be proven");
        assert_eq!(error.class, ErrorClass::Permission, "{op:?}");
        assert_eq!(world.switches.now("/mode"), "open");
        ctx.stop().await;
    }
}

/// Arms while somebody sets `/reads`: in the middle of reading it for the time after so many others.
async fn somebody_sets_reads_after(readings: u32) -> (World, StepError) {
    let (world, ctx) = ready().await;
    let latch = Latch::default();
    world.faults.put(Op::SwitchRead, "reads", readings, 1, Fault::Latch(latch.clone()));
    let (error, ()) = tokio::join!(world.perform(&ctx, "arm"), async {
        latch.caught().await;
        world.switches.foreign_set("/reads", "theirs");
        latch.release();
    });
    ctx.stop().await;
    (world, error.expect_err("the world has changed"))
}

#[tokio::test]
async fn somebody_who_writes_meanwhile_is_not_written_over_in_silence() {
    // The write is on its way; somebody else's comes after it.
    let (world, error) = somebody_sets_reads_after(2).await;
    assert!(error.message.contains("/reads changed"), "{error:?}");
    assert_eq!(world.switches.now("/reads"), "theirs");
}

#[tokio::test]
async fn what_somebody_set_after_it_was_captured_is_not_set_back() {
    // Others are exercised first.
    let (world, error) = somebody_sets_reads_after(1).await;
    assert!(error.message.contains("/reads was changed by somebody else"), "{error:?}");
    assert_eq!(
        (world.switches.now("/reads").as_str(), world.switches.writes("/reads")),
        ("theirs", 1),
        "and only theirs"
    );
}

#[tokio::test]
async fn a_stage_that_may_not_be_changed_stops_the_run_before_the_freeze() {
    let (world, ctx) = before_arming(super::plan::plan_of_a_stage()).await;
    world.faults.put(Op::SwitchSet, "reads", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    let error = world.perform(&ctx, "arm").await.expect_err("its variable may not be set");
    assert_eq!(error.class, ErrorClass::Permission);
    assert!(error.advice.contains(STAGE), "{error:?}");
    assert_eq!((world.switches.now("/mode").as_str(), world.switches.writes(STAGE)), ("open", 0));
    ctx.stop().await;
}

#[tokio::test]
async fn a_canary_beside_the_stage_stops_check_arm_and_switch_and_a_rollback_names_it() {
    let (world, ctx) = before_arming(super::plan::plan_of_a_stage()).await;
    let canary = || Fault::Refuse(ErrorKind::Conflict);
    world.faults.put(Op::SwitchRead, "reads", 0, 2, canary());
    let rows = crate::workers::check(&ctx.plan, &ctx.ports, &crate::workers::Missing::default()).await;
    assert!(rows.iter().any(|row| row.what.contains("reads") && row.result.is_err()), "{rows:?}");
    world.perform(&ctx, "arm").await.expect_err("it would be captured and half of it served");
    world.well(&ctx, &["arm", "freeze", "drain"]).await;

    // Somebody adds it after the freeze: the switch fails, and what was switched goes back.
    world.faults.put(Op::SwitchRead, "reads", 0, u32::MAX, canary());
    world.perform(&ctx, "switch").await.expect_err("a part of the requests would be served by the old side");
    let report = world.roll_back(&ctx.captured()).await;
    assert!(report.stuck.iter().any(|stuck| stuck.contains("reads")), "{report:?}");
    assert_eq!((world.switches.now("/writes").as_str(), world.switches.now("/mode").as_str()), ("old", "open"));
    ctx.stop().await;
}
