//! `pg_dump` and `pg_restore`, as this machine has them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::Chosen;
use crate::adapters::postgres::names::ident;
use crate::adapters::postgres::settings::{PgSettings, SslMode};
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is tried.
const TRIED: &str = "read the DDL of the tables of";
/// What to do where no tool can be used.
const ADVICE: &str = "or make the tables on the new side yourself and write ddl = \"none\" in the move";
/// Longest a tool may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Where distributions keep the tools of each version.
const FOLDERS: [&str; 2] = ["/usr/lib/postgresql", "/usr"];
/// Where systems keep the certificate authorities they trust, for tools that do not ask the system themselves.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// A `pg_dump` and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tool {
    path: PathBuf,
    version: u32,
}

/// The whole schema as `pg_restore` writes it, with what each entry needs, but without `others`.
///
/// # Errors
/// No tool of the server's version or a newer one; what the tool said; no answer in time.
pub(super) async fn dump(settings: &PgSettings, server: u32, others: &[Chosen]) -> PortResult<String> {
    let place = settings.place();
    let tool = fitting(server, &found().await, &place)?;
    let mut dump = Command::new(&tool.path);
    dump.args([
        "--format=custom",
        "--compress=0",
        "--schema-only",
        "--no-owner",
        "--no-privileges",
        "--no-tablespaces",
    ])
    .args(["--no-publications", "--no-subscriptions", "--no-security-labels", "--no-password", "--encoding=UTF8"])
    .args(["--lock-wait-timeout=30000", "--exclude-schema=cutover"])
    .args(others.iter().map(|t| format!("--exclude-table={}.{}", ident(&t.schema), ident(&t.name))));
    reach(&mut dump, settings, tool.version);
    let archive = run(dump, &tool.path, Vec::new(), &place).await?;
    let path = tool.path.with_file_name("pg_restore");
    let mut restore = Command::new(&path);
    restore.args(["--verbose", "--no-owner", "--no-privileges", "--file=-"]);
    plain_words(&mut restore);
    let text = run(restore, &path, archive, &place).await?;
    String::from_utf8(text)
        .map_err(|_| PortError::new(ErrorKind::Invalid, TRIED, place, "pg_dump wrote what is no UTF-8").advise(ADVICE))
}

/// No variable of whoever started us leads the tool elsewhere, and it speaks English.
fn plain_words(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            command.env_remove(name);
        }
    }
    command.env("LC_MESSAGES", "C").env_remove("LC_ALL").env_remove("LANGUAGE");
}

/// How the server is reached. The password stands in the tool's own environment, which only its user can read, and on no
/// command line.
fn reach(command: &mut Command, settings: &PgSettings, version: u32) {
    plain_words(command);
    command
        .env("PGHOST", &settings.host)
        .env("PGPORT", settings.port.to_string())
        .env("PGDATABASE", &settings.database)
        .env("PGUSER", &settings.user)
        .env("PGAPPNAME", "cutover")
        .env("PGCONNECT_TIMEOUT", "10");
    if let Some(password) = &settings.password {
        command.env("PGPASSWORD", password.reveal());
    }
    command.env(
        "PGSSLMODE",
        match settings.sslmode {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyFull => "verify-full",
        },
    );
    if settings.sslmode != SslMode::VerifyFull {
        return;
    }
    match &settings.ca_file {
        Some(file) => drop(command.env("PGSSLROOTCERT", file)),
        None if version >= 16 => drop(command.env("PGSSLROOTCERT", "system")),
        None => {
            if let Some(file) = AUTHORITIES.iter().find(|file| Path::new(file).is_file()) {
                command.env("PGSSLROOTCERT", file);
            }
        }
    }
}

