//! The inverse of single values: one cell into one attribute, exactly or not at all.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::RowErrorReason;
use super::kinds::{Kind, Kinds};
use super::numeric::canonical_numeric;
use crate::domain::plan::{Unit, quoted};
use crate::domain::value::{Cell, Value};

/// Digits a DynamoDB number may have.
const DIGITS: usize = 38;
/// Seconds and microseconds.
const SECOND: i64 = 1_000_000;

/// The attribute a cell stands for, written as `kind` where the cell leaves a choice, and a moment as a number of
/// `unit` where the column declares one. `None` is an absent attribute. A source of typed columns takes the cell itself.
pub(super) fn attribute(
    cell: &Cell<'_>,
    kind: Option<Kind>,
    unit: Option<Unit>,
    path: &str,
    kinds: &Kinds,
) -> Result<Option<Value<'static>>, RowErrorReason> {
    if kinds.are_columns() {
        return Ok(Some(Value::from(cell.clone().into_owned())));
    }
    let text = |s: &str| Value::Text(Cow::Owned(s.to_owned()));
    Ok(Some(match cell {
        Cell::Null => return Ok(None),
        Cell::Text(s) => match (kind, canonical_numeric(s)) {
            (Some(Kind::Number), Some(n)) if n == **s => number(n)?,
            _ => text(s),
        },
        Cell::Uuid(u) => text(&Uuid::from_bytes(*u).hyphenated().to_string()),
        Cell::Numeric(n) => number(n.to_string())?,
        Cell::Int(i) => number(i.to_string())?,
        Cell::Float(x) if x.is_finite() => number(format!("{x}"))?,
        Cell::Float(_) => return Err(RowErrorReason::NumberRange),
        Cell::Bool(b) if kind == Some(Kind::Text) => text(if *b { "true" } else { "false" }),
        Cell::Bool(b) => Value::Bool(*b),
        // No document says an infinite moment, nor a number that would be one.
        Cell::Timestamp(i64::MIN | i64::MAX) | Cell::Date(i32::MIN | i32::MAX) | Cell::Other(_) => {
            return Err(RowErrorReason::Unparsable);
        }
        // Without a unit no number was ever read as a moment, so none is written.
        Cell::Timestamp(micros) => match unit.filter(|_| kind != Some(Kind::Text)) {
            Some(unit) => number(scaled(*micros, unit.decimals()))?,
            None => Value::Text(Cow::Owned(moment(*micros)?)),
        },
        Cell::Date(days) => {
            let at = i64::from(*days).checked_mul(86_400 * SECOND).ok_or(RowErrorReason::Unparsable)?;
            let at = moment(at)?;
            text(at.split('T').next().unwrap_or_default())
        }
        Cell::Json(json) => {
            let raw: &RawValue = serde_json::from_str(json).map_err(|_| RowErrorReason::Unparsable)?;
            json_value(raw, path, kinds)?
        }
        Cell::TextArray(items) if kind == Some(Kind::TextSet) => match text_set(items.iter().map(AsRef::as_ref)) {
            // DynamoDB has no empty set.
            None => return Ok(None),
            Some(set) => set,
        },
        Cell::TextArray(items) => {
            let element = kinds.usual(&format!("{path}[]"));
            let each = |s: &Cow<'_, str>| attribute(&Cell::Text(Cow::Borrowed(s.as_ref())), element, None, path, kinds);
            Value::List(items.iter().filter_map(|s| each(s).transpose()).collect::<Result<_, _>>()?)
        }
        Cell::Bytes(b) => Value::Bytes(Cow::Owned(b.to_vec())),
    }))
}

/// What a document says where a typed column holds this cell.
///
/// # Errors
/// `NumberRange` for a number that no document holds, `Unparsable` for a moment that no calendar names.
pub fn document(cell: &Cell<'_>) -> Result<Value<'static>, RowErrorReason> {
    Ok(attribute(cell, None, None, "", &Kinds::default())?.unwrap_or(Value::Null))
}

/// A set of text, sorted and without repeats; `None` when it would be empty.
pub(super) fn text_set<'s>(items: impl Iterator<Item = &'s str>) -> Option<Value<'static>> {
    let mut set: Vec<Cow<'static, str>> = items.map(|s| Cow::Owned(s.to_owned())).collect();
    set.sort_unstable();
    set.dedup();
    (!set.is_empty()).then_some(Value::TextSet(set))
}

