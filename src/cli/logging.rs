//! Where this process logs: the filter is known from the command line, the file once a run's folder is.

use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::exit::Exit;
use super::failure::Failure;
use crate::journal::RunFolder;
use crate::telemetry::{self, Guard};

/// How long a command waits for its log to be opened: a rollback waits for no disk.
const PATIENCE: Duration = Duration::from_millis(500);

static LOG: Mutex<Log> = Mutex::new(Log { filter: None, guard: None });

struct Log {
    filter: Option<String>,
    guard: Option<Guard>,
}

fn log() -> std::sync::MutexGuard<'static, Log> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what `--log` or `CUTOVER_LOG` asks for.
///
/// # Errors
/// It is no filter.
pub fn choose(filter: Option<String>) -> Result<(), Failure> {
    if let Some(filter) = &filter {
        telemetry::check(filter).map_err(|e| Failure::new(Exit::Usage, format!("--log {filter}: {e}")))?;
    }
    log().filter = filter;
    Ok(())
}

/// Logs into this run's folder from now on. A log that cannot be had is a warning.
pub fn into(folder: &RunFolder) {
    let (path, filter) = (folder.log(), log().filter.clone());
    let (done, opened) = channel();
    std::thread::spawn(move || {
        let result = telemetry::init(&path, filter.as_deref());
        let _ = done.send(result);
    });
    match opened.recv_timeout(PATIENCE) {
        Ok(Ok(guard)) => log().guard = Some(guard),
        // A second folder in one process: the first one's log goes on.
        Ok(Err(telemetry::LogError::Already)) => {}
        Ok(Err(e)) => super::out::say(&format!("warning: {e}; this is not logged")),
        Err(_) => super::out::say("warning: the disk does not answer; this is not logged"),
    }
}

/// Writes what is still queued.
pub fn end() {
    drop(log().guard.take());
}
