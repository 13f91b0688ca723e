//! Whole schemas by rule, a whole day there and back, through the real binary: one written here with a little of everything,
//! and public ones that nobody here designed, where `CUTOVER_TEST_SAMPLES` names a folder that has them (`tests/samples.sh`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::ParameterType;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use cutover::rehearsal::PgAddress;
use cutover::rehearsal::clients::session;
use cutover::rehearsal::control::ControlPlane;
use tokio::runtime::Runtime;

use super::Slot;
use super::console::Console;
use super::stage::{database, pg_client};

/// What a schema's folder under `tests/samples` may say: SQL that is run while the tables move, SQL of the new side's
/// customers, columns that the old side's own triggers set in a rollback, and keys of the rule.
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples");

pub(super) const MODE: &str = "/samples/mode";

/// The runbook: `freeze` locks out whoever asks the door, `switch` sets a parameter that nobody reads here.
pub(super) const DAY: &str = r#"
[[switches]]
id = "store"
title = "the store is"
parameter = "/samples/store"
expect = "old"
to = "new"
[[switches]]
id = "mode"
title = "writes are"
parameter = "/samples/mode"
expect = "open"
to = "frozen"
[freeze]
switch = "mode"
probe = "write"
settle = "500ms"
[[probes]]
id = "write"
method = "POST"
url = "@DOOR@"
body = '{"nonce":"{nonce}"}'
accept = [200]
refused = [503]
every = "50ms"
timeout = "3s"
"#;

/// Steps of the day: kind, planned time, and what else it says.
pub(super) const STEPS: [(&str, &str, &str); 12] = [
    ("preflight", "T-01:05", ""),
    ("set_up", "T-01:00", ""),
    ("capture", "T-00:55", ""),
    ("load", "T-00:50", ""),
    ("catch_up", "T-00:40", "max_lag = \"10s\"\n"),
    ("verify", "T-00:30", ""),
    ("arm", "T-00:20", ""),
    ("freeze", "T-0", ""),
    ("drain", "T+00:01", ""),
    ("switch", "T+00:02", "switches = [\"store\"]\n"),
    ("thaw", "T+00:03", ""),
    ("manual", "T+00:04", "what = \"look around\"\n"),
];

/// Two databases, a control plane and a door that refuses writes while the mode says so.
struct Stand {
    runtime: Runtime,
    old: PgAddress,
    new: PgAddress,
    dir: tempfile::TempDir,
    started: AtomicU32,
    _control: ControlPlane,
    _slot: Slot,
}

impl Stand {
    fn new(rule: &str) -> Self {
        let slot = Slot::take();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (old, new) = (database(&runtime), database(&runtime));
        let control = runtime.block_on(ControlPlane::start(Default::default())).unwrap();
        let parameters = Client::new(&session(control.endpoint(), 3));
        let door = runtime.block_on(async {
            for (name, value) in [(MODE, "open"), ("/samples/store", "old")] {
                let put = parameters.put_parameter().name(name).value(value).r#type(ParameterType::String);
                put.send().await.unwrap();
            }
            door(parameters, MODE).await
        });
        let dir = tempfile::Builder::new().prefix("cutover-samples-").tempdir().unwrap();
        fs::write(dir.path().join("password"), old.password.as_ref().unwrap().reveal()).unwrap();
        let store = |name: &str, at: &PgAddress| {
            format!(
                "[stores.{name}]\nkind = \"postgresql\"\nhost = \"{}\"\nport = {}\ndatabase = \"{}\"\nuser = \"{}\"\n\
                 password = {{ file = \"password\" }}\nsslmode = \"disable\"\n",
                at.host, at.port, at.database, at.user
            )
        };
        let text = format!(
            "name = \"samples\"\nproduction = false\n[aws]\nregion = \"us-east-1\"\ncredentials = \"emulator\"\nendpoint = \"{}\"\n\
             {}{}[follow]\npoll = \"20ms\"\n[verify]\nfloor = 1.0\nsettle = \"5s\"\n{}\n{rule}{}",
            control.endpoint(),
            store("old", &old),
            store("new", &new),
            DAY.replace("@DOOR@", &door),
            steps()
        );
        fs::write(dir.path().join("config.toml"), text).unwrap();
        Self { runtime, old, new, dir, started: AtomicU32::new(0), _control: control, _slot: slot }
    }

