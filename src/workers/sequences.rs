//! Sequences left behind: the target's sequences stand past what was loaded before customers write there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::context::{Ports, WorkerContext};
use super::preflight::CheckRow;
use super::trouble::{evidence, not_recorded, step_error, world};
use crate::domain::plan::{Column, ColumnSource, Plan, Step, StepKind, Table};
use crate::domain::run::{Action, Event, Evidence, OutcomeResult, StepError};
use crate::ports::{Beyond, GivenFor, Sequence, SequenceScan, counterpart};

/// Moves every sequence that feeds a moved column past what its columns hold, with a margin, and reads it back. Fails
/// when one of them is not known to stand past it.
pub async fn advance(
    ctx: &Arc<WorkerContext>,
    step: &Step,
    attempt: u32,
    look: SequenceScan,
) -> Result<Vec<Evidence>, StepError> {
    let (target, tables) = (&ctx.ports.target, &ctx.plan.tables);
    let given = given_at_sources(ctx).await?;
    let there = target.sequences(tables).await.map_err(|e| step_error(&e))?;
    nowhere_there(ctx, &given, &there)?;
    let moves = |s: &Sequence| !s.columns.is_empty() || given.iter().any(|g| stands_for(g, &there) == Some(&s.name));
    if !there.iter().any(moves) {
        return Ok(Vec::new());
    }
    let id = format!("{}/sequences/{attempt}", step.id);
    let intent = Event::Intent { id: id.clone(), step: Some(step.id.clone()), action: Action::AdvanceSequences };
    ctx.facts.state(intent).await.map_err(|e| not_recorded(&e))?;
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

/// The sequence of the target that stands for one of the source that no column takes its values from.
fn stands_for<'s>(given: &Beyond, there: &'s [Sequence]) -> Option<&'s str> {
    match &given.of {
        GivenFor::Standalone(name) => counterpart(name, there.iter().map(|s| s.name.as_str())),
        GivenFor::Column { .. } => None,
    }
}

