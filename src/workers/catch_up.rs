//! Catching up: every table's lag under the limit (FEATURES A2, B2).

use std::sync::Arc;
use std::time::Duration;

use super::context::{TableWork, WorkerContext};
use super::trouble::{evidence, step_error, world};
use crate::domain::run::{Evidence, StepError};
use crate::ports::Checkpoint;

/// Waits until every table's apply lag is under the limit, on fresh numbers.
pub async fn catch_up(ctx: &Arc<WorkerContext>, max_lag_ms: i64) -> Result<Vec<Evidence>, StepError> {
    for table in &ctx.plan.tables {
        let stored = ctx.ports.target.checkpoints(table).await.map_err(|e| step_error(&e))?;
        if !Checkpoint::are_whole(&stored) {
            return Err(world(
                format!("{}: the load has not ended, changes cannot be applied yet", table.id),
                "run the load step first",
            ));
        }
    }
    ctx.ensure_following();
    loop {
        if let Some(why) = ctx.any_ended() {
            return Err(world(why, "continuity is lost; open a new run, which loads again"));
        }
        let now = ctx.wall();
        let latest = ctx.measured();
        let mut found = Vec::new();
        for table in &ctx.plan.tables {
            let Some(gauge) = latest.tables.get(&table.id) else { continue };
            let lag = gauge.lag.apply.fresh(now, 5_000).filter(|ms| *ms <= max_lag_ms as f64);
            let swept = ctx.table(&table.id).is_some_and(TableWork::was_followed);
            if let Some(ms) = lag.filter(|_| swept) {
                let (value, source) = match table.mover {
                    None => (format!("{ms:.0}ms, {} changes applied", gauge.applied), "poll cycle"),
                    // How many changes it applied only its server knows.
                    Some(_) => (format!("{ms:.0}ms"), "what the source confirmed to its mover"),
                };
                found.push(evidence(format!("lag {}", table.id), value, gauge.lag.apply.at, source));
            }
        }
        if found.len() == ctx.plan.tables.len() {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
