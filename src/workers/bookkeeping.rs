//! What `check` says of our bookkeeping at the target, and of rows there that it knows nothing of.

use std::collections::BTreeSet;

use super::context::Ports;
use crate::domain::plan::{NEW, Plan, Table};
use crate::ports::{Bookkeeping, PortError};

/// What is there of our bookkeeping, which has a place of its own in each kind of store.
pub(super) fn found(plan: &Plan, kept: Bookkeeping) -> String {
    let mut kinds: BTreeSet<&str> = plan.tables.iter().map(|t| plan.kind(&t.to).bookkeeping()).collect();
    if kinds.is_empty() {
        // Who drives a plan without tables is kept there all the same.
        kinds.insert(plan.kind(NEW).bookkeeping());
    }
    let place = kinds.into_iter().collect::<Vec<_>>().join(", ");
    match kept {
        Bookkeeping::Absent => format!("reachable; a run makes the {place} for its bookkeeping"),
        Bookkeeping::Older => format!("reachable; parts of the bookkeeping in {place} are missing, a run makes them"),
        Bookkeeping::Ready => format!("reachable, bookkeeping in {place}"),
    }
}

/// Rows of a target table that no load of ours wrote: nothing of ours is recorded beside them.
pub(super) async fn foreign_rows(ports: &Ports, table: &Table, kept: Bookkeeping) -> Result<u64, PortError> {
    let ours = match kept {
        Bookkeeping::Absent => false,
        // What is recorded there cannot be read whole, so nothing is concluded from it; the capture step asks again.
        Bookkeeping::Older => true,
        Bookkeeping::Ready => {
            ports.target.positions(table).await?.is_some() || !ports.target.checkpoints(table).await?.is_empty()
        }
    };
    if ours {
        return Ok(0);
    }
    Ok(ports.target.count(table, true).await?.rows.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::tests::world::World;

    #[test]
    fn the_place_is_named_of_a_plan_without_tables_too() {
        let mut plan = Plan::clone(&World::new().plan);
        let made = "reachable; a run makes the schema cutover for its bookkeeping";
        assert_eq!(found(&plan, Bookkeeping::Absent), made);
        plan.tables.clear();
        assert_eq!(found(&plan, Bookkeeping::Absent), made);
    }
}
