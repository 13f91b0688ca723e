//! The rollback in words, with its price, without acting (FEATURES C7).

use std::collections::BTreeMap;

use super::PATIENCE;
use super::disk::{SavedRun, within};
use crate::cli::out::print;
use crate::domain::gauge::Measured;
use crate::domain::plan::Switch;
use crate::domain::run::rollback_plan_in_doubt;
use crate::engine::MachineClock;
use crate::engine::socket::{Answer, Ask, ask};
use crate::ports::Clock;
use crate::report::offline;
use crate::snapshot::{Context, Mode, build};

/// Says what a rollback would do now: from the console if one lives, which has just measured it, else from the folder.
pub(super) async fn describe(found: &SavedRun) {
    let SavedRun { folder, plan, state, .. } = found;
    let wall = MachineClock::default().wall();
    let snapshot = match ask(&folder.socket(), &Ask::Status, PATIENCE).await {
        Some(Answer::Status(snapshot)) => *snapshot,
        // A damaged record does not prove that a switch did not move, or that nobody wrote.
        _ if found.damaged => return in_doubt(found),
        _ => {
            let of = folder.clone();
            let read = within(PATIENCE * 5, move || offline(&of, wall).ok().map(|found| found.snapshot));
            // A damaged folder: the captured values are what counts, nothing is known of the rest.
            read.await.flatten().unwrap_or_else(|| {
                build(&Context {
                    plan,
                    state,
                    measured: &Measured { at: wall, ..Measured::default() },
                    series: &BTreeMap::new(),
                    facts: &[],
                    now: wall,
                    mode: Mode::Live,
                    waiting: None,
                    version: state.last_seq,
                })
            })
        }
    };
    print(&format!("rollback {}\n", snapshot.rollback.text));
    for (label, text) in snapshot.rollback.what_if.lines(snapshot.wall) {
        print(&format!("{label:<8} {text}\n"));
    }
}

fn in_doubt(found: &SavedRun) {
    print("rollback ? the record is damaged: every switch is restored, whatever it says\n");
    for undo in rollback_plan_in_doubt(&found.plan, &found.state).actions() {
        let place = found.plan.switch(&undo.switch).map_or_else(|| "?".to_owned(), Switch::place);
        let to = if undo.captured { undo.value.as_deref().unwrap_or("***") } else { "? by hand, never captured" };
        print(&format!("         {}: {place} -> {to}\n", undo.switch));
    }
    print("cost     ?\ncarries  ? the target is asked what waits\nloses    ?\n");
}
