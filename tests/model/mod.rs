//! Every order of events of a small cutover, with crashes, failures and rollbacks: no acknowledged write is lost in
//! either direction, no switch is changed without an intent on disk, rollback is always taken and always ends.
//!
//! The run is the product's own: `decide` and `apply` are called, not described. Both stores, the stream, the
//! checkpoints, the outbox and the application are a few small numbers. What is assumed stands in
//! `docs/correctness.md`; what the model found is printed by `cargo test --test main model:: -- --nocapture`.

mod explore;
pub mod plan;
mod rules;
mod state;
mod turns;

use explore::explore;
use rules::Broken;
use state::Budget;

/// Budgets that together cover every pair of failures.
const BUDGETS: [Budget; 4] = [
    Budget { writes: 2, crashes: 0, failures: 0, orders: 1 },
    Budget { writes: 1, crashes: 1, failures: 0, orders: 1 },
    Budget { writes: 1, crashes: 0, failures: 1, orders: 2 },
    Budget { writes: 2, crashes: 1, failures: 0, orders: 1 },
];

#[test]
fn no_acknowledged_write_is_lost_and_no_state_is_a_dead_end() {
    for budget in BUDGETS {
        let found = explore(Broken::Nothing, budget);
        println!("{budget:?}: {} states, {} turns, {} ends", found.states, found.turns, found.settled);
        assert!(found.wrong.is_none(), "{budget:?}: {:#?}", found.wrong);
        assert!(found.settled > 0, "{budget:?}: nothing was ever finished");
    }
}

#[test]
fn every_rule_that_is_broken_is_noticed() {
    for broken in Broken::ALL {
        let caught = BUDGETS.into_iter().find_map(|budget| explore(broken, budget).wrong);
        let Some((wrong, way)) = caught else { panic!("{broken:?} can be broken and nothing is lost") };
        println!("{broken:?}: {wrong}, after {} turns: {}", way.len(), way.join(", "));
    }
}
