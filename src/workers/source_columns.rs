//! The columns of a source compared with the plan, before anything is copied. What no column of the target reads is lost
//! without a trace: it stays NULL there, or a default, and a comparison of the plan's columns calls the rows equal.

use super::context::{Ports, WorkerContext};
use super::pace::pause;
use super::trouble::{step_error, world};
use crate::domain::lint::nearest;
use crate::domain::mapping::{Takes, takes};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Plan, StoreKind, Table};
use crate::domain::run::StepError;
use crate::ports::{PortResult, SourceColumn, SourceTable};

/// How often a source is asked that does not answer.
const TRIES: u32 = 5;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What is wrong, each with what to do about it.
    pub problems: Vec<(String, String)>,
    /// What is right and may still surprise.
    pub notes: Vec<String>,
}

/// Compares the columns of a source that has columns with the plan.
pub(super) fn compare(plan: &Plan, table: &Table, source: &SourceTable) -> Found {
    let mut found = Found::default();
    if !plan.kind(&table.from).of_columns() {
        return found;
    }
    found.problems.extend(lost(table, source));
    found.problems.extend(left_out_in_vain(table, source));
    let less = |(column, from): (&Column, &SourceColumn)| {
        let some = !column.declared.lossy && takes(from.ty?, column) == Takes::Some;
        some.then(|| {
            let (name, ty) = (&column.name, column.ty.sql());
            format!("{}.{name} is {ty}, and {} is {}", table.target, from.name, from.written)
        })
    };
    let less: Vec<String> = read(table, source).filter_map(less).collect();
    if !less.is_empty() {
        let each = less.join("; ");
        found.notes.push(format!("holds less than the source: {each}; rows that do not fit are parked"));
    }
    if plan.kind(&table.to) == StoreKind::Postgresql {
        found.notes.extend(zeros(table, source));
    }
    found.notes.extend(generated(table, source));
    found.notes.extend(source.unseen.iter().map(|(wrong, advice)| format!("{wrong}; {advice}")));
    if plan.reverse.enabled {
        found.notes.extend(not_written_back(table, source));
    }
    found
}

/// What would be lost, or could not arrive: columns that nothing reads, and those whose values are of another type.
fn lost(table: &Table, source: &SourceTable) -> Vec<(String, String)> {
    let mut problems: Vec<(String, String)> = unread(table, source).into_iter().collect();
    problems.extend(source.misnamed.iter().cloned());
    for (column, from) in read(table, source) {
        if let Some(ty) = from.ty.filter(|ty| takes(*ty, column) == Takes::None) {
            let (target, name, planned) = (&table.target, &column.name, column.ty.sql());
            problems.push((
                format!(
                    "{target}.{name} is {planned}, which no value of the source is: {} is {}",
                    from.name, from.written
                ),
                format!("write type = \"{}\", or read another column", ty.sql()),
            ));
        }
    }
    problems
}

/// Columns of the plan, each with the column of the source that it reads as it is.
fn read<'a>(table: &'a Table, source: &'a SourceTable) -> impl Iterator<Item = (&'a Column, &'a SourceColumn)> {
    table.columns.iter().filter_map(|column| match &column.from {
        ColumnSource::Attribute(path) => match path.as_slice() {
            [name] => Some((column, source.columns.iter().find(|c| c.name == *name)?)),
            _ => None,
        },
        ColumnSource::Constant(_)
        | ColumnSource::Parent(_)
        | ColumnSource::Ordinal
        | ColumnSource::Element
        | ColumnSource::Whole => None,
    })
}

/// Whether something of the target comes from this column, or from a part of it.
fn is_read(table: &Table, name: &str) -> bool {
    let in_a_list = table.children.iter().any(|child| child.list.first().is_some_and(|first| first == name));
    in_a_list || table.readers(name).next().is_some()
}

fn listed<'c>(columns: impl Iterator<Item = &'c SourceColumn>) -> Vec<&'c str> {
    columns.map(|column| column.name.as_str()).collect()
}

/// Columns that nothing reads and that are not left out by name. Those that the source makes of others hold nothing of
/// their own.
fn unread(table: &Table, source: &SourceTable) -> Option<(String, String)> {
    let forgotten = |c: &&SourceColumn| !c.generated && !is_read(table, &c.name) && !table.leave_out.contains(&c.name);
    let names = listed(source.columns.iter().filter(forgotten));
    let quoted: Vec<String> =
        table.leave_out.iter().map(String::as_str).chain(names.iter().copied()).map(|n| format!("{n:?}")).collect();
    (!names.is_empty()).then(|| {
        (
            format!(
                "no column of {} reads {} of {}: what it holds would be lost",
                table.target,
                names.join(", "),
                table.source
            ),
            format!("add a column for each, or say that it does not move: leave_out = [{}]", quoted.join(", ")),
        )
    })
}

/// Names of columns to leave out that the source does not have.
fn left_out_in_vain(table: &Table, source: &SourceTable) -> Vec<(String, String)> {
    let there = |name: &str| source.columns.iter().any(|c| c.name == name);
    let unread = || listed(source.columns.iter().filter(|c| !is_read(table, &c.name)));
    let wrong = |name: &String| {
        let advice = match nearest(name, unread().into_iter()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "take it out of `leave_out`".to_owned(),
        };
        (format!("{} has no column {name}, which `leave_out` names", table.source), advice)
    };
    table.leave_out.iter().filter(|name| !there(name)).map(wrong).collect()
}

