//! Second persons and votes.

use super::*;

fn from(terminal: &str) -> Origin {
    Origin { user: "ops".into(), host: "b1".into(), terminal: terminal.into() }
}

fn approve(run: &mut Run, step: &str, name: &str, drivers_terminal: bool) -> Option<Refusal> {
    let command =
        Command::Approve { step: step.into(), note: Some("seen".into()), origin: from("pts/2"), drivers_terminal };
    run.input(&Input::Command(command, Actor::Terminal(name.into())))
}

fn vote(run: &mut Run, name: &str, vote: Vote) -> Option<Refusal> {
    let command = Command::Vote { step: "board".into(), vote, note: None, origin: from("pts/2") };
    run.input(&Input::Command(command, Actor::Terminal(name.into())))
}

/// The plan with a freeze that needs two, and a vote before it.
fn run(policy: Policy, voters: &[&str], quorum: u32) -> Run {
    let mut plan = plan();
    for step in plan.steps.iter_mut().filter(|s| s.id == "freeze" || s.id == "in-sync") {
        step.two_person = step.id == "freeze";
    }
    let place = plan.step_index("arm").expect("an arm step");
    let mut board = plan.steps[place].clone();
    board.id = "board".into();
    let voters = voters.iter().map(|v| (*v).to_owned()).collect();
    board.kind = StepKind::GoNoGo { gates: vec!["sync".into()], voters, quorum };
    plan.steps.insert(place, board);
    Run::open_with(plan, policy)
}

fn at_freeze(policy: Policy) -> Run {
    let mut run = run(policy, &[], 0);
    run.drive_past("arm");
    run.tick(100, Some(0.5));
    run
}

fn waits(run: &Run) -> bool {
    waits_for_second(&run.plan, &run.state)
}

#[test]
fn a_step_for_two_starts_with_two_and_not_before() {
    let mut run = at_freeze(Policy::default());
    assert!(!waits(&run), "it waits for the driver's word first");
    assert_eq!(run.confirm("freeze", Some("GO")), None);
    run.tick(60_000, Some(0.5));
    assert_eq!((run.status("freeze"), waits(&run)), (StepStatus::Held, true));
    let reason = run.state.step("freeze").and_then(|s| s.held.clone()).expect("a reason");
    assert_eq!(reason, "waits for a second person: cutover approve r1 freeze");
    assert_eq!(run.facts.iter().filter(|f| f.event.name() == "step_held").count(), 3, "said once: key, word, second");
    assert!(run.confirm("freeze", Some("GO")).expect("refused").0.contains("second person"));
    assert_eq!(approve(&mut run, "freeze", "bob", false), None);
    assert_eq!(run.status("freeze"), StepStatus::Running);
    let approval = &run.state.step("freeze").expect("a step").approvals[0];
    assert_eq!((approval.by.name(), approval.origin.terminal.as_str()), ("bob", "pts/2"));
}

#[test]
fn the_second_person_may_come_first() {
    let mut run = at_freeze(Policy::default());
    assert_eq!(approve(&mut run, "freeze", "bob", false), None);
    assert_eq!(run.status("freeze"), StepStatus::Held, "the word is still wanted");
    assert_eq!(run.confirm("freeze", Some("GO")), None);
    assert_eq!(run.status("freeze"), StepStatus::Running);
}

#[test]
fn nobody_is_two_people() {
    for (name, drivers_terminal, wanted) in [
        ("alice", false, "drives this run"),
        ("ALICE@elsewhere", false, "drives this run"),
        (" alice ", false, "drives this run"),
        ("bob", true, "terminal"),
        ("", false, "name"),
        ("@b", false, "name"),
        ("bob\u{1b}[2J", false, "name"),
    ] {
        let mut run = at_freeze(Policy::default());
        let why = approve(&mut run, "freeze", name, drivers_terminal).unwrap_or_else(|| panic!("{name:?} was taken"));
        assert!(why.0.contains(wanted), "{name:?}: {why}");
        assert!(run.state.step("freeze").is_some_and(|s| s.approvals.is_empty()));
    }
    let mut run = at_freeze(Policy::default());
    assert!(approve(&mut run, "drain", "bob", false).is_some(), "not the current step");
    let mut run = self::run(Policy::default(), &[], 0);
    assert!(approve(&mut run, "load", "bob", false).expect("refused").0.contains("no second person"));
}

