//! What can be said of an item before the service is asked: its JSON, its size and its depth.
//!
//! Sizes are counted as the service's documentation and the embedded stores count them. Keys of secondary indexes are
//! judged by the service alone.

use std::sync::Arc;

use super::rows::Shape;
use crate::domain::mapping::{Mapped, RowError, RowErrorReason, RowSize, read_typed_record};
use crate::domain::value::{Record, Value};
use crate::ports::RowEncoder;

/// Bytes an item may have.
const LARGEST: u64 = 400 * 1024;
/// Maps and lists around a value, of which this many are too many.
const DEEPEST: usize = 32;
/// What the service adds to each item when it counts how much is stored.
const INDEXED: u64 = 100;

/// Encodes rows of one table as items.
pub(super) struct ItemEncoder(pub Arc<Shape>);

impl RowEncoder for ItemEncoder {
    fn encode(&mut self, mapped: &Mapped<'_>) -> Result<RowSize, RowError> {
        let whole = |reason, detail: &str| RowError { detail: detail.to_owned(), ..RowError::new("-", reason) };
        if mapped.children.iter().any(|rows| !rows.is_empty()) {
            return Err(whole(RowErrorReason::Refused, "a DynamoDB table has no child tables"));
        }
        let key = self.0.key_json(&self.0.key_of(&mapped.row))?;
        let json = self.0.item(&mapped.row)?;
        let item = read_typed_record(&json).map_err(|reason| RowError::new("-", reason))?;
        if item.fields.iter().any(|(_, value)| is_deeper(value, 0)) {
            return Err(whole(RowErrorReason::Refused, "an item is nested 32 levels deep at most"));
        }
        let size = item_size(&item);
        if size > LARGEST {
            return Err(whole(RowErrorReason::TooLong, "an item holds 400 KB at most"));
        }
        Ok(RowSize { sent: (json.len() + key.len()) as u64, stored: size + INDEXED })
    }
}

fn is_deeper(value: &Value<'_>, depth: usize) -> bool {
    depth >= DEEPEST
        || match value {
            Value::List(items) => items.iter().any(|inner| is_deeper(inner, depth + 1)),
            Value::Map(entries) => entries.iter().any(|(_, inner)| is_deeper(inner, depth + 1)),
            _ => false,
        }
}

/// Bytes of an item as the limit counts them.
fn item_size(item: &Record<'_>) -> u64 {
    item.fields.iter().map(|(name, value)| name.len() as u64 + size(value)).sum()
}

fn size(value: &Value<'_>) -> u64 {
    match value {
        Value::Text(s) => s.len() as u64,
        Value::Decimal(n) => number_size(n),
        Value::Bytes(b) => b.len() as u64,
        Value::Bool(_) | Value::Null => 1,
        Value::TextSet(set) => set.iter().map(|s| s.len() as u64).sum(),
        Value::DecimalSet(set) => set.iter().map(|n| number_size(n)).sum(),
        Value::BytesSet(set) => set.iter().map(|b| b.len() as u64).sum(),
        Value::List(items) => 3 + items.iter().map(|inner| 1 + size(inner)).sum::<u64>(),
        Value::Map(entries) => 3 + entries.iter().map(|(name, inner)| name.len() as u64 + 1 + size(inner)).sum::<u64>(),
        // What was read back from an item holds none.
        Value::Cell(_) => 0,
    }
}

/// A number in canonical form: a byte, one for each two significant digits before and after the point, and one for a
/// sign.
fn number_size(canonical: &str) -> u64 {
    let digits = canonical.trim_start_matches('-');
    let sign = u64::from(digits.len() < canonical.len());
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    // Zeros at either end are no significant digits.
    let (whole, fraction) = match (whole.is_empty(), fraction.is_empty()) {
        (true, _) => ("", fraction.trim_start_matches('0')),
        (false, true) => (whole.trim_end_matches('0'), ""),
        (false, false) => (whole, fraction),
    };
    (whole.len().div_ceil(2) + fraction.len().div_ceil(2)) as u64 + 1 + sign
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mapping::TableMapping;
    use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, Table};

    fn table() -> Table {
        let column = |name: &str, ty, from, key| Column {
            name: name.to_owned(),
            ty,
            from,
            absent: Fallback::Null,
            key,
            declared: Declared::default(),
        };
        let id = column("id", ColumnType::Text, ColumnSource::Attribute(vec!["id".to_owned()]), true);
        let item = column("item", ColumnType::Document, ColumnSource::Whole, false);
        Table { columns: vec![id, item], key: vec!["id".to_owned()], ..Table::watched("t", "T") }
    }

    fn judged(fields: Vec<(&'static str, Value<'static>)>) -> Result<RowSize, (RowErrorReason, String)> {
        let (table, mut mapped) = (table(), Mapped::default());
        let mapping = TableMapping::new(&table);
        let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
        mapping.map(&Record { fields }, &mut mapped).unwrap();
        ItemEncoder(Arc::new(Shape::new(&table))).encode(&mapped).map_err(|e| (e.reason, e.detail))
    }

    fn id() -> (&'static str, Value<'static>) {
        ("id", Value::Text("b1".into()))
    }

    #[test]
    fn an_item_that_is_too_large_or_too_deep_is_found_before_it_is_sent() {
        let text = |n: usize| ("t", Value::Text("x".repeat(n).into()));
        // The key's name and value and the text's name are five bytes.
        let most = 400 * 1024 - 5;
        assert_eq!(judged(vec![id(), text(most)]).unwrap().stored, LARGEST + INDEXED);
        assert_eq!(judged(vec![id(), text(most + 1)]).unwrap_err().0, RowErrorReason::TooLong);

        let nested = |levels| (0..levels).fold(Value::Bool(true), |inner, _| Value::List(vec![inner]));
        assert!(judged(vec![id(), ("l", nested(31))]).is_ok());
        let (reason, detail) = judged(vec![id(), ("l", nested(32))]).unwrap_err();
        assert!(reason == RowErrorReason::Refused && detail.contains("32 levels"), "{detail}");
        assert_eq!(judged(vec![("id", Value::Text("".into()))]).unwrap_err().0, RowErrorReason::Refused);
    }

    #[cfg(feature = "embedded-dynamodb")]
    #[test]
    fn sizes_are_those_of_the_embedded_store() {
        use dynoxide::types::{AttributeValue as Av, item_size as theirs};
        let numbers = ["0", "7", "42", "-42", "1000", "0.5", "0.005", "12.5", "123.456", "-0.1", "100.01", "120"];
        for n in numbers {
            let ours = item_size(&Record { fields: vec![("n".into(), Value::Decimal(n.into()))] });
            let item = [("n".to_owned(), Av::N(n.to_owned()))].into_iter().collect();
            assert_eq!(ours, theirs(&item) as u64, "{n}");
        }
        let map = Value::Map(vec![("k".into(), Value::Null), ("l".into(), Value::List(vec![Value::Bool(true)]))]);
        let av = [("k".to_owned(), Av::NULL(true)), ("l".to_owned(), Av::L(vec![Av::BOOL(true)]))];
        let item = [("m".to_owned(), Av::M(av.into_iter().collect()))].into_iter().collect();
        assert_eq!(item_size(&Record { fields: vec![("m".into(), map)] }), theirs(&item) as u64);
    }
}
