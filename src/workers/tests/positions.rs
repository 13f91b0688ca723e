//! Switches with positions: set place by place, picked up after a death between two of them, refused where somebody else was.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::plan::plan_of_a_ramp;
use super::world::{Entry, World, until};
use crate::domain::plan::ValueRef;
use crate::domain::run::{Action, Actor, Event, Evidence, RunState, Stands, StepError, between};
use crate::ports::ErrorKind;
use crate::workers::{CapturedValues, WorkerContext};

const PLACES: [&str; 2] = ["/share", "/share-text"];

async fn up_to(last: &str) -> (World, Arc<WorkerContext>) {
    World::with(plan_of_a_ramp()).up_to(last).await
}

fn now(world: &World) -> [String; 2] {
    PLACES.map(|place| world.switches.now(place))
}

fn stands(world: &World) -> Stands {
    state(world).stands(&world.plan.dials[0])
}

fn state(world: &World) -> RunState {
    world.journal.state()
}

#[tokio::test]
async fn a_ramp_goes_up_place_by_place_and_back_to_where_it_began() {
    let (world, ctx) = up_to("arm").await;
    let mut way = Vec::new();
    for step in ["to-10", "to-50", "to-100"] {
        world.well(&ctx, &[step]).await;
        way.push((now(&world), stands(&world)));
        assert_eq!(state(&world).decided, None);
    }
    let values = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
    assert_eq!(
        way,
        [
            (values("10", "some"), Stands::At(1)),
            (values("50", "some"), Stands::At(2)),
            (values("100", "all"), Stands::At(3))
        ]
    );
    // Its value is the same in two positions: it was read there, and written no second time.
    let exercised = 1;
    assert_eq!(world.switches.writes("/share-text"), exercised + 2);
    world.well(&ctx, &["freeze", "drain", "switch", "thaw"]).await;
    ctx.begin_rollback();
    assert_eq!(world.roll_back(&CapturedValues::default()).await.stuck, [""; 0]);
    assert_eq!(now(&world), ["0", "none"]);
    assert_eq!(stands(&world), Stands::At(0));
    assert_eq!(world.journal.effects_without_intent(), [""; 0]);
    ctx.stop().await;
}

