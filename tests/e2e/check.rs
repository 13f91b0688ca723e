//! `cutover check` and configs with mistakes: each named, with what to do about it.

use std::path::Path;

use super::console::Console;
use super::stage::{Options, Stage};

/// Checks a changed config: the exit code, and for each failed line what it names and the advice below it.
fn checked(stage: &Stage, name: &str, change: (&str, &str), code: i32, wanted: &[(&str, &str)]) {
    let text = stage.config();
    assert!(text.contains(change.0), "{name}: the config has no {:?}", change.0);
    stage.write(name, &text.replace(change.0, change.1));
    let mut check = stage.start(&["check", "-c", name], None);
    check.expect_code(code);
    let out = check.out();
    let lines: Vec<&str> = out.lines().collect();
    for (what, advice) in wanted {
        let at = lines.iter().position(|l| l.starts_with("  FAIL") && l.contains(what));
        let at = at.unwrap_or_else(|| panic!("{name}: no failed line names {what}\n{}", check.words()));
        assert!(lines[at + 1].contains(advice), "{name}: {what} comes without {advice:?}\n{}", check.words());
        assert!(lines[at + 1].trim().len() > 10, "{name}: {what} comes without advice\n{}", check.words());
    }
    let password = std::fs::read_to_string(stage.dir().join("password")).unwrap();
    assert!(!out.contains(&password) && !check.err().contains(&password), "{name}: the password was printed");
}

#[test]
fn check_names_what_is_wrong_with_the_world() {
    let stage = Stage::new(&Options::default());
    let mut fine = stage.start(&["check", "-c", "config.toml"], None);
    fine.expect_code(0);
    assert!(fine.out().contains(" 0 failed"), "{}", fine.words());
    let stream = fine.out().lines().any(|l| l.contains("stream orders") && l.contains("off; the capture step"));
    assert!(stream, "a stream that is off goes unnamed:\n{}", fine.words());

    checked(
        &stage,
        "table.toml",
        ("source = \"CloudShelf-Orders\"", "source = \"CloudShelf-Gone\""),
        1,
        &[("source orders", "check the name CloudShelf-Gone")],
    );
    checked(
        &stage,
        "parameter.toml",
        ("parameter = \"/cloudshelf/prod/db/reads\"", "parameter = \"/cloudshelf/prod/db/gone\""),
        1,
        &[("switch reads", "")],
    );
    stage.write("wrong", "not-the-password");
    let right = stage.dir().join("password").display().to_string();
    let wrong = stage.dir().join("wrong").display().to_string();
    checked(&stage, "password.toml", (&right, &wrong), 77, &[("target", "password")]);

    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = stage.config();
    let ssm = text.lines().find(|l| l.starts_with("ssm = ")).unwrap();
    checked(
        &stage,
        "endpoint.toml",
        (ssm, &format!("ssm = \"http://127.0.0.1:{closed}\"")),
        1,
        &[("switch reads", "")],
    );
    let dynamodb = text.lines().find(|l| l.starts_with("dynamodb = ")).unwrap();
    let nowhere = format!("dynamodb = \"http://127.0.0.1:{closed}\"");
    checked(&stage, "store.toml", (dynamodb, &nowhere), 1, &[("source books", ""), ("source users", "")]);
}

#[test]
fn a_check_writes_nothing_into_the_target() {
    let stage = Stage::new(&Options::default());
    let before = stage.catalogues();
    let mut check = stage.start(&["check", "-c", "config.toml"], None);
    check.expect_code(0);
    assert!(check.out().contains("a run makes the schema cutover"), "{}", check.words());
    assert_eq!(stage.catalogues(), before, "{}", check.words());
}

#[test]
fn a_mapping_that_finds_nothing_is_named_with_its_place_in_the_file() {
    let stage = Stage::new(&Options::default());
    let (right, wrong) = ("title = { from = \"title\"", "title = { from = \"Title\"");
    let line = stage.config().lines().position(|l| l.starts_with(right)).expect("the column") + 1;
    let place = format!("name.toml:{line}:");
    checked(&stage, "name.toml", (right, wrong), 1, &[("mapping books", &place), ("books.title", "`title`")]);
    // A price in a column of moments: numbers, and the config does not say what they count.
    let (right, wrong) = ("created_at = { from = \"createdAt\"", "created_at = { from = \"price\"");
    let line = stage.config().lines().position(|l| l.starts_with(right)).expect("the column") + 1;
    checked(&stage, "unit.toml", (right, wrong), 1, &[("without a unit", &format!("unit.toml:{line}:"))]);
}

#[test]
fn ten_mistakes_are_ten_located_lines_and_nothing_is_begun() {
    const MISTAKES: [(&str, &str, &str); 10] = [
        ("production = false", "prodution = false", "did you mean `production`?"),
        ("downtime_budget = \"5m\"", "downtime_budget = \"5 parsecs\"", "duration"),
        ("password = { file = \"${PG_PASSWORD_FILE}\" }", "password = \"hunter2\"", "password"),
        ("segments = 8                   # parts a table's", "segments = \"eight\" # parts a table's", "whole number"),
        (
            "id = { from = \"bookId\", type = \"uuid\"",
            "id = { from = \"bookId\", type = \"uiud\"",
            "did you mean `uuid`?",
        ),
        ("references = \"users\"", "references = \"user\"", "did you mean `users`?"),
        ("probe = \"write\"", "probe = \"wirte\"", "did you mean `write`?"),
        ("gate = \"in-sync\"", "gate = \"in-snyc\"", "did you mean `in-sync`?"),
        ("kind = \"drain\"", "kind = \"drian\"", "did you mean `drain`?"),
        ("at = \"T-02:30\"", "at = \"half past\"", "offset"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut text = include_str!("../../assets/rehearsal.toml").to_owned();
    for (right, wrong, _) in MISTAKES {
        assert!(text.contains(right), "the config has no {right:?}");
        text = text.replacen(right, wrong, 1);
    }
    text = text.replace("\"${PG_PORT}\"", "5432");
    for var in ["AWS_ENDPOINT", "CONTROL_ENDPOINT", "PG_HOST", "PG_DATABASE", "PG_USER", "REST_API", "SHOP_URL"] {
        text = text.replace(&format!("${{{var}}}"), "http://127.0.0.1:1");
    }
    std::fs::write(dir.path().join("ten.toml"), &text).unwrap();
    for command in ["check", "plan", "run"] {
        refused(dir.path(), command, &text, &MISTAKES);
    }
    assert!(!dir.path().join("state").exists(), "a run was opened");
}

fn refused(dir: &Path, command: &str, text: &str, mistakes: &[(&str, &str, &str); 10]) {
    let mut console = Console::start(dir, command, &["--state-dir", "state", command, "-c", "ten.toml"], None);
    console.expect_code(78);
    let err = console.err();
    for (_, wrong, says) in mistakes {
        let line = text.lines().position(|l| l.contains(wrong)).expect("the mistake") + 1;
        let place = format!("ten.toml:{line}:");
        let hit = err.lines().any(|l| l.starts_with(&place) && l.contains(says));
        assert!(hit, "{command}: nothing at {place} says {says:?}\n{err}");
    }
    let lines = err.lines().filter(|l| !l.is_empty()).count();
    assert_eq!(lines, mistakes.len(), "{command}: not one line for each mistake\n{err}");
    assert!(!err.contains("hunter2"), "{command}: a secret was printed");
}
