//! Documents as text that keeps the type of every value: DynamoDB's JSON in one form only.
//!
//! Keys are sorted, sets too, and numbers have their canonical form. So two documents are equal exactly when DynamoDB
//! holds them as equal: `1.0` and `1`, or a set in another order, are written alike, and the text `1` is not the number.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::RowErrorReason;
use super::back::document;
use super::json::push_json_text;
use super::numeric::{by_value, canonical};
use crate::domain::value::{Record, Value};

/// A whole record: `{"id":{"S":"b1"},"price":{"N":"19.9"}}`.
pub(super) fn record(record: &Record<'_>) -> Result<String, RowErrorReason> {
    map(&record.fields)
}

/// The same of a record that is not mapped; an error names no value.
///
/// # Errors
/// Why a value has no such form.
pub fn typed_record(item: &Record<'_>) -> Result<String, RowErrorReason> {
    record(item)
}

/// A map, in the form a record has.
pub(super) fn map(entries: &[(Cow<'_, str>, Value<'_>)]) -> Result<String, RowErrorReason> {
    let mut out = String::with_capacity(entries.len() * 24);
    push_map(&mut out, entries)?;
    Ok(out)
}

/// Appends one value with its type: `{"S":"b1"}`.
///
/// # Errors
/// Why the value has no such form.
pub fn push_typed(out: &mut String, value: &Value<'_>) -> Result<(), RowErrorReason> {
    if let Value::Cell(cell) = value {
        return push_typed(out, &document(cell)?);
    }
    out.push_str("{\"");
    out.push_str(value.kind());
    out.push_str("\":");
    match value {
        Value::Text(s) => push_json_text(out, s),
        Value::Decimal(n) => push_number(out, n)?,
        Value::Bytes(b) => push_bytes(out, b),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Null => out.push_str("true"),
        Value::List(items) => push_list(out, items, push_typed)?,
        Value::Map(entries) => push_map(out, entries)?,
        Value::TextSet(set) => {
            let mut sorted: Vec<&str> = set.iter().map(AsRef::as_ref).collect();
            sorted.sort_unstable();
            push_list(out, &sorted, |out, s| {
                push_json_text(out, s);
                Ok(())
            })?;
        }
        Value::DecimalSet(set) => {
            let mut sorted = set
                .iter()
                .map(|n| canonical(n).ok_or(RowErrorReason::Unparsable))
                .collect::<Result<Vec<Cow<'_, str>>, _>>()?;
            sorted.sort_unstable_by(|a, b| by_value(a, b));
            push_list(out, &sorted, |out, n| push_number(out, n))?;
        }
        Value::BytesSet(set) => {
            let mut sorted: Vec<&[u8]> = set.iter().map(AsRef::as_ref).collect();
            sorted.sort_unstable();
            push_list(out, &sorted, |out, b| {
                push_bytes(out, b);
                Ok(())
            })?;
        }
        // Written above, as what a document says of it.
        Value::Cell(_) => return Err(RowErrorReason::WrongType),
    }
    out.push('}');
    Ok(())
}

fn push_map(out: &mut String, entries: &[(Cow<'_, str>, Value<'_>)]) -> Result<(), RowErrorReason> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    out.push('{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_json_text(out, name);
        out.push(':');
        push_typed(out, value)?;
    }
    out.push('}');
    Ok(())
}

fn push_list<T>(
    out: &mut String,
    items: &[T],
    mut each: impl FnMut(&mut String, &T) -> Result<(), RowErrorReason>,
) -> Result<(), RowErrorReason> {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item)?;
    }
    out.push(']');
    Ok(())
}

fn push_number(out: &mut String, text: &str) -> Result<(), RowErrorReason> {
    push_json_text(out, &canonical(text).ok_or(RowErrorReason::Unparsable)?);
    Ok(())
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fields: Vec<(&'static str, Value<'static>)>) -> String {
        let fields = fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        record(&Record { fields }).unwrap()
    }

    fn n(text: &'static str) -> Value<'static> {
        Value::Decimal(text.into())
    }

    #[test]
    fn what_dynamodb_holds_as_equal_is_written_alike() {
        let one = said(vec![
            ("b", n("1.50")),
            ("a", Value::TextSet(vec!["y".into(), "x".into()])),
            ("c", Value::DecimalSet(vec!["10".into(), "9.0".into()])),
            ("m", Value::Map(vec![("z".into(), Value::Null), ("k".into(), Value::Bool(true))])),
        ]);
        let other = said(vec![
            ("m", Value::Map(vec![("k".into(), Value::Bool(true)), ("z".into(), Value::Null)])),
            ("c", Value::DecimalSet(vec!["9".into(), "1e1".into()])),
            ("a", Value::TextSet(vec!["x".into(), "y".into()])),
            ("b", n("15e-1")),
        ]);
        assert_eq!(one, other);
        assert_eq!(
            one,
            r#"{"a":{"SS":["x","y"]},"b":{"N":"1.5"},"c":{"NS":["9","10"]},"m":{"M":{"k":{"BOOL":true},"z":{"NULL":true}}}}"#
        );
    }

    #[test]
    fn values_that_differ_only_in_type_differ() {
        let of = |value| said(vec![("v", value)]);
        let all = [
            of(Value::Text("1".into())),
            of(n("1")),
            of(Value::TextSet(vec!["1".into()])),
            of(Value::DecimalSet(vec!["1".into()])),
            of(Value::List(vec![n("1")])),
            of(Value::List(vec![Value::Text("1".into())])),
            of(Value::Bytes(b"1".as_slice().into())),
            of(Value::BytesSet(vec![b"1".as_slice().into()])),
            of(Value::Bool(true)),
            of(Value::Null),
            of(Value::Map(vec![])),
            said(vec![]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|other| other != one), "{one}");
        }
        assert_eq!(of(Value::Text("\"\\\n\0é".into())), "{\"v\":{\"S\":\"\\\"\\\\\\n\\u0000é\"}}");
    }

    #[test]
    fn a_cell_of_a_typed_column_is_written_as_a_document_says_it() {
        use crate::domain::value::Cell;
        let all = said(vec![
            ("i", Value::Cell(Cell::Int(7))),
            ("j", Value::Cell(Cell::Json(r#"{"a":[1,"x"]}"#.into()))),
            ("t", Value::Cell(Cell::TextArray(vec!["b".into(), "a".into()]))),
        ]);
        let j = r#"{"M":{"a":{"L":[{"N":"1"},{"S":"x"}]}}}"#;
        let t = r#"{"L":[{"S":"b"},{"S":"a"}]}"#;
        assert_eq!(all, format!(r#"{{"i":{{"N":"7"}},"j":{j},"t":{t}}}"#));
    }
}