#[tokio::test]
async fn where_one_place_cannot_be_set_the_dial_stands_between_and_the_same_step_ends_it() {
    let (world, ctx) = up_to("to-10").await;
    world.faults.put(Op::SwitchSet, "share-text", 0, 1, Fault::Refuse(ErrorKind::Denied));
    // Its text is the same at 50 %, so this is where it first goes elsewhere.
    world.well(&ctx, &["to-50"]).await;
    world.perform(&ctx, "to-100").await.expect_err("one place is not set");
    assert_eq!(now(&world), ["100", "some"]);
    assert_eq!(stands(&world), Stands::Unknown);
    assert!(between(&world.plan, &state(&world)));
    world.well(&ctx, &["to-100"]).await;
    assert_eq!((now(&world), stands(&world)), (["100".to_owned(), "all".to_owned()], Stands::At(3)));
    assert!(!between(&world.plan, &state(&world)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_death_between_two_places_is_picked_up_by_the_next_process() {
    let (world, ctx) = up_to("to-50").await;
    world.faults.put(Op::SwitchSet, "share-text", 0, 1, Fault::Refuse(ErrorKind::Unreachable));
    world.perform(&ctx, "to-100").await.expect_err("cut off");
    let next = world.restart(ctx).await;
    let written = world.switches.writes("/share");
    world.well(&next, &["to-100"]).await;
    assert_eq!(world.switches.writes("/share"), written, "it stood there already");
    assert_eq!(stands(&world), Stands::At(3));
    // And the way back of a process that captured nothing itself leads to the beginning.
    next.begin_rollback();
    assert_eq!(world.roll_back(&CapturedValues::default()).await.stuck, [""; 0]);
    assert_eq!(now(&world), ["0", "none"]);
    next.stop().await;
}

#[tokio::test]
async fn what_somebody_else_set_is_not_written_over() {
    let (world, ctx) = up_to("to-10").await;
    world.switches.foreign_set("/share", "75");
    let error = world.perform(&ctx, "to-50").await.expect_err("somebody else was there");
    assert!(error.message.contains("holds 75, which is neither"), "{error:?}");
    assert_eq!(world.switches.now("/share"), "75");
    ctx.stop().await;
}

#[tokio::test]
async fn a_plan_that_begins_elsewhere_is_refused_by_the_arm_step() {
    for (value, says) in [
        ("50", "stands in position 50 % of `ramp`, the plan begins in 0 %"),
        ("7", "holds 7, which is not position 0 %"),
    ] {
        let (world, ctx) = up_to("verify").await;
        world.switches.foreign_set("/share", value);
        let error = world.perform(&ctx, "arm").await.expect_err("it begins elsewhere");
        assert!(error.message.contains(says), "{error:?}");
        ctx.stop().await;
    }
}

#[tokio::test]
async fn every_position_is_on_record_by_name() {
    let (world, ctx) = up_to("to-10").await;
    let of = |e: Entry| match e {
        Entry::Fact(Event::Intent { action: Action::SetSwitch { switch, to, position }, .. }) => {
            Some((switch, to, position))
        }
        _ => None,
    };
    let mut said: Vec<_> = world.journal.entries().into_iter().filter_map(of).collect();
    said.sort();
    let row = |switch: &str, to: &str| (switch.to_owned(), to.to_owned(), Some("10 %".to_owned()));
    assert_eq!(said, [row("share", "10"), row("share-text", "some")]);
    ctx.stop().await;
}

/// Orders that a step is taken back, and performs it.
async fn take_back(world: &World, ctx: &Arc<WorkerContext>, step: &str) -> Result<Vec<Evidence>, StepError> {
    let by = Actor::Operator("alice".into());
    world.journal.fact(Event::StepBackOrdered { step: step.into(), by }).unwrap();
    let attempt = world.journal.start(step);
    let of = world.plan.step(step).unwrap().clone();
    let done = ctx.perform(&of, attempt, &world.journal.state()).await;
    if let Ok(evidence) = &done {
        let evidence = evidence.clone();
        world.journal.fact(Event::SteppedBack { step: step.into(), again: vec![], evidence }).unwrap();
    }
    done
}

#[tokio::test]
async fn one_step_back_sets_what_stood_there_before_and_no_more() {
    let (world, ctx) = up_to("to-100").await;
    take_back(&world, &ctx, "to-100").await.unwrap();
    assert_eq!((now(&world), stands(&world)), (["50".to_owned(), "some".to_owned()], Stands::At(2)));
    take_back(&world, &ctx, "to-50").await.unwrap();
    take_back(&world, &ctx, "to-10").await.unwrap();
    assert_eq!((now(&world), stands(&world)), (["0".to_owned(), "none".to_owned()], Stands::At(0)));
    assert_eq!(world.journal.effects_without_intent(), [""; 0]);
    // And up again: the same steps, new attempts.
    world.well(&ctx, &["to-10", "to-50", "to-100"]).await;
    assert_eq!(stands(&world), Stands::At(3));
    ctx.stop().await;
}

#[tokio::test]
async fn a_step_that_failed_half_way_is_taken_back_in_every_place() {
    let (world, ctx) = up_to("to-50").await;
    world.faults.put(Op::SwitchSet, "share-text", 0, 1, Fault::Refuse(ErrorKind::Denied));
    world.perform(&ctx, "to-100").await.expect_err("one place is not set");
    take_back(&world, &ctx, "to-100").await.unwrap();
    assert_eq!((now(&world), stands(&world)), (["50".to_owned(), "some".to_owned()], Stands::At(2)));
    ctx.stop().await;
}

#[tokio::test]
async fn what_a_cancelled_step_has_on_the_wire_does_not_land_behind_the_step_back() {
    let (world, ctx) = up_to("to-50").await;
    let latch = Latch::default();
    world.faults.put(Op::SwitchSet, "share", 0, 1, Fault::Latch(latch.clone()));
    tokio::select! {
        done = world.perform(&ctx, "to-100") => panic!("it is held: {done:?}"),
        () = latch.caught() => {}
    }
    let released = async {
        until("the step back is on record", || {
            let ordered = |e: &Entry| matches!(e, Entry::Fact(Event::StepBackOrdered { .. }));
            world.journal.entries().iter().any(ordered)
        })
        .await;
        latch.release();
    };
    let (back, ()) = tokio::join!(take_back(&world, &ctx, "to-100"), released);
    back.unwrap();
    assert_eq!((now(&world), stands(&world)), (["50".to_owned(), "some".to_owned()], Stands::At(2)));
    ctx.stop().await;
}

#[tokio::test]
async fn a_position_is_put_back_as_it_was_set_whatever_its_reference_gives_by_now() {
    let mut plan = plan_of_a_ramp();
    plan.dials[0].positions[2].values[0] = ValueRef::Parameter("/mode".into());
    let (world, ctx) = World::with(plan).up_to("to-50").await;
    let set = world.switches.now("/share");
    assert_eq!(set, world.switches.now("/mode"));
    world.well(&ctx, &["to-100"]).await;
    world.switches.foreign_set("/mode", "another value");
    // The process that set it, or another one: it is found by its version.
    let next = world.restart(ctx).await;
    take_back(&world, &next, "to-100").await.unwrap();
    assert_eq!((world.switches.now("/share"), stands(&world)), (set, Stands::At(2)));
    // Forward it is what the reference gives.
    take_back(&world, &next, "to-50").await.unwrap();
    world.well(&next, &["to-50"]).await;
    assert_eq!(world.switches.now("/share"), "another value");
    next.stop().await;
}
