//! Key cells from the key attributes a ledger row carries.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::domain::mapping::TableMapping;
use crate::domain::plan::{ColumnSource, ColumnType, Table};
use crate::domain::value::{Attr, Cell, Item};

/// Cells of the primary key columns, in column order, from `{"bookId":{"S":"…"}}`. `None` when the key cannot be
/// a row's key here: then no row of it is in the table either.
pub(super) fn from_json(table: &Table, key_json: &str) -> Option<Vec<Cell<'static>>> {
    let item = item(key_json)?;
    TableMapping::new(table).row_key(&item).ok().or_else(|| plain(table, &item))
}

fn item(key_json: &str) -> Option<Item<'static>> {
    let Value::Object(attributes) = serde_json::from_str(key_json).ok()? else { return None };
    let attrs = attributes
        .into_iter()
        .map(|(name, typed)| {
            let (kind, value) = typed.as_object()?.iter().next()?;
            let text = value.as_str()?.to_owned();
            let attr = match kind.as_str() {
                "S" => Attr::Str(Cow::Owned(text)),
                "N" => Attr::Num(Cow::Owned(text)),
                "B" => Attr::Bin(Cow::Owned(STANDARD.decode(text).ok()?)),
                _ => return None,
            };
            Some((Cow::Owned(name), attr))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Item { attrs })
}

/// Keys whose attribute and column say the same thing in the same words.
fn plain(table: &Table, item: &Item<'static>) -> Option<Vec<Cell<'static>>> {
    table
        .columns
        .iter()
        .filter(|c| c.key)
        .map(|column| {
            let ColumnSource::Attribute(path) = &column.from else { return None };
            let [name] = path.as_slice() else { return None };
            let (Attr::Str(text) | Attr::Num(text)) = item.get(name)? else { return None };
            Some(match column.ty {
                ColumnType::Text | ColumnType::Varchar(_) => Cell::Text(Cow::Owned(text.to_string())),
                ColumnType::Uuid => Cell::Uuid(uuid::Uuid::parse_str(text).ok()?.into_bytes()),
                ColumnType::Smallint | ColumnType::Integer | ColumnType::Bigint => Cell::Int(text.parse().ok()?),
                _ => return None,
            })
        })
        .collect()
}
