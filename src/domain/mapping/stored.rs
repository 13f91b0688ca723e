//! What is stored beside the data and must mean the same in every later version: texts of keys, the lanes they fall
//! into, digests of images. A test that fails here stands for a run that a new version could not go on with.

use std::borrow::Cow;

use super::{Mapped, TableMapping, item_digest};
use crate::domain::plan::Table;
use crate::domain::value::{Key, Record, Value};

fn item<'a>(fields: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Record<'a> {
    Record { fields: fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect() }
}

fn text(s: &str) -> Value<'_> {
    Value::Text(s.into())
}

fn number(s: &str) -> Value<'_> {
    Value::Decimal(s.into())
}

fn bytes(b: &[u8]) -> Value<'_> {
    Value::Bytes(b.into())
}

/// Text, JSON, and the lane among four and among sixteen.
fn stored<'a>(parts: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> (String, String, u32, u32) {
    let item = item(parts);
    let key = item.fields.iter().map(|(name, _)| name.to_string()).collect();
    let mut mapped = Mapped::default();
    let mapping = TableMapping::new(&Table { key, ..Table::watched("t", "T") });
    mapping.map(&item, &mut mapped).unwrap();
    let lane = |of| Key(mapped.key.clone()).lane(of);
    (mapped.key.clone(), mapped.key_json.clone(), lane(4), lane(16))
}

#[test]
fn keys_are_stored_as_ever() {
    let found = [
        stored([("id", text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"))]),
        stored([("id", text("pipe | backslash \\ nul \0 \"quoted\" ü"))]),
        stored([("id", number("0012.50"))]),
        stored([("id", number("-1E+3"))]),
        stored([("id", bytes(&[0, 1, 254, 255]))]),
        stored([("user", text("u|1")), ("at", number("1795358836220"))]),
        stored([("bucket", bytes(b"xyz")), ("name", text("b\\"))]),
    ];
    let known = [
        ("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", r#"{"id":{"S":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}}"#, 0, 0),
        (
            r#"pipe | backslash \\ nul \0 "quoted" ü"#,
            r#"{"id":{"S":"pipe | backslash \\ nul \u0000 \"quoted\" ü"}}"#,
            3,
            11,
        ),
        ("12.5", r#"{"id":{"N":"0012.50"}}"#, 2, 6),
        ("-1000", r#"{"id":{"N":"-1E+3"}}"#, 2, 2),
        ("AAH+/w==", r#"{"id":{"B":"AAH+/w=="}}"#, 0, 12),
        (r"u\|1|1795358836220", r#"{"user":{"S":"u|1"},"at":{"N":"1795358836220"}}"#, 1, 13),
        (r"eHl6|b\\", r#"{"bucket":{"B":"eHl6"},"name":{"S":"b\\"}}"#, 1, 13),
    ];
    let known = known.map(|(text, json, four, sixteen)| (text.to_owned(), json.to_owned(), four, sixteen));
    assert_eq!(found, known);
}

#[test]
fn images_are_told_apart_as_ever() {
    let all = item([
        ("s", text("text")),
        ("n", number("1.50")),
        ("b", bytes(b"abc")),
        ("t", Value::Bool(true)),
        ("z", Value::Null),
        ("l", Value::List(vec![text("a"), number("2")])),
        ("m", Value::Map(vec![("k".into(), text("v")), ("j".into(), Value::Bool(false))])),
        ("ss", Value::TextSet(vec!["b".into(), "a".into()])),
        ("ns", Value::DecimalSet(vec!["2".into(), "1.0".into()])),
        ("bs", Value::BytesSet(vec![Cow::Borrowed(b"y"), Cow::Borrowed(b"x")])),
    ]);
    let digest = format!("{:032x}", item_digest(Some(&all)));
    assert_eq!((digest.as_str(), item_digest(None)), ("7c5354c9f7fa56e6b0e8c70d4a0ded8c", 0));
}
