//! Why two rows differ (FEATURES B5).

use std::borrow::Cow;

use uuid::Uuid;

use crate::domain::mapping::RowErrorReason;
use crate::domain::value::Cell;

/// One differing column. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Place of the column in the plan's order.
    pub column: usize,
    /// The cause in words: `number precision`, `null vs empty`, `timestamp precision`, `time zone`, `truncated`,
    /// `padding`, `NUL`, `type`, `id transform`, `order`, `json`, `value`.
    pub cause: &'static str,
}

/// Columns in which two rows differ, each with its cause. A column only one side has is a `type` difference.
#[must_use]
pub fn compare(source: &[Cell<'_>], target: &[Cell<'_>]) -> Vec<Difference> {
    (0..source.len().max(target.len()))
        .filter_map(|column| {
            let cause = match (source.get(column), target.get(column)) {
                (Some(s), Some(t)) => cause(s, t)?,
                _ => "type",
            };
            Some(Difference { column, cause })
        })
        .collect()
}

/// The cause behind a source row that cannot be mapped any more while the target still has one.
#[must_use]
pub const fn row_error_cause(reason: RowErrorReason) -> &'static str {
    match reason {
        RowErrorReason::Nul => "NUL",
        RowErrorReason::NumberRange | RowErrorReason::Lossy => "number precision",
        RowErrorReason::TooLong => "truncated",
        RowErrorReason::WrongType
        | RowErrorReason::Unparsable
        | RowErrorReason::NoUnit
        | RowErrorReason::Implausible => "type",
        RowErrorReason::NoOffset => "time zone",
        RowErrorReason::Missing => "null vs empty",
        RowErrorReason::KeyForm => "id transform",
        RowErrorReason::DuplicateUnique
        | RowErrorReason::Excluded
        | RowErrorReason::ForeignKey
        | RowErrorReason::StillReferenced
        | RowErrorReason::Refused => "refused",
    }
}

fn cause(source: &Cell<'_>, target: &Cell<'_>) -> Option<&'static str> {
    if source == target {
        return None;
    }
    Some(match (source, target) {
        (Cell::Null, other) | (other, Cell::Null) if is_empty(other) => "null vs empty",
        (Cell::Null, _) | (_, Cell::Null) => "value",
        (Cell::Text(s), Cell::Text(t)) => text(s, t),
        (Cell::Uuid(u), Cell::Text(t)) | (Cell::Text(t), Cell::Uuid(u)) => match Uuid::try_parse(t) {
            Ok(other) if other.as_bytes() == u => "id transform",
            _ => "type",
        },
        (Cell::Numeric(s), Cell::Numeric(t)) if rounded(s, t) => "number precision",
        (Cell::Float(s), Cell::Float(t)) if close(*s, *t) => "number precision",
        (Cell::Timestamp(s), Cell::Timestamp(t)) if coarser(*s, *t) || coarser(*t, *s) => "timestamp precision",
        (Cell::Timestamp(s), Cell::Timestamp(t)) if shifted(*s, *t) => "time zone",
        (Cell::Bytes(s), Cell::Bytes(t)) if !t.is_empty() && s.starts_with(t) => "truncated",
        (Cell::TextArray(s), Cell::TextArray(t)) if !t.is_empty() && s.starts_with(t) => "truncated",
        (Cell::TextArray(s), Cell::TextArray(t)) if reordered(s, t) => "order",
        (Cell::Json(_), Cell::Json(_)) => "json",
        (s, t) if std::mem::discriminant(s) != std::mem::discriminant(t) => "type",
        _ => "value",
    })
}

fn is_empty(cell: &Cell<'_>) -> bool {
    match cell {
        Cell::Text(s) => s.is_empty(),
        Cell::TextArray(v) => v.is_empty(),
        Cell::Bytes(b) => b.is_empty(),
        Cell::Json(s) => matches!(s.as_ref(), "null" | "\"\"" | "[]" | "{}"),
        _ => false,
    }
}

fn text(source: &str, target: &str) -> &'static str {
    if let (Ok(s), Ok(t)) = (Uuid::try_parse(source), Uuid::try_parse(target))
        && s == t
    {
        "id transform"
    } else if without_nul(source) == without_nul(target) {
        "NUL"
    } else if source.trim_end_matches(' ') == target.trim_end_matches(' ') {
        "padding"
    } else if !target.is_empty() && source.starts_with(target) {
        "truncated"
    } else {
        "value"
    }
}

