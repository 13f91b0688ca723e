//! Scripted turns.

use super::*;

#[test]
fn everything_well_ends_finished() {
    let mut run = Run::open(Policy::default());
    run.drive_past("burn-in");
    assert_eq!(run.state.status, RunStatus::Finished);
    assert!(run.state.decided.is_some());
    let at = |name: &str| run.facts.iter().position(|f| f.event.name() == name).expect(name);
    assert!(
        at("decided")
            < run
                .facts
                .iter()
                .position(|f| matches!(&f.event,
        Event::Intent { id, .. } if id == "reads/1"))
                .expect("an intent"),
        "the decision precedes the first switch"
    );
}

/// The start of every kind of step is reported: of gates, votes and manual steps too.
#[test]
fn every_step_of_every_kind_begins_with_a_fact() {
    let mut by_hand = plan();
    let mut last = by_hand.steps[0].clone();
    last.id = "by-hand".into();
    last.kind = StepKind::Manual { what: "look".into() };
    by_hand.steps.push(last);
    let mut run = Run::open_with(by_hand, Policy::default());
    run.drive_past("by-hand");
    let began: Vec<&str> = run.facts.iter().filter_map(|f| f.event.begins(&run.plan)).collect();
    for step in &run.plan.steps {
        assert!(began.contains(&step.id.as_str()), "{} ({})", step.id, step.kind.name());
    }
    let asked = |f: &Fact| matches!(&f.event, Event::StepHeld { step, .. } if step == "by-hand");
    let asked = run.facts.iter().find(|f| asked(f)).expect("it was asked for");
    assert_eq!(asked.event.begins(&run.plan), Some("by-hand"), "what is done by hand begins when it is asked for");
}

#[test]
fn a_gate_needs_fresh_evidence_for_its_whole_hold() {
    let mut run = Run::open(Policy::default());
    run.tick(0, None);
    let (step, attempt) = run.asked().expect("load");
    run.performed(&step, attempt, true);
    run.tick(100, None);
    assert!(run.state.gates.get("sync").is_none_or(|g| g.met_since.is_none()), "no data is not met");
    run.tick(100, Some(0.5));
    assert!(run.state.gates["sync"].met_since.is_some());
    assert!(run.waiting.is_some());
    run.tick(9_000, Some(3.0));
    assert!(run.state.gates["sync"].met_since.is_none(), "a break starts the hold again");
    run.tick(100, Some(0.5));
    run.tick(9_000, None);
    assert!(run.state.gates["sync"].met_since.is_none(), "evidence that goes missing is a break");
    run.tick(100, Some(0.5));
    run.tick(10_000, Some(0.5));
    assert_eq!(run.status("in-sync"), StepStatus::Done);
}

#[test]
fn a_gate_that_gives_up_holds_or_goes_back() {
    let mut run = Run::open(Policy::default());
    run.tick(0, None);
    let (step, attempt) = run.asked().expect("load");
    run.performed(&step, attempt, true);
    run.tick(60_001, None);
    assert_eq!(run.status("in-sync"), StepStatus::Failed);
    assert_eq!(run.state.status, RunStatus::Running, "this gate only holds");
    assert_eq!(run.command(Command::Retry { step: "in-sync".into() }), None);
    assert_eq!(run.status("in-sync"), StepStatus::Running);

    let mut run = Run::open(Policy::default());
    run.drive_past("switch");
    run.tick(60_001, Some(9.0));
    assert_eq!(run.state.status, RunStatus::RollingBack, "customers are frozen: going back loses nothing");
}

#[test]
fn a_broken_burn_in_goes_back_only_while_nothing_would_be_lost() {
    for (at_risk, wanted) in
        [(Some(0), RunStatus::RollingBack), (Some(7), RunStatus::Running), (None, RunStatus::Running)]
    {
        let mut run = Run::open(Policy::default());
        run.drive_past("thaw");
        run.now = run.now.plus(60_001);
        let measured = Measured { at: run.now, at_risk, ..Measured::default() };
        run.input(&Input::Tick(&measured));
        assert_eq!(run.state.status, wanted, "{at_risk:?}");
        assert_eq!(run.status("burn-in"), StepStatus::Failed);
    }
}

