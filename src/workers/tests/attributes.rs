//! What a place keeps beside its value goes with it in both directions, and what a store calls secret is shown nowhere.

use std::sync::Arc;

use super::faults::{Fault, Op};
use super::world::{World, under_key};
use crate::domain::plan::{SwitchKind, ValueRef};
use crate::domain::run::{Event, SwitchStatus};
use crate::ports::ErrorKind;
use crate::workers::{CapturedValues, Missing, WorkerContext, check};

/// Stands for a value that must be seen nowhere.
const PLANTED: &str = "planted-7f3c";

async fn up_to(world: &World, last: &str) -> Arc<WorkerContext> {
    for n in 0..4 {
        world.book(&format!("b{n}"), "1.00");
    }
    let ctx = world.ctx().await;
    let steps: Vec<&str> = world.plan.steps.iter().map(|s| s.id.as_str()).collect();
    let end = steps.iter().position(|s| *s == last).unwrap();
    world.well(&ctx, &steps[..=end]).await;
    ctx
}

fn key(world: &World) -> Option<String> {
    world.switches.attributes_now("/writes").key
}

#[tokio::test]
async fn a_secure_string_keeps_its_key_there_and_back_from_whichever_process() {
    for in_memory in [true, false] {
        let world = World::new();
        let ctx = up_to(&world, "thaw").await;
        assert_eq!((world.switches.now("/writes").as_str(), key(&world).as_deref()), ("new", Some("alias/orders")));
        let nothing = CapturedValues::default();
        let captured = if in_memory { ctx.captured() } else { nothing };
        ctx.stop().await;
        assert_eq!(world.roll_back(&captured).await.stuck, [""; 0]);
        assert_eq!((world.switches.now("/writes").as_str(), key(&world).as_deref()), ("old", Some("alias/orders")));
    }
}

#[tokio::test]
async fn a_run_taken_up_again_knows_the_key() {
    let world = World::new();
    let ctx = up_to(&world, "drain").await;
    let ctx = world.restart(ctx).await;
    world.well(&ctx, &["switch"]).await;
    assert_eq!(key(&world).as_deref(), Some("alias/orders"));
    ctx.stop().await;
}

#[tokio::test]
async fn a_journal_without_attributes_is_helped_by_the_history() {
    let world = World::new();
    let ctx = up_to(&world, "switch").await;
    ctx.stop().await;
    let mut state = world.journal.state();
    state.switches.get_mut("writes").unwrap().captured_attributes = crate::domain::run::Attributes::default();
    assert_eq!(world.roll_back_from(&CapturedValues::default(), &state).await.stuck, [""; 0]);
    assert_eq!(key(&world).as_deref(), Some("alias/orders"));
}

#[tokio::test]
async fn a_value_that_is_back_under_another_key_is_not_back() {
    let world = World::new();
    let ctx = up_to(&world, "switch").await;
    // Somebody restored the old value by hand, without the key.
    world.switches.foreign_put("/writes", "old", under_key("alias/aws/ssm"));
    let report = world.roll_back(&ctx.captured()).await;
    assert_eq!((report.stuck, key(&world).as_deref()), (vec![], Some("alias/orders")));
    ctx.stop().await;
}

#[tokio::test]
async fn a_switch_that_ends_under_another_key_is_not_done_and_its_way_back_names_it() {
    let world = World::new();
    let ctx = up_to(&world, "drain").await;
    world.switches.drops_keys();
    let error = world.perform(&ctx, "switch").await.expect_err("another key");
    assert!(error.message.contains("its KMS key is alias/aws/ssm, not alias/orders"), "{error:?}");
    assert_eq!(world.journal.state().switches["writes"].standing, SwitchStatus::Unknown);
    let stuck = world.roll_back(&ctx.captured()).await.stuck;
    assert!(stuck.len() == 1 && stuck[0].contains("its value is back, but its KMS key"), "{stuck:?}");
    assert!(stuck[0].contains("KMS key alias/orders"), "what to set by hand: {stuck:?}");
    ctx.stop().await;
}

