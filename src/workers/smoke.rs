//! Smoke tests: named probes must be served several times in a row (FEATURES D2).

use std::sync::Arc;
use std::time::Duration;

use super::context::WorkerContext;
use super::trouble::{evidence, too_late, world};
use crate::domain::run::{Evidence, StepError};
use crate::ports::ProbeOutcome;

/// Served this often in a row counts.
const IN_A_ROW: u32 = 5;
/// Sent at most this often.
const AT_MOST: u32 = 25;

/// Sends each probe until it was served five times in a row.
pub async fn perform(ctx: &Arc<WorkerContext>, ids: &[String]) -> Result<Vec<Evidence>, StepError> {
    let all = ids.iter().map(|id| async move {
        let probe = ctx.plan.probe(id).ok_or_else(|| world(format!("no probe {id}"), "mend the plan"))?;
        let (mut row, mut worst, mut last) = (0, 0, String::new());
        for _ in 0..AT_MOST {
            let result = ctx.ports.probes.probe(probe).await;
            if result.outcome == ProbeOutcome::Served {
                row += 1;
                worst = worst.max(result.latency_ms);
                if row == IN_A_ROW {
                    let value = format!("served {row} times in a row, slowest {worst}ms");
                    return Ok(evidence(format!("probe {id}"), value, ctx.wall(), probe.place()));
                }
            } else {
                (row, worst) = (0, 0);
                last = match result.outcome {
                    ProbeOutcome::Failed(how) => how,
                    _ => "refused".to_owned(),
                };
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(too_late(
            format!("probe {id} was not served {IN_A_ROW} times in a row, last: {last}"),
            format!("look at {} on the side that serves it", probe.place()),
        ))
    });
    futures::future::try_join_all(all).await
}
