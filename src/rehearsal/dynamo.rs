//! The embedded DynamoDB: dynoxide on a file, with the indexes it lacks.
//!
//! Plain, its scans and stream writes are quadratic: pages sort the rest of the table, and every stream record looks
//! for the largest sequence number without an index. Three indexes on its (private, pinned) schema make it flat.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The store could not be started or tuned.
#[derive(Debug, thiserror::Error)]
#[error("embedded DynamoDB: {tried}: {came_back}")]
pub struct DynamoError {
    tried: &'static str,
    came_back: String,
}

fn failed<E: std::fmt::Display>(tried: &'static str) -> impl Fn(E) -> DynamoError {
    move |e| DynamoError { tried, came_back: e.to_string() }
}

/// A running embedded DynamoDB.
pub struct EmbeddedDynamo {
    endpoint: String,
    file: PathBuf,
    dir: PathBuf,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl EmbeddedDynamo {
    /// Starts on a loopback port, with its file in memory where the system has such a place.
    pub async fn start() -> Result<Self, DynamoError> {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        sweep(&base);
        let dir = base.join(format!("cutover-dynamo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        std::fs::create_dir_all(&dir).map_err(failed("make its folder"))?;
        let file = dir.join("dynamo.db");
        let database = dynoxide::Database::new(&file.to_string_lossy()).map_err(failed("open its file"))?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(failed("listen"))?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(failed("listen"))?);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            if let Err(e) = dynoxide::server::serve_with_shutdown(listener, database, stopped).await {
                tracing::error!(error = %e, "embedded DynamoDB stopped");
            }
        });
        Ok(Self { endpoint, file, dir, stop, server })
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Adds the indexes for these tables. After they were created.
    pub fn tune(&self, tables: &[&str]) -> Result<(), DynamoError> {
        let connection = rusqlite::Connection::open(&self.file).map_err(failed("open its file again"))?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed("tune"))?;
        for (n, table) in tables.iter().enumerate() {
            let sql = format!(r#"CREATE INDEX IF NOT EXISTS cutover_scan_{n} ON "{table}"(hash_prefix, pk, sk)"#);
            connection.execute_batch(&sql).map_err(failed("index a table"))?;
        }
        connection
            .execute_batch(
                "CREATE INDEX IF NOT EXISTS cutover_seq ON _stream_records(table_name, CAST(sequence_number AS INTEGER));
                 CREATE INDEX IF NOT EXISTS cutover_shard ON
                   _stream_records(table_name, shard_id, CAST(sequence_number AS INTEGER));",
            )
            .map_err(failed("index its stream records"))
    }

    /// Stops and removes its file.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(2), &mut self.server).await;
    }
}

impl Drop for EmbeddedDynamo {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Removes what killed processes left behind.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("cutover-dynamo-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if let Some(pid) = pid
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
