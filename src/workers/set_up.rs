//! Target tables: missing ones are created from the plan's DDL (FEATURES A9).

use std::sync::Arc;

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded, step_error, world};
use super::{column_types, index_keys, source_columns};
use crate::domain::plan::{Step, StoreKind};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, StepError};

/// Creates what is missing and compares what is there with the plan. Nothing that exists is changed.
pub async fn perform(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    run: &str,
) -> Result<Vec<Evidence>, StepError> {
    let target = &ctx.ports.target;
    target.prepare().await.map_err(|e| step_error(&e))?;
    // Another plan's tables stay as they are.
    target.claim(run, &ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    // Before a table is made by a plan that its source does not fit.
    source_columns::all_fit(ctx).await?;
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for table in &ctx.plan.tables {
        let before = target.describe(table).await.map_err(|e| step_error(&e))?;
        if !before.exists && table.ddl.is_some() {
            let id = format!("{}/{}/{attempt}", step.id, table.id);
            let action = Action::CreateTable { table: table.id.clone() };
            let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
            ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
            let made = target.create(table).await;
            let result = match &made {
                Ok(_) => OutcomeResult::Done { read_back: "exists".to_owned(), version: None },
                Err(e) => OutcomeResult::Unknown { error: e.to_string() },
            };
            ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
            made.map_err(|e| step_error(&e))?;
        }
        let now = target.describe(table).await.map_err(|e| step_error(&e))?;
        if !now.exists {
            problems.push(format!("{} does not exist and the plan has no DDL for it", table.target));
        }
        problems.extend(now.problems.iter().map(|p| format!("{}: {p}", table.target)));
        let types = column_types::problems(&ctx.ports, table, &now).await.map_err(|e| step_error(&e))?;
        problems.extend(types.into_iter().map(|(wrong, advice)| format!("{}: {wrong}; {advice}", table.target)));
        let indexes = index_keys::problems(&ctx.ports, table, &now).await.map_err(|e| step_error(&e))?;
        problems.extend(indexes.into_iter().map(|(wrong, advice)| format!("{wrong}; {advice}")));
        let how = if before.exists { "was there" } else { "created" };
        // Of an item only the key is declared.
        let (columns, source) = match ctx.plan.kind(&table.to) {
            StoreKind::Postgresql => (format!("{} columns, ", now.columns.len()), "pg_catalog"),
            StoreKind::Dynamodb | StoreKind::Aws => (String::new(), "DescribeTable"),
        };
        let value = format!("{how}, {columns}key {}", now.key.join(", "));
        found.push(evidence(format!("table {}", table.target), value, ctx.wall(), source));
    }
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(world(problems.join("; "), "mend the DDL or the column mapping, then try again"))
    }
}
