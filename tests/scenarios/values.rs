//! Values that other tools cut, round or drop: here they arrive whole, or the row is parked with its reason.

use cutover::domain::mapping::{Mapped, RowErrorReason, TableMapping};
use cutover::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, Table};
use cutover::domain::value::{Cell, Record, Value};

fn column(name: &str, ty: ColumnType) -> Column {
    let from = ColumnSource::Attribute(vec![name.into()]);
    Column { name: name.into(), ty, from, absent: Fallback::Null, key: name == "id", declared: Declared::default() }
}

fn mapping(key: ColumnType, value: ColumnType) -> TableMapping {
    let mut table = Table::watched("t", "T");
    table.key = vec!["id".into()];
    table.marker_prefix = "marker#".into();
    table.columns = vec![column("id", key), column("v", value)];
    TableMapping::new(&table)
}

fn mapped(ty: ColumnType, value: Value<'static>) -> Result<Cell<'static>, RowErrorReason> {
    let item = Record { fields: vec![("id".into(), Value::Text("k".into())), ("v".into(), value)] };
    let mapping = mapping(ColumnType::Text, ty);
    let mut out = Mapped::default();
    mapping.map(&item, &mut out).map_err(|m| m.reason)?;
    Ok(out.row.swap_remove(1).into_owned())
}

fn text(v: &str) -> Value<'static> {
    Value::Text(v.to_owned().into())
}

fn number(v: &str) -> Value<'static> {
    Value::Decimal(v.to_owned().into())
}

#[test]
fn a_nul_is_never_stripped_and_never_sent() {
    for ty in [ColumnType::Text, ColumnType::Varchar(20), ColumnType::Jsonb] {
        assert_eq!(mapped(ty, text("a\0b")), Err(RowErrorReason::Nul), "{ty:?}");
    }
    let list = Value::List(vec![Value::Map(vec![("deep".into(), text("\0"))])]);
    assert_eq!(mapped(ColumnType::Jsonb, list), Err(RowErrorReason::Nul));
    let name = Value::Map(vec![("na\0me".into(), text("x"))]);
    assert_eq!(mapped(ColumnType::Jsonb, name), Err(RowErrorReason::Nul));
    assert_eq!(mapped(ColumnType::TextArray, Value::TextSet(vec!["ok".into(), "\0".into()])), Err(RowErrorReason::Nul));
}

#[test]
fn thirty_eight_digits_arrive_and_a_rounded_number_never_does() {
    let long = "12345678901234567890123456789012345678";
    assert_eq!(mapped(ColumnType::Numeric(None), number(long)), Ok(Cell::Numeric(long.into())));
    let small = format!("0.{}694", "0".repeat(100));
    assert_eq!(mapped(ColumnType::Numeric(None), number(&small)), Ok(Cell::Numeric(small.clone().into())));
    assert_eq!(mapped(ColumnType::Numeric(None), number("6.94E-101")), Ok(Cell::Numeric(small.clone().into())));
    let two = ColumnType::Numeric(Some((10, 2)));
    assert_eq!(mapped(two, number("0.694")), Err(RowErrorReason::Lossy), "rounded to 0.69");
    assert_eq!(mapped(two, number(&small)), Err(RowErrorReason::Lossy), "rounded to 0.00");
    assert!(mapped(ColumnType::Integer, number("1.5")).is_err(), "cut to 1");
    assert_eq!(mapped(ColumnType::Bigint, number("9223372036854775808")), Err(RowErrorReason::NumberRange));
}

#[test]
fn text_is_never_cut_to_fit() {
    assert_eq!(mapped(ColumnType::Varchar(3), text("abcd")), Err(RowErrorReason::TooLong));
    assert_eq!(mapped(ColumnType::Varchar(3), text("äöü")), Ok(Cell::Text("äöü".into())), "characters, not bytes");
    let big = "x".repeat(400_000);
    assert_eq!(mapped(ColumnType::Text, text(&big)), Ok(Cell::Text(big.clone().into())));
    let Ok(Cell::Json(json)) = mapped(ColumnType::Jsonb, text(&big)) else { panic!("no json") };
    assert_eq!(json.len(), big.len() + 2, "json is not cut either");
}

#[test]
fn binary_keys_come_through_the_ledger_and_back_byte_for_byte() {
    let mapping = mapping(ColumnType::Bytea, ColumnType::Text);
    let mut seen = std::collections::BTreeSet::new();
    for bytes in [vec![], vec![0], vec![0, 255, 10], vec![b'|'], (0..=255).collect::<Vec<u8>>()] {
        let item = Record { fields: vec![("id".into(), Value::Bytes(bytes.clone().into()))] };
        let (key, json) = mapping.key(&item).unwrap();
        assert!(seen.insert(key.0), "two keys read the same");
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        assert_eq!(mapping.row_key(&item).unwrap(), [Cell::Bytes(bytes.into())]);
    }
}

#[test]
fn null_absent_and_empty_stay_three_things() {
    assert_eq!(mapped(ColumnType::Text, text("")), Ok(Cell::Text("".into())));
    assert_eq!(mapped(ColumnType::Text, Value::Null), Ok(Cell::Null));
    assert_eq!(mapped(ColumnType::TextArray, Value::List(vec![])), Ok(Cell::TextArray(vec![])));
}
