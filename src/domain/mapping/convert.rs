//! Conversions of single values: one attribute into one column type, exactly or not at all.

use std::borrow::Cow;

use uuid::Uuid;

use super::RowErrorReason;
use super::back::document;
use super::json::{canonical_json_text, json_of};
use super::numeric::{canonical_cow, fits, reads_back, rounded, whole};
use super::{time, typed};
use crate::domain::plan::{Column, ColumnType, Declared};
use crate::domain::value::{Cell, Value};

/// How a column reads attributes: its type and what is declared of its values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) ty: ColumnType,
    pub(super) declared: Declared,
}

impl Format {
    pub(super) const fn of(column: &Column) -> Self {
        Self { ty: column.ty, declared: column.declared }
    }
}

/// Converts an attribute that is there and not null. What needs no change is borrowed from the page.
pub(super) fn convert<'p>(format: Format, attr: &Value<'p>) -> Result<Cell<'p>, RowErrorReason> {
    use RowErrorReason::{Lossy, NoUnit, NumberRange, TooLong, Unparsable, WrongType};
    if let Value::Cell(cell) = attr {
        return held(format, cell);
    }
    let Format { ty, declared: Declared { unit, between, lossy, sparse: _ } } = format;
    match (ty, attr) {
        (ColumnType::Text, _) => text(attr).map(Cell::Text),
        (ColumnType::Varchar(n), _) => {
            let text = text(attr)?;
            let max = usize::try_from(n).unwrap_or(usize::MAX);
            // As many bytes as characters are allowed are never too many characters.
            let beyond = if text.len() > max { text.char_indices().nth(max) } else { None };
            match beyond {
                None => Ok(Cell::Text(text)),
                Some((at, _)) if lossy => Ok(Cell::Text(cut(text, at))),
                Some(_) => Err(TooLong),
            }
        }
        (ColumnType::Uuid, Value::Text(s)) => {
            Uuid::try_parse(s).map(|u| Cell::Uuid(u.into_bytes())).map_err(|_| Unparsable)
        }
        (ColumnType::Numeric(limits), Value::Decimal(n)) => {
            let number = canonical_cow(n).ok_or(Unparsable)?;
            match limits {
                Some((p, s)) if !fits(&number, p, s) => {
                    let rounded = rounded(&number, usize::from(s)).ok_or(Unparsable)?;
                    match (fits(&rounded, p, s), lossy) {
                        (false, _) => Err(NumberRange),
                        (true, false) => Err(Lossy),
                        (true, true) => Ok(Cell::Numeric(Cow::Owned(rounded))),
                    }
                }
                _ => Ok(Cell::Numeric(number)),
            }
        }
        (ColumnType::Smallint, Value::Decimal(n)) => integer(n, i64::from(i16::MIN), i64::from(i16::MAX), lossy),
        (ColumnType::Integer, Value::Decimal(n)) => integer(n, i64::from(i32::MIN), i64::from(i32::MAX), lossy),
        (ColumnType::Bigint, Value::Decimal(n)) => integer(n, i64::MIN, i64::MAX, lossy),
        (ColumnType::Double, Value::Decimal(n)) => {
            let number = canonical_cow(n).ok_or(Unparsable)?;
            let x: f64 = number.parse().map_err(|_| Unparsable)?;
            // Nearer to zero than the smallest number of the type: the server calls that out of range too.
            let held = x.is_finite() && (x != 0.0 || number == "0");
            match (held, lossy || reads_back(x, &number)) {
                (false, _) => Err(NumberRange),
                (true, false) => Err(Lossy),
                (true, true) => Ok(Cell::Float(x)),
            }
        }
        (ColumnType::Boolean, Value::Bool(b)) => Ok(Cell::Bool(*b)),
        (ColumnType::Boolean, Value::Text(s)) if s.eq_ignore_ascii_case("true") => Ok(Cell::Bool(true)),
        (ColumnType::Boolean, Value::Text(s)) if s.eq_ignore_ascii_case("false") => Ok(Cell::Bool(false)),
        (ColumnType::Boolean, Value::Text(_)) => Err(Unparsable),
        (ColumnType::Timestamptz, Value::Text(s)) => time::timestamp(s, lossy).map(Cell::Timestamp),
        (ColumnType::Timestamptz, Value::Decimal(n)) => {
            let number = canonical_cow(n).ok_or(Unparsable)?;
            time::epoch(&number, unit.ok_or(NoUnit)?, between, lossy).map(Cell::Timestamp)
        }
        (ColumnType::Date, Value::Text(s)) => time::date(s).map(Cell::Date),
        (ColumnType::Jsonb, _) => json_of(attr).map(|json| Cell::Json(Cow::Owned(json))),
        (ColumnType::TextArray, Value::List(items)) => {
            items.iter().map(text).collect::<Result<_, _>>().map(Cell::TextArray)
        }
        (ColumnType::TextArray, Value::TextSet(set)) => {
            let mut sorted = set.iter().map(no_nul).collect::<Result<Vec<_>, _>>()?;
            sorted.sort_unstable();
            Ok(Cell::TextArray(sorted))
        }
        (ColumnType::Bytea, Value::Bytes(b)) => Ok(Cell::Bytes(b.clone())),
        // Whether the type reads it, and writes it as it was, only the database can say.
        (ColumnType::Native(_), _) => text(attr).map(Cell::Text),
        (ColumnType::Document, Value::Map(entries)) => typed::map(entries).map(|text| Cell::Json(Cow::Owned(text))),
        _ => Err(WrongType),
    }
}

