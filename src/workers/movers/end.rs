//! The end of a mover: stopped before customers are let in, and removed once nobody needs it.

use std::sync::Arc;
use std::time::Duration;

use super::{STOPPED, tell};
use crate::domain::plan::{MoverOf, Step};
use crate::domain::run::{Action, Event, Evidence, Level, MoverOrder, OutcomeResult, StepError};
use crate::ports::{ByStore, ErrorKind, Mover, PortError, PortResult};
use crate::workers::context::WorkerContext;
use crate::workers::trouble::{evidence, not_recorded};

/// How long both ends may take once a run is over. They may be asked again later, by the next run or by a release.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stops every mover, for the last step before customers are let in: when this returns none of them writes any more.
///
/// # Errors
/// One is not known to be stopped: nobody is let in then.
pub async fn stopped(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    for of in ctx.plan.movers() {
        tell(ctx, &of, Some((step, attempt)), MoverOrder::Stop).await?;
        found.push(evidence(format!("mover {}", of.name()), STOPPED, ctx.wall(), "pg_stat_subscription"));
    }
    Ok(found)
}

/// Removes every mover, once customers are in: the source would keep its log for it. One that cannot be removed keeps nobody
/// out; it is named, and tried again at the end of the run.
///
/// # Errors
/// Something could not be recorded.
pub async fn gone(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    for of in ctx.plan.movers() {
        let said = match tell(ctx, &of, Some((step, attempt)), MoverOrder::Remove).await {
            Ok(read_back) => read_back,
            Err(e) => {
                let said = format!("NOT gone: {}; {}", e.message, e.advice);
                let text = format!("{}: {said}", of.name());
                let note = Event::Note { level: Level::Warn, source: "mover".to_owned(), text };
                ctx.facts.state(note).await.map_err(|e| not_recorded(&e))?;
                said
            }
        };
        found.push(evidence(format!("mover {}", of.name()), said, ctx.wall(), "pg_subscription"));
    }
    Ok(found)
}

/// The fact before a mover is removed at the end of a run. `pass` tells attempts apart.
pub fn intent(of: &MoverOf, pass: &str) -> (String, Event) {
    let id = format!("mover/{}/remove/{pass}", of.name());
    let action = Action::TellMover { mover: of.name(), order: MoverOrder::Remove };
    (id.clone(), Event::Intent { id, step: None, action })
}

/// Removes a mover. Gives the outcome for the record, and what is left to do where it is not known to be done.
pub async fn remove(movers: &ByStore<dyn Mover>, of: &MoverOf, id: String) -> (Event, Option<String>) {
    let name = of.name();
    let removed = tokio::time::timeout(PATIENCE, movers.named(&name).remove()).await;
    let removed: PortResult<()> = removed.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", PATIENCE.as_secs());
        Err(PortError::new(ErrorKind::TimedOut, "remove", &name, why)
            .advise("cutover release does it once both answer"))
    });
    let (result, left) = match removed {
        Ok(()) => (OutcomeResult::Done { read_back: "it is gone from both sides".to_owned(), version: None }, None),
        Err(e) => (OutcomeResult::Unknown { error: e.to_string() }, Some(format!("{name} is not gone: {e}"))),
    };
    (Event::Outcome { id, result }, left)
}

impl WorkerContext {
    /// Removes a mover once the run is over: see [`remove`].
    pub async fn remove_mover(&self, of: &MoverOf, id: String) -> (Event, Option<String>) {
        remove(&self.ports.movers, of, id).await
    }
}
