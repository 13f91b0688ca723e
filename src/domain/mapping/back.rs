//! Single values on their way back: one cell into one attribute, exactly or not at all.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::MisfitReason;
use super::kinds::{Kind, Kinds};
use super::numeric::canonical_numeric;
use crate::domain::plan::{Unit, quoted};
use crate::domain::value::{Attr, Cell};

/// Digits a DynamoDB number may have.
const DIGITS: usize = 38;
/// Seconds and microseconds.
const SECOND: i64 = 1_000_000;

/// The attribute a cell stands for, written as `kind` where the cell leaves a choice, and a moment as a number of
/// `unit` where the column declares one. `None` is an absent attribute.
pub(super) fn attribute(
    cell: &Cell<'_>,
    kind: Option<Kind>,
    unit: Option<Unit>,
    path: &str,
    kinds: &Kinds,
) -> Result<Option<Attr<'static>>, MisfitReason> {
    let text = |s: &str| Attr::Str(Cow::Owned(s.to_owned()));
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
        Cell::Float(_) => return Err(MisfitReason::NumberRange),
        Cell::Bool(b) if kind == Some(Kind::Text) => text(if *b { "true" } else { "false" }),
        Cell::Bool(b) => Attr::Bool(*b),
        // Without a unit no number was ever read as a moment, so none is written.
        Cell::Timestamp(micros) => match unit.filter(|_| kind != Some(Kind::Text)) {
            Some(unit) => number(scaled(*micros, unit.decimals()))?,
            None => Attr::Str(Cow::Owned(moment(*micros)?)),
        },
        Cell::Date(days) => {
            let at = i64::from(*days).checked_mul(86_400 * SECOND).ok_or(MisfitReason::Unparsable)?;
            let at = moment(at)?;
            text(at.split('T').next().unwrap_or_default())
        }
        Cell::Json(json) => {
            let raw: &RawValue = serde_json::from_str(json).map_err(|_| MisfitReason::Unparsable)?;
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
            Attr::List(items.iter().filter_map(|s| each(s).transpose()).collect::<Result<_, _>>()?)
        }
        Cell::Bytes(b) => Attr::Bin(Cow::Owned(b.to_vec())),
    }))
}

/// A set of text, sorted and without repeats; `None` when it would be empty.
pub(super) fn text_set<'s>(items: impl Iterator<Item = &'s str>) -> Option<Attr<'static>> {
    let mut set: Vec<Cow<'static, str>> = items.map(|s| Cow::Owned(s.to_owned())).collect();
    set.sort_unstable();
    set.dedup();
    (!set.is_empty()).then_some(Attr::StrSet(set))
}

/// A number, if DynamoDB can hold it.
fn number(canonical: String) -> Result<Attr<'static>, MisfitReason> {
    let canonical = canonical_numeric(&canonical).ok_or(MisfitReason::NumberRange)?;
    let digits = canonical.trim_start_matches('-');
    let (int, frac) = digits.split_once('.').unwrap_or((digits, ""));
    let both = format!("{int}{frac}");
    let significant = both.trim_start_matches('0').trim_end_matches('0').len();
    // 38 digits between 1e-130 and 1e126.
    if significant > DIGITS || int.len() > 126 || frac.len() > 130 {
        return Err(MisfitReason::NumberRange);
    }
    Ok(Attr::Num(Cow::Owned(canonical)))
}

/// Microseconds as a decimal number of units, `digits` of them behind the point.
pub(super) fn scaled(micros: i64, digits: u8) -> String {
    let unit = 10_i64.pow(u32::from(digits));
    let (sign, abs) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    let (whole, rest) = (abs / unit.unsigned_abs(), abs % unit.unsigned_abs());
    format!("{sign}{whole}.{rest:0width$}", width = usize::from(digits))
}

/// ISO 8601 in UTC with three decimals, six when the moment has them.
pub(super) fn moment(micros: i64) -> Result<String, MisfitReason> {
    let at = Timestamp::from_microsecond(micros).map_err(|_| MisfitReason::Unparsable)?;
    let text = if micros % 1_000 == 0 { format!("{at:.3}") } else { format!("{at:.6}") };
    // Years beyond four digits are written with a sign, which the way there does not read.
    if text.starts_with(['-', '+']) || text.starts_with("0000") { Err(MisfitReason::Unparsable) } else { Ok(text) }
}

