//! The wall clock jumps: what is measured goes on, what is planned on it is not known.

use super::*;

const HOUR: i64 = 3_600_000;

fn stepped(run: &mut Run, by_ms: i64, seen: StepSeen) {
    run.fold(vec![Event::ClockStepped { by_ms, seen }]);
}

fn restart(run: &mut Run) {
    run.effects.clear();
    run.fold(vec![Event::RunResumed { operator: "alice".into(), host: "b".into() }]);
}

/// A run whose first step is planned for a time.
fn planned() -> Run {
    let mut plan = plan();
    plan.steps[0].start = Start::AtPlanned;
    Run::open_with(plan, Policy::default())
}

#[test]
fn a_planned_start_is_not_believed_once_the_clock_was_stepped() {
    for by in [HOUR, -HOUR] {
        let mut run = planned();
        stepped(&mut run, by, StepSeen::Live);
        run.now = run.now.plus(100 * HOUR);
        run.tick(0, None);
        assert_eq!((run.asked(), run.status("load")), (None, StepStatus::Held), "whatever the clock says");
        assert_eq!(run.waiting, None, "no countdown to a time nobody knows");
        // A person knows what time it is.
        assert_eq!(run.confirm("load", None), None);
        assert_eq!(run.asked().map(|(step, _)| step), Some("load".to_owned()));
    }
}

#[test]
fn taken_up_again_the_clock_is_believed_anew() {
    let mut run = planned();
    stepped(&mut run, HOUR, StepSeen::Live);
    run.tick(0, None);
    assert_eq!(run.status("load"), StepStatus::Held);
    restart(&mut run);
    stepped(&mut run, HOUR, StepSeen::AtStart);
    run.now = run.state.t0.plus(-HOUR);
    run.tick(0, None);
    assert_eq!(run.asked().map(|(step, _)| step), Some("load".to_owned()));
}

#[test]
fn downtime_over_a_restart_is_measured_past_a_step() {
    for (by, seen, measured) in [
        (HOUR, StepSeen::AtStart, Some(20_000)),
        (-HOUR, StepSeen::AtStart, Some(20_000)),
        (0, StepSeen::Live, Some(20_000)),
        (-HOUR, StepSeen::AfterReboot, None),
    ] {
        let mut run = Run::open(Policy::default());
        let refused = run.now;
        run.fold(vec![Event::WritesRefused { at: refused }]);
        restart(&mut run);
        stepped(&mut run, by, seen);
        // Twenty seconds later, on the clock as it stands now.
        let at = refused.plus(20_000 + by);
        run.fold(vec![Event::WritesAccepted { at, downtime_ms: None }]);
        assert_eq!(run.state.downtime.ms, measured, "{by} {seen:?}");
    }
}

#[test]
fn a_gap_that_nobody_watched_is_no_longer_for_a_step() {
    let mut run = Run::open(Policy::default());
    run.tick(0, None);
    run.performed("load", 1, true);
    run.tick(100, Some(0.5));
    run.tick(5_000, Some(0.5));
    // Written down now and then, so that a restart does not begin anew.
    run.fold(vec![Event::GateHeld { gate: "sync".into(), held_ms: 4_000 }]);
    restart(&mut run);
    stepped(&mut run, HOUR, StepSeen::AtStart);
    run.now = run.now.plus(HOUR + 2_000);
    run.tick(0, None);
    run.tick(100, Some(0.5));
    let gate = &run.state.gates["sync"];
    assert!((2_000..10_000).contains(&gate.unwatched_ms), "{gate:?}");
    assert!((4_000..=5_000).contains(&gate.held(run.now)), "{gate:?}");
}