#[test]
fn confirming_everything_by_itself_does_not_make_a_second_person() {
    let mut run = self::run(answered(&[("team", "dora")]), &[], 0);
    for _ in 0..60 {
        run.tick(1_000, Some(0.5));
        if let Some((step, attempt)) = run.asked() {
            run.performed(&step, attempt, true);
        }
    }
    assert!(waits(&run));
    assert_eq!(approve(&mut run, "freeze", "bob", false), None);
    assert_eq!(run.status("freeze"), StepStatus::Running);
}

/// Nobody at a screen, everything a machine does confirmed, and these answers given beforehand.
fn answered(answers: &[(&str, &str)]) -> Policy {
    let mut policy = Policy { auto_confirm: true, unattended: true, ..Policy::default() };
    for (step, name) in answers {
        policy.answers.entry((*step).to_owned()).or_default().push((*name).to_owned());
    }
    policy
}

/// Goes as far as the policy alone allows, everything measured well.
fn alone(run: &mut Run) {
    for _ in 0..60 {
        run.tick(1_000, Some(0.5));
        if let Some((step, attempt)) = run.asked() {
            run.performed(&step, attempt, true);
        }
    }
}

#[test]
fn a_flag_confirms_machines_and_never_people() {
    let mut run = self::run(answered(&[]), &[], 0);
    alone(&mut run);
    assert_eq!(run.status("team"), StepStatus::Held, "nobody assembled the team");
    let reason = run.state.step("team").and_then(|s| s.held.clone()).expect("a reason");
    assert_eq!(reason, "somebody must do it and then say so; without a screen: --answer team=NAME");
    let mut plan = run.plan.clone();
    let board = plan.step_index("board").expect("a step");
    plan.steps[board].confirm = Confirm::Key;
    let mut run = Run::open_with(plan, answered(&[("team", "dora")]));
    alone(&mut run);
    assert_eq!(run.status("board"), StepStatus::Held, "where nobody votes, the key is the go");
}

#[test]
fn an_answer_stands_on_record_as_given_beforehand_and_a_stand_in_as_nobody() {
    for (policy, wanted) in [
        (answered(&[("team", "dora")]), Actor::Answered("dora".into())),
        (Policy { stand_ins: true, ..answered(&[]) }, Actor::StandIn("lead".into())),
    ] {
        let mut run = self::run(policy, &[], 0);
        alone(&mut run);
        let team = run.state.step("team").expect("a step");
        assert_eq!((team.status, team.confirmed.as_ref()), (StepStatus::Done, Some(&wanted)));
        assert_eq!(team.evidence[0].value, wanted.words());
    }
    assert_eq!(Actor::Answered("dora".into()).words(), "dora (by --answer)");
    assert_eq!(Actor::StandIn("lead".into()).words(), "stand-in for lead");
}

#[test]
fn a_vote_given_beforehand_counts_once_and_only_on_evidence_that_holds() {
    let mut run = self::run(answered(&[("team", "dora"), ("board", "Bob")]), &["bob", "carol"], 2);
    alone(&mut run);
    assert_eq!(run.status("board"), StepStatus::Running, "nobody answered for carol");
    let cast = |run: &Run| run.facts.iter().filter(|f| f.event.name() == "voted").count();
    assert_eq!(cast(&run), 1);
    run.tick(100, Some(9.0));
    for _ in 0..20 {
        run.tick(1_000, Some(0.5));
    }
    assert_eq!(cast(&run), 1, "what was seen has changed: bob votes himself or not at all");
    vote(&mut run, "carol", Vote::Go);
    run.tick(1_000, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Running);
    vote(&mut run, "bob", Vote::Go);
    run.tick(1_000, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Done);
}

#[test]
fn who_voted_by_hand_is_not_voted_for_when_that_lapses() {
    let mut run = self::run(answered(&[("team", "dora"), ("board", "bob")]), &["bob", "carol"], 2);
    // Bob is quicker than the criteria: his own vote stands before the one given beforehand would be cast.
    run.drive_past("team");
    run.tick(100, Some(9.0));
    assert_eq!(run.status("board"), StepStatus::Running);
    assert_eq!(vote(&mut run, "Bob", Vote::Go), None);
    for lag in [0.5, 9.0, 0.5] {
        for _ in 0..20 {
            run.tick(1_000, Some(lag));
        }
    }
    assert_eq!(
        run.facts.iter().filter(|f| f.event.name() == "voted").count(),
        1,
        "his vote lapsed, and is his to give"
    );
    assert_eq!(run.status("board"), StepStatus::Running);
}

