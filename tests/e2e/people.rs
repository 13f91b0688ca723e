//! Second persons, votes, what-if and audit, with real processes: a name is claimed, the terminal is the kernel's word.

use std::process::{Command, Output};

use cutover::domain::run::{Event, RunStatus, StepStatus, Vote, waits_for_second};
use cutover::rehearsal::oracle::Side;
use rustix::process::Signal;

use super::stage::{Options, Stage};

/// A stage that does not mind a slow machine: how fast the shop answers is not what is tested here.
fn patient(options: &Options) -> Stage {
    let stage = Stage::new(options);
    let text = stage.config();
    let patient = text.replace("-p95 < 500", "-p95 < 60000");
    assert!(patient != text, "the rehearsal's config asks for no p95 under 500 any more");
    stage.write("config.toml", &patient);
    stage
}

/// A stage whose go/no-go is voted on and whose freeze needs two.
fn stage() -> Stage {
    let stage = patient(&Options::default());
    let text = stage.config();
    let voted = text.replacen("gates = [\"go\"]\n", "gates = [\"go\"]\nvoters = [\"bob\", \"carol\"]\n", 1);
    let two = voted.replacen("kind = \"freeze\"\n", "kind = \"freeze\"\ntwo_person = true\n", 1);
    assert!(voted != text && two != voted, "the rehearsal's config has no go/no-go or no freeze");
    stage.write("config.toml", &two);
    stage
}

/// Runs the binary in a session of its own, as another terminal would.
fn elsewhere(stage: &Stage, args: &[&str]) -> Output {
    let state = stage.dir().join("state");
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_cutover")).arg("--state-dir").arg(state).args(args);
    command.env_remove("CUTOVER_FAILPOINT").output().expect("setsid of util-linux")
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn waits(stage: &Stage) -> bool {
    let plan = || stage.folder().and_then(|f| std::fs::read(f.plan()).ok());
    let plan = plan().and_then(|text| serde_json::from_slice(&text).ok());
    plan.is_some_and(|plan| waits_for_second(&plan, &stage.state()))
}

#[test]
fn a_day_with_votes_and_a_second_person() {
    let stage = stage();
    let mut console = stage.run(None);
    console.until("the vote", || stage.step_is("go-no-go", StepStatus::Running));
    let run = stage.folder().expect("a run").id().to_owned();
    let vote = |who: &str, how: &str| elsewhere(&stage, &["vote", &run, "go-no-go", how, "--as", who]);

    let stranger = vote("eve", "go");
    assert_eq!(code(&stranger), 8, "{}", words(&stranger));
    assert!(words(&stranger).contains("voters: bob, carol"), "{}", words(&stranger));
    assert_eq!(code(&vote("carol", "no-go")), 0);
    assert_eq!(code(&vote("bob", "go")), 0);
    console.until("the criteria", || stage.state().gates.get("go").is_some_and(|g| g.met_since.is_some()));
    // The console publishes its state ten times a second; a vote is on record before that.
    console.until("the no-go in the status", || {
        words(&elsewhere(&stage, &["status", &run, "--json"])).contains("NO-GO by carol")
    });
    assert!(stage.step_is("go-no-go", StepStatus::Running), "one no-go blocks");
    assert_eq!(code(&vote("carol", "go")), 0);
    console.until("a go", || stage.step_is("go-no-go", StepStatus::Done) || stage.count(gate_broke) > 0);
    // A machine under load may measure a bad moment, and that voids a vote to go, as it should.
    console.until("a go that stands", || {
        if !stage.step_is("go-no-go", StepStatus::Done) {
            vote("bob", "go");
            vote("carol", "go");
        }
        stage.step_is("go-no-go", StepStatus::Done)
    });

    console.until("the second person", || waits(&stage));
    let approve = |who: &str| elsewhere(&stage, &["approve", &run, "freeze", "--as", who, "--note", "looked twice"]);
    let mut near = stage.start(&["approve", &run, "freeze", "--as", "bob"], None);
    near.expect_code(8);
    assert!(near.err().contains("the terminal the run is driven from"), "{}", near.words());
    let driver = stage.state().operator;
    let alone = approve(&driver);
    assert_eq!(code(&alone), 8, "{}", words(&alone));
    assert!(words(&alone).contains("somebody else must approve"), "{}", words(&alone));
    assert!(stage.step_is("freeze", StepStatus::Held) && stage.count(approved) == 0);
    let second = approve("bob");
    assert_eq!(code(&second), 0, "{}", words(&second));
    console.expect_code(0);

    assert_eq!(stage.count(approved), 1);
    assert!(stage.count(|e| matches!(e, Event::Voted { vote: Vote::NoGo, .. })) == 1);
    let given = stage.state().step("freeze").expect("a step").approvals[0].clone();
    assert!(given.origin.terminal.starts_with("session "), "{given:?}");
    let late = approve("bob");
    assert_eq!(code(&late), 8, "{}", words(&late));
    assert!(words(&late).contains("is finished: it is at its end"), "{}", words(&late));
    stage.expect_nothing_lost(Side::New);
    audited(&stage);
}

fn approved(event: &Event) -> bool {
    matches!(event, Event::Approved { .. })
}

fn gate_broke(event: &Event) -> bool {
    matches!(event, Event::GateBroken { gate, .. } if gate == "go")
}

/// The record is whole and says who; one changed byte is found where it is, and nothing else is.
fn audited(stage: &Stage) {
    let whole = elsewhere(stage, &["audit"]);
    assert_eq!(code(&whole), 0, "{}", words(&whole));
    let text = words(&whole);
    assert!(text.contains("intact: every byte is as it was written"), "{text}");
    assert!(text.contains("approved by bob, from ") && text.contains("looked twice"), "{text}");
    let head = text.split("head ").nth(1).and_then(|t| t.split_whitespace().next()).expect("a head").to_owned();
    assert_eq!(code(&elsewhere(stage, &["audit", "--head", &head])), 0);
    assert_eq!(code(&elsewhere(stage, &["audit", "--head", "00"])), 7);

    let journal = stage.folder().expect("a run").journal();
    let good = std::fs::read(&journal).expect("a journal");
    let place = good.windows(12).position(|w| w == b"looked twice").expect("the note");
    let mut bad = good.clone();
    bad[place] = b'b';
    std::fs::write(&journal, &bad).expect("a writable journal");
    let found = elsewhere(stage, &["audit", "--json"]);
    assert_eq!(code(&found), 7, "{}", words(&found));
    let json: serde_json::Value = serde_json::from_slice(&found.stdout).expect("JSON");
    assert_eq!(json["findings"][0]["byte"], place as u64, "{json:#}");
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(1), "{json:#}");
    assert_eq!(json["findings"][0]["file"], "journal.jsonl");
    std::fs::write(&journal, &good).expect("a writable journal");
}

