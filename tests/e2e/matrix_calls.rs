//! The kill matrix over calls: the process dies before and after every call that a day makes of a port, and the day
//! goes on, or back. What a day calls is learnt from a trace of one that goes well.
//!
//! `CUTOVER_TEST_MATRIX=all tests/run.sh matrix -- --nocapture` dies at each place in a world of its own, and prints
//! the table. Without the variable a day dies around every third call, one after the other, and a rollback follows every
//! ninth.

use std::path::Path;
use std::sync::OnceLock;

use cutover::domain::run::{RunStatus, StepStatus};
use cutover::rehearsal::oracle::Side;

use super::back::{everything_came_back, left_alone, open_to_customers_by, rolls_back, written};
use super::console::Console;
use super::matrix::{MatrixTotals, all, at_its_end, finished, rolled_back};
use super::stage::{Day, Options, Stage};

/// A call, and how often it was made at least.
#[derive(Clone, Debug)]
struct Call {
    name: String,
    times: u64,
}

/// The calls in a trace, in the order of their first time.
fn calls(trace: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(trace).unwrap();
    let mut calls: Vec<Call> = Vec::new();
    for line in text.lines() {
        let (name, times) = line.split_once('#').unwrap();
        let times = times.parse().unwrap();
        match calls.iter_mut().find(|c| c.name == name) {
            Some(call) => call.times = call.times.max(times),
            None => calls.push(Call { name: name.to_owned(), times }),
        }
    }
    calls
}

/// Around the first time of each call. Unless all is asked for, at one moment of each, in turn.
fn places(calls: &[Call]) -> Vec<String> {
    let moments = |n: usize| if all() { &["before", "after"][..] } else { &["before", "after"][n % 2..=n % 2] };
    let each = |n, call: &Call| -> Vec<String> { moments(n).iter().map(|m| format!("{m}:{}", call.name)).collect() };
    calls.iter().enumerate().flat_map(|(n, call)| each(n, call)).collect()
}

/// After a time in the middle of each call that is made often: work is half done then.
fn halfway(calls: &[Call]) -> Vec<String> {
    let often = calls.iter().filter(|c| c.times >= 4);
    often.map(|c| format!("after:{}#{}", c.name, c.times / 2)).collect()
}

/// Calls of a day up to the thaw.
fn of_a_day() -> &'static [Call] {
    static CALLS: OnceLock<Vec<Call>> = OnceLock::new();
    CALLS.get_or_init(|| {
        let stage = Stage::new(&Options::default());
        stage.traced(&stage.answered(), "calls").expect_code(0);
        let calls = calls(&stage.dir().join("calls"));
        assert!(calls.len() > 35, "a day calls more than {calls:?}");
        calls
    })
}

/// Places after the thaw: around the first of the calls that are not made before it, and around a later one of those
/// that are made far more often from then on.
fn after_the_thaw() -> &'static [String] {
    static PLACES: OnceLock<Vec<String>> = OnceLock::new();
    PLACES.get_or_init(|| {
        let stage = Stage::new(&Options { day: Day::ToBurnIn, ..Options::default() });
        let mut console = stage.traced(&stage.answered(), "calls");
        let trace = stage.dir().join("calls");
        console.until("the thaw", || stage.step_is("thaw", StepStatus::Running));
        let before = calls(&trace);
        open_to_customers_by(&stage, &mut console);
        let made = |c: &Call| before.iter().find(|b| b.name == c.name).map_or(0, |b| b.times);
        let later = calls(&trace).into_iter().filter_map(|c| match made(&c) {
            0 => Some(c.name),
            n => (c.times >= 4 * n).then(|| format!("{}#{}", c.name, c.times / 2)),
        });
        let places: Vec<String> =
            later.flat_map(|call| ["before", "after"].map(|moment| format!("{moment}:{call}"))).collect();
        let carried = ["before:items.write", "after:taken.record_own_writes", "after:taken.clear"];
        assert!(carried.iter().all(|c| places.iter().any(|p| p.starts_with(c))), "nothing was carried: {places:?}");
        places
    })
}

/// Calls of a rollback from another terminal that has something to apply.
fn of_a_rollback() -> &'static [Call] {
    static CALLS: OnceLock<Vec<Call>> = OnceLock::new();
    CALLS.get_or_init(|| {
        let stage = left_alone(40);
        stage.traced(&["rollback".to_owned()], "calls").expect_code(3);
        let calls = calls(&stage.dir().join("calls"));
        assert!(calls.len() > 12, "a rollback calls more than {calls:?}");
        calls
    })
}

/// Whether the process died, which is `false` when it went on to its end with this code.
fn died(mut process: Console, code: i32) -> bool {
    let status = process.wait();
    assert!(status.code().is_none_or(|c| c == code), "{status}\n{}", process.words());
    status.code().is_none()
}

/// Where the process died, and places it went past.
#[derive(Default)]
struct Runs {
    deaths: usize,
    passed: Vec<String>,
    tally: MatrixTotals,
}

impl Runs {
    fn count(&mut self, place: &str, died: bool) -> bool {
        if died {
            self.deaths += 1;
        } else {
            self.passed.push(place.to_owned());
        }
        died
    }

    /// Does this in a world of its own; `true` when the process died there. The others go on if it fails.
    fn hold(&mut self, place: &str, run: impl FnOnce() -> bool) {
        let mut there = None;
        self.tally.hold(place, || there = Some(run()));
        if let Some(there) = there {
            self.count(place, there);
        }
    }

    /// Places that are not reached are few: calls that are made less often than in the traced day. Of a thinned matrix one may be
    /// among a handful.
    fn row(self, way: &str) {
        self.tally.row(way);
        assert!(self.deaths > 0 && self.passed.len() * 5 <= self.deaths.max(5), "passed {:?}", self.passed);
    }

