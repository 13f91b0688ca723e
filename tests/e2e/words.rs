//! What the command line says when it is used wrongly, in a pipe, or without what it needs. No world is started.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary, with nothing of the caller's environment but the path.
fn cutover(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.arg("--state-dir").arg(dir.join("state")).args(args).current_dir(dir);
    command.env_clear().env("HOME", dir).env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    command
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    for args in
        [["runs"].as_slice(), &["runs", "--json"], &["man"], &["completions", "bash"], &["rehearse", "--fault", "list"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = cutover(dir.path(), args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(said(&ended), (Some(0), String::new(), String::new()), "{args:?}");
    }
}

#[test]
fn replay_without_a_terminal_says_so_and_draws_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) = said(&cutover(dir.path(), &["replay"]).output().unwrap());
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    assert!(err.contains("standard output is no terminal") && !err.contains("--headless"), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn a_fault_that_does_not_fit_is_refused_before_a_world_is_started() {
    let dir = tempfile::tempdir().unwrap();
    for (fault, near) in [("errors-new@swich-reads", "did you mean "), ("eror-new", "did you mean errors-new?")] {
        let (code, out, err) = said(&cutover(dir.path(), &["rehearse", "--fault", fault]).output().unwrap());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains(near) && !err.contains("starting"), "{err}");
    }
}

/// The rehearsal's config with outside addresses at which nothing answers. `changed` edits its text last.
fn out_of_reach(dir: &Path, changed: impl FnOnce(String) -> String) {
    let text = include_str!("../../assets/rehearsal.toml");
    let text = text.replace("{ file = \"${PG_PASSWORD_FILE}\" }", "{ env = \"PGPASSWORD\" }");
    let text = changed(text.replace("\"${PG_PORT}\"", "1").replace("\"${PG_HOST}\"", "\"127.0.0.1\""));
    let names: Vec<&str> = text.split("${").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect();
    let filled = names.iter().fold(text.clone(), |t, name| t.replace(&format!("${{{name}}}"), "http://127.0.0.1:1"));
    std::fs::write(dir.join("config.toml"), filled).unwrap();
}

/// Writes a config whose password and credentials are nowhere.
fn without_password(dir: &Path) {
    out_of_reach(dir, |text| text.replace("credentials = \"emulator\"\n", ""));
}

/// Neither the password nor credentials are there: each is said once, and everything has a line.
#[test]
fn a_check_without_password_and_credentials_goes_through_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    without_password(dir.path());
    let (code, out, err) = said(&cutover(dir.path(), &["check"]).output().unwrap());
    assert_eq!(code, Some(77), "{out}{err}");
    let failed = |what: &str| out.lines().filter(|l| l.starts_with(&format!("  FAIL  {what}"))).count();
    assert_eq!(failed("target "), 1, "{out}");
    assert_eq!(out.matches("the password's variable PGPASSWORD is not set").count(), 1, "{out}");
    assert_eq!(out.matches("AWS_ACCESS_KEY_ID").count(), 2, "looked for, and what to set, once\n{out}");
    assert!(failed("AWS credentials ") == 1 && failed("source ") > 2 && failed("switch ") > 2, "{out}");
    assert!(failed("probe ") > 0 && out.contains("  ok    plan "), "the rest is checked\n{out}");
}

/// Who asks for the stores is known before anything is written: a run that cannot be signed leaves no folder.
#[test]
fn a_run_without_its_password_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    without_password(dir.path());
    let (code, out, err) = said(&cutover(dir.path(), &["run", "--headless", "--yes"]).output().unwrap());
    assert_eq!(code, Some(77), "{out}{err}");
    assert!(!dir.path().join("state/runs").exists(), "{out}{err}");
}

/// A run that was refused before its first fact has a folder, and nothing in it to roll back.
#[test]
fn a_run_that_never_began_is_not_rolled_back_and_does_not_say_so() {
    let dir = tempfile::tempdir().unwrap();
    out_of_reach(dir.path(), |text| text);
    let ended = |args: &[&str]| said(&cutover(dir.path(), args).env("PGPASSWORD", "none").output().unwrap());
    for _ in 0..2 {
        let (code, out, err) = ended(&["run", "--headless", "--yes"]);
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(err.contains("127.0.0.1:1"), "{err}");
    }
    let folders = std::fs::read_dir(dir.path().join("state/runs")).unwrap().count();
    assert_eq!(folders, 1, "the same folder is taken up");
    for args in [["rollback"].as_slice(), &["rollback", "--what-if"], &["status"], &["runs"]] {
        let (code, out, err) = ended(args);
        assert_eq!(code, Some(0), "{args:?}: {out}{err}");
        assert!(out.contains("never began") && !out.contains("rolled back") && !err.contains("back"), "{out}{err}");
    }
}