#[test]
fn an_approval_is_void_for_another_attempt() {
    let mut run = at_freeze(Policy::default());
    run.confirm("freeze", Some("GO"));
    approve(&mut run, "freeze", "bob", false);
    // The process dies; the step is unknown and must be approved again before it is tried again.
    run.fold(vec![Event::RunResumed { operator: "alice".into(), host: "b".into() }]);
    run.effects.clear();
    run.tick(100, Some(0.5));
    assert_eq!((run.status("freeze"), run.asked()), (StepStatus::Held, None));
    let reason = run.state.step("freeze").and_then(|s| s.held.clone()).expect("a reason");
    assert!(reason.contains("the approval of bob is void"), "{reason}");
    assert_eq!(approve(&mut run, "freeze", "bob", false), None);
    assert_eq!(run.asked(), Some(("freeze".into(), 2)), "and then it looks before it acts");
}

#[test]
fn a_failed_step_for_two_is_tried_again_by_two() {
    let mut plan = plan();
    plan.steps[0].two_person = true;
    let mut run = Run::open_with(plan, Policy::default());
    run.tick(0, None);
    assert_eq!(approve(&mut run, "load", "bob", false), None);
    let (step, attempt) = run.asked().expect("load");
    run.performed(&step, attempt, false);
    assert_eq!(run.command(Command::Retry { step: "load".into() }), None);
    assert_eq!((run.status("load"), run.asked()), (StepStatus::Held, None));
    assert_eq!(approve(&mut run, "load", "carol", false), None);
    assert_eq!(run.asked(), Some(("load".into(), 2)));
}

#[test]
fn a_step_for_two_is_never_skipped() {
    let mut plan = plan();
    let place = plan.step_index("in-sync").expect("a gate");
    plan.steps[place].two_person = true;
    let mut run = Run::open_with(plan, Policy::default());
    run.drive_past("load");
    run.tick(100, Some(9.0));
    let skip = || Command::Skip { step: "in-sync".into() };
    let refused = run.command(skip()).expect("a refusal");
    assert!(refused.0.contains("for two people"), "{refused}");
    assert_eq!(approve(&mut run, "in-sync", "bob", false), None);
    assert!(run.command(skip()).is_some(), "an approval is for performing it");
    assert_eq!(run.status("in-sync"), StepStatus::Running);
}

#[test]
fn an_approval_is_void_when_what_it_rested_on_changes() {
    let mut run = at_freeze(Policy::default());
    assert_eq!(approve(&mut run, "freeze", "bob", false), None);
    let found = VerifySummary { missing: 3, ..VerifySummary::default() };
    run.input(&Input::Stated(Event::Verified { table: "books".into(), summary: found }));
    assert_eq!(run.confirm("freeze", Some("GO")), None);
    assert_eq!(run.status("freeze"), StepStatus::Held, "three rows went missing after bob looked");
    approve(&mut run, "freeze", "bob", false);
    assert_eq!(run.status("freeze"), StepStatus::Running);
}

#[test]
fn the_driver_who_takes_over_is_no_second_person_to_himself() {
    let mut run = at_freeze(Policy::default());
    approve(&mut run, "freeze", "bob", false);
    run.fold(vec![Event::RunResumed { operator: "bob".into(), host: "b".into() }]);
    run.confirm("freeze", Some("GO"));
    assert_eq!(run.status("freeze"), StepStatus::Held);
}

#[test]
fn going_back_and_pausing_need_nobody_else() {
    let mut run = at_freeze(Policy::default());
    run.confirm("freeze", Some("GO"));
    assert!(waits(&run));
    assert_eq!(run.command(Command::Pause), None);
    assert_eq!(run.command(Command::Continue), None);
    assert_eq!(run.input(&Input::Rollback(Actor::Operator("alice".into()), Cause::Asked)), None);
    assert_eq!(run.state.status, RunStatus::RollingBack);
    assert!(approve(&mut run, "freeze", "bob", false).is_some(), "nothing starts any more");
    assert_ne!(run.status("freeze"), StepStatus::Running);
}

