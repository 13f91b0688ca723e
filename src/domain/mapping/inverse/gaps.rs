//! What of a table's mapping has no inverse.

use crate::domain::plan::{ColumnSource, ColumnType, StoreKind, Table};

/// What has no inverse, found without reading any data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InverseGaps {
    /// Why the table has no inverse at all.
    pub blocks: Vec<String>,
    /// What is left out of an item that is made from a row.
    pub notes: Vec<String>,
}

/// Says which parts of a table's mapping have an inverse. `source` is the kind of store it comes
/// from: typed columns say themselves how a value was written.
#[must_use]
pub fn inverse_gaps(table: &Table, source: StoreKind) -> InverseGaps {
    use ColumnType::{Boolean, Date, Double, Jsonb, TextArray, Timestamptz};
    let mut found = InverseGaps::default();
    if table.columns.iter().all(|c| !c.key) {
        found.blocks.push("it has no key column".to_owned());
    }
    for column in &table.columns {
        match &column.from {
            _ if column.key
                && !source.of_columns()
                && matches!(column.ty, Boolean | Date | Double | Jsonb | TextArray | Timestamptz) =>
            {
                found.blocks.push(format!("key column {} does not say how its attribute was written", column.name));
            }
            ColumnSource::Constant(_) => {
                found.notes.push(format!("{} is a constant and has no attribute", column.name))
            }
            // Two columns would say what one attribute holds.
            ColumnSource::Whole if table.columns.iter().any(|c| !c.key && c.from != ColumnSource::Whole) => {
                found.blocks.push(format!("{} holds the whole record, and other columns parts of it", column.name));
            }
            ColumnSource::Whole
            | ColumnSource::Attribute(_)
            | ColumnSource::Parent(_)
            | ColumnSource::Ordinal
            | ColumnSource::Element => {}
        }
    }
    for child in &table.children {
        if !child.columns.iter().any(|c| c.from == ColumnSource::Ordinal) {
            found.notes.push(format!("{} has no ordinal: the list comes back in key order", child.target));
        }
    }
    found
}