/// A value in a column of this type of which nothing is declared.
///
/// # Errors
/// Why the column does not hold it.
pub fn cell_of<'p>(ty: ColumnType, value: &Value<'p>) -> Result<Cell<'p>, RowErrorReason> {
    convert(Format { ty, declared: Declared::default() }, value)
}

/// A cell of the source in a column: as it is where the column holds all of its type, else as a document would say it.
fn held<'p>(format: Format, cell: &Cell<'p>) -> Result<Cell<'p>, RowErrorReason> {
    match (format.ty, cell) {
        (ColumnType::Uuid, Cell::Uuid(_))
        | (ColumnType::Numeric(None), Cell::Numeric(_))
        | (ColumnType::Bigint, Cell::Int(_))
        | (ColumnType::Double, Cell::Float(_))
        | (ColumnType::Timestamptz, Cell::Timestamp(_))
        | (ColumnType::Date, Cell::Date(_))
        | (ColumnType::Jsonb, Cell::Json(_))
        | (ColumnType::TextArray, Cell::TextArray(_)) => Ok(cell.clone()),
        // An array begins with the number of its dimensions, JSON with the version of its form, and a moment is one
        // number.
        (ColumnType::Timestamptz, Cell::Other(raw)) if raw.len() == 8 => Ok(cell.clone()),
        (ColumnType::TextArray, Cell::Other(raw)) if raw.len() > 8 && raw.first() == Some(&0) => Ok(cell.clone()),
        (ColumnType::Jsonb, Cell::Other(raw)) if raw.first() == Some(&1) => Ok(cell.clone()),
        (ColumnType::Integer, Cell::Int(i)) if i32::try_from(*i).is_ok() => Ok(Cell::Int(*i)),
        (ColumnType::Smallint, Cell::Int(i)) if i16::try_from(*i).is_ok() => Ok(Cell::Int(*i)),
        // It has no digits that could be too many.
        (ColumnType::Numeric(_), Cell::Numeric(n)) if n == "NaN" => Ok(cell.clone()),
        _ => convert(format, &document(cell)?).map(Cell::into_owned),
    }
}

/// A literal of the plan as the cell it stands for. Text that reads as JSON is JSON in a `jsonb` column and
/// a list in a `text[]` column; `bytea` takes the text's own bytes.
pub(super) fn literal(format: Format, text: &str) -> Result<Cell<'static>, RowErrorReason> {
    let attr = match format.ty {
        ColumnType::Numeric(_)
        | ColumnType::Smallint
        | ColumnType::Integer
        | ColumnType::Bigint
        | ColumnType::Double => Value::Decimal(text.into()),
        ColumnType::Timestamptz if text.parse::<f64>().is_ok() => Value::Decimal(text.into()),
        ColumnType::Jsonb => {
            if let Some(json) = canonical_json_text(text) {
                return if json.contains("\\u0000") {
                    Err(RowErrorReason::Nul)
                } else {
                    Ok(Cell::Json(Cow::Owned(json)))
                };
            }
            Value::Text(text.into())
        }
        ColumnType::TextArray if matches!(text, "" | "{}" | "[]") => Value::List(Vec::new()),
        ColumnType::TextArray => {
            let items: Vec<String> = serde_json::from_str(text).map_err(|_| RowErrorReason::Unparsable)?;
            Value::List(items.into_iter().map(|s| Value::Text(s.into())).collect())
        }
        ColumnType::Bytea => Value::Bytes(text.as_bytes().into()),
        _ => Value::Text(text.into()),
    };
    convert(format, &attr).map(Cell::into_owned)
}