/// A number, if DynamoDB can hold it.
fn number(canonical: String) -> Result<Value<'static>, RowErrorReason> {
    let canonical = canonical_numeric(&canonical).ok_or(RowErrorReason::NumberRange)?;
    let digits = canonical.trim_start_matches('-');
    let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
    let both = format!("{int}{frac}");
    let significant = both.trim_start_matches('0').trim_end_matches('0').len();
    // 38 digits between 1e-130 and 1e126.
    if significant > DIGITS || int.len() > 126 || frac.len() > 130 {
        return Err(RowErrorReason::NumberRange);
    }
    Ok(Value::Decimal(Cow::Owned(canonical)))
}

/// Microseconds as a decimal number of units, `digits` of them behind the point.
pub(super) fn scaled(micros: i64, digits: u8) -> String {
    let unit = 10_i64.pow(u32::from(digits));
    let (sign, abs) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    let (whole, rest) = (abs / unit.unsigned_abs(), abs % unit.unsigned_abs());
    format!("{sign}{whole}.{rest:0width$}", width = usize::from(digits))
}

/// ISO 8601 in UTC with three decimals, six when the moment has them.
pub(super) fn moment(micros: i64) -> Result<String, RowErrorReason> {
    let at = Timestamp::from_microsecond(micros).map_err(|_| RowErrorReason::Unparsable)?;
    let text = if micros % 1_000 == 0 { format!("{at:.3}") } else { format!("{at:.6}") };
    // Years beyond four digits are written with a sign, which the way there does not read.
    if text.starts_with(['-', '+']) || text.starts_with("0000") { Err(RowErrorReason::Unparsable) } else { Ok(text) }
}

