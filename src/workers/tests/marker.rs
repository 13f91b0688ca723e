//! Markers that measure the way: none stays in a customer's table, however their measuring ends.

use std::sync::Arc;

use super::faults::{Fault, Latch, Op};
use super::world::{World, until};
use crate::domain::plan::{Follow, Plan};
use crate::ports::ErrorKind;
use crate::workers::WorkerContext;

/// A world whose load has ended, with markers as often as they may come.
async fn loaded() -> (World, Arc<WorkerContext>) {
    let plan = super::plan::plan();
    let follow = Follow { marker_every_ms: 200, ..plan.follow.clone() };
    let world = World::with(Plan { follow, ..plan });
    world.book("b1", "1.00");
    let ctx = world.ctx().await;
    world.well(&ctx, &["capture", "load"]).await;
    (world, ctx)
}

/// Markers that stand in the old side's tables.
fn left(world: &World) -> usize {
    let of = |table: &str| {
        let items = world.old.items(world.table(table));
        items.keys().filter(|key| key.starts_with("marker#")).count()
    };
    of("books") + of("authors")
}

#[tokio::test]
async fn a_marker_that_was_put_is_gone_once_a_process_has_stopped() {
    let (world, ctx) = loaded().await;
    // Between its put and its delete nobody answers.
    let latch = Latch::default();
    world.faults.always(Op::Marker, Fault::Latch(latch.clone()));
    ctx.ensure_following();
    latch.caught().await;
    assert!(left(&world) > 0);
    ctx.stop().await;
    assert_eq!(left(&world), 0);
}

#[tokio::test]
async fn a_marker_whose_put_was_not_answered_is_removed_too() {
    let (world, ctx) = loaded().await;
    world.faults.always(Op::PutMarker, Fault::FailAfter(ErrorKind::Unreachable));
    ctx.ensure_following();
    until("markers to be removed", || world.faults.calls(Op::DeleteMarker) >= 2).await;
    ctx.stop().await;
    assert_eq!(left(&world), 0);
}

#[tokio::test]
async fn a_stop_waits_for_a_marker_that_is_on_the_wire() {
    let (world, ctx) = loaded().await;
    let latch = Latch::default();
    world.faults.put(Op::DeleteMarker, "", 0, u32::MAX, Fault::Latch(latch.clone()));
    ctx.ensure_following();
    latch.caught().await;
    let mut stop = Box::pin(ctx.stop());
    assert!(futures::poll!(&mut stop).is_pending() && left(&world) > 0);
    latch.release();
    stop.await;
    assert_eq!(left(&world), 0);
}
