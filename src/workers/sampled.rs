//! A sample of items of each table before the day begins: does the mapping find what it asks for, and does what it
//! finds fit? A column that nothing fills is NULL in every row and equal on both sides, so no comparison shows it.

use super::preflight::CheckRow;
use crate::domain::lint::nearest;
use crate::domain::mapping::{Asked, RowErrorReason, Sampled, TableMapping};
use crate::domain::plan::{ColumnSource, Plan, Table, Unit};
use crate::ports::{Partition, PortResult, Source};

/// Parts of a table that are sampled, one page each at most.
const PARTS: u32 = 4;
/// Enough items to stop after.
const ENOUGH: u64 = 1_000;
/// Most attributes that are named in one row.
const NAMED: usize = 12;

/// Rows of the check about one table's mapping.
pub(super) async fn rows(plan: &Plan, source: &dyn Source, table: &Table) -> Vec<CheckRow> {
    let what = format!("mapping {}", table.id);
    let within =
        plan.tables.iter().position(|t| t.id == table.id).map_or_else(String::new, |n| format!("tables[{n}]."));
    // A store of typed columns has said already which of them are there: one that is NULL everywhere is there all the same.
    let mut known = table.clone();
    if plan.kind(&table.from).of_columns() {
        let whole = |from: &ColumnSource| matches!(from, ColumnSource::Attribute(path) if path.len() == 1);
        for column in known.columns.iter_mut().filter(|column| whole(&column.from)) {
            column.declared.sparse = true;
        }
    }
    let table = &known;
    match look(source, table).await {
        Err(e) => vec![CheckRow::port(what, &e)],
        Ok((sampled, whole)) => told(&what, &within, table, &sampled, whole),
    }
}

/// Reads a bounded number of items; says whether these are all there are.
async fn look(source: &dyn Source, table: &Table) -> PortResult<(Sampled, bool)> {
    let mapping = TableMapping::new(table);
    let mut sampled = Sampled::new(table);
    let mut whole = true;
    for index in 0..PARTS {
        if sampled.items() >= ENOUGH {
            return Ok((sampled, false));
        }
        let page = source.page(table, Partition { index, of: PARTS }, None).await?;
        let end = source.read(&page, &mut |item| {
            if mapping.marker(item).is_none() {
                sampled.look(item);
            }
        })?;
        whole &= end.next.is_none();
    }
    Ok((sampled, whole))
}

/// `within` is the table's section of the config.
fn told(what: &str, within: &str, table: &Table, sampled: &Sampled, whole: bool) -> Vec<CheckRow> {
    let items = sampled.items();
    if items == 0 {
        return vec![CheckRow::ok(what, "?: there was no item to look at, so what the mapping finds is not known")];
    }
    let about = |asked: &Asked, row: CheckRow| row.about(format!("{within}{}", asked.place));
    let mut rows: Vec<CheckRow> =
        sampled.asked().filter_map(|asked| Some(about(asked, wrong(what, table, sampled, asked)?))).collect();
    let looked = if whole { format!("all {items} items looked at") } else { format!("{items} items looked at") };
    if rows.is_empty() {
        let absent = sampled
            .asked()
            .filter(|a| a.present < a.of)
            .map(|a| format!("{} {}", a.column, share(a.of - a.present, a.of)));
        let parked = sampled
            .asked()
            .flat_map(|a| a.refused.iter().map(|(reason, n)| format!("{} {} ({reason})", a.column, share(*n, a.of))));
        let mut found = looked.clone();
        for (words, each) in [("absent", listed(absent)), ("would be parked", listed(parked))] {
            if !each.is_empty() {
                found.push_str(&format!("; {words}: {each}"));
            }
        }
        rows.push(CheckRow::ok(what, found));
    }
    let uncarried = sampled.uncarried();
    if !uncarried.is_empty() {
        let each = listed(uncarried.iter().map(|(path, n)| format!("{path} ({n}x)")));
        rows.push(CheckRow::ok(what, format!("{looked}; attributes that no column carries: {each}")));
    }
    rows
}

/// What would go wrong in every row, or in a way that a line in the config settles.
fn wrong(what: &str, table: &Table, sampled: &Sampled, asked: &Asked) -> Option<CheckRow> {
    let Asked { column, path, of, present, .. } = asked;
    let (target, each) = (&table.target, if column.contains('.') { "elements" } else { "items" });
    if asked.never() {
        if asked.sparse {
            return None;
        }
        let advice = match nearest(&asked.path, sampled.beside(asked).into_iter()) {
            Some(meant) => format!("did you mean `{meant}`? If not: `sparse = true` says that few have it"),
            None => "mend `from`, or say `sparse = true` if few have it".to_owned(),
        };
        let why = format!("{target}.{column} takes `{path}`, which none of the {of} {each} looked at has");
        return Some(CheckRow::bad(what, why, advice));
    }
    if asked.refused.contains_key(&RowErrorReason::NoUnit) {
        let why = format!(
            "{target}.{column} is timestamptz without a unit, and {} of the {present} values looked at are numbers",
            asked.numbers
        );
        return Some(CheckRow::bad(what, why, proposal(asked)));
    }
    if *present > 0 && asked.refused.values().sum::<u64>() == *present {
        let reasons = listed(asked.refused.keys().map(ToString::to_string));
        let why = format!("{target}.{column}: every one of the {present} values looked at would be parked: {reasons}");
        return Some(CheckRow::bad(what, why, proposal(asked)));
    }
    None
}

/// What to write instead: for numbers in a column of moments, what they seem to count.
fn proposal(asked: &Asked) -> String {
    let read = |(unit, n): (&Unit, &u64)| format!("{n} read as {}", unit.name());
    match (asked.numbers, asked.units.len(), asked.units.first_key_value()) {
        (0, ..) if asked.refused.keys().any(|r| matches!(r, RowErrorReason::Lossy | RowErrorReason::TooLong)) => {
            "give the column a type that holds them whole, or write lossy = true in it if they may be rounded or cut"
                .to_owned()
        }
        (0, ..) => "mend the column's type or its source".to_owned(),
        (n, 1, Some((unit, of))) if *of == n => {
            format!("all of them read as {0}: write unit = \"{0}\" in the column if that is so", unit.name())
        }
        (_, 0, _) => "in no unit are they plausible moments; is it another kind of number?".to_owned(),
        (n, ..) => format!(
            "of {n} numbers {}: find out which unit is meant and write it in the column; the others are parked",
            listed(asked.units.iter().map(read))
        ),
    }
}

fn share(n: u64, of: u64) -> String {
    if n == of { "in all".to_owned() } else { format!("{:.1} %", n as f64 * 100.0 / of.max(1) as f64) }
}

/// Names one after the other, no more than can be read.
fn listed(each: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = each.collect();
    if all.len() > NAMED {
        let more = all.len() - NAMED;
        all.truncate(NAMED);
        all.push(format!("and {more} more"));
    }
    all.join(", ")
}