/// JSON text as an attribute. Sets and binaries are JSON arrays and text: only what was seen at their path tells.
fn json_value(raw: &RawValue, path: &str, kinds: &Kinds) -> Result<Attr<'static>, MisfitReason> {
    let text = raw.get().trim();
    let bad = |_| MisfitReason::Unparsable;
    let usual = kinds.usual(path);
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(bad)?;
            Attr::Map(
                entries
                    .into_iter()
                    .map(|(name, value)| {
                        let value = json_value(value, &format!("{path}.{}", quoted(&name)), kinds)?;
                        Ok((Cow::Owned(name), value))
                    })
                    .collect::<Result<_, MisfitReason>>()?,
            )
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(bad)?;
            match usual {
                Some(Kind::TextSet) if !items.is_empty() => {
                    let texts: Vec<String> = serde_json::from_str(text).map_err(bad)?;
                    return text_set(texts.iter().map(String::as_str)).ok_or(MisfitReason::Unparsable);
                }
                Some(Kind::NumberSet) if !items.is_empty() => {
                    let set: Option<Vec<_>> =
                        items.iter().map(|n| canonical_numeric(n.get()).map(Cow::Owned)).collect();
                    return set.map(Attr::NumSet).ok_or(MisfitReason::Unparsable);
                }
                Some(Kind::BinarySet) if !items.is_empty() => {
                    let texts: Vec<String> = serde_json::from_str(text).map_err(bad)?;
                    let set: Option<Vec<_>> = texts.iter().map(|s| STANDARD.decode(s).ok().map(Cow::Owned)).collect();
                    return set.map(Attr::BinSet).ok_or(MisfitReason::Unparsable);
                }
                _ => {}
            }
            let inner = format!("{path}[]");
            Attr::List(items.into_iter().map(|v| json_value(v, &inner, kinds)).collect::<Result<_, _>>()?)
        }
        Some(b'"') => {
            let s: String = serde_json::from_str(text).map_err(bad)?;
            match (usual, STANDARD.decode(&s)) {
                (Some(Kind::Binary), Ok(bytes)) => Attr::Bin(Cow::Owned(bytes)),
                _ => Attr::Str(Cow::Owned(s)),
            }
        }
        Some(b't') => Attr::Bool(true),
        Some(b'f') => Attr::Bool(false),
        Some(b'n') => Attr::Null,
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
        let s = |t: &'static str| Ok(Some(Attr::Str(t.into())));
        let n = |t: &'static str| Ok(Some(Attr::Num(t.into())));
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
        assert_eq!(back(Cell::Timestamp(i64::MAX), None), Err(MisfitReason::Unparsable));
        assert_eq!(back(Cell::Date(-1), None), s("1969-12-31"));
        assert_eq!(back(Cell::Text("12".into()), Some(Kind::Number)), n("12"));
        assert_eq!(back(Cell::Text("012".into()), Some(Kind::Number)), s("012"));
        assert_eq!(back(Cell::Bool(true), Some(Kind::Text)), s("true"));
        assert_eq!(back(Cell::Float(f64::NAN), None), Err(MisfitReason::NumberRange));
        assert_eq!(back(Cell::Numeric("1".repeat(39).into()), None), Err(MisfitReason::NumberRange));
        assert_eq!(back(Cell::TextArray(vec![]), Some(Kind::TextSet)), Ok(None));
        assert_eq!(back(Cell::TextArray(vec![]), None), Ok(Some(Attr::List(vec![]))));
        assert_eq!(back(Cell::Null, None), Ok(None));
    }

    #[test]
    fn json_keeps_its_digits_and_its_sets() {
        let mut kinds = Kinds::default();
        let seen = Attr::Map(vec![("tags".into(), Attr::StrSet(vec!["x".into()]))]);
        kinds.learn(&crate::domain::value::Item { attrs: vec![("a".into(), seen)] });
        let json = r#"{"n":12345678901234567890123456789.5,"tags":["b","a","b"],"z":[null,true,"t"]}"#;
        let attr = attribute(&Cell::Json(json.into()), None, None, "a", &kinds).unwrap().unwrap();
        let Attr::Map(entries) = attr else { panic!("no map") };
        assert_eq!(entries[0].1, Attr::Num("12345678901234567890123456789.5".into()));
        assert_eq!(entries[1].1, Attr::StrSet(vec!["a".into(), "b".into()]));
        assert_eq!(entries[2].1, Attr::List(vec![Attr::Null, Attr::Bool(true), Attr::Str("t".into())]));
    }
}
