//! Whole files: the shipped ones, and wrong ones.

mod alerts;
mod control;
mod iam_policy;
mod jobs;
mod positions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::*;
use crate::domain::plan::{
    Between, ColumnSource, Confirm, Declared, Fallback, SignalSource, StepKind, Store, SwitchKind, Unit, ValueRef,
};

const EXAMPLE: &str = include_str!("../../config.toml.example");
const REHEARSAL: &str = include_str!("../../assets/rehearsal.toml");

fn read(text: &str) -> Result<Config, ConfigErrors> {
    load_str("c.toml", text, Path::new("/etc/cutover"), &BTreeMap::new())
}

/// The target of a config.
fn database(config: &Config) -> &Postgres {
    config.connections.databases().next().expect("a database")
}

fn rehearsal() -> Result<Config, ConfigErrors> {
    let vars = [
        ("AWS_ENDPOINT", "http://127.0.0.1:8000"),
        ("CONTROL_ENDPOINT", "http://127.0.0.1:8001"),
        ("PG_HOST", "/run/pg"),
        ("PG_PORT", "54321"),
        ("PG_USER", "postgres"),
        ("PG_PASSWORD_FILE", "/run/cutover/password"),
        ("REST_API", "cloudshelf"),
        ("PG_DATABASE", "cloudshelf"),
        ("SHOP_URL", "http://127.0.0.1:8002"),
    ];
    let vars = vars.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    load_str("rehearsal.toml", REHEARSAL, Path::new(""), &vars)
}

#[test]
fn a_config_of_an_earlier_version_makes_the_plan_it_ever_made() {
    let text = include_str!("../../tests/fixtures/dynamodb-to-postgresql.toml");
    let config = read(text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        config.plan.hash(),
        "57270e117cd9590981f53f6a8adae5cad97caa4a58095daec64d4abc7dc55015",
        "runs of it could not be taken up"
    );
}

fn errors(text: &str) -> Vec<String> {
    match read(text) {
        Ok(_) => Vec::new(),
        Err(e) => e.items.iter().map(ToString::to_string).collect(),
    }
}

/// The example with one piece of text replaced, which must be there.
fn changed(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "the example no longer holds {from:?}");
    EXAMPLE.replacen(from, to, 1)
}

/// The problems that one change to the example makes: path, message, nearest.
fn problems(from: &str, to: &str) -> Vec<(String, String, Option<String>)> {
    problems_of(&changed(from, to))
}

/// The problems of a text: path, message, nearest.
fn problems_of(text: &str) -> Vec<(String, String, Option<String>)> {
    match read(text) {
        Ok(_) => Vec::new(),
        Err(e) => e.items.into_iter().map(|i| (i.path, i.message, i.nearest)).collect(),
    }
}

/// The example with its steps in another order.
fn reordered(order: impl Fn(&mut Vec<&str>)) -> Vec<String> {
    let mut parts = EXAMPLE.split("[[steps]]\n");
    let head = parts.next().unwrap_or_default();
    let mut steps: Vec<&str> = parts.collect();
    order(&mut steps);
    let text = steps.iter().fold(head.to_owned(), |text, s| text + "[[steps]]\n" + s.trim_end() + "\n\n");
    errors(&text)
}

fn place(steps: &[&str], id: &str) -> usize {
    steps.iter().position(|s| s.starts_with(&format!("id = \"{id}\"\n"))).unwrap_or_else(|| panic!("no step {id}"))
}

