//! What a run was opened with is read back whatever became of the config, and distinguished from another config.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::cli::args::ConfigArg;
use crate::config::{Credentials, Postgres, StoreConnection, load_str};
use crate::domain::at::At;
use crate::domain::plan::{NEW, OLD};
use crate::domain::run::{Actor, Amendment};
use crate::journal::{Header, JournalWriter};

const EXAMPLE: &str = include_str!("../../../config.toml.example");

/// A folder for runs, and one for the config with a file that it names.
struct TestFolder {
    dir: tempfile::TempDir,
    vars: BTreeMap<String, String>,
}

impl TestFolder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("users.sql"), "CREATE TABLE users (id uuid PRIMARY KEY)").unwrap();
        Self { dir, vars: [("PG_PORT".to_owned(), "6543".to_owned())].into() }
    }

    /// The example, taking a port from the environment, statements from a file, and a title that TOML must escape.
    fn text(&self) -> String {
        let mut text = EXAMPLE.to_owned();
        let port = text.lines().find(|l| l.starts_with("port = ")).unwrap().to_owned();
        text = text.replace(&port, "port = \"${PG_PORT}\"");
        text = text.replace("title = \"reads come from\"", "title = 'reads of \"$${SHOP}\" come from'");
        let from = text.find("ddl_sql = \"\"\"\nCREATE TABLE IF NOT EXISTS users").unwrap();
        let body = from + "ddl_sql = \"\"\"".len();
        let end = body + text[body..].find("\"\"\"").unwrap() + 3;
        format!("{}ddl = \"users.sql\"{}", &text[..from], &text[end..])
    }

    fn config(&self, text: &str) -> Config {
        load_str("config.toml", text, self.dir.path(), &self.vars).unwrap_or_else(|e| panic!("{e}"))
    }

    fn folder(&self, config: &Config, text: &str) -> RunFolder {
        let folder = RunFolder::create(self.dir.path(), "shop", At(0)).unwrap();
        keep(&folder, config, text).unwrap();
        folder
    }
}

/// How the one target is reached.
fn database(found: &Opened) -> Result<Postgres, String> {
    match found.connections.target(NEW)? {
        StoreConnection::Postgresql(postgres) => Ok(postgres),
        StoreConnection::Dynamodb(_) => panic!("a database"),
    }
}

/// What becomes of a run folder.
type Spoiling = fn(&TestFolder, &RunFolder);

#[test]
fn what_was_resolved_at_the_start_is_not_resolved_again() {
    let spoilings: [(&str, Spoiling); 6] = [
        ("nothing", |_, _| {}),
        ("the file with statements has moved", |p, _| std::fs::remove_file(p.dir.path().join("users.sql")).unwrap()),
        ("the copy of the config is gone", |_, f| std::fs::remove_file(f.config()).unwrap()),
        ("a newer lint refuses the copy", |_, f| std::fs::write(f.config(), "unknown_key = 1").unwrap()),
        ("the copy is no TOML", |_, f| std::fs::write(f.config(), "port = \"\"\"").unwrap()),
        ("the copy names other stores", |_, f| {
            let text = std::fs::read_to_string(f.config()).unwrap().replace("\"${PG_PORT}\"", "1");
            std::fs::write(f.config(), text).unwrap();
        }),
    ];
    for (what, spoil) in spoilings {
        let folder_of_test = TestFolder::new();
        let text = folder_of_test.text();
        let config = folder_of_test.config(&text);
        let folder = folder_of_test.folder(&config, &text);
        spoil(&folder_of_test, &folder);
        // This process has no PG_PORT.
        let found = opened(&folder, &config.plan.hash()).unwrap_or_else(|f| panic!("{what}: {}", f.words()));
        assert_eq!(found.plan, *config.plan, "{what}");
        assert_eq!(found.connections, (&config.connections).into(), "{what}");
        assert_eq!(found.warnings, [""; 0], "{what}");
        assert_eq!(database(&found).unwrap().port, 6543, "{what}");
    }
}

#[test]
fn only_references_to_secrets_are_kept() {
    let folder_of_test = TestFolder::new();
    let config = folder_of_test.config(&folder_of_test.text());
    let folder = folder_of_test.folder(&config, "");
    let kept = std::fs::read_to_string(folder.path().join(CONNECTIONS)).unwrap();
    assert!(kept.contains("\"env\": \"PGPASSWORD\""), "{kept}");
}

