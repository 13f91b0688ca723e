//! A world, a config that points at it, and a folder for runs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_ssm::Client as Ssm;
use aws_sdk_ssm::types::ParameterType;
use cutover::domain::run::{Event, Fact, RunState, StepStatus};
use cutover::journal::{RunFolder, fold, read_run};
use cutover::rehearsal::clients::session;
use cutover::rehearsal::oracle::Side;
use cutover::rehearsal::postgres::{PostgresOptions, PrivatePostgres};
use cutover::rehearsal::seed::Sizes;
use cutover::rehearsal::short_plan::{self, Last, ShortPlan};
use cutover::rehearsal::world::SECRETS_KEY;
use cutover::rehearsal::{OracleReport, PgAddress, Scenario, World, WorldOptions};
use tokio::runtime::Runtime;

use super::Slot;
use super::console::{Console, KILLED};

/// Switches that name a parameter, with the value from before the migration.
const PARAMETERS: [(&str, &str); 4] = [
    ("/cloudshelf/prod/db/reads", "dynamodb"),
    ("/cloudshelf/prod/db/writes", "dynamodb"),
    ("/cloudshelf/prod/db/secret", "none"),
    ("/cloudshelf/prod/writes-mode", "open"),
];

/// The one of them that is a SecureString.
const SECRET: &str = "/cloudshelf/prod/db/secret";

/// What starts the migration, but for the answers to what it asks of people ([`Stage::answered`]).
const RUN: [&str; 5] = ["run", "--headless", "--yes", "-c", "config.toml"];

/// Bigger or smaller days: `CUTOVER_TEST_SIZES=100000,20000,50000,1000`.
pub fn sizes() -> Sizes {
    let given = std::env::var("CUTOVER_TEST_SIZES").ok();
    let usual = Sizes { books: 1_500, users: 300, orders: 700, carts: 50 };
    given.map_or(usual, |s| s.parse().expect("four numbers in CUTOVER_TEST_SIZES"))
}

