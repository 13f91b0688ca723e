//! What may stand between us and the server, and beside it: a name that can point elsewhere, a standby, a pooler.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_postgres::Client;

use crate::private::postgres::{PostgresOptions, PrivatePostgres};

/// A server for this test alone: what is done to it affects no other test.
pub(super) async fn own_server() -> PrivatePostgres {
    let start = || PrivatePostgres::start(&PostgresOptions::default(), |_| {}).unwrap();
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// Waits until a query says true.
pub(super) async fn until(sql: &Client, asked: &str) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(180);
    while !sql.query_one(&format!("SELECT ({asked})::boolean"), &[]).await.unwrap().get::<_, bool>(0) {
        assert!(tokio::time::Instant::now() < limit, "never true: {asked}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens.
async fn listening(port: u16, child: &mut Child, log: &Path) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(180);
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(child.try_wait().unwrap().is_none(), "it ended: {}", log());
        assert!(tokio::time::Instant::now() < limit, "nobody listens: {}", log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A host name that can be pointed at another server: what is connected stays where it is.
pub(super) struct HostName {
    pub port: u16,
    to: Arc<AtomicU16>,
}

impl HostName {
    pub(super) async fn of(port: u16) -> Self {
        let to = Arc::new(AtomicU16::new(port));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let now = Arc::clone(&to);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let to = now.load(Ordering::Acquire);
                tokio::spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self { port, to }
    }

    pub(super) fn point_at(&self, port: u16) {
        self.to.store(port, Ordering::Release);
    }
}

/// Connects as soon as the server accepts connections.
pub(super) async fn connect_once_up(url: &str) -> Client {
    let limit = tokio::time::Instant::now() + Duration::from_secs(180);
    loop {
        match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(e) => assert!(tokio::time::Instant::now() < limit, "nobody is let in: {e:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A process in a folder of its own, run by the user the private server runs as. Dropping it ends the process.
struct Neighbour {
    dir: PathBuf,
    child: Option<Child>,
    owner: (u32, u32),
}

impl Neighbour {
    fn new(server: &PrivatePostgres) -> Self {
        let owner = std::fs::metadata(server.directory().join("data")).unwrap();
        let dir = tempfile::Builder::new().prefix("cutover-test-").tempdir().unwrap().keep();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        let owner = (owner.uid(), owner.gid());
        chown(&dir, Some(owner.0), Some(owner.1)).unwrap();
        Self { dir, child: None, owner }
    }

    fn command(&self, program: &Path) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(program);
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.gid(self.owner.1).uid(self.owner.0);
        }
        command
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.dir.join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(self.owner.0), Some(self.owner.1)).unwrap();
    }

    async fn start(&mut self, mut command: Command, port: u16) {
        let log = self.dir.join("log");
        listening(port, self.child.insert(command.spawn().unwrap()), &log).await;
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A postmaster that is killed takes its children with it.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A hot standby of a server.
pub(super) struct Standby {
    pub port: u16,
    _process: Neighbour,
}

/// A standby that was copied and does not run yet.
pub(super) struct Copied {
    process: Neighbour,
    bin: PathBuf,
}

impl Standby {
    /// `None` where it cannot be had, see [`installed`].
    pub(super) async fn of(server: &PrivatePostgres) -> Option<Self> {
        Some(Self::copied(server)?.start().await)
    }

    /// The same, but it is not started.
    pub(super) fn copied(server: &PrivatePostgres) -> Option<Copied> {
        let bin = installed("pg_basebackup", "postgresql")?;
        let process = Neighbour::new(server);
        let data = process.dir.join("data");
        let ran = process
            .command(&bin)
            .args(["-R", "-X", "stream", "-c", "fast", "-D"])
            .arg(&data)
            .arg("-d")
            .arg(server.url())
            .status();
        let log = || std::fs::read_to_string(process.dir.join("log")).unwrap_or_default();
        assert!(ran.unwrap().success(), "pg_basebackup: {}", log());
        Some(Copied { process, bin })
    }
}

impl Copied {
    /// Gives it the slots that the server has by now, as tools for failover do that keep them on standbys.
    pub(super) fn take_slots(&self, server: &PrivatePostgres) {
        let (from, to) = (server.directory().join("data/pg_replslot"), self.process.dir.join("data/pg_replslot"));
        for slot in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let dir = to.join(slot.file_name());
            let own = |path: &Path| chown(path, Some(self.process.owner.0), Some(self.process.owner.1)).unwrap();
            std::fs::create_dir(&dir).unwrap();
            own(&dir);
            std::fs::copy(slot.path().join("state"), dir.join("state")).unwrap();
            own(&dir.join("state"));
        }
    }

    pub(super) async fn start(self) -> Standby {
        let Self { mut process, bin } = self;
        let (data, port) = (process.dir.join("data"), free_port());
        let postgres = std::fs::canonicalize(&bin).unwrap().with_file_name("postgres");
        let mut command = process.command(&postgres);
        command.arg("-D").arg(&data).args(["-c", &format!("port={port}")]);
        command.args(["-c", &format!("unix_socket_directories={}", process.dir.display())]);
        process.start(command, port).await;
        Standby { port, _process: process }
    }
}

/// PgBouncer in front of a server.
pub(super) struct PgBouncer {
    pub port: u16,
    _process: Neighbour,
}

impl PgBouncer {
    /// `ignored` are startup parameters that it swallows. `None` where it cannot be had, see [`installed`].
    pub(super) async fn before(server: &PrivatePostgres, mode: &str, ignored: &str) -> Option<Self> {
        let bin = installed("pgbouncer", "pgbouncer")?;
        let mut process = Neighbour::new(server);
        let port = free_port();
        let (host, password) = (&server.host, server.password.reveal());
        process.write("users", &format!("\"{}\" \"{password}\"\n", server.user));
        process.write(
            "ini",
            &format!(
                "[databases]\n* = host={host} port={} user={} password={password}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = plain\nauth_file = users\npool_mode = {mode}\n\
                 default_pool_size = 1\nignore_startup_parameters = {ignored}\n",
                server.port, server.user
            ),
        );
        let mut command = process.command(&bin);
        command.arg("ini");
        process.start(command, port).await;
        Some(Self { port, _process: process })
    }
}

/// A program of this machine. `None`, said on stderr, when it has none; never when CI asks for it.
fn installed(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let real = |dir: PathBuf| std::fs::canonicalize(dir.join("postgres")).ok()?.parent().map(Path::to_path_buf);
    let beside = std::env::split_paths(&path).filter_map(real);
    let dirs = beside.chain(std::env::split_paths(&path)).chain([PathBuf::from("/usr/sbin")]);
    let found = dirs.map(|dir| dir.join(name)).find(|file| file.is_file());
    if found.is_none() {
        let missing = format!("{name} is missing: apt-get install {package}, or run tests/run.sh, which does");
        let required = std::env::var_os("CUTOVER_TEST_NEIGHBOURS_REQUIRED").is_some_and(|v| !v.is_empty());
        assert!(!required, "{missing}");
        eprintln!("skipped: {missing}");
    }
    found
}