/// Fails when an application of the old side asks a sequence that the new side does not have.
fn nowhere_there(ctx: &WorkerContext, given: &[Beyond], there: &[Sequence]) -> Result<(), StepError> {
    let missing: Vec<&str> = given
        .iter()
        .filter_map(|one| match &one.of {
            GivenFor::Standalone(name) => stands_for(one, there).is_none().then_some(name.as_str()),
            GivenFor::Column { .. } => None,
        })
        .filter(|name| !ctx.plan.load.sequences_by_hand.iter().any(|by_hand| by_hand == name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(world(
        format!("the target has no sequence {}, which customers are given values of", missing.join(", ")),
        MAKE_IT,
    ))
}

/// For a check: which sequences the arm step will move, and which it will not be able to. Of the stores in `asked` those
/// that no column takes its values from are looked for too.
pub(super) async fn rows(plan: &Plan, ports: &Ports, asked: &BTreeSet<&str>) -> Vec<CheckRow> {
    let there = match ports.target.sequences(&plan.tables).await {
        Ok(found) => found,
        Err(e) => return vec![CheckRow::port("sequences", &e)],
    };
    let (mut unseen, mut sources) = (Vec::new(), Vec::new());
    for (store, tables) in stores(plan).into_iter().filter(|(store, _)| asked.contains(store)) {
        match ports.sources.named(store).given_sequences(&tables, Some(SequenceScan::Indexed)).await {
            Ok(found) => sources.push((tables, found)),
            Err(e) => unseen.push(CheckRow::port(format!("sequences of {store}"), &e)),
        }
    }
    let mut ends = BTreeMap::new();
    for (tables, found) in &sources {
        ends.extend(used_up(plan, tables, found, &there));
    }
    let by_hand = |name: &String| plan.load.sequences_by_hand.contains(name);
    let notes = |s: &Sequence| s.notes.iter().map(|n| format!("; {n}")).collect::<String>();
    let fed = there.iter().filter(|s| !s.columns.is_empty()).map(|s| {
        let (what, columns) = (format!("sequence {}", s.name), s.columns.join(", "));
        match s.problem.as_ref().or_else(|| ends.get(&s.name)) {
            _ if by_hand(&s.name) => CheckRow::ok(what, format!("feeds {columns}; advanced by hand, as the plan says")),
            Some((wrong, advice)) => CheckRow::bad(what, wrong, advice),
            None => CheckRow::ok(what, format!("feeds {columns}; {}{}", moved(plan, "moved past its rows"), notes(s))),
        }
    });
    let mut rows: Vec<CheckRow> = fed.collect();
    // The plan's DDL makes these.
    let made = ends.iter().filter(|(name, _)| !by_hand(name) && !there.iter().any(|s| s.name == **name));
    rows.extend(made.map(|(name, (wrong, advice))| {
        let what = format!("sequence {name}");
        // By rule it becomes what it is on the old side; what DDL of somebody's own makes of it is not known yet.
        if plan.moves.is_empty() {
            CheckRow::ok(what, format!("{wrong}, if the target's is no wider than the old side's; {advice}"))
        } else {
            CheckRow::bad(what, wrong, advice)
        }
    }));
    rows.extend(unseen);
    for sequence in sources.iter().flat_map(|(_, found)| found).filter(|s| s.columns.is_empty()) {
        let what = format!("sequence {}", sequence.name);
        rows.push(if by_hand(&sequence.name) {
            CheckRow::ok(what, format!("{APART}; advanced by hand, as the plan says"))
        } else {
            standalone(plan, what, sequence, &there)
        });
    }
    rows
}

/// Sequences of the target that have no value left past what the old side holds or has given, with what is wrong and what to
/// do; by the old side's name where the target's is not there yet. The arm step would refuse each, hours later.
fn used_up(
    plan: &Plan,
    tables: &[Table],
    found: &[Sequence],
    there: &[Sequence],
) -> BTreeMap<String, (String, String)> {
    let mut ends = BTreeMap::new();
    if !plan.steps.iter().any(moves_sequences) {
        return ends;
    }
    for given in found {
        let Some(held) = given.furthest() else { continue };
        for table in tables {
            for column in fed(table, given) {
                let place = format!("{}.{}", table.target, column.name);
                let own = there.iter().find(|s| s.columns.contains(&place));
                let (made, absent) = (table.ddl.is_some(), !there.iter().any(|s| s.name == given.name));
                let of = own.or_else(|| (made && absent).then_some(given));
                if let Some(of) = of.filter(|of| of.is_used_up(held)) {
                    ends.insert(of.name.clone(), of.used_up(held));
                }
            }
        }
    }
    ends
}

/// The columns of a plan's table that are read from what a sequence of its source feeds.
fn fed<'t>(table: &'t Table, sequence: &'t Sequence) -> impl Iterator<Item = &'t Column> {
    table.columns.iter().filter(move |column| match &column.from {
        ColumnSource::Attribute(path) => {
            path.first().is_some_and(|name| sequence.columns.contains(&format!("{}.{name}", table.source)))
        }
        ColumnSource::Constant(_)
        | ColumnSource::Parent(_)
        | ColumnSource::Ordinal
        | ColumnSource::Element
        | ColumnSource::Whole => false,
    })
}

/// A sequence that an application asks itself.
const APART: &str = "no column takes its values from it";

const fn moves_sequences(step: &Step) -> bool {
    matches!(step.kind, StepKind::Arm | StepKind::Drain)
}

/// When a sequence is moved, or that this plan has no step that does.
fn moved(plan: &Plan, what: &str) -> String {
    if plan.steps.iter().any(moves_sequences) {
        format!("{what} before the switch")
    } else {
        "not moved, because the plan has no step `arm` or `drain`: it gives values that rows may have".to_owned()
    }
}

fn standalone(plan: &Plan, what: String, sequence: &Sequence, there: &[Sequence]) -> CheckRow {
    let name = &sequence.name;
    // Without the right to read it nobody knows what it gave.
    if let (None, Some((wrong, advice))) = (sequence.given, &sequence.problem) {
        return CheckRow::bad(what, format!("{APART}, and {wrong}"), advice);
    }
    let Some(other) = counterpart(name, there.iter().map(|s| s.name.as_str())) else {
        let bare = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
        if plan.tables.iter().any(|t| t.ddl.as_ref().is_some_and(|ddl| ddl.contains(bare))) {
            let moved = moved(plan, "it is moved");
            return CheckRow::ok(what, format!("{APART}; the plan's DDL makes it; {moved}"));
        }
        return match sequence.given {
            None => CheckRow::ok(what, format!("{APART}; it has given no value, and the target has none of the name")),
            Some(value) => {
                let wrong = format!("{APART}, it has given {value}, and the target has none of the name");
                CheckRow::bad(what, wrong, MAKE_IT)
            }
        };
    };
    match there.iter().find(|s| s.name == other).and_then(|s| s.problem.as_ref()) {
        Some((wrong, advice)) => CheckRow::bad(what, format!("{APART}, and of {other} in the target: {wrong}"), advice),
        None => {
            let moved = moved(plan, "is moved to where it stands");
            CheckRow::ok(what, format!("{APART}; {other} in the target {moved}"))
        }
    }
}

/// What to do about a sequence that only the source has.
pub(super) const MAKE_IT: &str =
    "create it in the target, or name it in `sequences_by_hand` under [load] if nobody asks it there";

/// The stores whose sequences matter: tables come from them and go to a database.
pub(super) fn stores(plan: &Plan) -> BTreeMap<&str, Vec<Table>> {
    let mut all: BTreeMap<&str, Vec<Table>> = BTreeMap::new();
    for table in plan.tables.iter().filter(|t| plan.kind(&t.from).of_columns() && plan.kind(&t.to).of_columns()) {
        all.entry(&table.from).or_default().push(table.clone());
    }
    all
}

/// What sequences of the sources have given: for columns that move, and to applications that ask them. Also without a row, as
/// after a delete or a transaction that was rolled back, a value was given to somebody.
async fn given_at_sources(ctx: &WorkerContext) -> Result<Vec<Beyond>, StepError> {
    let mut given = Vec::new();
    for (store, tables) in stores(&ctx.plan) {
        let source = ctx.ports.sources.named(store);
        for sequence in source.given_sequences(&tables, None).await.map_err(|e| step_error(&e))? {
            let Some(value) = sequence.given else { continue };
            if sequence.columns.is_empty() {
                given.push(Beyond { of: GivenFor::Standalone(sequence.name.clone()), value, ahead: 0 });
            }
            for table in &tables {
                let of = |c: &Column| GivenFor::Column { table: table.id.clone(), column: c.name.clone() };
                let beyond = |column: &Column| Beyond { of: of(column), value, ahead: 0 };
                given.extend(fed(table, &sequence).map(beyond));
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
        (Some(next), _) if s.columns.is_empty() => format!("gives {next} next; no column takes its values from it"),
        (None, _) if s.columns.is_empty() => "no column takes its values from it".to_owned(),
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
