//! Target tables: missing ones are created from the plan's DDL (FEATURES A9). With `--force` those that are there are
//! dropped first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded, step_error, world};
use super::{capture, column_types, definitions, index_keys, source_columns};
use crate::domain::plan::{Step, StoreKind};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, StepError};

/// Creates what is missing and compares what is there with the plan. Nothing that exists is changed, unless it was said by
/// name that it may go.
pub async fn perform(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    run: &str,
) -> Result<Vec<Evidence>, StepError> {
    let target = &ctx.ports.target;
    target.prepare().await.map_err(|e| step_error(&e))?;
    // Before the tables are this run's: the earlier one could carry nothing back any more.
    capture::nothing_waits(ctx).await?;
    // Another plan's tables stay as they are.
    target.claim(run, &ctx.plan.tables).await.map_err(|e| step_error(&e))?;
    // Before a table is made by a plan that its source does not fit.
    source_columns::all_fit(ctx).await?;
    let mut found = Vec::new();
    if ctx.make_anew.load(Ordering::Acquire) {
        found.extend(made_anew(ctx, step, attempt).await?);
    }
    let mut problems = Vec::new();
    for table in &ctx.plan.tables {
        let before = target.describe(table).await.map_err(|e| step_error(&e))?;
        // What can be told before a table is made is told before.
        let fits = before.exists || !definitions::cannot_be_made(&ctx.plan, table, &before);
        if (!before.exists || before.unfinished) && table.ddl.is_some() && fits {
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
        if !now.exists && table.ddl.is_none() {
            problems.push(format!("{} does not exist and the plan has no DDL for it", table.target));
        }
        problems.extend(now.problems.iter().map(|p| format!("{}: {p}", table.target)));
        let types = column_types::problems(&ctx.ports, table, &now).await.map_err(|e| step_error(&e))?;
        problems.extend(types.into_iter().map(|(wrong, advice)| format!("{}: {wrong}; {advice}", table.target)));
        let indexes = index_keys::problems(&ctx.ports, table, &now).await.map_err(|e| step_error(&e))?;
        problems.extend(indexes.into_iter().map(|(wrong, advice)| format!("{wrong}; {advice}")));
        let missed = definitions::problems(&ctx.ports, table).await.map_err(|e| step_error(&e))?;
        problems.extend(missed.into_iter().map(|(wrong, advice)| format!("{wrong}; {advice}")));
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

/// Drops the plan's tables that are there, with all they hold, and makes them again; empties those that the plan has no DDL
/// for. Done once: a step that is tried again goes on from there.
async fn made_anew(ctx: &Arc<WorkerContext>, step: &Step, attempt: u32) -> Result<Vec<Evidence>, StepError> {
    let target = &ctx.ports.target;
    let mut there = Vec::new();
    for table in &ctx.plan.tables {
        if target.describe(table).await.map_err(|e| step_error(&e))?.exists {
            there.push(table.clone());
        }
    }
    let ids: Vec<String> = there.iter().map(|table| table.id.clone()).collect();
    if !there.is_empty() {
        let id = format!("{}/make-anew/{attempt}", step.id);
        let action = Action::MakeAnew { tables: ids.clone() };
        let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action };
        ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
        let done = target.make_anew(&there).await;
        let result = match &done {
            Ok(()) => OutcomeResult::Done { read_back: "made again".to_owned(), version: None },
            Err(e) => OutcomeResult::Unknown { error: e.to_string() },
        };
        ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
        done.map_err(|e| step_error(&e))?;
    }
    ctx.make_anew.store(false, Ordering::Release);
    let names = if ids.is_empty() { "none was there".to_owned() } else { ids.join(", ") };
    Ok(vec![evidence("made anew", names, ctx.wall(), "--force")])
}
