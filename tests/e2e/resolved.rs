//! A rollback needs nothing that may have changed since the run was opened, and a run is never resumed on other stores.

use std::ffi::OsStr;

use cutover::domain::run::{RunStatus, StepStatus};
use cutover::rehearsal::oracle::Side;
use rustix::process::Signal;

use super::back::{left_alone, open_to_customers, rolls_back, switched};
use super::console::Console;
use super::stage::{Options, Stage};

const PORT: &str = "CUTOVER_TEST_PG_PORT";
const PASSWORD: &str = "CUTOVER_TEST_PG_PASSWORD";

/// A console that has switched, started with a config that takes from the environment, from a file beside it and from
/// values that TOML has to escape. Nothing of all that is there any more when it is killed.
fn switched_and_bereft() -> Stage {
    let stage = Stage::new(&Options { pause: 60, ..Options::default() });
    let port = stage.target_line();
    let swap = |text: String, from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    };
    let mut text = stage.config();
    text = swap(text, &port, &format!("port = \"${{{PORT}}}\""));
    let file = text.lines().find(|l| l.starts_with("password = ")).unwrap().to_owned();
    text = swap(text, &file, &format!("password = {{ env = \"{PASSWORD}\" }}"));
    text = swap(text, "title = \"reads come from\"", "title = 'reads of \"$${SHOP}\" come from'");
    let from = text.find("ddl_sql = \"\"\"\nCREATE TABLE IF NOT EXISTS users").unwrap();
    let body = from + "ddl_sql = \"\"\"\n".len();
    let end = body + text[body..].find("\"\"\"").unwrap();
    stage.write("users.sql", &text[body..end]);
    text = format!("{}ddl = \"users.sql\"\n{}", &text[..from], text[end..].trim_start_matches("\"\"\"\n"));
    stage.write("config.toml", &text);
    let password = std::fs::read_to_string(stage.dir().join("password")).unwrap();
    let number = port.rsplit(' ').next().unwrap().to_owned();
    let vars = [(PORT, OsStr::new(&number)), (PASSWORD, OsStr::new(&password))];
    let answered = stage.answered();
    let args: Vec<&str> = answered.iter().map(String::as_str).collect();
    let mut console: Console = stage.start_with(&args, &vars);
    console.until("the pause after the switch", || stage.step_is("new-side-check", StepStatus::Running));
    console.signal(Signal::KILL);
    console.expect_killed();
    for name in ["users.sql", "config.toml", "password"] {
        std::fs::remove_file(stage.dir().join(name)).unwrap();
    }
    stage
}

#[test]
fn the_way_back_needs_no_variable_and_no_file_of_the_config() {
    let stage = switched_and_bereft();
    let mut what_if = stage.start(&["rollback", "--what-if"], None);
    what_if.expect_code(0);
    stage.start(&["status"], None).expect_code(0);
    rolls_back(&stage);
}

#[test]
fn the_way_back_needs_no_copy_of_the_config() {
    let stage = switched_and_bereft();
    std::fs::remove_file(stage.folder().unwrap().config()).unwrap();
    rolls_back(&stage);
}

#[test]
fn the_way_back_is_not_linted_anew() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    let path = stage.folder().unwrap().config();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("refused_by_a_newer_program = true\n{text}")).unwrap();
    rolls_back(&stage);
}

#[test]
fn switches_go_back_though_nobody_knows_any_more_where_the_target_is() {
    let stage = left_alone(40);
    let kept = stage.redirect(|c| c["postgres"] = serde_json::json!({ "host": 7 }));
    std::fs::remove_file(stage.folder().unwrap().config()).unwrap();
    let mut rollback = stage.start(&["rollback"], None);
    rollback.expect_code(6);
    let words = rollback.words();
    assert!(words.contains("how the target is reached cannot be read"), "{words}");
    assert_eq!(stage.state().status, RunStatus::Stuck);
    stage.expect_old_values();
    std::fs::write(stage.connections(), kept).unwrap();
    rolls_back(&stage);
    let verdict = stage.expect_nothing_lost(Side::Old);
    assert!(verdict.tally.new >= 60, "nobody wrote on the new side: {verdict}");
}

#[test]
fn a_run_whose_connections_cannot_be_read_is_not_called_rolled_back() {
    let (stage, mut console) = open_to_customers();
    rolls_back(&stage);
    console.expect_code(3);
    let kept = std::fs::read(stage.connections()).ok();
    std::fs::write(stage.connections(), "not what it was").unwrap();
    std::fs::remove_file(stage.folder().unwrap().config()).unwrap();
    let mut again = stage.start(&["rollback"], None);
    again.expect_code(6);
    assert!(again.words().contains("whether writes reached the new side since is not known"), "{}", again.words());
    std::fs::write(stage.connections(), kept.unwrap()).unwrap();
    stage.start(&["rollback"], None).expect_code(3);
}

#[test]
fn a_run_is_not_taken_up_on_other_stores() {
    let (stage, mut console) = switched(60);
    console.signal(Signal::KILL);
    console.expect_killed();
    let text = stage.config();
    let line = text.lines().find(|l| l.starts_with("database = ")).unwrap().to_owned();
    let region = text.lines().find(|l| l.starts_with("region = ")).unwrap().to_owned();
    let facts = stage.facts().len();
    let other = "database = \"elsewhere\"";
    for (from, to, store) in
        [(line.as_str(), other, "the `new` store"), (region.as_str(), "region = \"eu-north-1\"", "the `old` store")]
    {
        stage.write("config.toml", &text.replace(from, to));
        let mut refused = stage.run(None);
        refused.expect_code(78);
        let words = refused.words();
        let value = |line: &str| line.rsplit(' ').next().unwrap().trim_matches('"').to_owned();
        assert!(words.contains("opened on other stores") && words.contains(store), "{words}");
        assert!(words.contains(&value(from)) && words.contains(&value(to)), "both are named: {words}");
        assert!(words.contains("cutover rollback"), "{words}");
    }
    assert_eq!(stage.facts().len(), facts, "nothing was recorded");
    // The rollback goes to where the run was opened, whatever the config says by now.
    rolls_back(&stage);
}