/// JSON text as an attribute. Sets and binaries are JSON arrays and text: only what was seen at their path decides.
fn json_value(raw: &RawValue, path: &str, kinds: &Kinds) -> Result<Value<'static>, RowErrorReason> {
    let text = raw.get().trim();
    let bad = |_| RowErrorReason::Unparsable;
    let usual = kinds.usual(path);
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(bad)?;
            Value::Map(
                entries
                    .into_iter()
                    .map(|(name, value)| {
                        let value = json_value(value, &format!("{path}.{}", quoted(&name)), kinds)?;
                        Ok((Cow::Owned(name), value))
                    })
                    .collect::<Result<_, RowErrorReason>>()?,
            )
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(bad)?;
            match usual {
                Some(Kind::TextSet) if !items.is_empty() => {
                    let texts: Vec<String> = serde_json::from_str(text).map_err(bad)?;
                    return text_set(texts.iter().map(String::as_str)).ok_or(RowErrorReason::Unparsable);
                }
                Some(Kind::NumberSet) if !items.is_empty() => {
                    let set: Option<Vec<_>> =
                        items.iter().map(|n| canonical_numeric(n.get()).map(Cow::Owned)).collect();
                    return set.map(Value::DecimalSet).ok_or(RowErrorReason::Unparsable);
                }
                Some(Kind::BinarySet) if !items.is_empty() => {
                    let texts: Vec<String> = serde_json::from_str(text).map_err(bad)?;
                    let set: Option<Vec<_>> = texts.iter().map(|s| STANDARD.decode(s).ok().map(Cow::Owned)).collect();
                    return set.map(Value::BytesSet).ok_or(RowErrorReason::Unparsable);
                }
                _ => {}
            }
            let inner = format!("{path}[]");
            Value::List(items.into_iter().map(|v| json_value(v, &inner, kinds)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => {
            let s: String = serde_json::from_str(text).map_err(bad)?;
            match (usual, STANDARD.decode(&s)) {
                (Some(Kind::Binary), Ok(bytes)) => Value::Bytes(Cow::Owned(bytes)),
                _ => Value::Text(Cow::Owned(s)),
            }
        }
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'n') => Value::Null,
        _ => number(text.to_owned())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_become_attributes_of_the_usual_kind() {
        let kinds = Kinds::default();
        let back = |cell: Cell<'static>, kind| attribute(&cell, kind, None, "a", &kinds);
        let counted = |micros, kind, unit| attribute(&Cell::Timestamp(micros), kind, Some(unit), "a", &kinds);
        let s = |t: &'static str| Ok(Some(Value::Text(t.into())));
        let n = |t: &'static str| Ok(Some(Value::Decimal(t.into())));
        assert_eq!(back(Cell::Timestamp(1_795_358_836_220_000), None), s("2026-11-22T14:47:16.220Z"));
        assert_eq!(back(Cell::Timestamp(1_795_358_836_220_001), None), s("2026-11-22T14:47:16.220001Z"));
        let number = Some(Kind::Number);
        assert_eq!(back(Cell::Timestamp(1_795_358_836_220_000), number), s("2026-11-22T14:47:16.220Z"));
        assert_eq!(counted(1_795_358_836_220_000, number, Unit::Seconds), n("1795358836.22"));
        assert_eq!(counted(1_795_358_836_220_000, None, Unit::Millis), n("1795358836220"));
        assert_eq!(counted(1_795_358_836_220_001, number, Unit::Micros), n("1795358836220001"));
        assert_eq!(counted(1_000_000, number, Unit::Millis), n("1000"));
        assert_eq!(counted(0, Some(Kind::Text), Unit::Millis), s("1970-01-01T00:00:00.000Z"), "text stays text");
        assert_eq!(counted(-1, number, Unit::Seconds), n("-0.000001"));
        for infinite in [i64::MIN, i64::MAX] {
            assert_eq!(back(Cell::Timestamp(infinite), None), Err(RowErrorReason::Unparsable));
            assert_eq!(counted(infinite, number, Unit::Millis), Err(RowErrorReason::Unparsable));
        }
        assert_eq!(back(Cell::Date(i32::MAX), None), Err(RowErrorReason::Unparsable));
        assert_eq!(back(Cell::Other(vec![0].into()), None), Err(RowErrorReason::Unparsable));
        assert_eq!(back(Cell::Date(-1), None), s("1969-12-31"));
        assert_eq!(back(Cell::Text("12".into()), Some(Kind::Number)), n("12"));
        assert_eq!(back(Cell::Text("012".into()), Some(Kind::Number)), s("012"));
        assert_eq!(back(Cell::Bool(true), Some(Kind::Text)), s("true"));
        assert_eq!(back(Cell::Float(f64::NAN), None), Err(RowErrorReason::NumberRange));
        assert_eq!(back(Cell::Numeric("1".repeat(39).into()), None), Err(RowErrorReason::NumberRange));
        assert_eq!(back(Cell::TextArray(vec![]), Some(Kind::TextSet)), Ok(None));
        assert_eq!(back(Cell::TextArray(vec![]), None), Ok(Some(Value::List(vec![]))));
        assert_eq!(back(Cell::Null, None), Ok(None));
    }

    #[test]
    fn json_keeps_its_digits_and_its_sets() {
        let mut kinds = Kinds::default();
        let seen = Value::Map(vec![("tags".into(), Value::TextSet(vec!["x".into()]))]);
        kinds.learn(&crate::domain::value::Record { fields: vec![("a".into(), seen)] });
        let json = r#"{"n":12345678901234567890123456789.5,"tags":["b","a","b"],"z":[null,true,"t"]}"#;
        let attr = attribute(&Cell::Json(json.into()), None, None, "a", &kinds).unwrap().unwrap();
        let Value::Map(entries) = attr else { panic!("no map") };
        assert_eq!(entries[0].1, Value::Decimal("12345678901234567890123456789.5".into()));
        assert_eq!(entries[1].1, Value::TextSet(vec!["a".into(), "b".into()]));
        assert_eq!(entries[2].1, Value::List(vec![Value::Null, Value::Bool(true), Value::Text("t".into())]));
    }
}
