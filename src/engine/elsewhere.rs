//! A rollback that another process performs past this console, because it could not be reached: it stands in a side
//! journal of the run. Without it a console would go on showing, and driving, a run that is over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::handle::RollbackOrder;
use crate::domain::run::{Event, RunState, RunStatus};
use crate::journal::{RunFolder, read};

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Side journals that are known, each with how many facts of it.
pub type KnownSides = BTreeMap<PathBuf, usize>;

/// Looks for such a rollback until `stop`, and takes its order for one that was given here: what it restored already is
/// found restored. What stands in the `known` facts was read when the run was opened, and is no order of now. On a thread
/// of its own, because a disk may hang.
///
/// # Errors
/// The thread could not be started.
pub(super) fn watch(
    folder: RunFolder,
    mut known: KnownSides,
    state: watch::Receiver<Arc<RunState>>,
    order: Arc<watch::Sender<Option<RollbackOrder>>>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let look = move || {
        let mut sizes = BTreeMap::new();
        while !stop.is_cancelled() {
            for found in ordered(&folder, &mut known, &mut sizes) {
                tracing::warn!(by = ?found.by, "another process rolls this run back");
                let rolling_back = state.borrow().status == RunStatus::RollingBack;
                order.send_if_modified(|order| {
                    let is_new = order.is_none() || !rolling_back;
                    if is_new {
                        *order = Some(found);
                    }
                    is_new
                });
            }
            std::thread::sleep(EVERY);
        }
    };
    std::thread::Builder::new().name("elsewhere".to_owned()).spawn(look).map(drop)
}

/// Orders that stand in side journals behind what is known. A file is read again when its size is another one.
fn ordered(folder: &RunFolder, known: &mut KnownSides, sizes: &mut BTreeMap<PathBuf, u64>) -> Vec<RollbackOrder> {
    let mut found = Vec::new();
    for path in folder.side_journals().unwrap_or_default() {
        let Ok(size) = path.metadata().map(|m| m.len()) else { continue };
        if sizes.get(&path) == Some(&size) {
            continue;
        }
        // Half a line is left out, and read once the rest of it has come.
        let Ok(side) = read(&path) else { continue };
        let before = known.insert(path.clone(), side.facts.len()).unwrap_or(0);
        sizes.insert(path, size);
        found.extend(side.facts.into_iter().skip(before).filter_map(|fact| match fact.event {
            Event::RollbackOrdered { by, cause } => Some(RollbackOrder { by, cause }),
            _ => None,
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::at::At;
    use crate::domain::run::{Actor, Cause, Fact, Level};
    use crate::journal::{Header, JournalWriter};

    #[test]
    fn an_order_is_taken_once_and_one_that_was_known_at_the_start_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "trial", At(0)).unwrap();
        let header = Header::new("trial", "hash", "alice", "bastion", At(0));
        let note = Event::Note { level: Level::Info, source: "console".into(), text: "one".into() };
        let mut main = JournalWriter::create(&folder, &header).unwrap();
        main.append(&[Fact { seq: 1, at: At(1), event: note }]).unwrap();
        let (mut known, mut sizes) = Default::default();
        assert_eq!(ordered(&folder, &mut known, &mut sizes), []);
        let by = |name: &str| RollbackOrder { by: Actor::Terminal(name.into()), cause: Cause::Asked };
        let side = |name: &str, seq| {
            let (mut side, _) = JournalWriter::create_side(&folder, &header, name).unwrap();
            let RollbackOrder { by, cause } = by(name);
            side.append(&[Fact { seq, at: At(2), event: Event::RollbackOrdered { by, cause } }]).unwrap();
        };
        side("bob-1", 2);
        assert_eq!(ordered(&folder, &mut known, &mut sizes), [by("bob-1")]);
        assert_eq!(ordered(&folder, &mut known, &mut sizes), [], "once");
        // Another console opens the run: it has read what stands there.
        let mut at_the_start = known.clone();
        let mut never_looked = BTreeMap::new();
        assert_eq!(ordered(&folder, &mut at_the_start, &mut never_looked), [], "yesterday's order");
        side("carol-2", 3);
        assert_eq!(ordered(&folder, &mut at_the_start, &mut never_looked), [by("carol-2")]);
        assert_eq!(ordered(&folder, &mut known, &mut sizes), [by("carol-2")]);
    }
}