#[test]
fn relative_files_are_kept_as_whole_paths() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    let text = EXAMPLE.replace("password = { env = \"PGPASSWORD\" }", "password = { file = \"secret\" }");
    assert_ne!(text, EXAMPLE);
    std::fs::write(inside.join("c.toml"), text).unwrap();
    // A path with a way round, as one that is relative to where this process was started.
    let config = config::load(&inside.join("../inside/c.toml"), &BTreeMap::new()).unwrap_or_else(|e| panic!("{e}"));
    let password = config.connections.databases().next().unwrap().password.clone();
    let Some(crate::domain::plan::ValueRef::File(path)) = password else { panic!() };
    assert!(PathBuf::from(&path).is_absolute() && path.ends_with("/secret"), "{path}");
}

#[test]
fn a_part_that_cannot_be_read_keeps_nobody_from_the_other() {
    let folder_of_test = TestFolder::new();
    let config = folder_of_test.config(&folder_of_test.text());
    let folder = folder_of_test.folder(&config, "no config");
    let path = folder.path().join(CONNECTIONS);
    let whole: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();

    let mut spoilt = whole.clone();
    spoilt["postgres"]["port"] = "many".into();
    std::fs::write(&path, spoilt.to_string()).unwrap();
    let found = opened(&folder, &config.plan.hash()).unwrap();
    assert_eq!(found.connections.aws, Ok(config.connections.aws.clone()));
    assert!(database(&found).unwrap_err().contains("`postgres`"));
    assert!(
        found.warnings.len() == 1 && found.warnings[0].contains("how the target is reached"),
        "{:?}",
        found.warnings
    );

    // Where AWS is reached stands in the plan as well.
    let mut spoilt = whole;
    spoilt["aws"]["credentials"] = "from_the_future".into();
    std::fs::write(&path, spoilt.to_string()).unwrap();
    let found = opened(&folder, &config.plan.hash()).unwrap();
    let (aws, was) = (found.connections.aws.clone().unwrap().unwrap(), config.connections.aws.clone().unwrap());
    assert_eq!((aws.region, aws.profile, aws.endpoints), (was.region, was.profile, was.endpoints));
    assert_eq!(aws.credentials, Credentials::Chain);
    assert_eq!(database(&found).as_ref(), Ok(config.connections.databases().next().unwrap()));
}

/// Such a run says nothing of its stores but in its copy; what a variable was then, this process does not know.
#[test]
fn an_old_run_whose_copy_leaves_a_variable_open_is_not_sent_elsewhere_by_the_environment() {
    let folder_of_test = TestFolder::new();
    // Every test process has this one.
    let text = folder_of_test.text().replace("\"${PG_PORT}\"", "6543");
    let config = folder_of_test.config(&text);
    let host = text.lines().find(|l| l.starts_with("host = ")).unwrap();
    let text = text.replace(host, "host = \"${PATH}\"");
    let folder = RunFolder::create(folder_of_test.dir.path(), "shop", At(0)).unwrap();
    let old = Plan { stores: Stores::new(), ..Plan::clone(&config.plan) };
    folder.write("plan.json", &serde_json::to_vec(&old).unwrap()).unwrap();
    folder.write("config.toml", text.as_bytes()).unwrap();
    folder.write("config.base", folder_of_test.dir.path().to_str().unwrap().as_bytes()).unwrap();
    let found = opened(&folder, &old.hash()).unwrap();
    let of_database = database(&found).unwrap_err();
    for why in [found.connections.aws.unwrap_err(), of_database] {
        assert!(why.contains("`${PATH}` is not set") && why.contains("record does not say"), "{why}");
    }
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
}