    fn cutover(&self, args: &[&str], code: i32) -> String {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let all = [&["--state-dir", "state"], args].concat();
        let mut console = Console::start(self.dir.path(), &format!("{number}-{}", args[0]), &all, None);
        console.expect_code(code);
        format!("{}{}", console.out(), console.words())
    }

    /// Runs a file as `psql` does; what fails in it is an error where it `must` not.
    fn file(&self, at: &PgAddress, file: &Path, must: bool) {
        let mut psql = command("psql", at);
        psql.args(["-q", "-v", if must { "ON_ERROR_STOP=1" } else { "ON_ERROR_STOP=0" }, "-f"]).arg(file);
        let output = psql.current_dir(file.parent().unwrap()).output().unwrap();
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }

    fn texts(&self, at: &PgAddress, sql: &str) -> Vec<String> {
        self.runtime.block_on(async {
            let client = pg_client(at).await;
            client.batch_execute("SET search_path = ''").await.unwrap();
            client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
        })
    }

    /// What every table, and every materialized view that is filled, holds; one line each.
    fn held(&self, at: &PgAddress, differs: &[String]) -> Vec<String> {
        let sql = "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                   WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relispopulated AND n.nspname NOT LIKE 'pg\\_%'
                     AND n.nspname NOT IN ('information_schema', 'cutover') ORDER BY 1";
        let without = differs.iter().map(|column| format!(" - '{column}'")).collect::<String>();
        // Zeros at the end of a number do not arrive, as `check` says: 1.10 is 1.1 there.
        let plain = |text: &str| {
            format!(
                r"regexp_replace(regexp_replace({text}, '(\.\d*[1-9])0+([,}}])', '\1\2', 'g'), '\.0+([,}}])', '\1', 'g')"
            )
        };
        let each = |table: String| {
            let row = plain(&format!("(to_jsonb(t){without})::text"));
            let sql = format!(
                "SELECT count(*) || ' ' || coalesce(md5(string_agg(r, '' ORDER BY r)), '')
                 FROM (SELECT {row} AS r FROM {table} t) x"
            );
            format!("{table}: {}", self.texts(at, &sql)[0])
        };
        self.texts(at, sql).into_iter().map(each).collect()
    }

    /// The schema as `pg_dump` writes it, entry by entry, without what is ours.
    fn schema(&self, at: &PgAddress) -> Vec<String> {
        let mut dump = command("pg_dump", at);
        dump.args(["--schema-only", "--no-owner", "--no-privileges", "--no-publications", "--exclude-schema=cutover"]);
        let output = dump.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, entries) = text.split_once("\n-- Name: ").unwrap();
        let mut entries: Vec<String> = entries.split("\n-- Name: ").map(entry).collect();
        // Whose a schema is, and what is said of it, is decided on the new side.
        let of_schemas = |entry: &str| entry.starts_with("SCHEMA ") || entry.starts_with("EXTENSION ");
        entries.retain(|entry| !(entry.contains("cutover") || of_schemas(entry) && entry.contains("; Type: COMMENT;")));
        entries.sort();
        entries
    }
}

/// Its header and its statement, without what stands between entries.
fn entry(text: &str) -> String {
    let lines =
        text.lines().filter(|line| !(line.is_empty() || line.starts_with("--") || line.starts_with("SET default_")));
    lines.filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

fn command(tool: &str, at: &PgAddress) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(tool)).find(|path| path.is_file());
    let mut command = Command::new(found.unwrap_or_else(|| PathBuf::from(tool)));
    command.env("PGHOST", &at.host).env("PGPORT", at.port.to_string()).env("PGUSER", &at.user);
    command.env("PGDATABASE", &at.database).env("PGPASSWORD", at.password.as_ref().unwrap().reveal());
    command.stdin(Stdio::null());
    command
}

/// The steps of the day, as a config has them.
pub(super) fn steps() -> String {
    let step = |(kind, at, more): &(&str, &str, &str)| {
        format!(
            "[[steps]]\nid = \"{kind}\"\ntitle = \"{kind}\"\nat = \"{at}\"\ntakes = \"1m\"\nkind = \"{kind}\"\n{more}"
        )
    };
    STEPS.iter().map(step).collect()
}

