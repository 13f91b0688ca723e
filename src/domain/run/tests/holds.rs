//! Hold times across pauses and restarts: what was watched counts, what nobody watched does not.

use super::*;

/// A run whose first gate holds for 100 s and has held since the last tick.
fn holding() -> Run {
    let mut plan = plan();
    for gate in &mut plan.gates {
        gate.hold_ms = 100_000;
        gate.give_up_ms = None;
    }
    let mut run = Run::open_with(plan, Policy::default());
    run.tick(0, None);
    let (step, attempt) = run.asked().expect("load");
    run.performed(&step, attempt, true);
    run.tick(100, Some(0.5));
    assert!(run.state.gates["sync"].met_since.is_some());
    run
}

fn watch(run: &mut Run, seconds: i64) {
    for _ in 0..seconds {
        run.tick(1_000, Some(0.5));
    }
}

fn restart(run: &mut Run) {
    run.effects.clear();
    run.fold(vec![Event::RunResumed { operator: "alice".into(), host: "b".into() }]);
}

fn held(run: &Run) -> i64 {
    run.state.gates["sync"].held(run.now)
}

#[test]
fn a_hold_survives_a_restart_and_the_gap_does_not_count() {
    let mut run = holding();
    watch(&mut run, 75);
    assert_eq!(held(&run), 75_000);
    restart(&mut run);
    assert_eq!(held(&run), 70_000, "what was last written down, a tenth of the hold at most ago");
    run.now = run.now.plus(3_600_000);
    // Nothing is measured right after a start: that is no break, and it does not count.
    run.tick(0, None);
    run.tick(5_000, None);
    assert_eq!((run.status("in-sync"), held(&run)), (StepStatus::Running, 70_000));
    run.tick(100, Some(0.5));
    watch(&mut run, 29);
    assert_eq!(run.status("in-sync"), StepStatus::Running, "an hour that nobody watched is not a minute held");
    watch(&mut run, 2);
    assert_eq!(run.status("in-sync"), StepStatus::Done);
    let evidence = &run.state.step("in-sync").expect("a step").evidence;
    let hold = evidence.iter().find(|e| e.name == "sync held").expect("how long it held");
    assert!(hold.value.contains("not counting 1h"), "the gap is on record: {}", hold.value);
}

#[test]
fn what_is_bad_after_a_restart_ends_the_hold() {
    let mut run = holding();
    watch(&mut run, 75);
    restart(&mut run);
    run.tick(100, None);
    run.tick(100, Some(9.0));
    assert_eq!(held(&run), 0);
    run.tick(100, Some(0.5));
    watch(&mut run, 99);
    assert_eq!(run.status("in-sync"), StepStatus::Running);
    watch(&mut run, 1);
    assert_eq!(run.status("in-sync"), StepStatus::Done);
}

#[test]
fn a_pause_keeps_all_that_was_watched() {
    let mut run = holding();
    watch(&mut run, 75);
    assert_eq!(run.command(Command::Pause), None);
    run.now = run.now.plus(500_000);
    run.tick(0, Some(0.5));
    assert_eq!(held(&run), 75_000, "resting, nobody judges");
    assert_eq!(run.command(Command::Continue), None);
    run.tick(100, Some(0.5));
    watch(&mut run, 24);
    assert_eq!(run.status("in-sync"), StepStatus::Running);
    watch(&mut run, 1);
    assert_eq!(run.status("in-sync"), StepStatus::Done);
}

#[test]
fn missing_evidence_while_watching_is_a_break() {
    let mut run = holding();
    watch(&mut run, 75);
    run.tick(6_000, None);
    assert_eq!((held(&run), run.state.gates["sync"].met_since), (0, None));
}

#[test]
fn another_attempt_and_another_step_begin_anew() {
    let mut run = holding();
    watch(&mut run, 50);
    // Skipping leaves the gate as it stood; a later step on the same gate must not inherit its hold.
    run.plan.steps[2].kind = StepKind::Gate { gate: "sync".into() };
    run.plan.steps[2].confirm = Confirm::None;
    assert_eq!(run.command(Command::Skip { step: "in-sync".into() }), None);
    assert_eq!(run.status("team"), StepStatus::Running);
    assert_eq!(held(&run), 0);
}

#[test]
fn every_restart_costs_at_most_a_tenth() {
    let mut run = holding();
    for _ in 0..5 {
        watch(&mut run, 25);
        restart(&mut run);
        run.now = run.now.plus(60_000);
        run.tick(0, None);
        run.tick(100, Some(0.5));
    }
    assert_eq!(run.status("in-sync"), StepStatus::Done, "5 x 25 s watched, 5 x 10 s lost at most: {}", held(&run));
}
