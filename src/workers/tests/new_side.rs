//! A day whose customers are on the new side, and its rollback.

use std::sync::Arc;

use super::world::World;
use crate::domain::run::Event;
use crate::domain::value::{Cell, OwnedRow};
use crate::workers::reverse::{Drained, drain};
use crate::workers::{CapturedValues, WorkerContext};

/// Every step is done: customers write on the new side.
pub async fn open_to_customers() -> (World, Arc<WorkerContext>) {
    let world = World::new();
    for n in 0..8 {
        world.book(&format!("b{n}"), "1.00");
    }
    world.author("a0");
    let ctx = world.ctx().await;
    let steps: Vec<&str> = world.plan.steps.iter().map(|s| s.id.as_str()).collect();
    world.well(&ctx, &steps).await;
    assert_eq!(world.differing("books"), [""; 0], "lost on the way there");
    (world, ctx)
}

/// Rolls back: the switches, as another process does it.
pub async fn mark_rolled_back(world: &World, ctx: &WorkerContext) {
    ctx.begin_rollback();
    let report = world.roll_back(&CapturedValues::default()).await;
    assert_eq!(report.stuck, [""; 0]);
}

pub async fn drained(world: &World) -> Drained {
    drain(&world.plan, &world.journal.state().run, &world.reverse(), &world.journal, &*world.clock, true).await
}

/// Keys and who was kept, of every fact about conflicts.
pub fn conflicts(world: &World) -> Vec<(Vec<String>, String)> {
    let facts = world.journal.entries().into_iter().filter_map(|entry| match entry {
        super::world::Entry::Fact(Event::ReverseConflicts { keys, kept, .. }) => Some((keys, kept)),
        _ => None,
    });
    facts.collect()
}

/// A row with more digits than any attribute of the old side holds.
pub fn unfit_row(world: &World, key: &str) -> OwnedRow {
    let mut row = world.row_of(key, "1.00", None);
    for cell in &mut row {
        if let Cell::Numeric(price) = cell {
            *price = "9".repeat(40).into();
        }
    }
    row
}