/// Takes writes while the mode, which stands in this parameter, is open. Gives its address.
pub(super) async fn door(parameters: Client, mode: &str) -> String {
    let (parameters, name) = (Arc::new(parameters), Arc::<str>::from(mode));
    let answer = move || {
        let (parameters, name) = (Arc::clone(&parameters), Arc::clone(&name));
        async move {
            let mode = parameters.get_parameter().name(&*name).send().await;
            let mode = mode.ok().and_then(|got| got.parameter?.value);
            if mode.as_deref() == Some("open") { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
    place
}

/// Moves the schema of these files there and back.
fn moves(name: &str, files: &[PathBuf]) {
    let ours = Path::new(OURS).join(name);
    let said = |file: &str| fs::read_to_string(ours.join(file)).unwrap_or_default();
    let rule = said("rule.toml");
    let rule = if rule.is_empty() { "[[moves]]\ninclude = [\"*\"]\nlike = \"same\"\n".to_owned() } else { rule };
    let stand = Stand::new(&rule);
    for file in files {
        // Samples make roles and owners that are not there, and bring only some of their rows.
        stand.file(&stand.old, file, name == "own");
    }
    let step = |what: &str, at: &PgAddress| {
        if ours.join(what).is_file() {
            stand.file(at, &ours.join(what), true);
        }
    };
    step("before.sql", &stand.old);
    let told = stand.cutover(&["check"], 0);
    eprintln!("{name}: {}", told.lines().filter(|l| l.contains("not made")).collect::<Vec<_>>().join("\n"));
    stand.cutover(&["run", "--headless", "--yes", "--until", "load"], 75);
    step("meanwhile.sql", &stand.old);
    let told = stand.cutover(&["run", "--headless", "--yes", "--until", "thaw"], 75);
    // What the source's own views showed is as old as their last refresh.
    let views =
        "SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind = 'm' AND c.relispopulated ORDER BY c.oid";
    let refresh: String =
        stand.texts(&stand.old, views).into_iter().map(|view| format!("REFRESH MATERIALIZED VIEW {view};\n")).collect();
    let file = stand.dir.path().join("refresh.sql");
    fs::write(&file, refresh).unwrap();
    stand.file(&stand.old, &file, true);
    similar(&stand.held(&stand.old, &[]), &stand.held(&stand.new, &[]), &told);
    similar(&stand.schema(&stand.old), &stand.schema(&stand.new), &told);

    // Customers of the new side write, and go back with all they wrote.
    step("after.sql", &stand.new);
    let told = stand.cutover(&["rollback", "--yes"], 3);
    let differs: Vec<String> = said("differs.txt").lines().map(str::to_owned).collect();
    for at in [&stand.old, &stand.new] {
        stand.file(at, &file, true);
    }
    similar(&stand.held(&stand.old, &differs), &stand.held(&stand.new, &differs), &told);
    // And go on there: no number is given twice.
    step("after.sql", &stand.old);
}

fn similar(old: &[String], new: &[String], told: &str) {
    let only = |one: &[String], other: &[String]| {
        one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>().join("\n")
    };
    assert!(old == new, "only on the old side:\n{}\nonly on the new side:\n{}\n{told}", only(old, new), only(new, old));
    assert!(!old.is_empty());
}

#[test]
fn a_schema_with_a_little_of_everything_moves_as_a_whole_and_comes_back() {
    moves("own", &[Path::new(OURS).join("own/schema.sql")]);
}

#[test]
fn public_schemas_that_nobody_here_designed_move_as_a_whole_and_come_back() {
    let Some(folder) = std::env::var_os("CUTOVER_TEST_SAMPLES") else {
        eprintln!(
            "skipped: CUTOVER_TEST_SAMPLES names no folder with sample schemas; tests/samples.sh says how to get them"
        );
        return;
    };
    let mut names: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.is_dir());
    names.sort();
    assert!(!names.is_empty(), "{} has no folder of a sample", folder.display());
    for path in names {
        let mut files: Vec<PathBuf> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ext| ext == "sql"));
        files.sort();
        moves(path.file_name().unwrap().to_str().unwrap(), &files);
    }
}
