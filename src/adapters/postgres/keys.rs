//! Key cells from the key attributes of a ledger row.

use crate::domain::mapping::{TableMapping, read_key};
use crate::domain::plan::Table;
use crate::domain::value::Cell;

/// Cells of the primary key columns, in column order, from `{"bookId":{"S":"…"}}`. `None` when the key cannot be
/// a row's key here: then no row of it is in the table either, and a row with equal cells belongs to another key.
pub(super) fn from_json(table: &Table, key_json: &str) -> Option<Vec<Cell<'static>>> {
    TableMapping::new(table).row_key(&read_key(key_json)?).ok()
}
