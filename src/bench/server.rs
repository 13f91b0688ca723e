//! Where contestants meet: a private PostgreSQL that waits for its disk, and processes that are measured one by one.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio_postgres::{Client, Config, NoTls};

use super::books::{INDEXES, TABLE};
use super::error::{BenchError, BenchResult, Tried as _};
use super::measure::Sample;
use crate::private::postgres::{PostgresOptions, PrivatePostgres};

/// Settings that a server for a load would have, and what shows when a row became visible.
const SERVER: [&str; 5] = [
    "shared_buffers = '512MB'",
    "max_wal_size = '8GB'",
    "checkpoint_timeout = '30min'",
    "maintenance_work_mem = '256MB'",
    "track_commit_timestamp = on",
];

/// A server and a session on it.
pub(super) struct BenchServer {
    /// How contestants connect to the server.
    pub url: String,
    /// A session of our own.
    pub sql: Client,
    _server: PrivatePostgres,
}

/// A session.
pub(super) async fn session(url: &str) -> BenchResult<Client> {
    let config: Config = url.parse().tried("connect to", "the target")?;
    let (client, connection) = config.connect(NoTls).await.tried("connect to", "the target")?;
    tokio::spawn(connection);
    Ok(client)
}

impl BenchServer {
    /// Starts a server.
    pub(super) async fn start() -> BenchResult<Self> {
        Self::with(&[]).await
    }

    /// Starts a server whose changes can be followed.
    pub(super) async fn publishing() -> BenchResult<Self> {
        Self::with(&["wal_level = logical"]).await
    }

    async fn with(more: &[&str]) -> BenchResult<Self> {
        let settings = SERVER.iter().chain(more).map(|one| (*one).to_owned()).collect();
        let options = PostgresOptions { fsync: true, settings, standby: false };
        let started = tokio::task::spawn_blocking(move || PrivatePostgres::start(&options, |_| {})).await;
        let server = started.tried("start", "PostgreSQL")?.tried("start", "PostgreSQL")?;
        let url = server.url();
        Ok(Self { sql: session(&url).await?, url, _server: server })
    }

    /// Runs statements.
    pub(super) async fn run(&self, sql: &str) -> BenchResult<()> {
        self.sql.batch_execute(sql).await.tried("prepare", "the target")
    }

    /// An empty table `books` with its indexes, no progress of anybody, and nothing left to write to disk.
    pub(super) async fn fresh(&self) -> BenchResult<()> {
        self.run("DROP TABLE IF EXISTS books; DROP SCHEMA IF EXISTS cutover CASCADE").await?;
        self.run(TABLE).await?;
        self.run(INDEXES).await?;
        self.run("CHECKPOINT").await
    }

    /// Rows of `books` now.
    pub(super) async fn rows(&self) -> BenchResult<u64> {
        let row = self.sql.query_one("SELECT count(*) FROM books", &[]).await;
        let rows: i64 = row.and_then(|r| r.try_get(0)).tried("count", "books")?;
        Ok(u64::try_from(rows).unwrap_or(0))
    }
}

/// What a contestant is started with.
#[derive(Clone, Debug, Default)]
pub struct Brief {
    /// Its name.
    pub name: String,
    /// The source's endpoint.
    pub source: String,
    /// The target's URL.
    pub target: String,
    /// Rows, changes, frames or repetitions.
    pub rows: u64,
    /// Parallel streams.
    pub streams: u32,
    /// One more number, where a contestant needs one.
    pub extra: u64,
}

impl Brief {
    /// Runs the contestant in a process of its own and reads what it measured.
    pub(super) async fn run(&self) -> BenchResult<Sample> {
        let program = std::env::current_exe().tried("find", "this program")?;
        let mut command = Command::new(program);
        command.args(["bench", "contestant", "--contestant", &self.name]);
        command.args(["--rows", &self.rows.to_string()]);
        command.args(["--streams", &self.streams.to_string(), "--extra", &self.extra.to_string()]);
        // The password belongs to a throwaway server, and still should not appear in a list of processes.
        command.env("CUTOVER_BENCH_SOURCE", &self.source).env("CUTOVER_BENCH_TARGET", &self.target);
        command.env("CUTOVER_BENCH_SECRET", "new");
        measured(command, &self.name).await
    }
}

/// Runs a process to its end; its last line is what it measured.
pub(super) async fn measured(mut command: Command, name: &str) -> BenchResult<Sample> {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.tried("start", name)?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last = errors.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("nothing said").to_owned();
        return Err(BenchError::new("run", name, format!("{}: {last}", output.status)));
    }
    let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(last).map_err(|e| BenchError::new("read what was measured by", name, e))
}

/// Other people's tools, if they are installed: a Python with boto3, psycopg2 and the AWS CLI beside our scripts.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    scripts: PathBuf,
    /// The environment's programs.
    pub bin: PathBuf,
}

impl Peers {
    /// The peers of a folder of scripts. Makes the Python environment on first use; without network or Python there
    /// are no peers, and the report says so.
    pub(super) async fn find(scripts: &Path, say: &(dyn Fn(&str) + Sync)) -> Option<Self> {
        if !scripts.join("boto3_copy.py").exists() {
            say(&format!("no peers: {} holds no scripts", scripts.display()));
            return None;
        }
        let home = std::env::var_os("HOME").map(PathBuf::from)?;
        let place = std::env::var_os("CUTOVER_PEERS").map_or_else(|| home.join(".cache/cutover/peers"), PathBuf::from);
        let bin = place.join("bin");
        if !bin.join("aws").exists() {
            say("making the peers' Python environment, once");
            let made = run("python3", &["-m", "venv", &place.display().to_string()]).await;
            let pip = bin.join("pip").display().to_string();
            let requirements = scripts.join("requirements.txt").display().to_string();
            if !made || !run(&pip, &["-q", "install", "-r", &requirements]).await {
                say("no peers: python3 with venv and a package index are needed");
                return None;
            }
        }
        Some(Self { scripts: scripts.to_owned(), bin })
    }

    /// Runs a script; its last line is what it measured.
    pub(super) async fn run(&self, script: &str, brief: &Brief) -> BenchResult<Sample> {
        let mut command = Command::new(self.bin.join("python"));
        command.arg(self.scripts.join(script));
        command.args([&brief.source, &brief.rows.to_string(), &brief.streams.to_string()]);
        command.env("CUTOVER_BENCH_TARGET", &brief.target).env("PATH", path_with(&self.bin));
        command.env("AWS_ACCESS_KEY_ID", "bench").env("AWS_SECRET_ACCESS_KEY", "bench");
        command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_EC2_METADATA_DISABLED", "true");
        measured(command, script).await
    }
}

fn path_with(bin: &Path) -> std::ffi::OsString {
    let mut path = bin.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

async fn run(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|s| s.success())
}
