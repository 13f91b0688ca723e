//! DynamoDB inside the process: an emulator on a SQLite file, served over loopback HTTP.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use dynoxide::Database;
use tokio::sync::oneshot;

use super::error::{RehearsalError, RehearsalResult};

/// Folders of ours begin with this; the process id follows.
const PREFIX: &str = "cutover-rehearsal-";
/// Held locked while the folder is in use; the kernel lets go of it when the process dies, however it dies.
const LOCK: &str = "lock";
/// How long requests that are being served may hold up the end.
const GRACE: Duration = Duration::from_millis(500);

/// An embedded DynamoDB. Dropping it stops the server and removes its files.
///
/// It runs on threads of its own: the emulator's SQLite calls block, and must not block a screen.
pub struct EmbeddedDynamo {
    endpoint: String,
    db: Option<Database>,
    file: PathBuf,
    folder: Scratch,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for EmbeddedDynamo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedDynamo").field("endpoint", &self.endpoint).field("file", &self.file).finish()
    }
}

impl EmbeddedDynamo {
    /// Where its files go when nobody says otherwise: `/dev/shm` when it can be written, else the temporary folder.
    #[must_use]
    pub fn place() -> PathBuf {
        let shm = Path::new("/dev/shm");
        if cfg!(target_os = "linux") && rustix::fs::access(shm, rustix::fs::Access::WRITE_OK).is_ok() {
            return shm.to_owned();
        }
        std::env::temp_dir()
    }

    /// Starts a server with no tables on a free loopback port, in a new folder under `dir`.
    ///
    /// Folders that a dead process left under `dir` are removed first.
    pub fn start(dir: &Path) -> RehearsalResult<Self> {
        remove_stale(dir);
        let on = || dir.display().to_string();
        let folder = Scratch::new(dir).map_err(|e| RehearsalError::new("make a folder in", on(), e))?;
        let file = folder.path.join("dynamo.db");
        let path = file.to_str().ok_or_else(|| RehearsalError::new("open", on(), "the path is not UTF-8"))?;
        let db = Database::new(path).map_err(|e| RehearsalError::new("open", path, e))?;
        // The file is gone after the run anyway; without this a disk slows everything down.
        db.enable_bulk_loading().map_err(|e| RehearsalError::new("open", path, e))?;

        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, started) = mpsc::channel();
        let served = db.clone();
        let thread = std::thread::Builder::new()
            .name("dynamo".into())
            .spawn(move || serve(served, stopped, &ready))
            .map_err(|e| RehearsalError::new("start", "the embedded DynamoDB", e))?;
        let address = started
            .recv()
            .map_err(|_| RehearsalError::new("start", "the embedded DynamoDB", "its thread ended"))?
            .map_err(|e| RehearsalError::new("start", "the embedded DynamoDB", e))?;
        let endpoint = format!("http://{address}");
        Ok(Self { endpoint, db: Some(db), file, folder, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it answers: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The emulator itself, for loading data without HTTP. No stream records come of that.
    #[cfg_attr(not(feature = "rehearsal"), allow(dead_code))]
    pub(crate) const fn database(&self) -> Option<&Database> {
        self.db.as_ref()
    }

    /// The folder that holds its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    /// Gives the emulator the indexes it lacks. Call it once the tables exist.
    ///
    /// Without them a parallel scan sorts the whole table for every page, and every stream write searches all
    /// stream records: both turn quadratic. This leans on the emulator's private schema, hence its pinned version.
    pub fn tune(&self, tables: &[&str]) -> RehearsalResult<()> {
        let failed = |e: rusqlite::Error| RehearsalError::new("index", self.file.display().to_string(), e);
        let connection = rusqlite::Connection::open(&self.file).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        connection
            .execute_batch(
                "CREATE INDEX IF NOT EXISTS ix_newest_record
                   ON _stream_records (table_name, CAST(sequence_number AS INTEGER));
                 CREATE INDEX IF NOT EXISTS ix_shard_record
                   ON _stream_records (table_name, shard_id, CAST(sequence_number AS INTEGER));",
            )
            .map_err(failed)?;
        for table in tables {
            let table = table.replace('"', "\"\"");
            let sql = format!("CREATE INDEX IF NOT EXISTS \"ix_scan_{table}\" ON \"{table}\" (hash_prefix, pk, sk)");
            connection.execute_batch(&sql).map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for EmbeddedDynamo {
    fn drop(&mut self) {
        self.db = None;
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Bounded by GRACE and the runtime's own shutdown.
            let _ = thread.join();
        }
    }
}

fn serve(db: Database, stopped: oneshot::Receiver<()>, ready: &mpsc::Sender<io::Result<std::net::SocketAddr>>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("dynamo-worker").enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = ready.send(Err(e));
            return;
        }
    };
    runtime.block_on(async {
        let bound = tokio::net::TcpListener::bind("127.0.0.1:0").await.and_then(|l| Ok((l.local_addr()?, l)));
        let (address, listener) = match bound {
            Ok(bound) => bound,
            Err(e) => {
                let _ = ready.send(Err(e));
                return;
            }
        };
        let _ = ready.send(Ok(address));
        let (quit, quitting) = oneshot::channel::<()>();
        let server = dynoxide::server::serve_with_shutdown(listener, db, async {
            let _ = quitting.await;
        });
        let end = async {
            let _ = stopped.await;
            drop(quit);
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            outcome = server => if let Err(e) = outcome { tracing::warn!("embedded DynamoDB: {e}") },
            () = end => {}
        }
    });
    runtime.shutdown_timeout(GRACE);
}

/// A folder that goes away with its owner.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    fn new(dir: &Path) -> io::Result<Self> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let path = dir.join(name);
        fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes folders whose owner is gone. A folder in use is known by its lock, not by its process id: ids are
/// used again, and other containers that share `/dev/shm` have ids of their own.
fn remove_stale(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|n| n.starts_with(PREFIX)) && abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn abandoned(path: &Path) -> bool {
    match File::open(path.join(LOCK)) {
        Ok(file) => match file.try_lock() {
            // A folder that was made this moment may not be locked yet.
            Ok(()) => older_than(path, Duration::from_secs(2)),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        },
        Err(e) => e.kind() == io::ErrorKind::NotFound && older_than(path, Duration::from_secs(60)),
    }
}

fn older_than(path: &Path, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|m| m.modified());
    modified.ok().and_then(|m| m.elapsed().ok()).is_some_and(|e| e >= age)
}

#[cfg(all(test, feature = "rehearsal"))]
mod tests;
