//! Markers that are sent through again and again to measure the whole way (FEATURES B2).

use std::sync::Arc;
use std::time::Duration;

use super::context::WorkerContext;
use crate::domain::gauge::Reading;
use crate::domain::plan::Table;

/// Measures the way of a marker through the whole path, again and again.
pub async fn markers(ctx: Arc<WorkerContext>, table: Table) {
    let every = Duration::from_millis(ctx.plan.follow.marker_every_ms.max(200));
    // It ends by itself, so that no marker is left in a customer's table.
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
        let nonce = uuid::Uuid::new_v4().to_string();
        let began = ctx.mono();
        if let Err(e) = ctx.ports.source(&table).put_marker(&table, &nonce).await {
            tracing::warn!(table = %table.id, error = %e, "marker not written");
            continue;
        }
        let mut seen = false;
        while ctx.mono() - began < 60_000 && !ctx.tasks.unfollowed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if matches!(ctx.ports.target.marker(&table, &nonce).await, Ok(Some(_))) {
                seen = true;
                break;
            }
        }
        let wall = ctx.wall();
        let took = seen.then(|| (ctx.mono() - began) as f64);
        ctx.latest.table(&table.id, |g| g.lag.marker = Reading { value: took, at: wall });
        if let Err(e) = ctx.ports.source(&table).delete_marker(&table, &nonce).await {
            tracing::warn!(table = %table.id, error = %e, "marker not removed");
        }
    }
}