#[test]
fn the_example_lints_clean() {
    let config = read(EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let plan = &config.plan;
    assert_eq!(plan.tables.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["books", "users", "orders"]);
    let books = &plan.tables[0];
    assert_eq!(books.columns.iter().map(|c| c.name.as_str()).next_back(), Some("updated_at"));
    assert_eq!(books.columns[5].absent, Fallback::Literal("General".into()));
    assert_eq!(books.columns[0].absent, Fallback::Required);
    assert_eq!(plan.tables[1].columns[3].from, ColumnSource::Attribute(vec!["address".into(), "city".into()]));
    assert_eq!(plan.tables[2].children[0].columns[1].from, ColumnSource::Ordinal);
    assert_eq!(plan.stays[0].source, "CloudShelf-Carts");
    assert!(matches!(&plan.switches[2].kind, SwitchKind::Parameter { secure: true, .. }));
    assert_eq!(plan.switches[2].to, ValueRef::Parameter("/cloudshelf/prod/db/secret-v2".into()));
    let freeze = plan.step("freeze").map(|s| (s.at_ms, s.confirm.clone()));
    assert_eq!(freeze, Some((0, Confirm::Word("freeze".into()))));
    assert_eq!(plan.steps.first().map(|s| s.at_ms), Some(-4 * 3_600_000));
    assert_eq!(plan.steps.last().map(|s| s.at_ms), Some(24 * 3_600_000));
    assert_eq!(database(&config).password, Some(ValueRef::Env("PGPASSWORD".into())));
    assert_eq!(database(&config).sslmode, SslMode::VerifyFull);
}

#[test]
fn the_rehearsal_is_the_same_migration() {
    let rehearsal = rehearsal().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(rehearsal.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let example = read(EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(rehearsal.plan.tables, example.plan.tables);
    // A rehearsal is driven by one person: there is nobody else to vote.
    let mut steps = example.plan.steps.clone();
    for step in &mut steps {
        if let StepKind::GoNoGo { voters, quorum, .. } = &mut step.kind {
            voters.clear();
            *quorum = 0;
        }
    }
    assert_eq!(rehearsal.plan.steps, steps);
    assert_eq!(rehearsal.plan.freeze, example.plan.freeze);
    // A number counts as known for no longer than on a real day.
    for signal in &rehearsal.plan.signals {
        let real = example.plan.signals.iter().find(|s| s.id == signal.id).map_or(5 * 60_000, |s| s.stale_ms);
        assert!(signal.stale_ms <= real, "{}: {} over {real}", signal.id, signal.stale_ms);
    }
    assert_eq!(database(&rehearsal).port, 54321);
    let aws = rehearsal.connections.aws.unwrap_or_else(|| panic!("no aws"));
    assert_eq!(aws.endpoints.ssm.as_deref(), Some("http://127.0.0.1:8001"));
    assert_eq!(aws.credentials, Credentials::Emulator);
    assert_ne!(rehearsal.plan.hash(), example.plan.hash());
}

#[test]
fn every_key_stands_in_the_example() {
    fn names(keys: &'static [keys::Key], into: &mut Vec<&'static str>) {
        for key in keys {
            into.push(key.name);
            match key.kind {
                keys::Kind::Table(inner) | keys::Kind::List(inner) => names(inner, into),
                keys::Kind::Map(keys::Kind::Table(inner)) => names(inner, into),
                _ => {}
            }
        }
    }
    let mut all = Vec::new();
    names(keys::ROOT, &mut all);
    // Named in words only: rare, or another way to say the same.
    let elsewhere = ["ttl", "marker_prefix", "contains"];
    for name in all {
        assert!(EXAMPLE.contains(name) || elsewhere.contains(&name), "`{name}` is not in config.toml.example");
    }
}

#[test]
fn built_in_signals_exist_undeclared() {
    let config = read(EXAMPLE).unwrap_or_else(|e| panic!("{e}"));
    let limit = |id: &str| config.plan.signals.iter().find(|s| s.id == id).and_then(|s| s.limit);
    assert_eq!((limit("lag"), limit("mismatches"), limit("downtime")), (Some(30.0), Some(10.0), Some(300.0)));
    assert_eq!(limit("read-errors"), Some(1.0));
    let marker = config.plan.signals.iter().filter(|s| s.source == SignalSource::MarkerRoundTrip).count();
    assert_eq!(marker, 1);
}

const TEN: &str = r#"name = "x"
nmae = "y"
downtime_budget = "5 minutes"
[aws]
region = 7
[postgres]
host = "h"
database = "d"
user = "u"
password = "hunter2"
[[tables]]
id = "books"
source = "B"
key = ["bookId"]
[tables.columns]
id = { from = "bookId", type = "uiud", key = true }
[[gates]]
id = "in-sync"
criteria = ["lagg < 2"]
[[steps]]
id = "preflight"
at = "T-01:00"
kind = "preflight"
[[steps]]
id = "capture"
at = "T-02:00"
kind = "capture"
[[steps]]
id = "load"
at = "T-0:75"
kind = "load"
[[steps]]
id = "sync"
at = "T-00:20"
kind = "gate"
gate = "in-snyc"
[[steps]]
id = "thaw"
kind = "thaw"
at = "T+00:30"
"#;

#[test]
fn ten_mistakes_are_ten_located_errors() {
    let expected = [
        (2, 1, "unknown key `nmae`", Some("name")),
        (3, 19, "is not a duration", None),
        (5, 10, "must be text, not a whole number", None),
        (10, 12, "a password must not stand in this file", None),
        (16, 32, "`uiud` is not a column type", Some("uuid")),
        (19, 13, "there is no signal `lagg`", Some("lag")),
        (26, 6, "before `preflight` above it", None),
        (30, 6, "is not an offset", None),
        (36, 8, "there is no gate `in-snyc`", Some("in-sync")),
        (39, 8, "nothing is frozen", None),
    ];
    let Err(found) = read(TEN) else { panic!("accepted") };
    let mut last = (0, 0);
    for item in &found.items {
        assert!((item.line, item.column) >= last, "not sorted: {found}");
        last = (item.line, item.column);
    }
    for (line, column, message, nearest) in expected {
        let hit = found.items.iter().find(|i| {
            (i.line, i.column) == (line, column) && i.message.contains(message) && i.nearest.as_deref() == nearest
        });
        assert!(hit.is_some(), "no {line}:{column} {message} {nearest:?} in\n{found}");
    }
    assert!(!found.to_string().contains("hunter2"));
    assert!(found.to_string().contains("c.toml:2:1: unknown key `nmae` (did you mean `name`?)"));
    // The consequence of a missing switch is reported too, and nothing else is.
    assert_eq!(found.items.len(), 11, "{found}");
}

#[test]
fn one_mistake_is_one_error() {
    // What is changed, into what, where it is reported, a piece of the message, the nearest name.
    let table: &[(&str, &str, &str, &str, Option<&str>)] = &[
        (
            "[freeze]\nswitch = \"writes-mode\"",
            "[freeze]\nswitch = \"writes-mod\"",
            "freeze.switch",
            "no switch",
            Some("writes-mode"),
        ),
        ("probe = \"write\"", "probe = \"wirte\"", "freeze.probe", "no probe", Some("write")),
        (
            "references = \"users\"",
            "references = \"user\"",
            "tables[2].foreign_keys[0].references",
            "no table",
            Some("users"),
        ),
        (
            "parent_key = [\"order_id\"]",
            "parent_key = [\"orderid\"]",
            "tables[2].children[0].parent_key[0]",
            "no column",
            Some("order_id"),
        ),
        (
            "columns = [\"user_id\"]",
            "columns = [\"userid\"]",
            "tables[2].foreign_keys[0].columns[0]",
            "no column",
            Some("user_id"),
        ),
        ("id = \"health\"", "id = \"write\"", "probes[2].id", "already", None),
        ("\"secret\", \"alias\"]", "\"secrets\", \"alias\"]", "steps[16].switches[2]", "no switch", Some("secret")),
        (
            "probes = [\"health\", \"read\"]",
            "probes = [\"helth\", \"read\"]",
            "steps[17].probes[0]",
            "no probe",
            Some("health"),
        ),
        ("kind = \"drain\"", "kind = \"drian\"", "steps[13].kind", "not one of", Some("drain")),
        ("kind = \"load\"", "kind = \"load\"\ngate = \"go\"", "steps[3].gate", "is for steps of kind `gate`", None),
        ("gate = \"in-sync\"\n", "\n", "steps[6].gate", "missing `gate`", None),
        ("gates = [\"go\"]", "gates = [\"goo\"]", "steps[11].gates[0]", "no gate", Some("go")),
        ("quorum = 2 ", "quorum = 4 ", "steps[11].quorum", "never be reached", None),
        ("\"product owner\", \"on-call\"]", "\"Migration Lead@b1\"]", "steps[11].voters[1]", "voter already", None),
        ("kind = \"drain\"", "kind = \"drain\"\nvoters = [\"bob\"]", "steps[13].voters", "of kind `go-no-go`", None),
        (
            "hold = \"5s\"\ngive_up = \"30s\"",
            "hold = \"35s\"\ngive_up = \"30s\"",
            "gates[4].give_up",
            "longer than `hold`",
            None,
        ),
        ("default = 0 }", "default = \"none\" }", "tables[0].columns.stock_quantity.default", "does not fit", None),
        ("key = [\"bookId\"]", "key = [\"bookId\", \"shelf\"]", "tables[0].key", "deletes could not be carried", None),
        (
            "secure = true                 ",
            "secure = true\nexpect = \"v1\"",
            "switches[2].expect",
            "SecureString",
            None,
        ),
        (
            "to = { parameter = \"/cloudshelf/prod/db/secret-v2\" }",
            "to = \"hunter2\"",
            "switches[2].to",
            "referred to",
            None,
        ),
        (
            "sslmode = \"verify-full\"",
            "sslmode = \"verify-ful\"",
            "postgres.sslmode",
            "not one of",
            Some("verify-full"),
        ),
        (
            "host = \"cloudshelf.",
            "host = \"postgres://me:hunter2@cloudshelf.",
            "postgres.host",
            "password inside a URL",
            None,
        ),
        ("refused = [503] ", "refused = [201] ", "probes[1].refused", "served and refused", None),
        ("url = \"https://api", "url = \"api", "probes[0].url", "full URL", None),
        (
            "criteria = [\"lag < 2\", \"marker",
            "criteria = [\"lag under 2\", \"marker",
            "gates[0].criteria[0]",
            "not a comparison",
            None,
        ),
        ("# t0 = 2026-11-22T02:00:00Z ", "t0 = 2026-11-22T02:00:00 ", "t0", "offset from UTC", None),
        ("port = 5432", "port = 70000", "postgres.port", "1 to 65535", None),
        ("floor = 0.999", "floor = 99.9", "verify.floor", "0 to 1", None),
        ("# ca_file", "key_file = \"x\"\n#", "postgres.key_file", "unknown key", Some("ca_file")),
    ];
    for (from, to, path, message, nearest) in table {
        let found = problems(from, to);
        assert!(
            found.iter().any(|(p, m, n)| p == path && m.contains(message) && n.as_deref() == *nearest),
            "{to:?} gave {found:#?}"
        );
        assert!(found.len() <= 2, "{to:?} gave {found:#?}");
        assert!(found.iter().all(|(_, m, _)| !m.contains("hunter2")), "{found:#?}");
    }
}

#[test]
fn impossible_orders_are_refused() {
    assert_eq!(reordered(|_| {}), Vec::<String>::new());
    let table: &[(&str, &str, &str)] = &[
        ("thaw", "freeze", "nothing is frozen"),
        ("switch", "freeze", "both sides would take writes"),
        ("switch", "drain", "writes made before the freeze could be missing"),
        ("arm", "thaw", "the values to go back to must be captured first"),
        ("drain", "freeze", "nothing can be drained"),
        ("load", "capture", "changes made during the load would be lost"),
        ("verify", "load", "there is nothing to compare"),
        ("final-sync-check", "verify", "which nothing has measured before"),
    ];
    for (id, other, message) in table {
        let found = reordered(|steps| {
            // A step that must come first is moved behind; any other is moved in front.
            let (from, to) = (place(steps, id), place(steps, other));
            let step = steps.remove(from);
            steps.insert(to, step);
        });
        assert!(found.iter().any(|m| m.contains(message)), "{id} at {other}: {found:#?}");
    }
    let found = reordered(|steps| {
        let thaw = place(steps, "thaw");
        steps.remove(thaw);
    });
    assert!(found.iter().any(|m| m.contains("customers could never write again")), "{found:#?}");
    let found = reordered(|steps| {
        let freeze = steps[place(steps, "freeze")];
        steps.push(freeze);
    });
    assert!(found.iter().any(|m| m.contains("another step is called `freeze` already")), "{found:#?}");
    assert!(found.iter().any(|m| m.contains("a second `freeze` step")), "{found:#?}");
}

#[test]
fn syntax_errors_are_located_and_the_rest_is_read() {
    let text = TEN.replacen("nmae = \"y\"", "nmae = ", 1);
    let found = errors(&text);
    assert!(found.iter().any(|m| m.starts_with("c.toml:2:") && m.contains("not valid TOML")), "{found:#?}");
    assert!(found.iter().any(|m| m.contains("there is no gate `in-snyc`")), "{found:#?}");
}

#[test]
fn numbers_say_what_they_may_be() {
    let lanes =
        |n: &str| problems("lanes = 4 ", &format!("lanes = {n} ")).into_iter().map(|(path, text, _)| (path, text));
    let found = |n: &str| lanes(n).collect::<Vec<_>>();
    let says = |text: &str| vec![("follow.lanes".to_owned(), text.to_owned())];
    assert_eq!(found("12"), []);
    assert_eq!(found("13"), says("13 lanes, but [postgres] pool is 12: each lane holds a connection"));
    assert_eq!(found("0"), says("this must be 1 or more"));
    assert_eq!(found("-3"), says("this must be 1 or more"));
    assert_eq!(found("5000000000"), says("this must be 4294967295 or less"));
}

#[test]
fn a_missing_file_says_so() {
    let Err(e) = load(Path::new("/nowhere/c.toml"), &BTreeMap::new()) else { panic!("read") };
    assert!(e.to_string().starts_with("/nowhere/c.toml:1:1: cannot read the file"), "{e}");
    assert!(e.to_string().contains("config.toml.example"), "what to do next: {e}");
}

#[test]
fn ddl_files_are_read_beside_the_config() {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let text = changed(
        "target = \"users\"\nkey = [\"userId\"]\n",
        "target = \"users\"\nkey = [\"userId\"]\nddl = \"u.sql\"\n",
    );
    let start = text.find("ddl_sql = \"\"\"\nCREATE TABLE IF NOT EXISTS users").unwrap_or_default();
    let end = start + text[start..].find("\"\"\"\n\n").unwrap_or_default() + 4;
    let text = format!("{}{}", &text[..start], &text[end..]);
    let path = dir.path().join("c.toml");
    std::fs::write(&path, &text).unwrap_or_else(|e| panic!("{e}"));
    let Err(e) = load(&path, &BTreeMap::new()) else { panic!("read a file that is not there") };
    assert_eq!((e.items.len(), e.items[0].path.as_str()), (1, "tables[1].ddl"), "{e}");
    std::fs::write(dir.path().join("u.sql"), "CREATE TABLE users ()").unwrap_or_else(|e| panic!("{e}"));
    let config = load(&path, &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.plan.tables[1].ddl.as_deref(), Some("CREATE TABLE users ()"));
}

#[test]
fn the_plan_changes_its_hash_with_any_change() {
    let hash = |text: &str| read(text).unwrap_or_else(|e| panic!("{e}")).plan.hash();
    assert_eq!(hash(EXAMPLE), hash(&format!("# a remark\n{EXAMPLE}")));
    assert_ne!(hash(EXAMPLE), hash(&changed("max_lag = \"2s\"", "max_lag = \"3s\"")));
    // Each of these says which store it is, or whose.
    let plan = read(EXAMPLE).unwrap_or_else(|e| panic!("{e}")).plan;
    let other = |change: &dyn Fn(&mut Store)| {
        for name in plan.stores.keys() {
            let mut another = (*plan).clone();
            change(another.stores.get_mut(name).unwrap_or_else(|| panic!("no store {name}")));
            assert_ne!(another.hash(), plan.hash(), "{name}");
        }
    };
    other(&|store| store.region = Some("eu-north-1".into()));
    other(&|store| store.account = Some("999999999999".into()));
    other(&|store| store.profile = Some("another".into()));
    other(&|store| store.host = Some("another".into()));
    other(&|store| store.port = Some(1));
    other(&|store| store.database = Some("another".into()));
    other(&|store| drop(store.endpoints.insert("ssm".into(), "http://127.0.0.1:1".into())));
    let catch_up = |c: &Config| {
        c.plan.steps.iter().find_map(|s| match s.kind {
            StepKind::CatchUp { max_lag_ms } => Some(max_lag_ms),
            _ => None,
        })
    };
    assert_eq!(read(EXAMPLE).ok().as_ref().and_then(catch_up), Some(2_000));
}

#[test]
fn people_who_are_waited_for_while_customers_cannot_write_are_a_warning() {
    let two = changed("kind = \"drain\"", "kind = \"drain\"\ntwo_person = true");
    let warnings = read(&two).map(|c| c.warnings).unwrap_or_default();
    assert!(warnings.iter().any(|w| w.to_string().contains("ask before the freeze")), "{warnings:?}");
    let before = changed("two_person = false", "two_person = true");
    let config = read(&before).unwrap_or_else(|e| panic!("{e}"));
    assert!(config.plan.step("freeze").is_some_and(|s| s.two_person));
    assert!(config.warnings.is_empty(), "before the freeze nobody is kept out: {:?}", config.warnings);
}

#[test]
fn the_schema_file_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/config.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap_or_default() + "\n";
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap_or_else(|e| panic!("{e}"));
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "assets/config.schema.json is out of date: run this test with UPDATE_SCHEMA=1");
}

#[test]
fn an_attribute_path_finds_what_it_names_or_is_refused() {
    let path = |from: &str| {
        let text = changed(r#"isbn = { from = "isbn""#, &format!("isbn = {{ from = {from}"));
        let config = read(&text).map_err(|e| e.items[0].message.clone())?;
        Ok::<_, String>(config.plan.tables[0].columns.iter().find(|c| c.name == "isbn").unwrap().from.clone())
    };
    let names = |names: &[&str]| Ok(ColumnSource::Attribute(names.iter().map(|n| (*n).to_owned()).collect()));
    assert_eq!(path(r#""a.b""#), names(&["a", "b"]));
    assert_eq!(path(r#"'"a.b"'"#), names(&["a.b"]), "a dotted name");
    assert_eq!(path(r#"'x."a.b".y'"#), names(&["x", "a.b", "y"]));
    assert_eq!(path(r#"'"tags[0]"'"#), names(&["tags[0]"]));
    assert_eq!(path(r#"["a.b"]"#), names(&["a.b"]));
    for wrong in [r#""tags[0]""#, r#""a..b""#, r#"".a""#, r#""a.""#, r#"'"a'"#, r#"'"a"b'"#, r#"'a"b'"#, r#"'""'"#] {
        assert!(path(wrong).is_err(), "{wrong} was taken for a name that no item has");
    }
    assert!(path(r#""tags[0]""#).unwrap_err().contains("children"), "it says what to do instead");
}

#[test]
fn what_is_declared_of_a_column_is_read_or_refused_where_it_stands() {
    let of = |more: &str| {
        let text = changed(
            r#"created_at = { from = "createdAt", type = "timestamptz""#,
            &format!(r#"created_at = {{ from = "createdAt", type = "timestamptz"{more}"#),
        );
        let line = text.lines().position(|l| l.starts_with("created_at")).unwrap() + 1;
        let column = |config: Config| config.plan.tables[0].columns.iter().find(|c| c.name == "created_at").cloned();
        (read(&text).map(|config| column(config).unwrap().declared).map_err(|e| e.items[0].clone()), line)
    };
    assert_eq!(of("").0, Ok(Declared::default()), "a config from before means: text only, numbers are parked");
    let whole = of(r#", unit = "ms", between = ["1970-01-01", "1970-01-03"], lossy = true, sparse = true"#).0;
    let declared = Declared { unit: Some(Unit::Millis), between: Some(Between(0, 2)), lossy: true, sparse: true };
    assert_eq!(whole, Ok(declared));
    for (wrong, says) in [
        (r#", unit = "min""#, "one of s, ms, us"),
        (r#", between = ["1970-01-01", "1970-01-03"]"#, "add `unit`"),
        (r#", unit = "s", between = ["1970-01-03", "1970-01-01"]"#, "the earlier first"),
        (r#", unit = "s", between = ["1970-01-03"]"#, "two days"),
        (r#", unit = "s", between = ["yesterday", "1970-01-03"]"#, "two days"),
    ] {
        let (found, line) = of(wrong);
        let error = found.unwrap_err();
        assert_eq!((error.file.as_str(), error.line), ("c.toml", line), "{wrong}: {error}");
        assert!(error.message.contains(says), "{wrong}: {error}");
    }
    let [(path, message, _)] = &problems(r#"isbn = { from = "isbn","#, r#"isbn = { from = "isbn", unit = "s","#)[..]
    else {
        panic!("not one problem")
    };
    assert_eq!(path, "tables[0].columns.isbn.unit");
    assert!(message.contains("only a timestamptz column"), "{message}");
    let key = "type = \"uuid\", key = true";
    let [(path, message, _)] = &problems(key, &format!("{key}, lossy = true"))[..] else { panic!("not one problem") };
    assert_eq!(path, "tables[0].columns.id.lossy");
    assert!(message.contains("two rows would become one"), "{message}");
}

#[test]
fn the_time_an_item_expires_counts_seconds_and_lint_says_so_where_the_column_stands() {
    let text = changed("target = \"books\" ", "ttl = \"createdAt\"\ntarget = \"books\" ");
    let line = text.lines().position(|l| l.starts_with("created_at")).unwrap() + 1;
    let found = errors(&text);
    assert!(found.iter().any(|e| e.starts_with(&format!("c.toml:{line}:")) && e.contains("unit = \"s\"")), "{found:?}");
    let unit = "created_at = { from = \"createdAt\", type = \"timestamptz\", unit = \"s\"";
    let text = text.replacen("created_at = { from = \"createdAt\", type = \"timestamptz\"", unit, 1);
    assert_eq!(errors(&text), Vec::<String>::new());
}

#[test]
fn a_check_can_say_where_the_file_speaks_of_a_column() {
    let config = read(EXAMPLE).unwrap();
    let line = EXAMPLE.lines().position(|l| l.starts_with("isbn = ")).unwrap() + 1;
    let place = config.place("tables[0].columns.isbn").unwrap();
    assert!(place.starts_with(&format!("c.toml:{line}:")), "{place}");
    assert_eq!(config.place("tables[0].columns.isbn.from"), Some(place), "the nearest around it");
    assert!(config.place("tables[0]").is_some());
    assert_eq!((config.place(""), config.place("switches[0]")), (None, None));
}

#[test]
fn keys_of_an_emulator_need_an_endpoint_for_what_is_there() {
    let text = include_str!("../../assets/rehearsal-v1-to-v2.toml");
    let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
    let value = |name: &str| match name {
        "V1_PORT" => "5432",
        "V2_PORT" => "5433",
        _ => "http://127.0.0.1:1",
    };
    let vars = names.map(|name| (name.to_owned(), value(name).to_owned())).collect();
    let read = |text: &str| load_str("c.toml", text, Path::new(""), &vars);
    // The tables have an endpoint of their own, so what [aws] says is asked for parameters only.
    assert_eq!(read(text).err().map(|e| e.to_string()), None);
    let tables = text.replace("endpoints = { dynamodb = \"${AWS_ENDPOINT}\" }\n", "");
    assert_ne!(tables, text);
    let said = read(&tables).unwrap_err().to_string();
    assert!(said.contains("emulator credentials need an `endpoint`"), "{said}");
    let without = text.replace("ssm = \"${CONTROL_ENDPOINT}\"\n", "");
    assert_ne!(without, text);
    let said = read(&without).unwrap_err().to_string();
    assert!(said.contains("emulator credentials need an `endpoint`"), "{said}");
}
