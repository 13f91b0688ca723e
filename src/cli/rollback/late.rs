//! After a rollback: writes that reached the new side later are applied too.

use super::PATIENCE;
use super::disk::SavedRun;
use super::recorded;
use super::recorder::Recorder;
use crate::cli::exit::Exit;
use crate::cli::out::{print, say};
use crate::cli::world::{self, Driver};
use crate::engine::MachineClock;
use crate::engine::rollback::drained;
use crate::workers::reverse::{possible, uncarried};

/// Applies what reached the new side since the run was rolled back.
pub(super) async fn late(found: &SavedRun) -> Exit {
    let SavedRun { folder, plan, state, .. } = found;
    if !possible(plan, state) {
        return Exit::RolledBack;
    }
    let undo = world::rollback_ports(found.connections.clone(), &found.plan)().await;
    let waits = async {
        let ports = (undo.reverse)().await?;
        uncarried(&ports, &plan.tables).await.map_err(|e| e.to_string())
    };
    let waits = tokio::time::timeout(PATIENCE * 10, waits).await;
    match waits.unwrap_or_else(|_| Err("the target does not answer".to_owned())) {
        Ok(0) => return Exit::RolledBack,
        Ok(_) => {}
        Err(why) => {
            print(&format!(
                "whether writes reached the new side since is not known ({why}); run `cutover rollback {}` again once \
                 the target can be asked\n",
                folder.id()
            ));
            return Exit::Stuck;
        }
    }
    say("writes reached the new side since; carrying them back");
    let recorder = Recorder::start(folder, &Driver::here(), state, false);
    let drained = Box::pin(drained(plan, folder.id(), &undo.reverse, &recorder, &MachineClock::default(), true)).await;
    drained.left.iter().for_each(|line| print(&format!("{line}\n")));
    drained.evidence.iter().for_each(|e| print(&format!("  {}  {}\n", e.name, e.value)));
    let exit = if drained.left.is_empty() { Exit::RolledBack } else { Exit::Stuck };
    recorded(found, exit, recorder.end().await)
}