/// Whether a literal of the plan can stand in the column.
///
/// # Errors
/// Why it cannot.
pub fn literal_fits(column: &Column, text: &str) -> Result<(), RowErrorReason> {
    literal(Format::of(column), text).map(|_| ())
}

fn integer(n: &str, min: i64, max: i64, lossy: bool) -> Result<Cell<'static>, RowErrorReason> {
    let number = super::numeric::canonical(n).ok_or(RowErrorReason::Unparsable)?;
    let fraction = number.contains('.');
    let value =
        if fraction { whole(&rounded(&number, 0).ok_or(RowErrorReason::Unparsable)?)? } else { whole(&number)? };
    match ((min..=max).contains(&value), fraction && !lossy) {
        (false, _) => Err(RowErrorReason::NumberRange),
        (true, true) => Err(RowErrorReason::Lossy),
        (true, false) => Ok(Cell::Int(value)),
    }
}

/// Text up to a byte that begins a character.
fn cut(text: Cow<'_, str>, at: usize) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(s) => Cow::Borrowed(&s[..at]),
        Cow::Owned(mut s) => {
            s.truncate(at);
            Cow::Owned(s)
        }
    }
}

fn text<'p>(attr: &Value<'p>) -> Result<Cow<'p, str>, RowErrorReason> {
    match attr {
        Value::Text(s) => no_nul(s),
        Value::Decimal(n) => canonical_cow(n).ok_or(RowErrorReason::Unparsable),
        _ => Err(RowErrorReason::WrongType),
    }
}

fn no_nul<'p>(text: &Cow<'p, str>) -> Result<Cow<'p, str>, RowErrorReason> {
    if text.as_bytes().contains(&0) { Err(RowErrorReason::Nul) } else { Ok(text.clone()) }
}

#[cfg(test)]
mod tests {
    use RowErrorReason::{Lossy, NoOffset, NoUnit, Nul, NumberRange, TooLong, Unparsable, WrongType};
    use proptest::prelude::*;

    use super::*;

    fn plain(ty: ColumnType) -> Format {
        Format { ty, declared: Declared::default() }
    }

    fn s(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn n(text: &str) -> Value<'_> {
        Value::Decimal(text.into())
    }

