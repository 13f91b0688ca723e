//! What holds of all rows together: foreign keys that were made after the load are proven for every row, once what was on its
//! way has arrived, and materialized views are filled out of the rows that are there.

use std::sync::Arc;
use std::time::Duration;

use super::context::WorkerContext;
use super::trouble::{evidence, step_error, too_late};
use crate::domain::plan::AfterLoad;
use crate::domain::run::{Evidence, StepError};

/// How long rows may wait for their parents: what changes is applied table by table.
const PATIENCE_MS: i64 = 60_000;

/// Proves them, once the drain has ended those too that close a circle of tables. Nothing where no table of the plan gets any.
///
/// # Errors
/// Rows have no parent, and go on having none.
pub(super) async fn prove(ctx: &Arc<WorkerContext>, drained: bool) -> Result<Vec<Evidence>, StepError> {
    let mut found = Vec::new();
    for table in ctx.plan.tables.iter().filter(|table| !table.after_load.is_empty()) {
        let began = ctx.mono();
        loop {
            let wrong = match ctx.ports.target.prove_references(table, drained).await {
                Ok(None) => break,
                Ok(Some(wrong)) => wrong,
                Err(e) if e.kind.transient() => e.to_string(),
                Err(e) => return Err(step_error(&e)),
            };
            if ctx.mono() - began >= PATIENCE_MS {
                let advice = "`cutover verify` names rows that differ; a key that the source does not hold either is made \
                              NOT VALID there first";
                return Err(too_late(format!("after {} s {wrong}", PATIENCE_MS / 1000), advice));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        found.push(evidence(format!("foreign keys {}", table.id), "hold for every row", ctx.wall(), "pg_constraint"));
    }
    Ok(found)
}

/// Fills the materialized views that were made with the tables, and says how long each table's took: what it takes when the
/// way back is armed, it takes again after the drain, while customers wait.
///
/// # Errors
/// One cannot be filled.
pub(super) async fn fill(ctx: &Arc<WorkerContext>) -> Result<Vec<Evidence>, StepError> {
    let is_view = |one: &AfterLoad| matches!(one, AfterLoad::MaterializedView { .. });
    let mut found = Vec::new();
    for table in ctx.plan.tables.iter().filter(|table| table.after_load.iter().any(is_view)) {
        let began = ctx.mono();
        let filled = loop {
            match ctx.ports.target.fill_views(table).await {
                Ok(filled) => break filled,
                Err(e) if e.kind.transient() && ctx.mono() - began < PATIENCE_MS => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(e) => return Err(step_error(&e)),
            }
        };
        if !filled.is_empty() {
            let took = format!("{}: refreshed in {} ms", filled.join(", "), ctx.mono() - began);
            found.push(evidence("materialized views", took, ctx.wall(), "REFRESH MATERIALIZED VIEW"));
        }
    }
    Ok(found)
}
