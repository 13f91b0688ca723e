//! Keys of the target's indexes against what items hold: an index refuses an item whose attribute is of another type. Items
//! that go as they are say so only themselves.

use std::collections::BTreeMap;

use super::context::Ports;
use super::preflight::CheckRow;
use crate::domain::plan::Table;
use crate::domain::value::Value;
use crate::ports::{IndexKey, Partition, PortResult, Source, SourceTable, TargetTable};

/// What items of one page hold in the attribute of one index.
#[derive(Debug, Default)]
struct Held {
    /// Items that have it.
    of: u64,
    /// Those that the index would refuse, by the type they hold.
    refused: BTreeMap<String, u64>,
}

/// Keys of indexes that the source's own definition gives another type, each with what to do: every item that has the
/// attribute would be refused.
fn defined_otherwise(table: &Table, source: &SourceTable, target: &TargetTable) -> Vec<(String, String)> {
    let wrong = |key: &IndexKey| {
        let there = source.columns.iter().find(|c| c.name == key.attribute && c.written != key.ty)?;
        let IndexKey { index, attribute, ty } = key;
        Some((
            format!(
                "index {index} of {} wants {attribute} as {ty}, and {} has it as {}: every item that has it would be refused",
                table.target, table.source, there.written
            ),
            format!(
                "make the index anew on an attribute of type {}, or drop it until the run has ended",
                there.written
            ),
        ))
    };
    target.index_keys.iter().filter_map(wrong).collect()
}

/// Why items of a table could not stand in the target's indexes, by the definitions of both alone.
pub(super) async fn problems(ports: &Ports, table: &Table, target: &TargetTable) -> PortResult<Vec<(String, String)>> {
    if !table.is_whole() || target.index_keys.is_empty() {
        return Ok(Vec::new());
    }
    let source = ports.source(table).describe(table).await?;
    Ok(defined_otherwise(table, &source, target))
}

/// The same as rows of a check, with what items of one page hold; none where all is well.
pub(super) async fn rows(ports: &Ports, table: &Table, target: &TargetTable) -> Vec<CheckRow> {
    let what = format!("indexes {}", table.id);
    if !table.is_whole() || target.index_keys.is_empty() {
        return Vec::new();
    }
    let defined = match problems(ports, table, target).await {
        Ok(defined) => defined,
        Err(e) => return vec![CheckRow::port(what, &e)],
    };
    if !defined.is_empty() {
        return defined.into_iter().map(|(wrong, advice)| CheckRow::bad(&what, wrong, advice)).collect();
    }
    match look(&**ports.source(table), table, &target.index_keys).await {
        Err(e) => vec![CheckRow::port(what, &e)],
        Ok(held) => {
            target.index_keys.iter().zip(&held).filter_map(|(key, held)| told(&what, table, key, held)).collect()
        }
    }
}

async fn look(source: &dyn Source, table: &Table, keys: &[IndexKey]) -> PortResult<Vec<Held>> {
    let mut all: Vec<Held> = keys.iter().map(|_| Held::default()).collect();
    let page = source.page(table, Partition { index: 0, of: 1 }, None).await?;
    source.read(&page, &mut |item| {
        for (key, held) in keys.iter().zip(&mut all) {
            let Some(value) = item.get(&key.attribute) else { continue };
            held.of += 1;
            if let Some(refused) = refused(value, &key.ty) {
                *held.refused.entry(refused).or_default() += 1;
            }
        }
    })?;
    Ok(all)
}

/// What an index of this type refuses of a value.
fn refused(value: &Value<'_>, ty: &str) -> Option<String> {
    let empty = match value {
        Value::Text(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        _ => false,
    };
    match value.kind() {
        kind if kind != ty => Some(kind.to_owned()),
        kind => empty.then(|| format!("an empty {kind}")),
    }
}

fn told(what: &str, table: &Table, key: &IndexKey, held: &Held) -> Option<CheckRow> {
    let IndexKey { index, attribute, ty } = key;
    let parked: u64 = held.refused.values().sum();
    let each: Vec<String> = held.refused.iter().map(|(kind, n)| format!("{kind} in {n}")).collect();
    let of = held.of;
    let wrong = format!(
        "index {index} of {} wants {attribute} as {ty}; of {of} items looked at that have it {parked} hold something else ({}) \
         and would be parked",
        table.target,
        each.join(", ")
    );
    match parked {
        0 => None,
        parked if parked == of => Some(CheckRow::bad(
            what,
            wrong,
            format!(
                "drop the index until the run has ended, or give it an attribute that is {ty}: a key is text, a number or bytes"
            ),
        )),
        _ => Some(CheckRow::ok(what, wrong)),
    }
}
