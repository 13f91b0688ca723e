//! The kill matrix: every fact of a day is a place to die right after it is durable. Forward, one day dies at each of
//! them in turn and still finishes; backward, a day dies at each of them and is rolled back from another terminal.
//! `CUTOVER_TEST_MATRIX=all tests/run.sh matrix -- --nocapture` prints the table; without the variable days die at every
//! second place, and rollbacks follow every eighth one.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cutover::domain::run::{Event, RunStatus};
use cutover::engine::failpoint;
use cutover::rehearsal::oracle::Side;

use super::stage::{Options, Stage};

/// Places of a day that goes well, in order. An attempt's number is left open: after a kill it is another one.
fn places() -> Vec<String> {
    let stage = Stage::new(&Options::default());
    stage.run(None).expect_code(0);
    let mut seen = BTreeSet::new();
    let places: Vec<String> = stage
        .facts()
        .iter()
        .filter(|f| !matches!(f.event, Event::Note { .. } | Event::RunFinished | Event::GateBroken { .. }))
        .map(|f| {
            let name = failpoint::name(&f.event);
            match name.rsplit_once('/') {
                Some((rest, attempt)) if attempt.parse::<u32>().is_ok() => format!("{rest}/*"),
                _ => name,
            }
        })
        .filter(|name| seen.insert(name.clone()))
        .collect();
    assert!(places.len() > 60, "a day has more facts than {places:?}");
    places
}

/// Whether the process dies at every place, however long that takes.
pub(super) fn all() -> bool {
    std::env::var("CUTOVER_TEST_MATRIX").is_ok_and(|m| m == "all")
}

/// What a share of the places led to: a row of the table.
#[derive(Default)]
pub(super) struct MatrixTotals {
    runs: usize,
    failures: Vec<String>,
}

impl MatrixTotals {
    /// Runs in one world: the first failure would have ended them.
    pub fn went_well(runs: usize) -> Self {
        Self { runs, failures: Vec::new() }
    }

    /// Counts one run, and what it failed with; the others go on.
    pub fn hold(&mut self, place: &str, run: impl FnOnce()) {
        self.runs += 1;
        if let Err(why) = catch_unwind(AssertUnwindSafe(run)) {
            let text = why.downcast_ref::<String>().map(String::as_str).or_else(|| why.downcast_ref::<&str>().copied());
            self.failures.push(format!("{place}: {}", text.unwrap_or("it panicked")));
        }
    }

    /// Prints the row and fails if any run did.
    pub fn row(self, way: &str) {
        eprintln!("| {way} | {} | {} |", self.runs, self.failures.len());
        assert!(self.runs > 0 && self.failures.is_empty(), "{way}: {:#?}", self.failures);
    }
}

#[test]
fn matrix_forward_a_day_that_dies_at_every_fact_finishes() {
    let mut stage = Stage::new(&Options::default());
    let (mut deaths, mut passed) = (0, Vec::new());
    let tried: Vec<String> = places().into_iter().step_by(if all() { 1 } else { 2 }).collect();
    for place in &tried {
        let place = place.as_str();
        let status = stage.run(Some(place)).wait();
        let died = status.code().is_none();
        assert!(died || status.success(), "{place}: it ended with {status}");
        deaths += usize::from(died);
        if died && !at_its_end(&stage) {
            continue;
        }
        // Not every fact comes again after a restart, and the last ones are durable together with the end: this day
        // went on to its end. The next one goes on dying.
        finished(&stage);
        if !died {
            passed.push(place.to_owned());
        }
        // A world is given up before another one is asked for: two tests that hold one would wait for each other.
        drop(stage);
        stage = Stage::new(&Options::default());
    }
    if stage.folder().is_some() {
        stage.run(None).expect_code(0);
        finished(&stage);
    }
    // On a busy machine more facts are durable together, and of those only the first is a place to die.
    assert!(passed.len() * 5 < deaths, "died {deaths} times; passed {passed:?}");
    MatrixTotals::went_well(deaths).row("killed after one fact after the other, finished");
}

/// Whether the run is finished: started again it would be another run.
pub(super) fn at_its_end(stage: &Stage) -> bool {
    stage.state().status == RunStatus::Finished
}

/// Fails unless the run is at its end and nothing was lost.
pub(super) fn finished(stage: &Stage) {
    stage.expect_nothing_lost(Side::New);
    let state = stage.state();
    assert_eq!(state.status, RunStatus::Finished);
    assert!(state.open_intents.is_empty(), "intents without outcome: {:?}", state.open_intents);
}

/// Rolls back from another terminal. Fails unless all is as it was and nothing was lost.
pub(super) fn rolled_back(stage: &Stage, place: &str) {
    // The last facts are durable together with the end; such a run has to be asked for by that word.
    let order: &[&str] = if at_its_end(stage) { &["rollback", "--finished"] } else { &["rollback"] };
    stage.start(order, None).expect_code(3);
    assert_eq!(stage.state().status, RunStatus::RolledBack, "{place}");
    stage.expect_old_values();
    stage.expect_nothing_lost(Side::Old);
}

/// Every second place, from `first`: two tests share the work.
fn backward(first: usize) {
    let places = places();
    let mut tally = MatrixTotals::default();
    let thinned = if all() { 1 } else { 8 };
    for place in places.iter().skip(first * thinned).step_by(2 * thinned) {
        tally.hold(place, || {
            let stage = Stage::new(&Options::default());
            stage.run(Some(place)).expect_killed();
            rolled_back(&stage, place);
        });
    }
    tally.row("killed after a fact, rolled back");
}

#[test]
fn matrix_backward_first_half() {
    backward(0);
}

#[test]
fn matrix_backward_second_half() {
    backward(1);
}
