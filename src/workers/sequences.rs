//! Sequences left behind: the target's sequences stand past what was loaded before customers write there.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::WorkerContext;
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::plan::{Column, ColumnSource, Step, Table};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, StepError};
use crate::ports::{Beyond, Sequence, SequenceScan};

/// Moves every sequence that feeds a moved column past what its columns hold, with a margin, and reads it back. Fails
/// when one of them is not known to stand past it.
pub async fn advance(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    look: SequenceScan,
) -> Result<Vec<Evidence>, StepError> {
    let (target, tables) = (&ctx.ports.target, &ctx.plan.tables);
    if target.sequences(tables).await.map_err(|e| step_error(&e))?.is_empty() {
        return Ok(Vec::new());
    }
    let id = format!("{}/sequences/{attempt}", step.id);
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action: Action::AdvanceSequences };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
    let given = given_at_sources(ctx).await?;
    let stand = target.advance_sequences(tables, look, &ctx.plan.load.sequences_by_hand, &given).await;
    let result = match &stand {
        Ok(stand) => OutcomeResult::Done { read_back: read_back(stand), version: None },
        Err(e) => OutcomeResult::Unknown { error: e.to_string() },
    };
    ctx.facts.state(Event::Outcome { id, result }).await.map_err(|e| not_recorded(&e))?;
    let stand = stand.map_err(|e| step_error(&e))?;
    let trouble: Vec<(&str, &(String, String))> =
        stand.iter().filter_map(|s| s.problem.as_ref().map(|p| (s.name.as_str(), p))).collect();
    if !trouble.is_empty() {
        let wrong: Vec<String> = trouble.iter().map(|(name, (what, _))| format!("sequence {name}: {what}")).collect();
        let advice: Vec<&str> = trouble.iter().map(|(_, (_, advice))| advice.as_str()).collect();
        return Err(world(wrong.join("; "), advice.join("; ")));
    }
    let at = ctx.wall();
    Ok(stand.iter().map(|s| evidence(format!("sequence {}", s.name), words(s), at, "pg_sequence")).collect())
}

/// What sequences of the sources have given for columns that move: also without a row, as after a delete or a transaction that
/// was rolled back, a value was given to somebody.
async fn given_at_sources(ctx: &Arc<WorkerContext>) -> Result<Vec<Beyond>, StepError> {
    let Some(ports) = ctx.ports.reverse.as_ref() else { return Ok(Vec::new()) };
    let stores: BTreeSet<&str> = ctx.plan.tables.iter().map(|table| table.from.as_str()).collect();
    let mut given = Vec::new();
    for store in stores {
        let tables: Vec<Table> = ctx.plan.tables.iter().filter(|table| table.from == store).cloned().collect();
        for sequence in ports.items.named(store).sequences(&tables).await.map_err(|e| step_error(&e))? {
            let Some(value) = sequence.given else { continue };
            for table in &tables {
                let fed = |column: &&Column| match &column.from {
                    ColumnSource::Attribute(path) => {
                        path.first().is_some_and(|name| sequence.columns.contains(&format!("{}.{name}", table.source)))
                    }
                    ColumnSource::Constant(_)
                    | ColumnSource::Parent(_)
                    | ColumnSource::Ordinal
                    | ColumnSource::Element
                    | ColumnSource::Whole => false,
                };
                let beyond =
                    |column: &Column| Beyond { table: table.id.clone(), column: column.name.clone(), value, ahead: 0 };
                given.extend(table.columns.iter().filter(fed).map(beyond));
            }
        }
    }
    Ok(given)
}

fn read_back(stand: &[Sequence]) -> String {
    let each = stand.iter().map(|s| format!("{} gives {} next", s.name, shown(s.next)));
    each.collect::<Vec<_>>().join("; ")
}

/// Where a sequence stands, and against what.
pub(super) fn words(s: &Sequence) -> String {
    let columns = s.columns.join(", ");
    let mut said = match (s.next, s.held) {
        (Some(next), Some(held)) => format!("gives {next} next; {columns} holds up to {held}"),
        (Some(next), None) if s.looked => format!("gives {next} next; {columns} holds no value of it"),
        (Some(next), None) => format!("gives {next} next; {columns} is fed by it"),
        (None, _) => format!("feeds {columns}"),
    };
    if let Some(beyond) = s.beyond {
        said.push_str(&format!("; the other side has given up to {beyond}"));
    }
    for note in &s.notes {
        said.push_str("; ");
        said.push_str(note);
    }
    said
}

fn shown(value: Option<i64>) -> String {
    value.map_or_else(|| "?".to_owned(), |v| v.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_is_not_called_empty() {
        let found = Sequence { columns: vec!["t.id".into()], next: Some(7), ..Sequence::default() };
        assert_eq!(words(&found), "gives 7 next; t.id is fed by it");
        assert_eq!(words(&Sequence { looked: true, ..found.clone() }), "gives 7 next; t.id holds no value of it");
        assert_eq!(words(&Sequence { looked: true, held: Some(5), ..found }), "gives 7 next; t.id holds up to 5");
    }
}