#[tokio::test]
async fn the_way_back_does_not_wait_for_a_history_that_is_throttled() {
    let world = World::new();
    let ctx = up_to(&world, "switch").await;
    world.faults.always(Op::SwitchAttributes, Fault::Refuse(ErrorKind::Throttled));
    let report = world.roll_back(&ctx.captured()).await;
    assert_eq!(report.stuck, [""; 0]);
    assert_eq!((world.switches.now("/writes").as_str(), key(&world).as_deref()), ("old", Some("alias/orders")));
    assert!(report.evidence.iter().any(|e| e.value.contains("not read back")), "{:?}", report.evidence);
    ctx.stop().await;
}

/// Everything that was stated, as the journal keeps it.
fn journal(world: &World) -> String {
    format!("{:?}", world.journal.entries())
}

#[tokio::test]
async fn what_the_store_calls_secret_is_shown_nowhere_and_stops_a_plan_that_does_not_know() {
    let world = World::new();
    world.switches.foreign_put("/reads", PLANTED, under_key("alias/orders"));
    let rows = check(&world.plan, &world.ports(), &Missing::default()).await;
    let bad = rows.iter().find(|r| r.what == "switch reads").unwrap();
    assert!(bad.result.as_ref().is_err_and(|e| e.contains("is a SecureString")), "{bad:?}");
    assert!(bad.advice.contains("`secure`"), "{bad:?}");
    assert!(!format!("{rows:?}").contains(PLANTED), "{rows:?}");
    let ctx = up_to(&world, "verify").await;
    let error = world.perform(&ctx, "arm").await.expect_err("another type");
    assert!(error.message.contains("is a SecureString"), "{error:?}");
    assert!(!journal(&world).contains(PLANTED) && !format!("{error:?}").contains(PLANTED));
    assert!(!world.journal.state().switches.contains_key("reads"), "it was captured all the same");
    ctx.stop().await;
}

#[tokio::test]
async fn a_place_that_becomes_secret_during_the_day_is_not_written_and_not_shown() {
    let world = World::new();
    let ctx = up_to(&world, "drain").await;
    world.switches.foreign_put("/reads", PLANTED, under_key("alias/orders"));
    let error = world.perform(&ctx, "switch").await.expect_err("another type");
    assert!(error.message.contains("is a SecureString"), "{error:?}");
    assert_eq!(world.switches.now("/reads"), PLANTED, "it was written as text");
    let report = world.roll_back(&ctx.captured()).await;
    let all = format!("{} {error:?} {report:?}", journal(&world));
    assert!(!all.contains(PLANTED), "{all}");
    ctx.stop().await;
}

#[tokio::test]
async fn a_secret_new_value_is_not_written_where_everybody_reads_it() {
    let mut plan = super::plan::plan();
    plan.switches[1].to = ValueRef::Parameter("/writes".into());
    assert!(matches!(&plan.switches[1].kind, SwitchKind::Parameter { secure: false, .. }));
    let world = World::with(plan);
    let rows = check(&world.plan, &world.ports(), &Missing::default()).await;
    let bad = rows.iter().find(|r| r.what == "new value of reads").unwrap();
    assert!(bad.result.as_ref().is_err_and(|e| e.contains("in plain text")), "{bad:?}");
    let ctx = up_to(&world, "verify").await;
    let error = world.perform(&ctx, "arm").await.expect_err("a secret in plain text");
    assert!(error.message.contains("in plain text"), "{error:?}");
    let captured = |e: &super::world::Entry| matches!(e, super::world::Entry::Fact(Event::Captured { .. }));
    assert!(!world.journal.entries().iter().any(captured));
    ctx.stop().await;
}

#[tokio::test]
async fn a_new_value_that_becomes_secret_after_the_arm_step_is_not_written_in_plain_text() {
    let mut plan = super::plan::plan();
    plan.switches[1].to = ValueRef::Parameter("/elsewhere".into());
    let world = World::with(plan);
    let ctx = up_to(&world, "drain").await;
    world.switches.foreign_put("/elsewhere", PLANTED, under_key("alias/orders"));
    let error = world.perform(&ctx, "switch").await.expect_err("a secret in plain text");
    assert!(error.message.contains("in plain text"), "{error:?}");
    assert_eq!(world.switches.now("/reads"), "old");
    assert!(!format!("{} {error:?}", journal(&world)).contains(PLANTED));
    ctx.stop().await;
}