    fn t(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[test]
    fn values_convert_exactly_or_not_at_all() {
        use ColumnType::*;
        let uuid = uuid::Uuid::from_u128(0x0193_4f5a_7c11_7abc_9def_0123_4567_89ab);
        let id = || Ok(Cell::Uuid(uuid.into_bytes()));
        let simple = uuid.simple().to_string();
        let upper = uuid.hyphenated().to_string().to_uppercase();
        let braced = uuid.braced().to_string();
        let urn = uuid.urn().to_string();
        let digits38 = "12345678901234567890123456789012345678";
        let cases: Vec<(ColumnType, Value<'_>, Result<Cell<'_>, RowErrorReason>)> = vec![
            (Text, s(""), Ok(t(""))),
            (Text, s("né"), Ok(t("né"))),
            (Text, s("a\0"), Err(Nul)),
            (Text, n("1.50"), Ok(t("1.5"))),
            (Text, Value::Bool(true), Err(WrongType)),
            (Text, Value::List(vec![]), Err(WrongType)),
            (Varchar(3), s("abc"), Ok(t("abc"))),
            (Varchar(3), s("äöü"), Ok(t("äöü"))),
            (Varchar(3), s("abcd"), Err(TooLong)),
            (Varchar(3), s("abc "), Err(TooLong)),
            (Varchar(3), n("1000"), Err(TooLong)),
            (Varchar(0), s(""), Ok(t(""))),
            (Uuid, s(&simple), id()),
            (Uuid, s(&upper), id()),
            (Uuid, s(&braced), id()),
            (Uuid, s(&urn), id()),
            (Uuid, s("book-1"), Err(Unparsable)),
            (Uuid, s(""), Err(Unparsable)),
            (Uuid, n("1"), Err(WrongType)),
            (Numeric(Some((10, 2))), n("19.990"), Ok(Cell::Numeric("19.99".into()))),
            (Numeric(Some((10, 2))), n("19.999"), Err(Lossy)),
            (Numeric(Some((10, 2))), n("1e8"), Err(NumberRange)),
            (Numeric(None), n(digits38), Ok(Cell::Numeric(digits38.into()))),
            (Numeric(None), n("1e-130"), Ok(Cell::Numeric(format!("0.{}1", "0".repeat(129)).into()))),
            (Numeric(None), s("1"), Err(WrongType)),
            (Numeric(None), n("NaN"), Err(Unparsable)),
            (Smallint, n("32767"), Ok(Cell::Int(32767))),
            (Smallint, n("32768"), Err(NumberRange)),
            (Integer, n("-2147483648"), Ok(Cell::Int(-2_147_483_648))),
            (Integer, n("2147483648"), Err(NumberRange)),
            (Integer, n("1.0"), Ok(Cell::Int(1))),
            (Integer, n("1.5"), Err(Lossy)),
            (Integer, n("1e3"), Ok(Cell::Int(1000))),
            (Integer, s("1"), Err(WrongType)),
            (Bigint, n("9223372036854775807"), Ok(Cell::Int(i64::MAX))),
            (Bigint, n("9223372036854775808"), Err(NumberRange)),
            (Double, n("0.1"), Ok(Cell::Float(0.1))),
            (Double, n("-0"), Ok(Cell::Float(0.0))),
            (Double, s("0.1"), Err(WrongType)),
            (Boolean, Value::Bool(false), Ok(Cell::Bool(false))),
            (Boolean, s("true"), Ok(Cell::Bool(true))),
            (Boolean, s("False"), Ok(Cell::Bool(false))),
            (Boolean, s("yes"), Err(Unparsable)),
            (Boolean, n("1"), Err(WrongType)),
            (Timestamptz, s("1970-01-01T00:00:01Z"), Ok(Cell::Timestamp(1_000_000))),
            (Timestamptz, s("1970-01-01T00:00:01"), Err(NoOffset)),
            (Timestamptz, n("1795358836"), Err(NoUnit)),
            (Timestamptz, Value::Bool(true), Err(WrongType)),
            (Date, s("1970-01-02"), Ok(Cell::Date(1))),
            (Date, n("1"), Err(WrongType)),
            (Jsonb, s("x"), Ok(Cell::Json("\"x\"".into()))),
            (Jsonb, s("x\0"), Err(Nul)),
            (Jsonb, Value::Map(vec![]), Ok(Cell::Json("{}".into()))),
            (TextArray, Value::List(vec![s("b"), s("a")]), Ok(Cell::TextArray(vec!["b".into(), "a".into()]))),
            (
                TextArray,
                Value::TextSet(vec!["b".into(), "a".into()]),
                Ok(Cell::TextArray(vec!["a".into(), "b".into()])),
            ),
            (TextArray, Value::List(vec![n("1.0")]), Ok(Cell::TextArray(vec!["1".into()]))),
            (TextArray, Value::List(vec![Value::Null]), Err(WrongType)),
            (TextArray, Value::TextSet(vec!["\0".into()]), Err(Nul)),
            (TextArray, s("a"), Err(WrongType)),
            (Bytea, Value::Bytes(b"\0\xff"[..].into()), Ok(Cell::Bytes(b"\0\xff"[..].into()))),
            (Bytea, s("a"), Err(WrongType)),
        ];
        for (ty, attr, want) in cases {
            assert_eq!(convert(plain(ty), &attr), want, "{attr:?} into {}", ty.sql());
        }
    }

    #[test]
    fn text_is_borrowed_from_the_page() {
        for (ty, attr) in [(ColumnType::Text, s("abc")), (ColumnType::Numeric(None), n("19.9"))] {
            assert!(matches!(
                convert(plain(ty), &attr),
                Ok(Cell::Text(Cow::Borrowed(_)) | Cell::Numeric(Cow::Borrowed(_)))
            ));
        }
    }

    #[test]
    fn literals_take_the_column_type() {
        use ColumnType::*;
        for (ty, text, want) in [
            (Varchar(20), "General", Ok(t("General"))),
            (Integer, "0", Ok(Cell::Int(0))),
            (Integer, "zero", Err(Unparsable)),
            (Boolean, "true", Ok(Cell::Bool(true))),
            (Jsonb, "{ \"b\":1, \"a\":2.0 }", Ok(Cell::Json("{\"a\":2,\"b\":1}".into()))),
            (Jsonb, "plain", Ok(Cell::Json("\"plain\"".into()))),
            (TextArray, "{}", Ok(Cell::TextArray(vec![]))),
            (TextArray, "[\"a\"]", Ok(Cell::TextArray(vec!["a".into()]))),
            (Timestamptz, "0", Err(NoUnit)),
        ] {
            assert_eq!(literal(plain(ty), text), want, "{text} as {}", ty.sql());
        }
    }

    fn cells() -> impl Strategy<Value = (ColumnType, Cell<'static>)> {
        use ColumnType as T;
        let text = || "[a-zé ]{0,9}".prop_map(|s: String| Cell::Text(s.into()));
        let json = prop::sample::select(vec!["null", "1.5", "{}", "[1,\"a\"]", "{\"a\":{\"b\":[true]}}"]);
        prop_oneof![
            text().prop_map(|c| (T::Text, c)),
            text().prop_map(|c| (T::Varchar(9), c)),
            any::<[u8; 16]>().prop_map(|u| (T::Uuid, Cell::Uuid(u))),
            (any::<i64>(), 0..9_u32).prop_map(|(n, s)| {
                let text = super::super::numeric::canonical(&format!("{n}e-{s}")).unwrap().into_owned();
                (T::Numeric(None), Cell::Numeric(text.into()))
            }),
            Just((T::Numeric(Some((10, 2))), Cell::Numeric("NaN".into()))),
            Just((T::Numeric(Some((10, 2))), Cell::Numeric("-0.5".into()))),
            any::<i16>().prop_map(|i| (T::Smallint, Cell::Int(i.into()))),
            any::<i32>().prop_map(|i| (T::Integer, Cell::Int(i.into()))),
            any::<i64>().prop_map(|i| (T::Bigint, Cell::Int(i))),
            any::<f64>().prop_filter("equal to itself", |x| !x.is_nan()).prop_map(|x| (T::Double, Cell::Float(x))),
            any::<bool>().prop_map(|b| (T::Boolean, Cell::Bool(b))),
            any::<i64>().prop_map(|t| (T::Timestamptz, Cell::Timestamp(t))),
            any::<i32>().prop_map(|d| (T::Date, Cell::Date(d))),
            json.prop_map(|j| (T::Jsonb, Cell::Json(j.into()))),
            prop::collection::vec("[a-z]{0,3}", 0..3)
                .prop_map(|v| (T::TextArray, Cell::TextArray(v.into_iter().map(Into::into).collect()))),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(|b| (T::Bytea, Cell::Bytes(b.into()))),
        ]
    }

    proptest! {
        #[test]
        fn a_cell_in_a_column_of_its_own_type_is_what_it_was((ty, cell) in cells()) {
            let value = Value::from(cell.clone());
            prop_assert_eq!(convert(plain(ty), &value), Ok(cell.clone()));
            prop_assert!(super::super::key::comes_back(plain(ty), &value, &cell));
        }
    }

    #[test]
    fn a_cell_in_another_column_is_what_a_document_would_say() {
        use ColumnType as T;
        let held = |ty, cell: Cell<'static>| convert(plain(ty), &Value::from(cell)).map(Cell::into_owned);
        assert_eq!(held(T::Text, Cell::Int(-7)), Ok(t("-7")));
        assert_eq!(held(T::Smallint, Cell::Int(40_000)), Err(NumberRange));
        assert_eq!(held(T::Numeric(None), Cell::Int(7)), Ok(Cell::Numeric("7".into())));
        assert_eq!(held(T::Numeric(Some((4, 1))), Cell::Numeric("1.25".into())), Err(Lossy));
        assert_eq!(held(T::Text, Cell::Uuid([0; 16])), Ok(t("00000000-0000-0000-0000-000000000000")));
        assert_eq!(held(T::Uuid, Cell::Text("x".into())), Err(Unparsable));
        assert_eq!(held(T::Text, Cell::Timestamp(0)), Ok(t("1970-01-01T00:00:00.000Z")));
        assert_eq!(held(T::Jsonb, Cell::TextArray(vec!["b".into()])), Ok(Cell::Json("[\"b\"]".into())));
        assert_eq!(held(T::TextArray, Cell::Json("[\"b\"]".into())), Ok(Cell::TextArray(vec!["b".into()])));
        assert_eq!(held(T::Integer, Cell::Bool(true)), Err(WrongType));
        assert_eq!(held(T::Text, Cell::Float(f64::NAN)), Err(NumberRange));
    }
}
