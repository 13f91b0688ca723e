//! What a config could say of tables that have no schema, from a sample of their items: columns with their types, the
//! table's DDL, and what a person has to decide. Holds counts and lengths, never a value.

mod attribute;
mod day;
mod moves;
mod names;
mod table;

use std::collections::BTreeMap;

pub use attribute::Seen;
pub use day::day;
pub use moves::{moved, renamed};
pub use names::column_name;
pub use table::proposed;

use crate::domain::plan::ColumnType;
use crate::domain::value::Record;

/// What a sample showed of a table.
#[derive(Clone, Debug, Default)]
pub struct SampledTable {
    /// The table's name at its source.
    pub name: String,
    /// Key attributes with the type that holds whatever the store allows there, partition key first.
    pub key: Vec<(String, ColumnType)>,
    /// The attribute that holds when an item expires, if items do.
    pub ttl: Option<String>,
    /// Items in the table by the store's own, old count; `None` when it says none.
    pub count: Option<u64>,
    /// Items in the sample.
    pub items: u64,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Seen>,
}

impl SampledTable {
    /// Takes one more item into account.
    pub fn look(&mut self, item: &Record<'_>) {
        self.items += 1;
        for (name, value) in &item.fields {
            match self.attributes.get_mut(name.as_ref()) {
                Some(seen) => seen.look(value),
                None => self.attributes.entry(name.clone().into_owned()).or_default().look(value),
            }
        }
    }
}
