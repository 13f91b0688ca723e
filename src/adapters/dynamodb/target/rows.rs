//! Rows as items, and items as rows.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::mapping::{RowError, RowErrorReason, TableMapping, cell_of, push_typed, typed_record};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Table};
use crate::domain::value::{Cell, OwnedRow, Record, Value};

/// Longest partition key and longest sort key, in bytes.
const LONGEST_KEY: [usize; 2] = [2_048, 1_024];

/// How a table's rows are written and read. Compiled once.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The table's id in the plan.
    pub id: String,
    /// The table's name in the store.
    pub target: String,
    columns: Vec<Column>,
    /// Places of the key columns, in order.
    key: Vec<usize>,
    /// The place of the column that holds the whole item.
    whole: Option<usize>,
    mapping: TableMapping,
}

impl Shape {
    /// The shape of a linted table.
    pub(super) fn new(table: &Table) -> Self {
        let places =
            |is: fn(&Column) -> bool| table.columns.iter().enumerate().filter(move |(_, c)| is(c)).map(|(n, _)| n);
        Self {
            id: table.id.clone(),
            target: table.target.clone(),
            key: places(|c| c.key).collect(),
            whole: places(|c| c.from == ColumnSource::Whole).next(),
            columns: table.columns.clone(),
            mapping: TableMapping::new(table),
        }
    }

    /// Names of the key's attributes, in order.
    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|n| self.columns.get(*n)).map(|c| c.name.as_str())
    }

    /// Cells of the key columns of a row.
    pub(super) fn key_of<'r, 'c>(&self, row: &'r [Cell<'c>]) -> Vec<&'r Cell<'c>> {
        self.key.iter().filter_map(|n| row.get(*n)).collect()
    }

    /// A key as JSON, from the cells of the key columns: `{"id":{"S":"b1"}}`. Two spellings of a key are never told
    /// apart by it.
    pub(super) fn key_json(&self, cells: &[&Cell<'_>]) -> Result<String, RowError> {
        let mut out = String::from("{");
        for (n, (name, cell)) in self.key_names().zip(cells).enumerate() {
            let refuse = |reason| RowError::new(name, reason);
            let longest = LONGEST_KEY.get(n).copied().unwrap_or_default();
            let (empty, long) = match cell {
                Cell::Text(s) => (s.is_empty(), s.len() > longest),
                Cell::Bytes(b) => (b.is_empty(), b.len() > longest),
                Cell::Null => return Err(refuse(RowErrorReason::Missing)),
                _ => (false, false),
            };
            if empty {
                return Err(RowError { detail: "an empty key".to_owned(), ..refuse(RowErrorReason::Refused) });
            }
            if long {
                return Err(refuse(RowErrorReason::TooLong));
            }
            if n > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(name).to_string());
            out.push(':');
            push_typed(&mut out, &Value::from((*cell).clone())).map_err(refuse)?;
        }
        out.push('}');
        Ok(out)
    }

    /// A row as an item, as JSON: the document as it is, or an attribute for each cell that is not null.
    pub(super) fn item(&self, row: &[Cell<'_>]) -> Result<String, RowError> {
        if let Some(Cell::Json(whole)) = self.whole.and_then(|n| row.get(n)) {
            return Ok(whole.to_string());
        }
        let mut out = String::from("{");
        for (column, cell) in self.columns.iter().zip(row) {
            if matches!(cell, Cell::Null) {
                continue;
            }
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(column.name.as_str()).to_string());
            out.push(':');
            push_cell(&mut out, column.ty, cell).map_err(|reason| RowError::new(&column.name, reason))?;
        }
        out.push('}');
        Ok(out)
    }

    /// An item as a row, in canonical form.
    pub(super) fn row<'i>(&self, item: &Record<'i>) -> Vec<Cell<'i>> {
        self.columns.iter().map(|column| cell(column, item)).collect()
    }

    /// The key of a row as JSON, from the key attributes of a ledger row. `None` when the key can be no row's key here:
    /// then no row of it is in the table either.
    pub(super) fn row_key_of(&self, key_json: &str) -> Option<String> {
        let key = self.mapping.row_key(&source_key(key_json)?).ok()?;
        self.key_json(&key.iter().collect::<Vec<_>>()).ok()
    }

    /// The same from cells of the key columns alone.
    pub(super) fn row_key(&self, cells: &OwnedRow) -> Result<String, RowError> {
        self.key_json(&cells.iter().collect::<Vec<_>>())
    }
}