#[test]
fn a_run_of_a_program_that_kept_no_connections_is_read_from_its_copy() {
    let folder_of_test = TestFolder::new();
    // Older programs filled variables in and noted where relative paths begin.
    let text = folder_of_test.text().replace("\"${PG_PORT}\"", "6543");
    let config = folder_of_test.config(&text);
    let folder = RunFolder::create(folder_of_test.dir.path(), "shop", At(0)).unwrap();
    let old = Plan { stores: Stores::new(), ..Plan::clone(&config.plan) };
    folder.write("plan.json", &serde_json::to_vec(&old).unwrap()).unwrap();
    folder.write("config.toml", text.as_bytes()).unwrap();
    folder.write("config.base", folder_of_test.dir.path().to_str().unwrap().as_bytes()).unwrap();
    let found = opened(&folder, &old.hash()).unwrap();
    assert_eq!(found.connections, (&config.connections).into());
    assert_eq!(found.warnings, [""; 0]);

    // It is resumed where it was opened, and nowhere else.
    assert_eq!(fit(&folder, &old.hash(), &config.plan), Fit::Same);
    let elsewhere = folder_of_test.config(&text.replace("6543", "6544"));
    assert!(matches!(fit(&folder, &old.hash(), &elsewhere.plan), Fit::OtherStores(c) if c[0].contains("port 6543")));

    std::fs::remove_file(folder.config()).unwrap();
    let found = opened(&folder, &old.hash()).unwrap();
    assert!(found.connections.aws.is_err() && database(&found).is_err());
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
    assert!(matches!(fit(&folder, &old.hash(), &config.plan), Fit::OtherStores(_)), "nobody knows where it was opened");
}

#[test]
fn a_run_belongs_to_its_stores() {
    let folder_of_test = TestFolder::new();
    let text = folder_of_test.text();
    let config = folder_of_test.config(&text);
    let folder = folder_of_test.folder(&config, &text);
    let hash = config.plan.hash();
    let fits = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        fit(&folder, &hash, &folder_of_test.config(&text.replacen(from, to, 1)).plan)
    };
    assert_eq!(fits("name", "name"), Fit::Same);
    // How a store is reached is not who it is.
    assert_eq!(fits("pool = ", "pool = 1"), Fit::Same);
    let line = |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap();
    assert_eq!(fits(line("user = "), "user = \"somebody_else\""), Fit::Same);
    let others = [
        (line("region = "), "region = \"eu-north-1\"", OLD),
        (line("region = "), "region = \"us-east-1\"\nprofile = \"somebody\"", "control"),
        (line("region = "), "region = \"us-east-1\"\nendpoint = \"http://127.0.0.1:1\"", OLD),
        (line("database = "), "database = \"elsewhere\"", NEW),
        (line("host = "), "host = \"elsewhere\"", NEW),
        (line("port = "), "port = 1", NEW),
    ];
    for (from, to, store) in others {
        let Fit::OtherStores(changes) = fits(from, to) else { panic!("{to}: taken for the same") };
        assert!(changes.iter().any(|c| c.contains(&format!("the `{store}` store was"))), "{to}: {changes:?}");
    }
    assert_eq!(fits("max_lag = \"2s\"", "max_lag = \"3s\""), Fit::OtherPlan);
    let state = RunState { plan_hash: hash.clone(), ..RunState::default() };
    let refused =
        refusal(&folder, &state, &folder_of_test.config(&text.replace(line("database = "), "database = \"x\"")).plan);
    let words = refused.unwrap().words();
    assert!(words.contains("was opened on other stores: the `new` store was PostgreSQL, database"), "{words}");
    assert!(words.contains("cutover rollback ") && words.contains("--new"), "{words}");
}

#[tokio::test]
async fn a_comparison_goes_by_nothing_that_is_not_the_runs_own() {
    let folder_of_test = TestFolder::new();
    let text = folder_of_test.text();
    let config = folder_of_test.config(&text);
    let state_dir = folder_of_test.dir.path().join("state");
    let folder = RunFolder::create(&state_dir, "shop", At(0)).unwrap();
    keep(&folder, &config, &text).unwrap();
    let header = Header::new(folder.id(), &config.plan.hash(), "alice", "b1", At(0));
    drop(JournalWriter::create(&folder, &header).unwrap());
    let named =
        OfArg { config: ConfigArg { config: "nowhere.toml".into(), env: None }, run: Some(folder.id().to_owned()) };
    let found = subject(&named, &state_dir).await.unwrap_or_else(|f| panic!("{}", f.words()));
    assert_eq!((&found.plan, &found.connections), (&config.plan, &config.connections));

    // A rollback goes on with either of these and says so.
    let path = folder.path().join(CONNECTIONS);
    let kept = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, kept.replace("6543", "6544")).unwrap();
    let refused = subject(&named, &state_dir).await.expect_err("other stores");
    assert!(refused.exit == Exit::Config && refused.words().contains("port 6544"), "{}", refused.words());
    assert!(opened(&folder, &config.plan.hash()).is_ok_and(|o| o.warnings.iter().any(|w| w.contains("port 6544"))));
    std::fs::write(&path, kept).unwrap();
    let plan = std::fs::read_to_string(folder.plan()).unwrap();
    std::fs::write(folder.plan(), plan.replacen("cloudshelf", "another", 1)).unwrap();
    std::fs::remove_file(folder.config()).unwrap();
    assert!(subject(&named, &state_dir).await.is_err(), "another plan");
    assert!(opened(&folder, &config.plan.hash()).is_ok_and(|o| !o.warnings.is_empty()));
}

