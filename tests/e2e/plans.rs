//! Two plans in one database, one driven while the other is: each has its own reverse flow, and neither ends the
//! other's.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use super::back::{everything_came_back, open_to_customers, rolls_back};
use super::console::Console;
use super::stage::Stage;

/// A plan of another name for a table of its own, on the stage's stores, up to the reverse flow of its data.
fn second(stage: &Stage, name: &str, table: &str) -> String {
    let config = stage.config();
    let (stores, _) = config.split_once("[[tables]]").expect("tables");
    let stores = stores.replace("name = \"cloudshelf\"", &format!("name = \"{name}\""));
    let kinds = [
        ("preflight", "\"preflight\""),
        ("set-up", "\"set_up\""),
        ("capture", "\"capture\""),
        ("load", "\"load\""),
        ("catch-up", "\"catch_up\"\nmax_lag = \"30s\""),
        ("arm", "\"arm\""),
        ("stay", "\"manual\"\nwhat = \"Stay here.\"\nconfirm = \"key\""),
    ];
    let step = |(n, (id, kind)): (usize, (&str, &str))| {
        let at = 55 - 5 * n;
        format!(
            "\n[[steps]]\nid = \"{id}\"\ntitle = \"{id}\"\nat = \"T-00:{at:02}\"\ntakes = \"1m\"\nowner = \"lead\"\nkind = {kind}\n"
        )
    };
    let steps: String = kinds.into_iter().enumerate().map(step).collect();
    format!("{stores}{table}{steps}")
}

/// Carts, which the first plan leaves where they are.
const CARTS: &str = r#"
[[tables]]
id = "books"
source = "CloudShelf-Carts"
target = "carts"
key = ["cartId"]
ddl_sql = "CREATE TABLE carts (id text PRIMARY KEY)"
[tables.columns]
id = { from = "cartId", type = "text", key = true }
"#;

/// Users, which the first plan has.
const USERS: &str = r#"
[[tables]]
id = "people"
source = "CloudShelf-Users"
target = "public.users"
key = ["userId"]
[tables.columns]
id = { from = "userId", type = "uuid", key = true }
"#;

fn beside(stage: &Stage, number: u32, args: &[&str]) -> Console {
    let state = stage.dir().join("other-state");
    let all = [&["--state-dir", state.to_str().unwrap()], args].concat();
    Console::start(stage.dir(), &format!("beside-{number}"), &all, None)
}

/// `cutover release` with a line on its standard input.
fn release(stage: &Stage, plan: &str, typed: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.args(["release", plan, "-c", "config.toml"]).current_dir(stage.dir());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses at once reads nothing.
    let _ = writeln!(child.stdin.take().unwrap(), "{typed}");
    child.wait_with_output().unwrap()
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_plan_beside_another_runs_while_it_does_and_survives_its_rollback() {
    // The first has let its customers in, and drives on.
    let (stage, mut console) = open_to_customers();
    let captured = |table: &str| {
        let of = format!(
            "(SELECT FROM pg_trigger WHERE starts_with(tgname, 'cutover_capture_') AND tgrelid = to_regclass('{table}')) t"
        );
        stage.rows(&of)
    };
    assert_eq!(captured("books"), 2);

    // A table of the first plan is refused to another plan, and the refusal names a run and commands.
    stage.write("users.toml", &second(&stage, "people", USERS));
    let mut check = beside(&stage, 0, &["check", "-c", "users.toml"]);
    check.wait();
    assert!(check.words().contains("it belongs to plan cloudshelf/rehearsal"), "{}", check.words());
    let mut refused = beside(&stage, 1, &["run", "--headless", "--yes", "--until", "arm", "-c", "users.toml"]);
    assert!(![Some(0), Some(75)].contains(&refused.wait().code()), "{}", refused.words());
    let run = stage.folder().unwrap().id().to_owned();
    let said = check.words();
    for wanted in [
        "it belongs to plan cloudshelf/rehearsal (run ",
        &run,
        "cutover rollback",
        "cutover release cloudshelf/rehearsal",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is not in: {said}");
    }
    assert!(!said.contains("DELETE FROM"), "{said}");
    assert_eq!(captured("users"), 2);

    // Another table is, though it has an id of the first one's, while the first is driven.
    stage.write("carts.toml", &second(&stage, "carts", CARTS));
    let mut other = beside(&stage, 2, &["run", "--headless", "--yes", "--until", "arm", "-c", "carts.toml"]);
    other.expect_code(75);
    assert_eq!((captured("books"), captured("carts")), (2, 2), "{}", other.words());
    assert!(console.ended().is_none(), "the first one's console ended: {}", console.words());

    // The first rolls back with everything its customers wrote; the second has all it had.
    let second_has = || {
        ["stream", "load_checkpoint", "plan_table", "lease"]
            .map(|kept| stage.rows(&format!("(SELECT FROM cutover.{kept} WHERE plan = 'carts/rehearsal') t")))
    };
    let before = second_has();
    assert!(before.iter().all(|rows| *rows > 0), "{before:?}");
    rolls_back(&stage);
    console.expect_code(3);
    assert_eq!((captured("carts"), second_has()), (2, before));
    // It is released by its name alone, and the first one's capture stays.
    let wrong = release(&stage, "carts/rehearsal", "carts");
    assert_eq!(wrong.status.code(), Some(8), "{}", words(&wrong));
    assert_eq!(captured("carts"), 2);
    let unknown = release(&stage, "cart/rehearsal", "cart/rehearsal");
    assert_eq!(unknown.status.code(), Some(2), "{}", words(&unknown));
    assert!(words(&unknown).contains("did you mean carts/rehearsal?"), "{}", words(&unknown));
    let done = release(&stage, "carts/rehearsal", "carts/rehearsal");
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    assert_eq!((captured("carts"), captured("books")), (0, 2));
    // Its lease stays, with the next epoch, for a driver of it that was suspended.
    assert_eq!(second_has(), [0, 0, 0, 1]);
    everything_came_back(&stage);
}
