//! Sequences of restored tables. Rows come with their ids, so nothing of a restore moves a sequence, and the first row that
//! is inserted afterwards would be given an id that is taken.

use deadpool_postgres::ClientWrapper;

use crate::adapters::postgres::sequences::{self, Within};
use crate::adapters::postgres::trouble;
use crate::ports::{HeldTable, PortResult, Sequence, SequenceScan};

/// Moves each past the furthest value that its columns hold, never back. Says where they stand, which could not be moved, and
/// which no column takes its values from: nothing of these is in an export.
pub(super) async fn moved(client: &mut ClientWrapper, tables: &[HeldTable]) -> PortResult<Vec<String>> {
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let how = (SequenceScan::Whole, Within::Callers);
    let stand = sequences::advance(client, &names, how, &[], &[])
        .await
        .map_err(|e| trouble::error(&e, "move the sequences of", &names.join(", ")))?;
    let (fed, apart): (Vec<&Sequence>, Vec<&Sequence>) = stand.iter().partition(|s| !s.columns.is_empty());
    let mut said: Vec<String> = fed.into_iter().filter_map(words).collect();
    if !apart.is_empty() {
        let names: Vec<&str> = apart.iter().map(|s| s.name.as_str()).collect();
        said.push(format!(
            "sequence {}: no column takes its values from it, and the export does not hold where it stood: set it yourself \
             (setval) past what it has given where the export comes from",
            names.join(", ")
        ));
    }
    Ok(said)
}

fn words(sequence: &Sequence) -> Option<String> {
    let (name, columns) = (&sequence.name, sequence.columns.join(", "));
    let notes: String = sequence.notes.iter().map(|note| format!("; {note}")).collect();
    if let Some((wrong, _)) = &sequence.problem {
        return Some(format!(
            "sequence {name} of {columns} was left where it stands: {wrong}{notes}; before anybody inserts there, set it \
             yourself (setval), or widen it and its columns"
        ));
    }
    match (sequence.held, sequence.next) {
        (Some(held), Some(next)) => Some(format!(
            "sequence {name} gives {next} next; {columns} holds up to {held}, and what was given out beyond it where the \
             export comes from is not in the export{notes}"
        )),
        _ if notes.is_empty() => None,
        _ => Some(format!("sequence {name} of {columns} was left where it stands{notes}")),
    }
}
