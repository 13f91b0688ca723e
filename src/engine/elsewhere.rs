//! A rollback that another process performs past this console, because it could not be reached: it stands in a side
//! journal of the run. Without it a console would go on showing, and driving, a run that is over.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::handle::RollbackOrder;
use crate::domain::run::Event;
use crate::journal::{RunFolder, read_run};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Looks for such a rollback until `stop`, and takes its order for one that was given here: what it restored already is
/// found restored. On a thread of its own, because a disk may hang.
///
/// # Errors
/// The thread could not be started.
pub(super) fn watch(
    folder: RunFolder,
    order: Arc<watch::Sender<Option<RollbackOrder>>>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let look = move || {
        let mut seen = Vec::new();
        while !stop.is_cancelled() {
            if let Some(found) = ordered(&folder, &mut seen) {
                tracing::warn!(by = ?found.by, "another process rolls this run back");
                order.send_if_modified(|order| {
                    let fresh = order.is_none();
                    *order = order.take().or(Some(found));
                    fresh
                });
                return;
            }
            std::thread::sleep(EVERY);
        }
    };
    std::thread::Builder::new().name("elsewhere".to_owned()).spawn(look).map(drop)
}

/// The order that stands in a side journal, read anew whenever there is more in one than was `seen`.
fn ordered(folder: &RunFolder, seen: &mut Vec<(PathBuf, u64)>) -> Option<RollbackOrder> {
    let sides = folder.side_journals().ok()?.into_iter();
    let now: Vec<(PathBuf, u64)> = sides.filter_map(|path| Some((path.clone(), path.metadata().ok()?.len()))).collect();
    if now == *seen {
        return None;
    }
    // Half a line is read again when the rest of it has come.
    let record = read_run(folder).ok()?;
    *seen = now;
    record.facts.into_iter().find_map(|fact| match fact.event {
        Event::RollbackOrdered { by, cause } => Some(RollbackOrder { by, cause }),
        _ => None,
    })
}