    /// The table row of days that died again and again in one world; a failure ended them.
    fn row_of_one(mut self, way: &str) {
        self.tally = MatrixTotals::went_well(self.deaths);
        self.row(way);
    }
}

#[test]
fn matrix_calls_a_day_that_dies_around_every_call_finishes() {
    // Learnt before a world is taken: learning takes one itself.
    // An odd step: before and after in turn.
    let places = places(of_a_day()).into_iter().step_by(if all() { 1 } else { 3 });
    let mut stage = Stage::new(&Options::default());
    let mut runs = Runs::default();
    for place in places {
        if runs.count(&place, died(stage.run(Some(&place)), 0)) && !at_its_end(&stage) {
            continue;
        }
        // Not every call comes again after a restart: this day went on to its end. The next one goes on dying.
        finished(&stage);
        // A world is given up before another one is asked for.
        drop(stage);
        stage = Stage::new(&Options::default());
    }
    if stage.folder().is_some() {
        stage.run(None).expect_code(0);
        finished(&stage);
    }
    runs.row_of_one("killed around one call after the other, finished");
}

/// One of two halves of the places: two worlds fit at a time.
fn half(places: Vec<String>, first: usize, thinned: usize) -> impl Iterator<Item = String> {
    places.into_iter().skip(first * thinned).step_by(2 * thinned)
}

fn forward(first: usize) {
    if !all() {
        return;
    }
    let mut runs = Runs::default();
    for place in half([places(of_a_day()), halfway(of_a_day())].concat(), first, 1) {
        runs.hold(&place, || {
            let stage = Stage::new(&Options::default());
            let there = died(stage.run(Some(&place)), 0);
            if there && !at_its_end(&stage) {
                stage.run(None).expect_code(0);
            }
            finished(&stage);
            there
        });
    }
    runs.row("killed around a call, finished");
}

#[test]
fn matrix_calls_forward_first_half() {
    forward(0);
}

#[test]
fn matrix_calls_forward_second_half() {
    forward(1);
}

fn backward(first: usize) {
    let mut runs = Runs::default();
    let thinned = if all() { 1 } else { 9 };
    for place in half(places(of_a_day()), first, thinned) {
        runs.hold(&place, || {
            let stage = Stage::new(&Options::default());
            let there = died(stage.run(Some(&place)), 0);
            // Before the first fact there is nothing to roll back.
            if there && stage.facts().is_empty() {
                stage.expect_old_values();
                stage.expect_nothing_lost(Side::Old);
            } else if there {
                rolled_back(&stage, &place);
            }
            there
        });
    }
    runs.row("killed around a call, rolled back");
}

#[test]
fn matrix_calls_backward_first_half() {
    backward(0);
}

#[test]
fn matrix_calls_backward_second_half() {
    backward(1);
}

/// Dies once the new side is open to customers, and is rolled back; `again`: after it was started again and went on.
fn opened_and_rolled_back(again: bool) {
    let mut runs = Runs::default();
    // An odd step: before and after in turn.
    for place in after_the_thaw().iter().step_by(if all() { 1 } else { 9 }) {
        runs.hold(place, || {
            let stage = Stage::new(&Options { day: Day::ToBurnIn, ..Options::default() });
            stage.run(Some(place)).expect_killed();
            let mut console = again.then(|| stage.run(None));
            match &mut console {
                Some(console) => open_to_customers_by(&stage, console),
                // It died just before the thaw: the new side is not open to customers yet.
                None if stage.frozen() => {
                    rolled_back(&stage, place);
                    return true;
                }
                None => written(&stage, 60),
            }
            rolls_back(&stage);
            if let Some(mut console) = console {
                console.expect_code(3);
            }
            everything_came_back(&stage);
            true
        });
    }
    let way = if again { "started again and rolled back" } else { "rolled back" };
    runs.row(&format!("killed around a call after the thaw, {way}"));
}

#[test]
fn matrix_calls_after_the_thaw_rolled_back() {
    opened_and_rolled_back(false);
}

#[test]
fn matrix_calls_after_the_thaw_started_again() {
    opened_and_rolled_back(true);
}

#[test]
fn matrix_calls_a_rollback_that_dies_around_every_call_ends_when_it_is_asked_again() {
    let places = places(of_a_rollback());
    let mut stage = left_alone(40);
    let mut runs = Runs::default();
    for place in places {
        if runs.count(&place, died(stage.start(&["rollback"], Some(&place)), 3)) {
            // The lease is given back once the end is on record: only there may it be dead and at its end. What it
            // began may not be on record yet: a rollback waits for no disk.
            let given_back = place.ends_with(":target.release");
            match stage.state().status {
                RunStatus::Running | RunStatus::RollingBack => continue,
                RunStatus::RolledBack if given_back => {}
                other => panic!("{place}: {other:?}"),
            }
        }
        everything_came_back(&stage);
        drop(stage);
        stage = left_alone(40);
    }
    rolls_back(&stage);
    everything_came_back(&stage);
    runs.row_of_one("rollback killed around one call after the other, asked again");
}

fn rollback(first: usize) {
    if !all() {
        return;
    }
    let mut runs = Runs::default();
    for place in half([places(of_a_rollback()), halfway(of_a_rollback())].concat(), first, 1) {
        runs.hold(&place, || {
            let stage = left_alone(40);
            let there = died(stage.start(&["rollback"], Some(&place)), 3);
            if there {
                rolls_back(&stage);
            }
            everything_came_back(&stage);
            there
        });
    }
    runs.row("rollback killed around a call, asked again");
}

#[test]
fn matrix_calls_rollback_first_half() {
    rollback(0);
}

#[test]
fn matrix_calls_rollback_second_half() {
    rollback(1);
}