/// One cell as an attribute.
fn push_cell(out: &mut String, ty: ColumnType, cell: &Cell<'_>) -> Result<(), RowErrorReason> {
    match (ty, cell) {
        (ColumnType::Document, Cell::Json(map)) => {
            out.push_str("{\"M\":");
            out.push_str(map);
            out.push('}');
            Ok(())
        }
        // What is read back by this is what was written: see `cell`.
        (_, Cell::Other(_)) => Err(RowErrorReason::WrongType),
        (_, cell) => push_typed(out, &Value::from(cell.clone())),
    }
}

/// A column's cell. What no cell of the column is written as (another type, another spelling) is none of its cells, and
/// equal to none.
fn cell<'i>(column: &Column, item: &Record<'i>) -> Cell<'i> {
    if column.from == ColumnSource::Whole {
        return typed_record(item)
            .map_or_else(|_| unlike(&Value::Map(item.fields.clone())), |text| Cell::Json(text.into()));
    }
    let Some(value) = item.get(&column.name) else { return Cell::Null };
    let Ok(cell) = cell_of(column.ty, value) else { return unlike(value) };
    let (mut written, mut stands) = (String::new(), String::new());
    let same = push_cell(&mut written, column.ty, &cell).is_ok() && push_typed(&mut stands, value).is_ok();
    if same && written == stands { cell } else { unlike(value) }
}

fn unlike<'i>(value: &Value<'_>) -> Cell<'i> {
    let mut stands = String::new();
    // What has no form at all is told apart from everything that has one.
    let _ = push_typed(&mut stands, value);
    Cell::Other(Cow::Owned(stands.into_bytes()))
}

/// The key attributes of a ledger row: `{"bookId":{"S":"…"}}`.
fn source_key(key_json: &str) -> Option<Record<'static>> {
    let serde_json::Value::Object(attributes) = serde_json::from_str(key_json).ok()? else { return None };
    let fields = attributes.into_iter().map(|(name, typed)| Some((Cow::Owned(name), key_value(&typed)?)));
    Some(Record { fields: fields.collect::<Option<Vec<_>>>()? })
}

/// A key attribute.
pub(super) fn key_value(typed: &serde_json::Value) -> Option<Value<'static>> {
    let (kind, value) = typed.as_object()?.iter().next()?;
    let text = value.as_str()?.to_owned();
    match kind.as_str() {
        "S" => Some(Value::Text(Cow::Owned(text))),
        "N" => Some(Value::Decimal(Cow::Owned(text))),
        "B" => Some(Value::Bytes(Cow::Owned(STANDARD.decode(text).ok()?))),
        _ => None,
    }
}

/// The attribute type of a key column; `None` for a column that can be no key of this store.
pub(super) const fn key_type(ty: ColumnType) -> Option<&'static str> {
    ty.key_attribute()
}

