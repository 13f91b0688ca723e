//! Continuous verification: full passes, one table after the other, while changes are followed (FEATURES B4).
//!
//! Passes share the load's read budget and give way: to the verify step, to the freeze and what follows it. From the
//! moment customers write on the new side both sides differ by intent, and passes end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use super::context::{TableWork, WorkerContext};
use super::verify;
use crate::domain::plan::Table;

/// How often it is checked whether a pass must give way.
const POLL: Duration = Duration::from_millis(100);

/// Whose turn it is to read both sides whole.
#[derive(Debug, Default)]
pub struct Turn {
    lock: Mutex<()>,
    wanted: AtomicU32,
}

/// The turn of a pass somebody waits for.
#[derive(Debug)]
pub struct Wanted<'t> {
    turn: &'t Turn,
    _lock: MutexGuard<'t, ()>,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.turn.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Withdraws the request for the turn when the wait for it is given up.
struct Wish<'t>(&'t Turn);

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Turn {
    /// Takes the turn for a pass that is wanted now; a pass of the background ends at once.
    pub async fn wanted(&self) -> Wanted<'_> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        let wish = Wish(self);
        let lock = self.lock.lock().await;
        std::mem::forget(wish);
        Wanted { turn: self, _lock: lock }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }
}

/// Passes over every table until the new side is opened to customers.
pub async fn run(ctx: Arc<WorkerContext>) {
    let every = Duration::from_millis(ctx.plan.verify.every_ms.max(1_000));
    loop {
        for table in &ctx.plan.tables {
            if !ready(&ctx, table).await {
                return;
            }
            let Ok(_turn) = ctx.limits.turn.lock.try_lock() else { continue };
            tokio::select! {
                pass = verify::one(&ctx, table, false) => match pass {
                    Ok(summary) if summary.clean() => {}
                    Ok(summary) => {
                        tracing::warn!(table = %table.id, found = %verify::words(&summary), "both sides differ");
                    }
                    Err(e) => tracing::warn!(table = %table.id, error = %e.message, "pass not finished"),
                },
                () = gives_way(&ctx) => tracing::info!(table = %table.id, "pass gave way"),
            }
        }
        tokio::time::sleep(every).await;
    }
}

/// Waits until a pass over the table makes sense; `false` when none ever will again.
async fn ready(ctx: &WorkerContext, table: &Table) -> bool {
    loop {
        if ctx.standing().open_to_customers || ctx.any_ended().is_some() {
            return false;
        }
        // Before the first poll cycle what was written since the load began is missing by design.
        let followed = ctx.table(&table.id).is_some_and(TableWork::was_followed);
        if followed && !must_give_way(ctx) {
            return true;
        }
        tokio::time::sleep(POLL).await;
    }
}

fn must_give_way(ctx: &WorkerContext) -> bool {
    let standing = ctx.standing();
    ctx.limits.turn.is_wanted() || standing.locked_out || standing.open_to_customers
}

async fn gives_way(ctx: &WorkerContext) {
    while !must_give_way(ctx) {
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wanted_pass_is_known_to_be_wanted_until_it_ends() {
        let turn = Turn::default();
        let background = turn.lock.try_lock().unwrap();
        {
            let mut waiting = Box::pin(turn.wanted());
            assert!(futures::poll!(&mut waiting).is_pending());
            assert!(turn.is_wanted());
        }
        assert!(!turn.is_wanted(), "nobody waits any more");
        let mut waiting = Box::pin(turn.wanted());
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(background);
        let held = waiting.await;
        assert!(turn.is_wanted() && turn.lock.try_lock().is_err());
        drop(held);
        assert!(!turn.is_wanted() && turn.lock.try_lock().is_ok());
    }
}