#[test]
fn words_are_asked_for_and_checked() {
    let mut run = Run::open(Policy::default());
    run.drive_past("arm");
    run.tick(100, Some(0.5));
    assert_eq!(run.status("freeze"), StepStatus::Held);
    assert!(run.confirm("freeze", None).is_some());
    assert!(run.confirm("freeze", Some("go")).is_some());
    assert!(run.confirm("drain", Some("GO")).is_some(), "only the current step");
    assert_eq!(run.status("freeze"), StepStatus::Held);
    assert_eq!(run.confirm("freeze", Some("GO")), None);
    assert_eq!(run.status("freeze"), StepStatus::Running);
}

#[test]
fn a_failure_before_the_decision_cancels_by_itself() {
    for failing in ["freeze", "drain"] {
        let mut run = Run::open(Policy::default());
        run.drive_past("arm");
        for _ in 0..50 {
            run.tick(100, Some(0.5));
            if run.status("freeze") == StepStatus::Held {
                run.confirm("freeze", Some("GO"));
            }
            let Some((step, attempt)) = run.asked() else { continue };
            if step == "freeze" {
                run.set("freeze", "mode", "freeze/1");
            }
            run.performed(&step, attempt, step != failing);
            if step == failing {
                break;
            }
        }
        assert_eq!(run.state.status, RunStatus::RollingBack, "{failing}");
        assert!(
            matches!(&run.state.rollback.as_ref().expect("a rollback").cause, Cause::Cancel { step } if step == failing)
        );
        let back = rollback_plan(&run.plan, &run.state);
        assert_eq!(
            back.actions().map(|a| a.switch.as_str()).collect::<Vec<_>>(),
            ["mode"],
            "only the freeze is lifted"
        );
    }
}

#[test]
fn a_failure_after_the_decision_waits_for_a_person_if_there_is_one() {
    for (unattended, wanted) in [(false, RunStatus::Running), (true, RunStatus::RollingBack)] {
        let mut run = Run::open(Policy { unattended, ..Policy::default() });
        run.drive_past("drain");
        run.tick(100, Some(0.5));
        let (step, attempt) = run.asked().expect("switch");
        assert_eq!(step, "switch");
        run.set("switch", "reads", "reads/1");
        run.performed(&step, attempt, false);
        assert_eq!(run.state.status, wanted);
    }
}

#[test]
fn the_way_back_undoes_the_unknown_too_and_thaws_last() {
    let mut run = Run::open(Policy::default());
    run.drive_past("drain");
    run.tick(100, Some(0.5));
    run.set("switch", "reads", "reads/1");
    let action = Action::SetSwitch { switch: "writes".into(), to: "new".into(), position: None };
    run.input(&Input::Stated(Event::Intent { id: "writes/1".into(), step: Some("switch".into()), action }));
    let back = rollback_plan(&run.plan, &run.state);
    let names: Vec<Vec<&str>> = back.waves.iter().map(|w| w.iter().map(|a| a.switch.as_str()).collect()).collect();
    assert_eq!(names, vec![vec!["writes", "reads"], vec!["mode"]]);
    assert!(back.actions().all(|a| a.captured && a.version == Some(1)));
}

#[test]
fn a_restart_makes_running_steps_unknown_and_looks_before_it_acts() {
    let mut run = Run::open(Policy::default());
    run.drive_past("drain");
    run.tick(100, Some(0.5));
    assert_eq!(run.asked().expect("switch").0, "switch");
    run.fold(vec![Event::RunResumed { operator: "bob".into(), host: "b2".into() }]);
    assert_eq!(run.status("switch"), StepStatus::Unknown);
    run.tick(100, Some(0.5));
    assert_eq!(run.asked(), Some(("switch".into(), 2)));
    assert!(run.state.decided.is_some(), "the decision is made once");
    assert_eq!(run.facts.iter().filter(|f| f.event.name() == "decided").count(), 1);
}

#[test]
fn late_news_from_an_old_attempt_changes_nothing() {
    let mut run = Run::open(Policy::default());
    run.tick(0, None);
    let (step, _) = run.asked().expect("load");
    run.performed(&step, 1, false);
    run.command(Command::Retry { step: step.clone() });
    assert_eq!(run.asked(), Some((step.clone(), 2)));
    run.performed(&step, 1, true);
    assert_eq!(run.status(&step), StepStatus::Running);
}

#[test]
fn pausing_is_refused_while_customers_are_kept_out() {
    let mut run = Run::open(Policy::default());
    assert_eq!(run.command(Command::Pause), None);
    assert_eq!(run.state.status, RunStatus::Paused);
    assert!(run.confirm("load", None).is_some());
    assert_eq!(run.command(Command::Continue), None);
    run.drive_past("freeze");
    assert!(run.command(Command::Pause).is_some());
    run.drive_past("thaw");
    assert_eq!(run.command(Command::Pause), None);
}