/// Both plans of an amendment, by their hash in the run's folder; `plan.json` is the one before it.
fn half_amended(folder_of_test: &TestFolder) -> (RunFolder, Config, Config) {
    let text = folder_of_test.text();
    let (old, new) =
        (folder_of_test.config(&text), folder_of_test.config(&text.replace("max_lag = \"2s\"", "max_lag = \"3s\"")));
    let folder = folder_of_test.folder(&old, &text);
    for config in [&old, &new] {
        let plan = serde_json::to_vec_pretty(&*config.plan).unwrap();
        folder.write(&RunFolder::plan_name(&config.plan.hash()), &plan).unwrap();
    }
    (folder, old, new)
}

#[test]
fn the_journal_says_which_plan_of_an_amendment_counts() {
    let folder_of_test = TestFolder::new();
    let (folder, old, new) = half_amended(&folder_of_test);
    for config in [&old, &new] {
        let found = opened(&folder, &config.plan.hash()).unwrap();
        assert_eq!((&found.plan, found.warnings), (&*config.plan, vec![]));
        assert_eq!(fit(&folder, &config.plan.hash(), &config.plan), Fit::Same);
    }
    settle_plan(&folder, &new.plan.hash(), &old.plan).unwrap();
    assert_eq!(read_plan(&folder, &old.plan.hash()).unwrap(), *old.plan);
    settle_plan(&folder, &new.plan.hash(), &new.plan).unwrap();
    let stands: Plan = serde_json::from_slice(&std::fs::read(folder.plan()).unwrap()).unwrap();
    assert_eq!(stands, *new.plan);
}

#[test]
fn any_plan_of_a_run_is_good_enough_to_go_back_by() {
    let folder_of_test = TestFolder::new();
    let (folder, old, new) = half_amended(&folder_of_test);
    std::fs::remove_file(folder.config()).unwrap();
    std::fs::remove_file(folder.plan_of(&new.plan.hash())).unwrap();
    let found = opened(&folder, &new.plan.hash()).unwrap();
    assert!(found.plan == *old.plan && found.warnings.len() == 1, "{:?}", found.warnings);
    std::fs::write(folder.plan(), "torn").unwrap();
    let found = opened(&folder, &new.plan.hash()).unwrap();
    assert!(found.plan == *old.plan && found.warnings[0].contains("a plan the run went by"), "{:?}", found.warnings);
    std::fs::remove_file(folder.plan_of(&old.plan.hash())).unwrap();
    assert!(opened(&folder, &new.plan.hash()).is_err(), "nothing says what there is to put back");
}

#[test]
fn the_config_before_an_amendment_is_refused_by_name() {
    let folder_of_test = TestFolder::new();
    let (folder, old, new) = half_amended(&folder_of_test);
    let amendment = Amendment {
        at: At(0),
        seq: 9,
        from: old.plan.hash(),
        to: new.plan.hash(),
        by: Actor::Terminal("dora".into()),
        changes: 1,
    };
    let amended = RunState { plan_hash: new.plan.hash(), amended: vec![amendment], ..RunState::default() };
    assert!(refusal(&folder, &amended, &new.plan).is_none());
    let words = refusal(&folder, &amended, &old.plan).unwrap().words();
    assert!(words.contains("since dora amended it on 1970-01-01"), "{words}");
    let other = folder_of_test.config(&folder_of_test.text().replace("max_lag = \"2s\"", "max_lag = \"4s\""));
    let words = refusal(&folder, &amended, &other.plan).unwrap().words();
    assert!(words.contains("was amended to another plan") && words.contains("`cutover amend`"), "{words}");
}
