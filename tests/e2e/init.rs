//! Configs before the day: one that only names its stores becomes a plan, and one is for several environments.

use std::fs;

use super::console::Console;
use super::store_pair::{StorePair, n, s};

/// The part of the config of a pair that says where both stores are.
fn started(pair: &StorePair) -> String {
    let config = fs::read_to_string(pair.dir().join("config.toml")).unwrap();
    let stores = config.split("[load]").next().unwrap();
    fs::write(pair.dir().join("start.toml"), stores).unwrap();
    config
}

#[test]
fn what_is_proposed_is_a_plan_that_moves_every_table() {
    let pair = StorePair::new("");
    pair.books(12);
    pair.book(12, &[("price", n("7")), ("soldAt", n(1_764_000_000)), ("order", s("x"))]);
    pair.put("Shelf-Carts", &[("userId", s("bob")), ("itemNo", n(3)), ("expiresAt", n(4_000_000_000_u64))]);
    let config = started(&pair);
    pair.cutover(&["init", "-c", "start.toml", "--write", "full.toml"], 0);
    let full = fs::read_to_string(pair.dir().join("full.toml")).unwrap();
    assert!(full.contains("pages = { from = \"pages\", type = \"bigint\" }   # N 100 %"), "{full}");
    assert!(full.contains("# decide: sold_at: every number is a likely moment"), "{full}");
    assert!(full.contains("# decide: review_id: the table shows no item"), "{full}");
    // A plan as it stands; only the places of switches and probes are made up.
    pair.cutover(&["plan", "-c", "full.toml"], 0);

    let (tables, _) = full.split_once("# ── Switches").unwrap();
    let (_, steps) = config.split_once("[[steps]]").unwrap();
    fs::write(pair.dir().join("config.toml"), format!("{tables}[[steps]]{steps}")).unwrap();
    pair.load();
    let all = pair.json(&["verify", "--full"], 0);
    let counts: Vec<(&str, u64)> = all["tables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| (t["table"].as_str().unwrap(), t["summary"]["equal"].as_u64().unwrap()))
        .collect();
    assert_eq!(counts, [("shelf_authors", 1), ("shelf_books", 13), ("shelf_carts", 1), ("shelf_reviews", 0)], "{all}");
    assert_eq!(pair.number("SELECT count(*) FROM shelf_books WHERE \"order\" = 'x' AND price = 7"), 1);

    // What is there already is not written over, and what does not exist is named.
    pair.cutover(&["init", "-c", "start.toml", "--write", "full.toml"], 2);
    assert_eq!(fs::read_to_string(pair.dir().join("full.toml")).unwrap(), full);
    pair.cutover(&["init", "-c", "start.toml", "--tables", "Shop-*"], 2);
    assert!(
        pair.cutover(&["init", "-c", "start.toml", "--tables", "*Carts"], 0).contains("PRIMARY KEY (user_id, item_no)")
    );
}

#[test]
fn a_template_is_a_plan_as_it_is_written_and_takes_no_files_place() {
    let dir = tempfile::Builder::new().prefix("cutover-template-").tempdir().unwrap();
    let cutover = |name: &str, args: &[&str], code: i32| {
        let mut console = Console::start(dir.path(), name, args, None);
        console.expect_code(code);
        (console.out(), console.err())
    };
    for template in ["cloudshelf", "aurora-gradual", "v1-to-v2"] {
        let file = format!("{template}.toml");
        let (out, err) = cutover("write", &["init", "--template", template, "--write", &file], 0);
        assert!(out.is_empty() && err.contains("lines begin with `# decide:`"), "{out}{err}");
        assert!(err.contains(&format!("`cutover check -c {file} --env test`")), "{err}");
        assert!(err.contains(&format!("`cutover rehearse {template}` shows such a day")), "{err}");
        // The same on standard output, and nothing else there.
        let written = fs::read_to_string(dir.path().join(&file)).unwrap();
        assert_eq!(cutover("print", &["init", "--template", template], 0).0, written);
        for environment in ["development", "test", "production"] {
            let (plan, err) = cutover("plan", &["plan", "-c", &file, "--env", environment], 0);
            assert!(plan.contains(&format!("plan {template}   environment {environment}")), "{plan}");
            assert!(!plan.contains("warning") && err.is_empty(), "{plan}{err}");
        }
        // What is there already is not written over.
        fs::write(dir.path().join(&file), "mine").unwrap();
        let (_, err) = cutover("again", &["init", "--template", template, "--write", &file], 2);
        assert!(err.contains("name a file that is not there yet"), "{err}");
        assert_eq!(fs::read_to_string(dir.path().join(&file)).unwrap(), "mine");
    }
    let (_, err) = cutover("unknown", &["init", "--template", "cloudshelv"], 2);
    assert!(err.contains("[possible values: cloudshelf, aurora-gradual, v1-to-v2"), "{err}");
    let (_, err) = cutover("both", &["init", "--template", "cloudshelf", "--from", "old"], 2);
    assert!(err.contains("cannot be used with"), "{err}");
}

#[test]
fn a_file_may_name_more_stores_than_a_proposal_is_for() {
    let pair = StorePair::new("");
    pair.books(3);
    let config = started(&pair);
    let region = "[stores.elsewhere]\nkind = \"dynamodb\"\nregion = \"eu-west-1\"\n";
    let start = fs::read_to_string(pair.dir().join("start.toml")).unwrap();
    let with_stores =
        start.replacen("[postgres]\n", "[stores.old]\nkind = \"dynamodb\"\n\n[stores.new]\nkind = \"postgresql\"\n", 1);
    assert_ne!(start, with_stores, "{config}");
    fs::write(pair.dir().join("start.toml"), format!("{with_stores}\n{region}")).unwrap();
    let books = pair.cutover(&["init", "-c", "start.toml", "--tables", "Shelf-Books"], 0);
    assert!(books.contains("to = \"new.shelf_books\""), "{books}");
    // Within one account a rule would move a table onto itself.
    let renamed =
        pair.cutover(&["init", "-c", "start.toml", "--from", "old", "--to", "old", "--tables", "Shelf-Books"], 0);
    assert!(
        renamed.contains("# decide: Shelf-Books: its name on the new side; proposed is Shelf-Books-v2"),
        "{renamed}"
    );
    assert!(renamed.contains("to = \"old.Shelf-Books-v2\""), "{renamed}");
    let mut unknown = pair.start(&["init", "-c", "start.toml", "--from", "v1"]);
    unknown.expect_code(2);
    let says = "--from v1: the config has no store `v1`; it has `old`, `new`, `elsewhere`";
    assert!(unknown.err().contains(says), "{}", unknown.words());
}

#[test]
fn each_environment_of_a_config_has_runs_of_its_own() {
    let pair = StorePair::new("");
    pair.books(3);
    let config = fs::read_to_string(pair.dir().join("config.toml")).unwrap();
    let (_, rest) = config.split_once("database = \"").unwrap();
    let (database, _) = rest.split_once('"').unwrap();
    pair.sql(&format!("CREATE DATABASE {database}_other"));
    let environments = format!(
        "[environments.test]\nverify.floor = 0.5\n[environments.other]\npostgres.database = \"{database}_other\"\n"
    );
    fs::write(pair.dir().join("config.toml"), format!("{config}\n{environments}")).unwrap();
    let run = |env: &[&str], until: &str, code: i32| {
        pair.cutover(&[&["run", "--headless"], env, &["--until", until]].concat(), code);
        fs::read_dir(pair.dir().join("state/runs")).map_or(0, Iterator::count)
    };
    assert_eq!(run(&[], "set-up", 78), 0, "none is touched that is not named");
    assert_eq!(run(&["--env", "tset"], "set-up", 78), 0);
    assert_eq!(run(&["--env", "test"], "set-up", 75), 1);
    assert_eq!(run(&["--env", "other"], "set-up", 75), 2);
    // The same command again goes on with the run of its own environment.
    assert_eq!(run(&["--env", "test"], "catch-up", 75), 2);
    assert_eq!((pair.number("SELECT count(*) FROM books"), run(&["--env", "other"], "catch-up", 75)), (3, 2));
}