/// Text as a tool leaves it that drops NUL characters or writes their escape or the replacement character instead.
fn without_nul(text: &str) -> String {
    text.replace("\\u0000", "").replace(['\0', '\u{fffd}'], "")
}

/// Whether two moments differ by a time zone's offset: whole quarters of an hour, at most fourteen hours.
const fn shifted(a: i64, b: i64) -> bool {
    const QUARTER: i64 = 15 * 60 * 1_000_000;
    let by = a.abs_diff(b);
    by.is_multiple_of(QUARTER as u64) && by <= 56 * QUARTER as u64
}

fn reordered(a: &[Cow<'_, str>], b: &[Cow<'_, str>]) -> bool {
    let sorted = |v: &[Cow<'_, str>]| {
        let mut v: Vec<String> = v.iter().map(ToString::to_string).collect();
        v.sort_unstable();
        v
    };
    a.len() == b.len() && sorted(a) == sorted(b)
}

/// Whether the target's number is the source's with digits cut off or rounded away. Both are canonical. One that has more
/// digits than the source's was written by somebody.
fn rounded(source: &str, target: &str) -> bool {
    let (Some(a), Some(b)) = (Decimal::new(source), Decimal::new(target)) else { return false };
    if b.scale > a.scale {
        return false;
    }
    if a.negative != b.negative && !a.digits.is_empty() && !b.digits.is_empty() {
        return false;
    }
    a.cut(b.scale) == b.digits || a.round(b.scale) == b.digits || a.same_lead(&b)
}

struct Decimal {
    negative: bool,
    /// Without point and leading zeros.
    digits: String,
    scale: usize,
}

impl Decimal {
    fn new(canonical: &str) -> Option<Self> {
        let plain = canonical.strip_prefix('-').unwrap_or(canonical);
        let (int, frac) = plain.split_once('.').unwrap_or((plain, ""));
        let digits = format!("{int}{frac}");
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| Self {
            negative: plain.len() < canonical.len(),
            digits: digits.trim_start_matches('0').to_owned(),
            scale: frac.len(),
        })
    }

    fn cut(&self, scale: usize) -> &str {
        &self.digits[..self.digits.len().saturating_sub(self.scale - scale)]
    }

    fn round(&self, scale: usize) -> String {
        let kept = self.cut(scale);
        let gone = self.scale - scale;
        let up = gone > 0 && self.digits.len() >= gone && self.digits.as_bytes()[kept.len()] >= b'5';
        if up { increment(kept) } else { kept.to_owned() }
    }

    /// The same number within the precision of a double: fifteen leading digits of numbers equally long.
    fn same_lead(&self, other: &Self) -> bool {
        let places = |d: &Self| d.digits.len() as i64 - d.scale as i64;
        places(self) == places(other)
            && self.digits.len() > 15
            && self.digits.as_bytes().get(..15) == format!("{:0<15}", other.digits).as_bytes().get(..15)
    }
}

fn increment(digits: &str) -> String {
    let keep = digits.trim_end_matches('9');
    let nines = digits.len() - keep.len();
    let head = match keep.as_bytes().split_last() {
        None => "1".to_owned(),
        Some((last, _)) => format!("{}{}", &keep[..keep.len() - 1], char::from(last + 1)),
    };
    format!("{head}{}", "0".repeat(nines))
}