#[test]
fn steps_others_rest_on_cannot_be_skipped() {
    let mut run = Run::open(Policy::default());
    run.tick(0, None);
    assert!(run.command(Command::Skip { step: "load".into() }).is_some());
    run.performed("load", 1, true);
    assert_eq!(run.command(Command::Skip { step: "in-sync".into() }), None);
    assert_eq!(run.status("in-sync"), StepStatus::Skipped);
}

#[test]
fn no_forward_intent_follows_a_rollback_order() {
    let mut run = Run::open(Policy::default());
    run.drive_past("drain");
    run.tick(100, Some(0.5));
    assert!(run.asked().is_some());
    run.input(&Input::Rollback(Actor::Operator("alice".into()), Cause::Asked));
    let action = Action::SetSwitch { switch: "writes".into(), to: "new".into(), position: None };
    let refused = run.input(&Input::Stated(Event::Intent { id: "w/9".into(), step: Some("switch".into()), action }));
    assert!(refused.is_some(), "the worker must learn that its intent was not recorded");
    run.performed("switch", 1, true);
    run.tick(100, Some(0.5));
    assert_eq!(run.state.status, RunStatus::RollingBack);
    run.input(&Input::Stated(Event::RolledBack { took_ms: 5, evidence: vec![] }));
    assert_eq!(run.state.status, RunStatus::RolledBack);
    run.tick(100, Some(0.5));
    assert_eq!(run.asked(), None);
}

#[test]
fn stopping_after_a_step_pauses_there() {
    let mut run = Run::open(Policy { until: Some("load".into()), ..Policy::default() });
    run.tick(0, None);
    run.performed("load", 1, true);
    assert_eq!(run.state.status, RunStatus::Paused);
    assert_eq!(run.status("in-sync"), StepStatus::Todo);
}

#[test]
fn two_terminals_that_both_went_back_are_one_record() {
    let mut run = Run::open(Policy::default());
    run.drive_past("freeze");
    let order = || Event::RollbackOrdered { by: Actor::Terminal("bob@b1".into()), cause: Cause::Asked };
    let restore = |id: &str| {
        let action = Action::RestoreSwitch { switch: "mode".into(), version: Some(1) };
        let result = OutcomeResult::Done { read_back: "old".into(), version: Some(3) };
        let intent = Event::Intent { id: id.into(), step: None, action };
        [intent, Event::Outcome { id: id.into(), result }]
    };
    let end = || Event::RolledBack { took_ms: 5, evidence: vec![] };
    let [ours, our_outcome] = restore("undo/a");
    let [theirs, their_outcome] = restore("undo/b");
    // The console's facts and the other terminal's, as the merge may put them.
    run.fold(vec![order(), order(), ours, theirs, our_outcome, end()]);
    assert_eq!(run.state.status, RunStatus::RolledBack);
    run.fold(vec![their_outcome, end()]);
    assert_eq!(
        (run.state.status, run.state.switches["mode"].standing),
        (RunStatus::RolledBack, SwitchStatus::Restored)
    );
    assert!(rollback_plan(&run.plan, &run.state).is_empty());
    let [late, late_outcome] = restore("undo/c");
    run.fold(vec![late, late_outcome]);
    assert!(rollback_plan(&run.plan, &run.state).is_empty());
}

#[test]
fn a_log_that_a_source_goes_on_keeping_is_known_until_it_is_cleared_away() {
    let mut run = Run::open(Policy::default());
    run.input(&Input::Rollback(Actor::Auto, Cause::Asked));
    run.input(&Input::Stated(Event::RolledBack { took_ms: 1, evidence: vec![] }));
    let mut ends = |id: &str, result: OutcomeResult| {
        let action = Action::EndCapture { store: "old".into() };
        run.input(&Input::Stated(Event::Intent { id: id.into(), step: None, action }));
        run.input(&Input::Stated(Event::Outcome { id: id.into(), result }));
        run.state.left_behind.clone()
    };
    let left = ends("1", OutcomeResult::Unknown { error: "it is read-only".into() });
    assert!(
        left.iter().any(|(what, why)| what.contains("old")
            && what.contains("log")
            && why.starts_with("it is read-only; once"))
    );
    assert!(ends("2", OutcomeResult::Done { read_back: "nothing".into(), version: None }).is_empty());
}