fn at_vote(voters: &[&str], quorum: u32) -> Run {
    let mut run = run(Policy::default(), voters, quorum);
    run.drive_past("team");
    run.tick(100, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Running);
    run
}

#[test]
fn criteria_alone_decide_when_nobody_votes() {
    let mut run = at_vote(&[], 0);
    run.tick(5_000, Some(9.0));
    run.tick(60_000, None);
    assert_ne!(run.status("board"), StepStatus::Done, "missing evidence blocks");
    let mut run = at_vote(&[], 0);
    run.tick(100, Some(0.5));
    run.tick(10_000, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Done);
}

#[test]
fn a_vote_needs_its_quorum_and_its_criteria() {
    let mut run = at_vote(&["bob", "carol", "dan"], 2);
    run.tick(100, Some(0.5));
    run.tick(20_000, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Running, "nobody has voted");
    assert!(vote(&mut run, "eve", Vote::Go).expect("refused").0.contains("voters: bob, carol, dan"));
    assert_eq!(vote(&mut run, "bob", Vote::Go), None);
    assert_eq!(vote(&mut run, "Bob@b9", Vote::Go), None);
    run.tick(100, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Running, "one person has one vote");
    assert_eq!(vote(&mut run, "carol", Vote::Go), None);
    assert_eq!(run.status("board"), StepStatus::Running, "votes count on what is measured then");
    run.tick(100, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Done);
    let evidence = &run.state.step("board").expect("a step").evidence;
    let named = |name: &str| evidence.iter().find(|e| e.name == name).expect("evidence");
    assert!(named("vote of carol").source.contains("ops@b1 pts/2"));
    assert!(named("votes to go").good && named("lag < 2s").good && named("sync held").good);
}

#[test]
fn one_no_go_blocks_by_name_until_its_voter_changes_it() {
    let mut run = at_vote(&["bob", "carol", "dan"], 1);
    run.tick(100, Some(0.5));
    run.tick(10_000, Some(0.5));
    vote(&mut run, "dan", Vote::NoGo);
    vote(&mut run, "bob", Vote::Go);
    vote(&mut run, "carol", Vote::Go);
    run.tick(100, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Running);
    let counted = tally(&run.plan, &run.state, "board");
    assert_eq!(counted.no_go[0].by.name(), "dan");
    // It stands across evidence that changes and a restart.
    run.tick(100, Some(9.0));
    run.fold(vec![Event::RunResumed { operator: "alice".into(), host: "b".into() }]);
    run.tick(100, Some(0.5));
    assert_eq!(tally(&run.plan, &run.state, "board").no_go.len(), 1);
    assert!(run.command(Command::Skip { step: "board".into() }).is_some(), "a vote is not skipped");
    run.tick(100, Some(0.5));
    vote(&mut run, "bob", Vote::Go);
    vote(&mut run, "dan", Vote::Go);
    run.tick(10_000, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Done);
}

#[test]
fn a_go_lapses_with_the_evidence_it_was_given_on() {
    let mut run = at_vote(&["bob"], 1);
    run.tick(100, Some(0.5));
    vote(&mut run, "bob", Vote::Go);
    run.tick(100, Some(7.0));
    run.tick(100, Some(0.5));
    run.tick(10_000, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Running, "the lag was 7 s after bob voted");
    let counted = tally(&run.plan, &run.state, "board");
    assert_eq!((counted.go.len(), counted.lapsed.len(), counted.missing.as_slice()), (0, 1, &["bob"][..]));
    vote(&mut run, "bob", Vote::Go);
    run.tick(100, Some(0.5));
    assert_eq!(run.status("board"), StepStatus::Done);
}

#[test]
fn votes_are_only_taken_while_they_are_asked_for() {
    let mut run = self::run(Policy::default(), &["bob"], 1);
    assert!(vote(&mut run, "bob", Vote::Go).is_some(), "not the current step");
    run.drive_past("in-sync");
    let command = Command::Vote { step: "team".into(), vote: Vote::Go, note: None, origin: from("pts/2") };
    let refused = run.input(&Input::Command(command, Actor::Terminal("bob".into())));
    assert!(refused.expect("refused").0.contains("not a go/no-go step"));
}
