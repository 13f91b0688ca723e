//! Markers that are sent through again and again to measure the whole way (FEATURES B2).

use std::sync::Arc;
use std::time::Duration;

use super::context::WorkerContext;
use crate::domain::gauge::Reading;
use crate::domain::plan::Table;
use crate::ports::{ErrorKind, PortError, PortResult};

/// Longest that a put or a delete may be on the wire.
const ON_THE_WIRE: Duration = Duration::from_secs(8);

/// Measures the way of a marker through the whole path, again and again.
pub async fn markers(ctx: Arc<WorkerContext>, table: Table) {
    let every = Duration::from_millis(ctx.plan.follow.marker_every_ms.max(200));
    let mut left = None;
    while !ctx.tasks.unfollowed() {
        tokio::select! {
            () = ctx.tasks.until_unfollowed() => return,
            () = tokio::time::sleep(every) => {}
        }
        // Nothing comes by a mover any more once customers are in, and the table of its markers goes with it.
        if table.mover.is_some() && ctx.standing().open_to_customers {
            return;
        }
        if *ctx.limits.paused.borrow() {
            continue;
        }
        // A new one comes only once the last is gone.
        let last = left.take();
        let work = measured(Arc::clone(&ctx), table.clone(), last);
        left = ctx.tasks.finish(work).await.ok().flatten();
    }
}

/// Measures the way of one marker, and removes it: to its end, so that none is left in a customer's table. Where `last` was
/// left it removes that one instead. Gives the one that could not be removed.
async fn measured(ctx: Arc<WorkerContext>, table: Table, last: Option<String>) -> Option<String> {
    if let Some(last) = last {
        return remove(&ctx, &table, last).await;
    }
    let nonce = uuid::Uuid::new_v4().to_string();
    let began = ctx.mono();
    match on_the_wire(ctx.ports.source(&table).put_marker(&table, &nonce)).await {
        Ok(()) => {
            let seen = tokio::select! {
                seen = came_through(&ctx, &table, &nonce, began) => Some(seen),
                () = ctx.tasks.stopping() => None,
            };
            if let Some(seen) = seen {
                let wall = ctx.wall();
                let took = seen.then(|| (ctx.mono() - began) as f64);
                ctx.latest.table(&table.id, |g| g.lag.marker = Reading { value: took, at: wall });
            }
        }
        Err(e) => {
            tracing::warn!(table = %table.id, error = %e, "marker not written");
            // It was refused; what was not answered may have been written all the same.
            if !e.kind.transient() {
                return None;
            }
        }
    }
    remove(&ctx, &table, nonce).await
}

/// Whether it arrives within a minute, while following goes on.
async fn came_through(ctx: &WorkerContext, table: &Table, nonce: &str, began: i64) -> bool {
    while ctx.mono() - began < 60_000 && !ctx.tasks.unfollowed() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if matches!(ctx.ports.target.marker(table, nonce).await, Ok(Some(_))) {
            return true;
        }
    }
    false
}

/// Removes a marker; gives it back where that failed.
async fn remove(ctx: &WorkerContext, table: &Table, nonce: String) -> Option<String> {
    let e = on_the_wire(ctx.ports.source(table).delete_marker(table, &nonce)).await.err()?;
    tracing::warn!(table = %table.id, error = %e, "marker not removed");
    Some(nonce)
}

/// A call with a limit: a stop waits for it.
pub(super) async fn on_the_wire(call: impl Future<Output = PortResult<()>>) -> PortResult<()> {
    match tokio::time::timeout(ON_THE_WIRE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(PortError::new(ErrorKind::TimedOut, "put or delete", "a marker", "no answer in time")),
    }
}