/// Whether `coarse` is `fine` cut or rounded to milliseconds, seconds or minutes.
fn coarser(fine: i64, coarse: i64) -> bool {
    [1_000i64, 1_000_000, 60_000_000].into_iter().any(|unit| {
        let down = fine.div_euclid(unit).saturating_mul(unit);
        coarse == down || coarse == down.saturating_add(unit) && fine.rem_euclid(unit) >= unit / 2
    })
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= a.abs().max(b.abs()) * 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    fn n(text: &str) -> Cell<'_> {
        Cell::Numeric(text.into())
    }

    #[test]
    fn every_difference_has_its_cause() {
        let uuid = Uuid::from_u128(0x0193_4f5a_7c11_7abc_9def_0123_4567_89ab);
        let (lower, upper) = (uuid.to_string(), uuid.simple().to_string().to_uppercase());
        for (source, target, want) in [
            (t("a"), t("a"), None),
            (Cell::Null, Cell::Null, None),
            (Cell::Float(f64::NAN), Cell::Float(f64::NAN), None),
            (Cell::Null, t(""), Some("null vs empty")),
            (Cell::TextArray(vec![]), Cell::Null, Some("null vs empty")),
            (Cell::Json("{}".into()), Cell::Null, Some("null vs empty")),
            (Cell::Null, t("x"), Some("value")),
            (n("19.999"), n("19.99"), Some("number precision")),
            (n("19.999"), n("20"), Some("number precision")),
            (n("0.0694"), n("0"), Some("number precision")),
            (n("-0.5"), n("-1"), Some("number precision")),
            (n("12345678901234567890"), n("12345678901234567000"), Some("number precision")),
            (n("12345678901234567890"), n("123456789012345678901"), Some("value")),
            (n("22.5"), n("22.5001"), Some("value")),
            (n("19.99"), n("-19.99"), Some("value")),
            (n("19.99"), n("20.99"), Some("value")),
            (n("10"), n("100"), Some("value")),
            (Cell::Float(0.1), Cell::Float(0.100_000_001), Some("number precision")),
            (Cell::Float(0.1), Cell::Float(0.2), Some("value")),
            (Cell::Timestamp(1_500_000), Cell::Timestamp(1_000_000), Some("timestamp precision")),
            (Cell::Timestamp(1_500_000), Cell::Timestamp(2_000_000), Some("timestamp precision")),
            (Cell::Timestamp(1_234_567), Cell::Timestamp(1_234_000), Some("timestamp precision")),
            (Cell::Timestamp(1_500_000), Cell::Timestamp(9_000_000), Some("value")),
            (t("long text"), t("long"), Some("truncated")),
            (t("long"), t("long text"), Some("value")),
            (t("long"), t(""), Some("value")),
            (t("a\0b"), t("ab"), Some("NUL")),
            (t("a\0b"), t("a\u{fffd}b"), Some("NUL")),
            (t("a\0b"), t("a\\u0000b"), Some("NUL")),
            (t("ab"), t("ab  "), Some("padding")),
            (t("ab  "), t("ab"), Some("padding")),
            (Cell::Timestamp(7_200_000_000), Cell::Timestamp(0), Some("time zone")),
            (Cell::Timestamp(0), Cell::Timestamp(19_800_000_000), Some("time zone")),
            (Cell::Timestamp(0), Cell::Timestamp(15 * 3_600_000_000), Some("value")),
            (
                Cell::TextArray(vec!["b".into(), "a".into()]),
                Cell::TextArray(vec!["a".into(), "b".into()]),
                Some("order"),
            ),
            (Cell::TextArray(vec!["b".into()]), Cell::TextArray(vec!["a".into()]), Some("value")),
            (Cell::TextArray(vec!["a".into(), "b".into()]), Cell::TextArray(vec!["a".into()]), Some("truncated")),
            (t(""), Cell::Null, Some("null vs empty")),
            (Cell::Bytes(b"ab"[..].into()), Cell::Bytes(b"a"[..].into()), Some("truncated")),
            (t(&lower), t(&upper), Some("id transform")),
            (t(&lower), Cell::Uuid(uuid.into_bytes()), Some("id transform")),
            (t("x"), Cell::Uuid(uuid.into_bytes()), Some("type")),
            (Cell::Int(1), n("1"), Some("type")),
            (Cell::Json("{\"a\":1}".into()), Cell::Json("{\"a\":2}".into()), Some("json")),
            (Cell::Int(1), Cell::Int(2), Some("value")),
            (Cell::Bool(true), Cell::Bool(false), Some("value")),
            (Cell::Date(1), Cell::Date(2), Some("value")),
        ] {
            assert_eq!(cause(&source, &target), want, "{source:?} against {target:?}");
        }
    }

    #[test]
    fn every_misfit_has_its_cause() {
        use RowErrorReason as R;
        for (reason, want) in [
            (R::Nul, "NUL"),
            (R::NumberRange, "number precision"),
            (R::TooLong, "truncated"),
            (R::WrongType, "type"),
            (R::Unparsable, "type"),
            (R::NoUnit, "type"),
            (R::Implausible, "type"),
            (R::NoOffset, "time zone"),
            (R::Lossy, "number precision"),
            (R::Missing, "null vs empty"),
            (R::ForeignKey, "refused"),
        ] {
            assert_eq!(row_error_cause(reason), want);
        }
    }

    #[test]
    fn rows_are_compared_column_by_column() {
        let found = compare(&[t("a"), n("1.5"), Cell::Null], &[t("a"), n("2"), t(""), t("extra")]);
        let found: Vec<_> = found.iter().map(|d| (d.column, d.cause)).collect();
        assert_eq!(found, [(1, "number precision"), (2, "null vs empty"), (3, "type")]);
    }
}
