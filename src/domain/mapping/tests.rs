//! What no conversion may do silently: guess a unit, lose a digit, cut a text.

use serde_json::json;

use super::{Mapped, RowErrorReason, TableMapping};
use crate::domain::plan::{Column, Table};
use crate::domain::value::{Cell, Record, Value};

/// Column `v` of this type, with these keys besides.
fn column(ty: &serde_json::Value, more: &serde_json::Value) -> Column {
    let mut column = json!({"name": "v", "ty": ty, "from": {"attribute": ["v"]}, "absent": "null", "key": false});
    if let (serde_json::Value::Object(all), serde_json::Value::Object(more)) = (&mut column, more) {
        all.extend(more.clone());
    }
    serde_json::from_value(column).unwrap()
}

fn mapping(ty: &serde_json::Value, more: &serde_json::Value) -> TableMapping {
    let id = Column { name: "id".into(), key: true, ..column(&json!("text"), &json!({"from": {"attribute": ["id"]}})) };
    let table = Table { key: vec!["id".into()], columns: vec![id, column(ty, more)], ..Table::watched("t", "T") };
    TableMapping::new(&table)
}

fn mapped(ty: &serde_json::Value, more: &serde_json::Value, value: &str) -> Result<Cell<'static>, RowErrorReason> {
    let number = value.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let value = value.to_owned().into();
    let value = if number { Value::Decimal(value) } else { Value::Text(value) };
    let item = Record { fields: vec![("id".into(), Value::Text("k".into())), ("v".into(), value)] };
    let mapping = mapping(ty, more);
    let mut out = Mapped::default();
    mapping.map(&item, &mut out).map_err(|m| m.reason)?;
    Ok(out.row.swap_remove(1).into_owned())
}

#[test]
fn a_number_without_a_declared_unit_is_no_moment() {
    for number in ["63072000000", "1795358836220000", "1795358836220", "1795358836", "0"] {
        assert!(mapped(&json!("timestamptz"), &json!({}), number).is_err(), "{number} was guessed");
    }
}

#[test]
fn a_declared_unit_is_taken_at_its_word_and_what_is_no_plausible_moment_is_parked() {
    let at = |unit: &str, number: &str| mapped(&json!("timestamptz"), &json!({"unit": unit}), number);
    assert_eq!(at("ms", "63072000000"), Ok(Cell::Timestamp(63_072_000_000_000)), "1972, not 3968");
    assert_eq!(at("us", "1795358836220000"), Ok(Cell::Timestamp(1_795_358_836_220_000)), "2026, not 58862");
    assert_eq!(at("s", "1795358836"), Ok(Cell::Timestamp(1_795_358_836_000_000)));
    assert_eq!(at("s", "1795358836.22"), Ok(Cell::Timestamp(1_795_358_836_220_000)));
    assert_eq!(at("ms", "0"), Ok(Cell::Timestamp(0)), "zero is zero in every unit");
    assert_eq!(at("ms", "-631152000000"), Ok(Cell::Timestamp(-631_152_000_000_000)), "a birthday in 1950");
    // Another unit than the declared one, in both directions.
    for (unit, number) in [
        ("s", "1795358836220"),
        ("s", "1795358836220000"),
        ("ms", "1795358836"),
        ("ms", "1795358836220000"),
        ("us", "1795358836"),
        ("us", "1795358836220"),
    ] {
        assert!(at(unit, number).is_err(), "{number} as {unit}");
    }
    assert_eq!(at("ms", "2026-11-22T14:47:16.220Z"), Ok(Cell::Timestamp(1_795_358_836_220_000)), "text has no unit");
}

#[test]
fn digits_are_lost_only_where_the_column_says_so() {
    let cases = [
        (json!("double"), "1234567890123456789012345"),
        (json!("double"), "0.1234567890123456789"),
        (json!("double"), "9007199254740993"),
        (json!({"numeric": [10, 2]}), "19.999"),
        (json!("integer"), "1.5"),
        (json!("bigint"), "1.5"),
        (json!("smallint"), "-0.4"),
        (json!("timestamptz"), "2026-11-22T14:47:16.1234567Z"),
        (json!({"varchar": 3}), "abcd"),
    ];
    let lossy = [
        Cell::Float("1234567890123456789012345".parse().unwrap()),
        Cell::Float("0.1234567890123456789".parse().unwrap()),
        Cell::Float(9_007_199_254_740_992.0),
        Cell::Numeric("20".into()),
        Cell::Int(2),
        Cell::Int(2),
        Cell::Int(0),
        Cell::Timestamp(1_795_358_836_123_457),
        Cell::Text("abc".into()),
    ];
    for ((ty, value), want) in cases.iter().zip(lossy) {
        assert!(mapped(ty, &json!({}), value).is_err(), "{value} into {ty} lost something in silence");
        assert_eq!(mapped(ty, &json!({"lossy": true}), value), Ok(want), "{value} into {ty}");
    }
    for exact in ["0.1", "1e22", "1e300", "123456789012345", "9007199254740992", "0.30000000000000004", "5e-324"] {
        assert!(mapped(&json!("double"), &json!({}), exact).is_ok(), "{exact} reads back as it was written");
    }
    // `lossy` allows rounding; it does not allow another number.
    for (ty, value) in [
        (json!("double"), "1e400"),
        (json!("double"), "1e-330"),
        (json!("integer"), "2147483647.5"),
        (json!({"numeric": [4, 2]}), "99.999"),
    ] {
        assert_eq!(mapped(&ty, &json!({"lossy": true}), value), Err(RowErrorReason::NumberRange), "{value} into {ty}");
    }
}

#[test]
fn a_moment_without_its_offset_is_told_so() {
    for text in ["2026-11-22T14:47:16", "2026-11-22 14:47:16.5", "2026-11-22T14:47"] {
        let reason = mapped(&json!("timestamptz"), &json!({}), text).unwrap_err();
        assert!(reason.to_string().contains("offset"), "{text}: {reason}");
    }
    let reason = mapped(&json!("timestamptz"), &json!({}), "yesterday").unwrap_err();
    assert!(!reason.to_string().contains("offset"), "{reason}");
}
