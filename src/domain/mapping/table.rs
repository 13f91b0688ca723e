//! The compiled mapping. (Filled in by the mapping itself; the types are the contract.)

use std::borrow::Cow;

use super::Misfit;
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Item, Key};

/// One item, mapped: the main row and its child rows, borrowing from the item.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped<'a> {
    /// The row's key as text.
    pub key: String,
    /// The key attributes as compact JSON, DynamoDB form: `{"bookId":{"S":"…"}}`.
    pub key_json: String,
    /// Cells in the plan's column order.
    pub row: Vec<Cell<'a>>,
    /// Child rows, one entry per child table in the plan's order.
    pub children: Vec<ChildRows<'a>>,
}

/// Rows of one child table.
pub type ChildRows<'a> = Vec<Vec<Cell<'a>>>;

/// A table's mapping, compiled once.
#[derive(Clone, Debug)]
pub struct TableMapping {
    table: Table,
}

impl TableMapping {
    /// Compiles the mapping of a linted table.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        Self { table: table.clone() }
    }

    /// Whether this is one of our own marker items; gives the nonce.
    #[must_use]
    pub fn marker<'i>(&self, item: &'i Item<'_>) -> Option<&'i str> {
        let _ = (item, &self.table);
        None
    }

    /// The item's key as text and as JSON, for the ledger. Missing key attributes are a misfit.
    pub fn key(&self, item: &Item<'_>) -> Result<(Key, String), Misfit> {
        let _ = item;
        Err(Misfit { column: "-".into(), reason: super::MisfitReason::Missing })
    }

    /// Cells of the target's primary key columns, in column order, from an item that holds at least the key.
    pub fn row_key(&self, key: &Item<'_>) -> Result<Vec<Cell<'static>>, Misfit> {
        let _ = key;
        Err(Misfit { column: "-".into(), reason: super::MisfitReason::Missing })
    }

    /// Maps one item. `out` is reused from item to item: cleared first, capacity kept.
    pub fn map<'a>(&self, item: &'a Item<'a>, out: &mut Mapped<'a>) -> Result<(), Misfit> {
        let _ = (item, &out.row, Cow::Borrowed(""));
        Err(Misfit { column: "-".into(), reason: super::MisfitReason::Missing })
    }
}
