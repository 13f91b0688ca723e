//! Customers who write in two regions: frozen only where both are, let in only where both are, and both on the way back.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::plan::plan_of_two_regions;
use super::world::{Entry, MODE_EU, World, until};
use crate::domain::plan::ValueRef;
use crate::domain::run::{Event, RunState};
use crate::ports::ErrorKind;
use crate::workers::{CapturedValues, WorkerContext};

const PLACES: [&str; 2] = ["/mode", MODE_EU];

async fn up_to(last: &str) -> (World, Arc<WorkerContext>) {
    World::with(plan_of_two_regions()).up_to(last).await
}

fn now(world: &World) -> [String; 2] {
    PLACES.map(|place| world.switches.now(place))
}

fn facts(world: &World, of: impl Fn(&Event) -> bool) -> usize {
    world.journal.entries().iter().filter(|e| matches!(e, Entry::Fact(event) if of(event))).count()
}

fn state(world: &World) -> RunState {
    world.journal.state()
}

#[tokio::test]
async fn a_day_freezes_and_thaws_both() {
    let (world, ctx) = up_to("freeze").await;
    assert_eq!(now(&world), ["frozen", "frozen"]);
    assert_eq!(state(&world).frozen_places(&world.plan), (2, 2));
    let frozen = state(&world);
    let evidence = &frozen.step("freeze").unwrap().evidence;
    let of = |name: &str| evidence.iter().filter(|e| e.name.contains(name)).count();
    assert_eq!((of("read-back"), of("write probe")), (2, 2), "{evidence:?}");
    world.well(&ctx, &["drain", "switch", "thaw"]).await;
    assert_eq!(now(&world), ["open", "open"]);
    assert_eq!(facts(&world, |e| matches!(e, Event::WritesRefused { .. })), 1);
    assert_eq!(facts(&world, |e| matches!(e, Event::WritesAccepted { .. })), 1);
    assert!(state(&world).downtime.ms.is_some() && !state(&world).locked_out(&world.plan));
    assert_eq!(world.journal.effects_without_intent(), [""; 0]);
    ctx.stop().await;
}

#[tokio::test]
async fn what_one_region_refuses_proves_nothing_of_the_other() {
    for (probe, place) in [("write", "/write"), ("write-eu", "/eu/write")] {
        let (world, ctx) = up_to("arm").await;
        world.switches.serves(probe);
        world.clock.query_takes(200);
        let error = world.perform(&ctx, "freeze").await.expect_err("customers of one region write");
        assert!(error.message.contains(place) && error.message.contains("is not refused"), "{error:?}");
        assert!(state(&world).frozen(&world.plan), "nobody can have been let in");
        ctx.begin_rollback();
        assert_eq!(world.roll_back(&CapturedValues::default()).await.stuck, [""; 0]);
        assert_eq!(now(&world), ["open", "open"]);
        ctx.stop().await;
    }
}

#[tokio::test]
async fn a_region_that_is_served_in_between_was_not_refused_without_a_break() {
    let (world, ctx) = up_to("arm").await;
    world.faults.put(Op::Probe, "write-eu", 1, 5, Fault::Refuse(ErrorKind::Unreachable));
    world.clock.query_takes(2);
    world.well(&ctx, &["freeze"]).await;
    let probes = world.faults.calls(Op::Probe);
    assert!(probes > 14, "it was frozen at the first answer after the silence: {probes} probes");
    ctx.stop().await;
}

