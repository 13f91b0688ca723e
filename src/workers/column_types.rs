//! Types that only the databases know, compared: those of the source's columns with those of the target's.

use super::context::Ports;
use super::preflight::CheckRow;
use crate::domain::plan::{ColumnSource, ColumnType, Table};
use crate::ports::{PortResult, TargetTable};

/// Why values of a table's columns could not stand in the target, each with what to do.
pub(super) async fn problems(ports: &Ports, table: &Table, target: &TargetTable) -> PortResult<Vec<(String, String)>> {
    Ok(compared(ports, table, target).await?.0)
}

/// The problems, and what is right and may still surprise.
async fn compared(
    ports: &Ports,
    table: &Table,
    target: &TargetTable,
) -> PortResult<(Vec<(String, String)>, Vec<String>)> {
    let natives = table.columns.iter().filter_map(|column| match (&column.from, column.ty) {
        (ColumnSource::Attribute(path), ColumnType::Native(_)) => Some((path.first()?.as_str(), column.name.as_str())),
        _ => None,
    });
    let natives: Vec<(&str, &str)> = natives.collect();
    if natives.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let source = ports.source(table).describe(table).await?.types;
    let (mut found, mut orders) = (Vec::new(), Vec::new());
    for (from, to) in natives {
        found.extend(source.differences(from, &target.types, to));
        orders.extend(source.other_orders(from, &target.types, to));
    }
    // Several columns may be of one type.
    found.sort();
    found.dedup();
    orders.sort();
    orders.dedup();
    let note = |(name, order): (String, String)| {
        format!(
            "the enum {name} orders its labels otherwise here than the source ({order}): ORDER BY and comparisons differ"
        )
    };
    Ok((found, orders.into_iter().map(note).collect()))
}

/// The same as rows of a check, with what is right and may still surprise; none where all is well.
pub(super) async fn rows(ports: &Ports, table: &Table, target: &TargetTable) -> Vec<CheckRow> {
    let what = format!("types {}", table.id);
    match compared(ports, table, target).await {
        Ok((wrong, notes)) => {
            let wrong = wrong.into_iter().map(|(wrong, advice)| CheckRow::bad(&what, wrong, advice));
            wrong.chain(notes.into_iter().map(|note| CheckRow::ok(format!("note {}", table.id), note))).collect()
        }
        Err(e) => vec![CheckRow::port(what, &e)],
    }
}