/// Between two databases: numbers whose trailing zeros do not arrive.
fn zeros(table: &Table, source: &SourceTable) -> Option<String> {
    let loses = |(column, from): &(&Column, &SourceColumn)| {
        matches!(
            (from.ty, column.ty),
            (Some(ColumnType::Numeric(_)), ColumnType::Numeric(None)) | (Some(ColumnType::Jsonb), ColumnType::Jsonb)
        )
    };
    let names: Vec<&str> = read(table, source).filter(loses).map(|(column, _)| column.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!("numbers in {} arrive without trailing zeros: 1.10 as 1.1, which is equal to it", names.join(", "))
    })
}

/// Columns that the source makes of others and that nothing reads.
fn generated(table: &Table, source: &SourceTable) -> Option<String> {
    let names = listed(source.columns.iter().filter(|c| c.generated && !is_read(table, &c.name)));
    (!names.is_empty()).then(|| {
        format!(
            "generated at the source and not moved: {}; the target makes its own, if it has such a column",
            names.join(", ")
        )
    })
}

/// What customers may do on the new side that the source would refuse on the way back.
fn not_written_back(table: &Table, source: &SourceTable) -> Vec<String> {
    let mut notes = Vec::new();
    let always = listed(read(table, source).filter(|(c, from)| !c.key && from.always).map(|(_, from)| from));
    if !always.is_empty() {
        notes.push(format!(
            "GENERATED ALWAYS AS IDENTITY at the source: {0}; a value that customers change on the new side would not go back \
             (ALTER TABLE {1} ALTER COLUMN {0} SET GENERATED BY DEFAULT lets it)",
            always.join(", "),
            table.source
        ));
    }
    let required = listed(source.columns.iter().filter(|c| c.required && !c.generated && !is_read(table, &c.name)));
    if !required.is_empty() {
        notes.push(format!(
            "must not be null at the source, has no default there and is not moved: {}; rows that customers make on the new \
             side would not go back",
            required.join(", ")
        ));
    }
    notes
}

/// The tables that come from a store with columns.
fn of_columns(plan: &Plan) -> impl Iterator<Item = &Table> {
    plan.tables.iter().filter(|table| plan.kind(&table.from).of_columns())
}

/// What of a table's source does not fit the plan.
pub(super) async fn problems(plan: &Plan, ports: &Ports, table: &Table) -> PortResult<Vec<(String, String)>> {
    let source = ports.source(table).describe(table).await?;
    let mut all = super::schema::problems(table, &source);
    all.extend(compare(plan, table, &source).problems);
    Ok(all)
}

/// Fails when a source has a column that the plan knows nothing of, or one of another type, or rows of it came or went
/// without a word in its log: it was altered since the plan was made. Cheap enough for moments in which customers wait.
pub(super) async fn still_fit(ctx: &WorkerContext) -> Result<(), StepError> {
    let looked = of_columns(&ctx.plan).map(|table| async move {
        let source = patiently(ctx, table).await.map_err(|e| step_error(&e))?;
        let (mut wrong, mut advice): (Vec<String>, Vec<String>) = lost(table, &source).into_iter().unzip();
        if !wrong.is_empty() {
            advice.push("then `cutover amend`, or load anew with `cutover run --new`".to_owned());
        }
        let (unseen, anew): (Vec<String>, Vec<String>) = source.unseen.into_iter().unzip();
        wrong.extend(unseen);
        advice.extend(anew);
        Ok::<_, StepError>((wrong, advice))
    });
    let (wrong, advice): (Vec<_>, Vec<_>) = futures::future::try_join_all(looked).await?.into_iter().unzip();
    let (wrong, mut advice) = (wrong.concat(), advice.concat());
    if wrong.is_empty() {
        return Ok(());
    }
    advice.dedup();
    Err(world(wrong.join("; "), advice.join("; ")))
}

/// Asks once more what may pass: one torn connection takes no freeze back.
async fn patiently(ctx: &WorkerContext, table: &Table) -> PortResult<SourceTable> {
    for tries in 1..TRIES {
        match ctx.ports.source(table).describe(table).await {
            Err(e) if e.kind.transient() => tokio::time::sleep(pause(tries)).await,
            ended => return ended,
        }
    }
    ctx.ports.source(table).describe(table).await
}

/// Fails with everything in which sources do not fit the plan, before anything is made or copied.
pub(super) async fn all_fit(ctx: &WorkerContext) -> Result<(), StepError> {
    let (mut wrong, mut advice) = (Vec::new(), Vec::new());
    for table in &ctx.plan.tables {
        let found = problems(&ctx.plan, &ctx.ports, table).await.map_err(|e| step_error(&e))?;
        wrong.extend(found.iter().map(|(wrong, _)| format!("{}: {wrong}", table.id)));
        advice.extend(found.into_iter().map(|(_, advice)| advice));
    }
    advice.dedup();
    if wrong.is_empty() { Ok(()) } else { Err(world(wrong.join("; "), advice.join("; "))) }
}