#[tokio::test]
async fn where_one_cannot_be_set_the_freeze_fails_and_the_way_back_opens_the_other() {
    let (world, ctx) = up_to("arm").await;
    let written = world.switches.writes(MODE_EU);
    world.faults.put(Op::SwitchSet, "mode-eu", 0, u32::MAX, Fault::Refuse(ErrorKind::Denied));
    world.perform(&ctx, "freeze").await.expect_err("one place is not frozen");
    assert_eq!(now(&world), ["frozen", "open"]);
    ctx.begin_rollback();
    let back = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(now(&world), ["open", "open"]);
    assert_eq!(world.switches.writes(MODE_EU), written, "{back:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn nobody_is_kept_out_for_a_value_that_cannot_be_had_elsewhere() {
    let mut plan = plan_of_two_regions();
    let (world, ctx) = World::with(plan.clone()).up_to("arm").await;
    let facts = world.journal.state();
    plan.switches.iter_mut().find(|s| s.id == "mode-eu").unwrap().to = ValueRef::Env("NOWHERE".into());
    let step = plan.step("freeze").unwrap().clone();
    let other = WorkerContext::new(Arc::new(plan), world.ports(), Arc::new(world.journal.clone()));
    world.journal.start("freeze");
    other.perform(&step, 1, &facts).await.expect_err("the value is not known");
    assert_eq!(now(&world), ["open", "open"]);
    for ctx in [ctx, other] {
        ctx.stop().await;
    }
}

#[tokio::test]
async fn a_freeze_that_somebody_took_back_in_one_region_is_neither_drained_nor_switched_on() {
    for (last, next) in [("freeze", "drain"), ("drain", "switch")] {
        for (place, probe) in [("/mode", "write"), (MODE_EU, "write-eu")] {
            for (what, said) in
                [("open", "does not hold the freeze"), ("again", "set again since the freeze"), ("served", "is served")]
            {
                let (world, ctx) = up_to(last).await;
                match what {
                    "served" => world.switches.serves(probe),
                    _ => world.switches.foreign_set(place, "open"),
                }
                if what == "again" {
                    world.switches.foreign_set(place, "frozen");
                }
                let error = world.perform(&ctx, next).await.expect_err("customers write");
                assert!(error.message.contains(said), "{place} {what} {next}: {error:?}");
                assert_eq!(world.switches.now("/writes"), "old", "{place} {what} {next}");
                ctx.stop().await;
            }
        }
    }
}

#[tokio::test]
async fn a_region_that_is_not_let_in_keeps_the_downtime_running_and_the_other_is_written_once() {
    let (world, ctx) = up_to("switch").await;
    world.faults.put(Op::SwitchSet, "mode-eu", 0, 1, Fault::Refuse(ErrorKind::Denied));
    world.perform(&ctx, "thaw").await.expect_err("one place is still frozen");
    assert_eq!(now(&world), ["open", "frozen"]);
    let (plan, half) = (&world.plan, state(&world));
    // Customers of one region can write on the new side: nothing may go back by itself as if nobody had.
    assert!(half.locked_out(plan) && !half.frozen(plan) && half.open_to_customers(plan));
    assert_eq!(facts(&world, |e| matches!(e, Event::WritesAccepted { .. })), 0);
    let written = world.switches.writes("/mode");
    world.well(&ctx, &["thaw"]).await;
    assert_eq!((now(&world), world.switches.writes("/mode")), (["open".into(), "open".into()], written));
    assert_eq!(facts(&world, |e| matches!(e, Event::WritesAccepted { .. })), 1);
    ctx.stop().await;
}

#[tokio::test]
async fn the_downtime_begins_where_the_first_are_refused() {
    let (world, ctx) = up_to("arm").await;
    let latch = Latch::default();
    world.faults.put(Op::SwitchSet, "mode-eu", 0, 1, Fault::Latch(latch.clone()));
    let refused = async {
        latch.caught().await;
        until("it to be on record", || facts(&world, |e| matches!(e, Event::WritesRefused { .. })) == 1).await;
        assert_eq!(now(&world), ["frozen", "open"]);
        latch.release();
    };
    let (done, ()) = tokio::join!(world.perform(&ctx, "freeze"), refused);
    assert!(done.is_ok(), "{done:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_console_that_dies_between_two_places_sets_the_second_and_not_the_first_again() {
    let (world, ctx) = up_to("arm").await;
    world.faults.put(Op::SwitchSet, "mode-eu", 0, 1, Fault::Refuse(ErrorKind::Unreachable));
    world.perform(&ctx, "freeze").await.expect_err("one place is not frozen");
    let written = world.switches.writes("/mode");
    let ctx = world.restart(ctx).await;
    world.well(&ctx, &["freeze", "drain", "switch", "thaw"]).await;
    // Once more, for the thaw.
    assert_eq!((now(&world), world.switches.writes("/mode")), (["open".into(), "open".into()], written + 1));
    ctx.stop().await;
}

#[tokio::test]
async fn after_a_rollback_writes_are_accepted_once_both_regions_are_served() {
    let (world, ctx) = up_to("drain").await;
    let before = world.faults.calls(Op::Probe);
    world.faults.put(Op::Probe, "write-eu", 0, 4, Fault::Refuse(ErrorKind::Unreachable));
    ctx.begin_rollback();
    assert_eq!(world.roll_back(&CapturedValues::default()).await.stuck, [""; 0]);
    let accepted = || facts(&world, |e| matches!(e, Event::WritesAccepted { .. }));
    until("it to be on record", || accepted() == 1).await;
    assert!(world.faults.calls(Op::Probe) - before > 4, "the other region alone was asked");
    ctx.stop().await;
}