/// What a refusal of one item says of it: whether it may be the item's own fault, and then why. The store's message may
/// quote values and is never kept.
pub(super) fn refusal(message: &str) -> Option<RowError> {
    // Every item of the table would be refused alike: the plan is wrong, or this program. Nothing is parked.
    let of_the_table =
        ["does not match the schema", "Missing the key", "Missing one of the required keys", "xpression"];
    if of_the_table.iter().any(|words| message.contains(words)) {
        return None;
    }
    let has = |words: &str| message.to_ascii_lowercase().contains(words);
    let whole = |reason, detail: String| RowError { detail, ..RowError::new("-", reason) };
    Some(if has("item size") {
        whole(RowErrorReason::TooLong, "an item holds 400 KB at most".to_owned())
    } else if let Some(index) = crate::adapters::dynamodb::items::index_named(message) {
        whole(RowErrorReason::Refused, format!("ValidationException, the key of index {index}"))
    } else if has("collection") {
        whole(RowErrorReason::Refused, "items of one partition key hold 10 GB at most beside a local index".to_owned())
    } else if has("empty") {
        whole(RowErrorReason::Refused, "ValidationException, an empty value".to_owned())
    } else if has("nesting") {
        whole(RowErrorReason::Refused, "ValidationException, nested too deeply".to_owned())
    } else if has("number") || has("magnitude") || has("significant digits") {
        whole(RowErrorReason::NumberRange, "ValidationException".to_owned())
    } else {
        whole(RowErrorReason::Refused, "ValidationException".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{Declared, Fallback};

    fn column(name: &str, ty: ColumnType, key: bool) -> Column {
        let from = ColumnSource::Attribute(vec![name.to_owned()]);
        Column { name: name.to_owned(), ty, from, absent: Fallback::Null, key, declared: Declared::default() }
    }

    fn shape(columns: Vec<Column>) -> Shape {
        Shape::new(&Table { columns, key: vec!["id".to_owned()], target: "t".to_owned(), ..Table::watched("t", "T") })
    }

    fn record(fields: Vec<(&'static str, Value<'static>)>) -> Record<'static> {
        Record { fields: fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect() }
    }

    #[test]
    fn cells_of_every_type_come_back_from_their_attributes() {
        use ColumnType::*;
        let shape = shape(vec![
            column("id", Text, true),
            column("price", Numeric(Some((10, 2))), false),
            column("n", Integer, false),
            column("f", Double, false),
            column("yes", Boolean, false),
            column("at", Timestamptz, false),
            column("day", Date, false),
            column("uuid", Uuid, false),
            column("raw", Bytea, false),
            column("tags", TextArray, false),
            column("json", Jsonb, false),
            column("map", Document, false),
            column("none", Text, false),
        ]);
        let row = vec![
            Cell::Text("b1".into()),
            Cell::Numeric("19.9".into()),
            Cell::Int(7),
            Cell::Float(0.1),
            Cell::Bool(true),
            Cell::Timestamp(1_795_358_836_220_000),
            Cell::Date(20_000),
            Cell::Uuid([7; 16]),
            Cell::Bytes(vec![0, 255].into()),
            Cell::TextArray(vec!["b".into(), "a".into()]),
            Cell::Json(r#"{"a":[1,null,"x"]}"#.into()),
            Cell::Json(r#"{"a":{"SS":["x"]}}"#.into()),
            Cell::Null,
        ];
        let json = shape.item(&row).unwrap();
        assert!(json.contains(r#""price":{"N":"19.9"}"#) && json.contains(r#""yes":{"BOOL":true}"#), "{json}");
        assert!(json.contains(r#""tags":{"L":[{"S":"b"},{"S":"a"}]}"#) && !json.contains("none"), "{json}");
        let body = format!(r#"{{"Count":1,"Items":[{json}]}}"#);
        let mut read = Vec::new();
        let mut each =
            |item: &Record<'_>| read.push(shape.row(item).into_iter().map(Cell::into_owned).collect::<Vec<_>>());
        crate::adapters::dynamodb::page::decode(body.as_bytes(), &mut each).unwrap();
        assert_eq!(read, [row]);
    }

    #[test]
    fn what_differs_only_in_type_or_spelling_is_not_equal() {
        let shape = shape(vec![column("id", ColumnType::Text, true), column("n", ColumnType::Numeric(None), false)]);
        let number = record(vec![("id", Value::Text("1".into())), ("n", Value::Decimal("1.0".into()))]);
        let text = record(vec![("id", Value::Decimal("1".into())), ("n", Value::Text("1".into()))]);
        assert_eq!(shape.row(&number), [Cell::Text("1".into()), Cell::Numeric("1".into())]);
        assert_ne!(shape.row(&number)[0], shape.row(&text)[0]);
        assert_ne!(shape.row(&number)[1], shape.row(&text)[1]);
    }

    #[test]
    fn a_whole_item_passes_verbatim() {
        let whole = Column { from: ColumnSource::Whole, ..column("item", ColumnType::Document, false) };
        let shape = shape(vec![column("id", ColumnType::Text, true), whole]);
        let set = Value::TextSet(vec!["y".into(), "x".into()]);
        let item = record(vec![("tags", set), ("id", Value::Text("b1".into())), ("n", Value::Decimal("1.0".into()))]);
        let row = shape.row(&item);
        assert_eq!(shape.item(&row).unwrap(), r#"{"id":{"S":"b1"},"n":{"N":"1"},"tags":{"SS":["x","y"]}}"#);
    }

    #[test]
    fn keys_that_no_item_has_are_refused_one_by_one() {
        let shape = shape(vec![column("id", ColumnType::Text, true)]);
        let of = |text: String| shape.key_json(&[&Cell::Text(text.into())]).map_err(|e| e.reason);
        assert_eq!(of("a".into()).as_deref(), Ok(r#"{"id":{"S":"a"}}"#));
        assert_eq!(of(String::new()), Err(RowErrorReason::Refused));
        assert_eq!(of("x".repeat(2_049)), Err(RowErrorReason::TooLong));
        assert_eq!(shape.row_key_of(r#"{"id":{"S":"a"}}"#).as_deref(), Some(r#"{"id":{"S":"a"}}"#));
    }

    #[test]
    fn a_refusal_of_the_table_is_no_rows_fault() {
        assert_eq!(refusal("The provided key element does not match the schema"), None);
        let named = refusal("Type mismatch for Index Key author Expected: S Actual: N IndexName: by-author").unwrap();
        assert!(named.detail.contains("by-author"), "{named}");
        assert_eq!(refusal("Item size has exceeded the maximum allowed size").unwrap().reason, RowErrorReason::TooLong);
    }
}