#[test]
fn an_approval_does_not_outlive_the_process_it_was_given_to() {
    let stage = stage();
    let mut console = stage.run(None);
    console.until("the vote", || stage.step_is("go-no-go", StepStatus::Running));
    let run = stage.folder().expect("a run").id().to_owned();
    console.until("a go", || {
        if stage.step_is("go-no-go", StepStatus::Running) {
            for who in ["bob", "carol"] {
                elsewhere(&stage, &["vote", &run, "go-no-go", "go", "--as", who]);
            }
        }
        waits(&stage)
    });
    // Killed while it waits, and resumed: it still waits, and a rollback asks nobody.
    console.signal(Signal::KILL);
    console.expect_killed();
    let nobody = elsewhere(&stage, &["vote", &run, "go-no-go", "go", "--as", "bob"]);
    assert_eq!(code(&nobody), 8, "{}", words(&nobody));
    assert!(words(&nobody).contains("start the same command again to take it up"), "{}", words(&nobody));
    let stands = words(&elsewhere(&stage, &["status", &run]));
    assert!(stands.contains("interrupted") && !stands.contains("rollback ready"), "{stands}");
    let facts = stage.facts().len();
    let what = elsewhere(&stage, &["rollback", "--what-if"]);
    assert_eq!(code(&what), 0, "{}", words(&what));
    assert!(words(&what).contains("nothing to undo"), "{}", words(&what));
    assert_eq!(stage.facts().len(), facts, "asking changes nothing");
    let mut again = stage.run(None);
    again.until("the run to be taken up", || stage.state().resumes == 1 && waits(&stage));
    let mut rollback = stage.start(&["rollback"], None);
    rollback.expect_code(3);
    again.expect_code(3);
    assert_eq!(stage.state().status, RunStatus::RolledBack);
    stage.expect_nothing_lost(Side::Old);
    let audit = elsewhere(&stage, &["audit"]);
    assert_eq!(code(&audit), 0, "{}", words(&audit));
}

#[test]
fn what_going_back_would_do_is_told_without_doing_it() {
    let stage = patient(&Options { pause: 60, ..Options::default() });
    let mut console = stage.run(None);
    console.until("the pause after the switch", || stage.step_is("new-side-check", StepStatus::Running));
    let told = |what: &str| {
        let asked = elsewhere(&stage, &["rollback", "--what-if"]);
        let text = words(&asked);
        assert_eq!(code(&asked), 0, "{what}: {text}");
        for part in
            ["put back, all at once", "allow writes on the old side again", "reads: ", "writes-mode: ", "cost     "]
        {
            assert!(text.contains(part), "{what}: no {part:?} in\n{text}");
        }
        assert!(!text.contains("by hand") && !text.contains("cost     ?"), "{what}: {text}");
        assert!(text.contains("blocked  by nothing"), "{what}: {text}");
    };
    told("the console lives");
    console.signal(Signal::KILL);
    console.expect_killed();
    told("the console is dead");
    assert_eq!(stage.state().status, RunStatus::Running);
    stage.start(&["rollback"], None).expect_code(3);
    stage.expect_old_values();
}
