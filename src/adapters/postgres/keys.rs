//! Key cells from the key attributes of a ledger row.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::mapping::TableMapping;
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Record, Value};

/// Cells of the primary key columns, in column order, from `{"bookId":{"S":"…"}}`. `None` when the key cannot be
/// a row's key here: then no row of it is in the table either, and a row with equal cells belongs to another key.
pub(super) fn from_json(table: &Table, key_json: &str) -> Option<Vec<Cell<'static>>> {
    TableMapping::new(table).row_key(&item(key_json)?).ok()
}

fn item(key_json: &str) -> Option<Record<'static>> {
    let serde_json::Value::Object(attributes) = serde_json::from_str(key_json).ok()? else { return None };
    let fields = attributes
        .into_iter()
        .map(|(name, typed)| {
            let (kind, value) = typed.as_object()?.iter().next()?;
            let text = value.as_str()?.to_owned();
            let attr = match kind.as_str() {
                "S" => Value::Text(Cow::Owned(text)),
                "N" => Value::Decimal(Cow::Owned(text)),
                "B" => Value::Bytes(Cow::Owned(STANDARD.decode(text).ok()?)),
                _ => return None,
            };
            Some((Cow::Owned(name), attr))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Record { fields })
}