async fn run(mut command: Command, path: &Path, input: Vec<u8>, place: &str) -> PortResult<Vec<u8>> {
    let failed = |kind, why: String| {
        let came_back = format!("{}: {why}", path.display());
        PortError::new(kind, TRIED, place, came_back).advise(format!("see what it says, {ADVICE}"))
    };
    let not_run = |e: std::io::Error| failed(ErrorKind::Invalid, e.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(not_run)?;
    let stdin = child.stdin.take();
    let fed = async move {
        if let Some(mut stdin) = stdin {
            // What it does not read it says itself.
            let _ = stdin.write_all(&input).await;
        }
    };
    let both = async { tokio::join!(fed, child.wait_with_output()).1 };
    let ended = tokio::time::timeout(PATIENCE, both).await;
    let output = ended
        .map_err(|_| failed(ErrorKind::TimedOut, format!("no end after {} s", PATIENCE.as_secs())))?
        .map_err(not_run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let why = reason(&String::from_utf8_lossy(&output.stderr));
    let denied = ["permission denied", "authentication failed"].iter().any(|words| why.contains(words));
    Err(failed(if denied { ErrorKind::Denied } else { ErrorKind::Invalid }, why))
}

/// What a tool says went wrong. It reads no data, so the statement it names holds none; of a lock that did not come, the
/// table is named there only.
fn reason(said: &str) -> String {
    let matters = |line: &&str| line.contains("error:") || line.to_lowercase().contains("query was: lock table");
    let lines: Vec<&str> = said.lines().filter(matters).collect();
    if lines.is_empty() {
        return said.lines().last().unwrap_or("no word of why").to_owned();
    }
    let why = lines.join("; ");
    // Its wait for a lock is bounded by the statement's limit.
    let locked = why.to_lowercase().contains("lock table") && why.contains("timeout");
    if locked { format!("another session holds a lock on a table (see pg_locks): {why}") } else { why }
}

/// Every `pg_dump` on this machine that says its version: in the folders of `PATH`, and where distributions keep them.
async fn found() -> Vec<Tool> {
    let mut folders: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    for folder in FOLDERS {
        let inside = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
        folders.extend(inside);
    }
    let mut tools: Vec<Tool> = Vec::new();
    for folder in folders {
        let path = folder.join("pg_dump");
        if tools.iter().any(|tool| tool.path == path) || !path.is_file() || !folder.join("pg_restore").is_file() {
            continue;
        }
        let mut asked = Command::new(&path);
        plain_words(&mut asked);
        let asked = asked.arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
        if let Ok(Ok(said)) = tokio::time::timeout(Duration::from_secs(30), asked).await
            && let Some(version) = version(&String::from_utf8_lossy(&said.stdout))
        {
            tools.push(Tool { path, version });
        }
    }
    tools
}

/// `pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)` is 15.
fn version(said: &str) -> Option<u32> {
    let number = said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The tool of the server's own version, else the nearest newer one: an older one cannot read the server.
fn fitting(server: u32, tools: &[Tool], place: &str) -> PortResult<Tool> {
    if let Some(tool) = tools.iter().filter(|tool| tool.version >= server).min_by_key(|tool| tool.version) {
        return Ok(tool.clone());
    }
    let found: Vec<String> =
        tools.iter().map(|tool| format!("{} is version {}", tool.path.display(), tool.version)).collect();
    let found =
        if found.is_empty() { "none is on PATH or in /usr/lib/postgresql".to_owned() } else { found.join(", ") };
    let came_back =
        format!("the server is version {server}, which takes a pg_dump of version {server} or newer; {found}");
    let advice = format!("install the client programs of PostgreSQL {server} (postgresql-client-{server}), {ADVICE}");
    Err(PortError::new(ErrorKind::NotFound, TRIED, place, came_back).advise(advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_does_not_come_is_told_with_its_table() {
        let said = "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n\
                    pg_dump: detail: Query was: LOCK TABLE public.l IN ACCESS SHARE MODE\n";
        let why = reason(said);
        assert!(why.contains("another session holds a lock") && why.contains("LOCK TABLE public.l"), "{why}");
        assert_eq!(reason("pg_dump: error: one\npg_dump: hint: two\n"), "pg_dump: error: one");
        assert_eq!(reason("one\ntwo\n"), "two");
    }

    #[test]
    fn the_tool_of_the_servers_version_is_taken_else_a_newer_one_and_an_older_one_is_named() {
        let tools = [13, 17, 15].map(|version| Tool { path: format!("/usr/bin/{version}").into(), version });
        let taken = |server| fitting(server, &tools, "db").map(|tool| tool.version);
        assert_eq!((taken(15), taken(16), taken(12)), (Ok(15), Ok(17), Ok(13)));
        let refused = taken(18).unwrap_err();
        assert!(refused.came_back.contains("server is version 18"), "{refused}");
        assert!(refused.came_back.contains("/usr/bin/13 is version 13"), "{refused}");
        assert!(
            refused.advice.contains("postgresql-client-18") && refused.advice.contains("ddl = \"none\""),
            "{refused}"
        );
        assert!(fitting(15, &[], "db").unwrap_err().came_back.contains("none is on PATH"));
        for (said, number) in [
            ("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", Some(15)),
            ("pg_dump (PostgreSQL) 18beta1", Some(18)),
            ("no such thing", None),
        ] {
            assert_eq!(version(said), number, "{said}");
        }
    }
}
