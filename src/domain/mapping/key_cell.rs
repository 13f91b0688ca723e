//! Keys as they are stored: `{"id":{"S":"b1"}}`, in DynamoDB's form. Columns can hold keys that no document says: an
//! infinite moment, a number that is none. Each of these has a kind of its own there, so that it is one key and is read
//! again as what it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json};

use super::json::push_json_text;
use crate::domain::value::{Cell, Record, Value};

/// Appends a cell that no document says, as text and as JSON with its kind. `None` for one that is no key.
pub(super) fn push(cell: &Cell<'_>, text: &mut String, json: &mut String) -> Option<()> {
    let (kind, said) = match cell {
        Cell::Timestamp(micros) => ("moment", micros.to_string()),
        Cell::Date(days) => ("date", days.to_string()),
        Cell::Float(x) => ("double", x.to_string()),
        Cell::Numeric(n) => ("numeric", n.to_string()),
        Cell::Other(raw) => ("binary", STANDARD.encode(raw)),
        // A document says each of these, or it is no key.
        Cell::Null
        | Cell::Text(_)
        | Cell::Uuid(_)
        | Cell::Int(_)
        | Cell::Bool(_)
        | Cell::Json(_)
        | Cell::TextArray(_)
        | Cell::Bytes(_) => return None,
    };
    text.push_str(match cell {
        Cell::Timestamp(i64::MAX) | Cell::Date(i32::MAX) => "infinity",
        Cell::Timestamp(i64::MIN) | Cell::Date(i32::MIN) => "-infinity",
        _ => &said,
    });
    json.push_str("{\"");
    json.push_str(kind);
    json.push_str("\":");
    push_json_text(json, &said);
    json.push('}');
    Some(())
}

/// Key attributes from the JSON they are stored as; `None` where it is not the JSON of a key.
#[must_use]
pub fn read_key(json: &str) -> Option<Record<'static>> {
    let parsed: Map<String, Json> = serde_json::from_str(json).ok()?;
    let fields = parsed.into_iter().map(|(name, typed)| {
        let (kind, said) = typed.as_object()?.iter().next()?;
        Some((name.into(), value(kind, said.as_str()?)?))
    });
    Some(Record { fields: fields.collect::<Option<Vec<_>>>()? })
}

fn value(kind: &str, said: &str) -> Option<Value<'static>> {
    Some(match kind {
        "S" => Value::Text(said.to_owned().into()),
        "N" => Value::Decimal(said.to_owned().into()),
        "B" => Value::Bytes(STANDARD.decode(said).ok()?.into()),
        "BOOL" => Value::Bool(said.parse().ok()?),
        "moment" => Value::Cell(Cell::Timestamp(said.parse().ok()?)),
        "date" => Value::Cell(Cell::Date(said.parse().ok()?)),
        "double" => Value::Cell(Cell::Float(said.parse().ok()?)),
        "numeric" => Value::Cell(Cell::Numeric(said.to_owned().into())),
        "binary" => Value::Cell(Cell::Other(STANDARD.decode(said).ok()?.into())),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::TableMapping;
    use super::*;
    use crate::domain::plan::Table;

    #[test]
    fn keys_come_back_from_the_ledger() {
        let item = read_key(r#"{"a":{"S":"x"},"n":{"N":"1.5"},"b":{"B":"AAE="}}"#).unwrap();
        assert_eq!(item.get("a"), Some(&Value::Text("x".into())));
        assert_eq!(item.get("n"), Some(&Value::Decimal("1.5".into())));
        assert_eq!(item.get("b"), Some(&Value::Bytes(vec![0, 1].into())));
        assert_eq!(read_key("not json"), None);
    }

    #[test]
    fn keys_that_no_document_says_are_keys_of_their_own_and_come_back() {
        let table = Table { key: vec!["k".into()], ..Table::watched("t", "T") };
        let mapping = TableMapping::new(&table);
        let cells = [
            Cell::Timestamp(i64::MAX),
            Cell::Timestamp(i64::MIN),
            Cell::Timestamp(i64::MIN + 1),
            Cell::Date(i32::MAX),
            Cell::Date(i32::MIN),
            Cell::Date(i32::MAX - 1),
            Cell::Float(f64::NAN),
            Cell::Float(f64::INFINITY),
            Cell::Float(f64::NEG_INFINITY),
            Cell::Float(1e300),
            Cell::Numeric("NaN".into()),
            Cell::Numeric("1".repeat(39).into()),
            Cell::Other(vec![0, 255].into()),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for cell in cells {
            let item = Record { fields: vec![("k".into(), Value::Cell(cell.clone()))] };
            let (key, json) = mapping.key(&item).unwrap();
            assert_eq!(read_key(&json), Some(item), "{json}");
            assert!(seen.insert((cell.kind(), key.0.clone())), "{key:?} stands for two keys");
        }
    }
}
