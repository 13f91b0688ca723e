//! Log files. Never the screen: the console owns it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

/// What is logged when nobody says otherwise: ourselves at info, drivers only when something is wrong.
pub const DEFAULT_FILTER: &str = "warn,cutover=info";

/// Keeps the log's thread alive; dropping it writes what is still queued. Belongs in `main`.
#[must_use]
pub struct Guard {
    _worker: WorkerGuard,
    dropped: ErrorCounter,
}

impl Guard {
    /// Lines that were dropped because the disk was too slow: logging never holds the run up.
    #[must_use]
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file could not be opened.
    #[error("open log {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The filter is not one.
    #[error("log filter {filter:?}: {why}; write it like `info` or `warn,cutover::workers=debug`")]
    Filter {
        /// What was asked for, usually in `CUTOVER_LOG`.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something else logs in this process already.
    #[error("logging is set up already")]
    Already,
}

/// Sends `tracing` to a file of mode 0600, appended to, through a thread of its own. `filter` is the value of
/// `CUTOVER_LOG`; [`DEFAULT_FILTER`] stands in when there is none.
///
/// # Errors
/// The file, the filter, or a second call in one process.
pub fn init(path: &Path, filter: Option<&str>) -> Result<Guard, LogError> {
    let filter = filter.filter(|f| !f.trim().is_empty()).unwrap_or(DEFAULT_FILTER);
    let (subscriber, guard) = subscriber(path, filter)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Already)?;
    Ok(guard)
}

/// Whether this is a filter.
///
/// # Errors
/// It is none.
pub fn check(filter: &str) -> Result<(), LogError> {
    parsed(filter).map(|_| ())
}

fn parsed(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder().parse(filter).map_err(|e| LogError::Filter { filter: filter.to_owned(), why: e.to_string() })
}

fn subscriber(path: &Path, filter: &str) -> Result<(impl tracing::Subscriber + Send + Sync + use<>, Guard), LogError> {
    let layers = parsed(filter)?;
    let failed = |source| LogError::Open { path: path.to_owned(), source };
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?;
    // The mode above only counts for a new file.
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let (writer, worker) = NonBlockingBuilder::default().lossy(true).thread_name("log").finish(file);
    let guard = Guard { _worker: worker, dropped: writer.error_counter() };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(false)
        .with_env_filter(layers)
        .with_target(true)
        .finish()
        .with(filter_fn(|of| ours(of.target()) || *of.level() <= Level::WARN));
    Ok((subscriber, guard))
}

/// Whether a line is the program's own. What a driver says below a warning may hold a password or a row, so that no
/// filter lets it through.
fn ours(target: &str) -> bool {
    target == "cutover" || target.starts_with("cutover::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_a_private_file_when_the_guard_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cutover.log");
        std::fs::write(&path, "before\n").unwrap();
        let (subscriber, guard) = subscriber(&path, DEFAULT_FILTER).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "cutover::workers", table = "books", "load started");
            tracing::info!(target: "hyper", "not ours");
            tracing::warn!(target: "hyper", "torn connection");
        });
        assert_eq!(guard.dropped_lines(), 0);
        drop(guard);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before\n") && text.contains("load started") && text.contains("table=\"books\""));
        assert!(text.contains("torn connection") && !text.contains("not ours"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_drivers_say_among_themselves_is_not_logged_whatever_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cutover.log");
        let (subscriber, guard) = subscriber(&path, "trace").unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "cutover::workers", "ours in full");
            tracing::debug!(target: "tokio_postgres::query", "executing with parameters: [\"hunter2\"]");
            tracing::trace!(target: "aws_smithy_runtime::client", "response body: hunter2");
            tracing::info!(target: "cutovers", "hunter2");
            tracing::warn!(target: "aws_smithy_runtime::client", "no answer");
        });
        drop(guard);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("ours in full") && text.contains("no answer"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_bad_filter_or_place_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let bad = init(&dir.path().join("a.log"), Some("cutover=loud")).err().unwrap().to_string();
        assert!(bad.contains("cutover=loud"), "{bad}");
        let bad = init(&dir.path().join("no/such/a.log"), None).err().unwrap();
        assert!(matches!(bad, LogError::Open { .. }), "{bad}");
    }
}
