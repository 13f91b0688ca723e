//! A table of items that was there already, held against what the source's is made of: indexes that customers would miss
//! stop the run, and other differences are named.

use super::context::{Ports, WorkerContext};
use super::preflight::CheckRow;
use super::trouble::{step_error, world};
use crate::domain::plan::{DefinitionDifference, Plan, StoreKind, Table};
use crate::domain::run::StepError;
use crate::ports::{Owning, PortResult, TargetTable};

/// In what the target's table is not like the source's; nothing where items are mapped, or a store makes its tables by
/// statements.
async fn differences(ports: &Ports, table: &Table) -> PortResult<Vec<DefinitionDifference>> {
    if !table.is_whole() {
        return Ok(Vec::new());
    }
    let Some(source) = ports.source(table).definition(table).await? else { return Ok(Vec::new()) };
    let Some(target) = ports.target.definition(table).await? else { return Ok(Vec::new()) };
    Ok(source.differences(&target, &table.leave_out))
}

/// Whether a table that is not there would take none of the plan's rows if it was made. Only a store of items says so before.
pub(super) fn cannot_be_made(plan: &Plan, table: &Table, found: &TargetTable) -> bool {
    match plan.kind(&table.to) {
        StoreKind::Dynamodb => !found.problems.is_empty(),
        StoreKind::Postgresql | StoreKind::Aws => false,
    }
}

/// What customers would miss at the new side, each with what to do.
pub(super) async fn problems(ports: &Ports, table: &Table) -> PortResult<Vec<(String, String)>> {
    let found = differences(ports, table).await?.into_iter().filter(|d| d.blocks);
    Ok(found.map(|d| (format!("{}: {}", table.target, d.words), d.advice)).collect())
}

/// Every difference as a row of a check; none where all is well.
pub(super) async fn rows(ports: &Ports, table: &Table) -> Vec<CheckRow> {
    let what = format!("definition {}", table.id);
    let found = match differences(ports, table).await {
        Ok(found) => found,
        Err(e) => return vec![CheckRow::port(what, &e)],
    };
    let row = |d: DefinitionDifference| {
        if d.blocks {
            CheckRow::bad(&what, d.words, d.advice)
        } else {
            CheckRow::ok(&what, format!("{}; {}", d.words, d.advice))
        }
    };
    found.into_iter().map(row).collect()
}

/// Sees that tables of items are still as set_up found them, before anybody is switched to them: an index may be missing or
/// not built to its end, and somebody may have turned expiry on.
///
/// # Errors
/// One is not, or nobody can say.
pub(super) async fn still_fit(ctx: &WorkerContext) -> Result<(), StepError> {
    let mut wrong = Vec::new();
    let of_items = |table: &&Table| match ctx.plan.kind(&table.to) {
        StoreKind::Dynamodb => true,
        StoreKind::Postgresql | StoreKind::Aws => false,
    };
    for table in ctx.plan.tables.iter().filter(of_items) {
        let found = ctx.ports.target.describe(table).await.map_err(|e| step_error(&e))?;
        wrong.extend(found.problems.iter().map(|p| format!("{}: {p}", table.target)));
        if table.expires_by().is_some() {
            // The thaw turns it on, when it is too late to ask for the right.
            let refused = ctx.ports.target.rights(std::slice::from_ref(table), Owning::default()).await;
            let refused = refused.map_err(|e| step_error(&e))?;
            wrong.extend(refused.into_iter().map(|o| format!("{}; {}", o.wrong, o.advice)));
        }
        let missed = problems(&ctx.ports, table).await.map_err(|e| step_error(&e))?;
        wrong.extend(missed.into_iter().map(|(wrong, advice)| format!("{wrong}; {advice}")));
    }
    if wrong.is_empty() { Ok(()) } else { Err(world(wrong.join("; "), "mend it, then try again")) }
}