/// Emulators that others wrote; fails where none was started. Tables have the same names in every world, so one
/// test at a time has them.
pub fn independent() -> (String, MutexGuard<'static, ()>) {
    static ONE: Mutex<()> = Mutex::new(());
    let named = std::env::var("CUTOVER_TEST_AWS_ENDPOINT");
    let endpoint = named.expect("CUTOVER_TEST_AWS_ENDPOINT to name an emulator, as tests/run.sh starts one");
    (endpoint, ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// How much of the day is run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// Every step.
    Whole,
    /// Up to the thaw: what comes after changes nothing in the world.
    ToThaw,
    /// Up to the burn-in, which is held until something is done.
    ToBurnIn,
}

/// What a stage is made of.
pub struct Options {
    /// Records to begin with.
    pub sizes: Sizes,
    /// How much of the day is run.
    pub day: Day,
    /// How long the gate between switch and thaw is held, in seconds: the time to do something in between.
    pub pause: u32,
    /// Read capacity of the load, in units a second; without it as fast as it goes.
    pub read_budget: Option<u32>,
    /// An emulator instead of the embedded stores.
    pub endpoint: Option<String>,
    /// Whose plan it is: one of the shop's days.
    pub scenario: Scenario,
}

impl Default for Options {
    fn default() -> Self {
        let sizes = Sizes { books: 300, users: 80, orders: 150, carts: 20 };
        Self { sizes, day: Day::ToThaw, pause: 0, read_budget: None, endpoint: None, scenario: Scenario::Cloudshelf }
    }
}

/// Everything a test needs. Dropping it stops the world and removes every file.
pub struct Stage {
    /// Always there until the drop.
    world: Option<World>,
    runtime: Runtime,
    pg: PgAddress,
    dir: tempfile::TempDir,
    started: AtomicU32,
    /// The facts that were read last, with what the journals looked like.
    read: Mutex<(Vec<JournalFile>, Vec<Fact>)>,
    _slot: Slot,
}

/// A journal's path, length and time of its last change.
type JournalFile = (PathBuf, u64, SystemTime);

impl Stage {
    /// Starts a world and writes its config.
    pub fn new(options: &Options) -> Self {
        let slot = Slot::take();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pg = database(&runtime);
        let dir = tempfile::Builder::new().prefix("cutover-e2e-").tempdir().unwrap();
        if let Some(endpoint) = &options.endpoint {
            runtime.block_on(clear(endpoint));
        }
        let world = WorldOptions {
            sizes: options.sizes,
            // Settings take effect sooner than in a shop that thousands visit.
            poll: Duration::from_millis(150),
            read_share: options.scenario == Scenario::AuroraGradual,
            dynamo_endpoint: options.endpoint.clone(),
            control_endpoint: options.endpoint.clone(),
            ..WorldOptions::new(pg.clone())
        };
        let world = runtime.block_on(World::start(world)).unwrap();
        let secret = dir.path().join("password");
        private(&secret, pg.password.as_ref().unwrap().reveal());
        // A number stands without quotes once it is no variable any more.
        let mut text = shortened(options).replace("\"${PG_PORT}\"", &pg.port.to_string());
        for (name, value) in world.vars() {
            text = text.replace(&format!("${{{name}}}"), &value);
        }
        text = text.replace("${PG_PASSWORD_FILE}", secret.to_str().unwrap());
        fs::write(dir.path().join("config.toml"), text).unwrap();
        Self { world: Some(world), runtime, pg, dir, started: AtomicU32::new(0), read: Mutex::default(), _slot: slot }
    }

    /// The folder of this stage.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The config's text.
    pub fn config(&self) -> String {
        fs::read_to_string(self.dir().join("config.toml")).unwrap()
    }

    /// Writes another config beside the first; gives its name.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// Starts the binary with these arguments.
    pub fn start(&self, args: &[&str], failpoint: Option<&str>) -> Console {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let state = self.state_dir();
        let all = [&["--state-dir", state.to_str().unwrap()], args].concat();
        Console::start(self.dir(), &format!("{number}-{}", args[0]), &all, failpoint)
    }

    /// Starts the binary with these arguments and these variables besides.
    pub fn start_with(&self, args: &[&str], vars: &[(&str, &std::ffi::OsStr)]) -> Console {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let state = self.state_dir();
        let all = [&["--state-dir", state.to_str().unwrap()], args].concat();
        Console::start_with(self.dir(), &format!("{number}-{}", args[0]), &all, vars)
    }

    /// Starts the migration, or resumes it.
    pub fn run(&self, failpoint: Option<&str>) -> Console {
        self.start(&self.answered().iter().map(String::as_str).collect::<Vec<_>>(), failpoint)
    }

    /// [`RUN`], with an answer for everything that the plan asks of people.
    pub fn answered(&self) -> Vec<String> {
        RUN.iter().map(|arg| (*arg).to_owned()).chain(short_plan::answers(&self.config())).collect()
    }

    /// Starts the binary with these arguments; the port calls it makes are traced in the file of this name.
    #[cfg(feature = "failpoints")]
    pub fn traced(&self, args: &[String], file: &str) -> Console {
        let state = self.state_dir();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let all = [&["--state-dir", state.to_str().unwrap()], &args[..]].concat();
        let path = self.dir().join(file);
        Console::start_with(self.dir(), file, &all, &[("CUTOVER_FAILPOINT_TRACE", path.as_os_str())])
    }

    /// The one run's folder, once it is there.
    pub fn folder(&self) -> Option<RunFolder> {
        let mut all = RunFolder::list(&self.state_dir()).ok()?;
        assert!(all.len() <= 1, "a second run was opened");
        all.pop()
    }

    /// Every fact so far, side journals included. Read anew only when a journal has changed: many ask all the time.
    pub fn facts(&self) -> Vec<Fact> {
        let Some(folder) = self.folder() else { return Vec::new() };
        let mut paths = folder.side_journals().unwrap_or_default();
        paths.push(folder.journal());
        let look = |path: PathBuf| fs::metadata(&path).and_then(|m| Ok((path, m.len(), m.modified()?))).ok();
        let files: Vec<JournalFile> = paths.into_iter().filter_map(look).collect();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.0 != files {
            *read = (files, read_run(&folder).map(|r| r.facts).unwrap_or_default());
        }
        read.1.clone()
    }

    /// Flips a bit of the journal within this text.
    pub fn damage(&self, text: &str) {
        let path = self.folder().unwrap().journal();
        let mut bytes = fs::read(&path).unwrap();
        let place = std::str::from_utf8(&bytes).unwrap().find(text).expect("the fact to damage");
        bytes[place + 10] ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    /// The line of the config that says where the target is.
    pub fn target_line(&self) -> String {
        format!("port = {}", self.pg.port)
    }

    /// Where the run keeps how its stores are reached.
    pub fn connections(&self) -> PathBuf {
        self.folder().unwrap().path().join("connections.json")
    }

    /// Changes how the run's stores are reached; gives what stood there.
    pub fn redirect(&self, change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let kept = fs::read(self.connections()).unwrap();
        let mut document = serde_json::from_slice(&kept).unwrap();
        change(&mut document);
        fs::write(self.connections(), document.to_string()).unwrap();
        kept
    }

    /// Where the run stands by its facts. Panics when they do not follow each other.
    pub fn state(&self) -> RunState {
        fold(&self.facts()).expect("facts that follow each other")
    }

    /// How many facts satisfy this.
    pub fn count(&self, which: impl Fn(&Event) -> bool) -> usize {
        self.facts().iter().filter(|f| which(&f.event)).count()
    }

    /// Whether a step has this status.
    pub fn step_is(&self, id: &str, status: StepStatus) -> bool {
        !self.facts().is_empty() && self.state().step(id).is_some_and(|s| s.status == status)
    }

    /// Rows of a target table; 0 while it is not there.
    pub fn rows(&self, table: &str) -> i64 {
        self.runtime.block_on(async {
            let client = client(&self.pg, &self.pg.database).await;
            let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
            row.map_or(0, |r| r.get(0))
        })
    }

    /// Rows of every catalogue of the target's database, but for the server's own statistics.
    pub fn catalogues(&self) -> Vec<(String, i64)> {
        self.runtime.block_on(async { catalogues(&client(&self.pg, &self.pg.database).await).await })
    }

    /// Writes that the new side has acknowledged to customers so far.
    pub fn written_on_the_new_side(&self) -> u64 {
        self.world().shop().oracle().tally().new
    }

    /// Changes some book on the old side as somebody else would; gives its key.
    pub fn stray_write(&self) -> String {
        use aws_sdk_dynamodb::types::AttributeValue as Av;
        let vars = self.world().vars();
        self.runtime.block_on(async {
            let dynamo = aws_sdk_dynamodb::Client::new(&session(&vars["AWS_ENDPOINT"], 3));
            let page = dynamo.scan().table_name("CloudShelf-Books").limit(40).send().await.unwrap();
            let mut ids = page.items().iter().filter_map(|i| i["bookId"].as_s().ok());
            let id = ids.rfind(|id| !id.starts_with("cutover-marker-")).unwrap().clone();
            let update = dynamo.update_item().table_name("CloudShelf-Books").key("bookId", Av::S(id.clone()));
            let update =
                update.update_expression("SET shelf = :s").expression_attribute_values(":s", Av::S("7b".into()));
            update.send().await.unwrap();
            id
        })
    }

    /// Runs SQL in the target, as somebody else would.
    pub fn sql(&self, statements: &str) {
        self.runtime.block_on(async {
            client(&self.pg, &self.pg.database).await.batch_execute(statements).await.unwrap();
        });
    }

    /// Ends all traffic and compares the side in charge with the shop's account.
    pub fn verdict(&self) -> OracleReport {
        self.runtime.block_on(self.world().verdict()).unwrap()
    }

    /// Fails unless this side is in charge, accepts writes and has lost nothing.
    pub fn expect_nothing_lost(&self, side: Side) -> OracleReport {
        let verdict = self.verdict();
        assert!(verdict.to_string().starts_with("0 lost: ") && verdict.clean(), "{verdict}");
        assert_eq!((verdict.in_charge, verdict.frozen), (side, false), "{verdict}");
        assert!(verdict.comparison.checked > 300 && verdict.tally.old > 0, "nothing was held to account: {verdict}");
        // It takes a reverse applier killed within one round trip; many would be an excuse.
        let most = if self.dir().join(KILLED).exists() { 3 } else { 0 };
        assert!(verdict.comparison.set_back <= most, "{verdict}");
        assert!(verdict.comparison.untold <= 3 + verdict.comparison.checked / 100, "{verdict}");
        verdict
    }

    /// Whether writes are refused, as the application reads it.
    pub fn frozen(&self) -> bool {
        let endpoint = &self.world().vars()["CONTROL_ENDPOINT"];
        let read = async {
            let ssm = Ssm::new(&session(endpoint, 3));
            ssm.get_parameter().name("/cloudshelf/prod/writes-mode").send().await.unwrap()
        };
        let found = self.runtime.block_on(read);
        found.parameter().and_then(|p| p.value()).expect("a value") != "open"
    }

    /// Reads every switch's place, past the console, and fails unless all hold what they held in the beginning.
    pub fn expect_old_values(&self) {
        let vars = self.world().vars();
        let found: Vec<(String, String)> = self.runtime.block_on(async {
            let ssm = Ssm::new(&session(&vars["CONTROL_ENDPOINT"], 3));
            let mut found = Vec::new();
            for (name, _) in PARAMETERS {
                let got = ssm.get_parameter().name(name).with_decryption(true).send().await.unwrap();
                found.push((name.to_owned(), got.parameter().unwrap().value().unwrap_or_default().to_owned()));
            }
            let gateway = aws_sdk_apigateway::Client::new(&session(&vars["CONTROL_ENDPOINT"], 3));
            let stage = gateway.get_stage().rest_api_id(&vars["REST_API"]).stage_name(&vars["REST_STAGE"]);
            let stage = stage.send().await.unwrap();
            let alias = stage.variables().and_then(|v| v.get("lambdaAlias")).cloned().unwrap_or_default();
            found.push(("lambdaAlias".to_owned(), alias));
            found
        });
        let wanted = PARAMETERS.iter().chain([&("lambdaAlias", "blue")]);
        for ((name, value), (_, wanted)) in found.iter().zip(wanted) {
            // The secret's value stays out of a failing test's words.
            assert!(value == wanted, "{name} does not hold what it held in the beginning");
        }
        self.expect_own_key();
    }

    /// Fails unless the secret is encrypted with the key it had in the beginning, in each of its versions.
    pub fn expect_own_key(&self) {
        let endpoint = &self.world().vars()["CONTROL_ENDPOINT"];
        let keys: Vec<Option<String>> = self.runtime.block_on(async {
            let ssm = Ssm::new(&session(endpoint, 3));
            let told = ssm.get_parameter_history().name(SECRET).max_results(50).send().await.unwrap();
            told.parameters().iter().map(|p| p.key_id().map(str::to_owned)).collect()
        });
        assert!(!keys.is_empty() && keys.iter().all(|k| k.as_deref() == Some(SECRETS_KEY)), "{keys:?}");
    }

    /// Puts this value where the secret of the old side is, as its owners would have before the day.
    pub fn plant(&self, value: &str) {
        let endpoint = &self.world().vars()["CONTROL_ENDPOINT"];
        self.runtime.block_on(async {
            let put = Ssm::new(&session(endpoint, 3)).put_parameter().name(SECRET).value(value);
            put.r#type(ParameterType::SecureString).key_id(SECRETS_KEY).overwrite(true).send().await.unwrap();
        });
    }

    /// What the new side's secret holds: it is planted as well.
    pub fn new_secret(&self) -> String {
        self.pg.connection().reveal().to_owned()
    }

    fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    /// The runtime, for a test that asks something itself.
    pub const fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// Rows of every catalogue of a database, but for the server's own statistics.
pub async fn catalogues(client: &tokio_postgres::Client) -> Vec<(String, i64)> {
    let names = "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
                 AND relkind = 'r' AND NOT relisshared AND relname NOT LIKE 'pg_statistic%' ORDER BY 1";
    let mut found = Vec::new();
    for name in client.query(names, &[]).await.unwrap() {
        let name: String = name.get(0);
        let row = client.query_one(&format!("SELECT count(*) FROM {name}"), &[]).await.unwrap();
        found.push((name, row.get(0)));
    }
    found
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(world) = self.world.take() {
            self.runtime.block_on(world.stop());
        }
    }
}

/// The rehearsal's config without waits for the clock: `run` knows no other speed than the real one.
fn shortened(options: &Options) -> String {
    let last = match options.day {
        Day::Whole => Last::Whole,
        Day::ToThaw => Last::Thaw,
        Day::ToBurnIn => Last::BurnIn(3_600),
    };
    // Such a day checks data only; a busy machine's latencies, or a slow emulator's, must not hold it up.
    let gradual = options.scenario == Scenario::AuroraGradual;
    let lenient = options.day == Day::ToBurnIn || options.endpoint.is_some() || gradual;
    let mut text = short_plan::shortened_plan(options.scenario, ShortPlan { switched: options.pause, last, lenient });
    if options.endpoint.is_some() && options.sizes.books > 10_000 {
        // A pass over that many items keeps such an emulator busy for a minute, and the next would begin at once.
        assert!(text.contains("every = \"20s\""));
        text = text.replace("every = \"20s\"", "every = \"10m\"");
    }
    match options.read_budget {
        None => text,
        Some(budget) => {
            assert!(text.contains("[load]\n"));
            text.replace("[load]\n", &format!("[load]\nread_budget_rcu = {budget}\n"))
        }
    }
}

/// A database of its own in the one server that all tests of this process share.
pub fn database(runtime: &Runtime) -> PgAddress {
    // Never dropped: its guardian stops it when this process ends, however it ends.
    static SERVER: OnceLock<PrivatePostgres> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let server = SERVER.get_or_init(|| {
        let options =
            PostgresOptions { fsync: false, settings: vec!["max_connections = 200".to_owned()], standby: false };
        PrivatePostgres::start(&options, |said| eprintln!("{said}")).unwrap()
    });
    let name = format!("e2e_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let address = PgAddress {
        host: server.host.clone(),
        port: server.port,
        user: server.user.clone(),
        database: name.clone(),
        password: Some(server.password.clone()),
    };
    runtime.block_on(async {
        let client = client(&address, &server.database).await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    });
    address
}

/// A plain connection to a database of the tests.
pub async fn pg_client(at: &PgAddress) -> tokio_postgres::Client {
    client(at, &at.database).await
}

async fn client(at: &PgAddress, database: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host(&at.host).port(at.port).user(&at.user).dbname(database);
    config.password(at.password.as_ref().unwrap().reveal());
    let (client, driver) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

/// Removes the shop's tables from an emulator that others have used before.
async fn clear(endpoint: &str) {
    let dynamo = aws_sdk_dynamodb::Client::new(&session(endpoint, 3));
    let tables = dynamo.list_tables().send().await.unwrap();
    for table in tables.table_names().iter().filter(|t| t.starts_with("CloudShelf-")) {
        dynamo.delete_table().table_name(table).send().await.unwrap();
    }
}

fn private(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
