//! Conversions of single attributes into cells (FEATURES A1, A14). Nothing is rounded, cut or guessed.

use std::borrow::Cow;

use super::MisfitReason;
use super::json::canonical_json;
use super::numeric::{canonical_numeric, digit_counts};
use crate::domain::plan::ColumnType;
use crate::domain::value::{Attr, Cell};

/// An epoch number from here on is milliseconds: as seconds it would be the year 5138.
const EPOCH_MS_FROM: i64 = 100_000_000_000;

/// Converts an attribute that is present and not null.
pub fn convert<'a>(attr: &'a Attr<'_>, ty: ColumnType) -> Result<Cell<'a>, MisfitReason> {
    use MisfitReason::{NumberRange, TooLong, Unparsable, WrongType};
    match ty {
        ColumnType::Text => text(attr).map(Cell::Text),
        ColumnType::Varchar(limit) => {
            let s = text(attr)?;
            // Bytes bound characters from above, so counting is rarely needed.
            if s.len() > limit as usize && s.chars().count() > limit as usize {
                return Err(TooLong);
            }
            Ok(Cell::Text(s))
        }
        ColumnType::Uuid => match attr {
            Attr::Str(s) => uuid::Uuid::try_parse(s).map(|u| Cell::Uuid(u.into_bytes())).map_err(|_| Unparsable),
            _ => Err(WrongType),
        },
        ColumnType::Numeric(bounds) => {
            let n = number(attr)?;
            if let Some((precision, scale)) = bounds {
                let (whole, fraction) = digit_counts(&n);
                if fraction > usize::from(scale) || whole > usize::from(precision.saturating_sub(scale)) {
                    return Err(NumberRange);
                }
            }
            Ok(Cell::Numeric(n))
        }
        ColumnType::Smallint => integer(attr, i64::from(i16::MIN), i64::from(i16::MAX)),
        ColumnType::Integer => integer(attr, i64::from(i32::MIN), i64::from(i32::MAX)),
        ColumnType::Bigint => integer(attr, i64::MIN, i64::MAX),
        ColumnType::Double => {
            let n = number(attr)?;
            let x: f64 = n.parse().map_err(|_| NumberRange)?;
            // A float column is chosen knowing that it rounds; overflow is still a misfit.
            if x.is_finite() { Ok(Cell::Float(x)) } else { Err(NumberRange) }
        }
        ColumnType::Boolean => match attr {
            Attr::Bool(b) => Ok(Cell::Bool(*b)),
            Attr::Str(s) if s == "true" => Ok(Cell::Bool(true)),
            Attr::Str(s) if s == "false" => Ok(Cell::Bool(false)),
            Attr::Str(_) => Err(Unparsable),
            _ => Err(WrongType),
        },
        ColumnType::Timestamptz => timestamp(attr).map(Cell::Timestamp),
        ColumnType::Date => match attr {
            Attr::Str(s) => {
                let date: jiff::civil::Date = s.parse().map_err(|_| Unparsable)?;
                let epoch = jiff::civil::date(1970, 1, 1);
                epoch.until(date).map(|span| Cell::Date(span.get_days())).map_err(|_| NumberRange)
            }
            _ => Err(WrongType),
        },
        ColumnType::Jsonb => canonical_json(attr).map(|s| Cell::Json(Cow::Owned(s))).ok_or(MisfitReason::Nul),
        ColumnType::TextArray => array(attr),
        ColumnType::Bytea => match attr {
            Attr::Bin(b) => Ok(Cell::Bytes(Cow::Borrowed(b))),
            _ => Err(WrongType),
        },
    }
}

/// Converts a literal of the config file: a constant or a default.
pub fn literal(text: &str, ty: ColumnType) -> Result<Cell<'static>, MisfitReason> {
    let attr = match ty {
        ColumnType::Numeric(_)
        | ColumnType::Smallint
        | ColumnType::Integer
        | ColumnType::Bigint
        | ColumnType::Double => Attr::Num(Cow::Borrowed(text)),
        ColumnType::Boolean => Attr::Str(Cow::Borrowed(text)),
        ColumnType::Bytea => Attr::Bin(Cow::Borrowed(text.as_bytes())),
        ColumnType::Jsonb => {
            return super::json::canonical_json_text(text)
                .map(|s| Cell::Json(Cow::Owned(s)))
                .ok_or(MisfitReason::Unparsable);
        }
        ColumnType::TextArray => {
            let items: Vec<String> = serde_json::from_str(text).map_err(|_| MisfitReason::Unparsable)?;
            return Ok(Cell::TextArray(items.into_iter().map(Cow::Owned).collect()));
        }
        _ => Attr::Str(Cow::Borrowed(text)),
    };
    convert(&attr, ty).map(Cell::into_owned)
}

fn checked(s: &str) -> Result<&str, MisfitReason> {
    if s.as_bytes().contains(&0) { Err(MisfitReason::Nul) } else { Ok(s) }
}

fn text<'a>(attr: &'a Attr<'_>) -> Result<Cow<'a, str>, MisfitReason> {
    match attr {
        Attr::Str(s) => checked(s).map(Cow::Borrowed),
        Attr::Num(n) => canonical_numeric(n).ok_or(MisfitReason::Unparsable),
        _ => Err(MisfitReason::WrongType),
    }
}

fn number<'a>(attr: &'a Attr<'_>) -> Result<Cow<'a, str>, MisfitReason> {
    match attr {
        Attr::Num(n) => canonical_numeric(n).ok_or(MisfitReason::NumberRange),
        Attr::Str(s) => canonical_numeric(s).ok_or(MisfitReason::Unparsable),
        _ => Err(MisfitReason::WrongType),
    }
}

fn integer<'a>(attr: &'a Attr<'_>, min: i64, max: i64) -> Result<Cell<'a>, MisfitReason> {
    let n: i64 = number(attr)?.parse().map_err(|_| MisfitReason::NumberRange)?;
    if (min..=max).contains(&n) { Ok(Cell::Int(n)) } else { Err(MisfitReason::NumberRange) }
}

fn array<'a>(attr: &'a Attr<'_>) -> Result<Cell<'a>, MisfitReason> {
    match attr {
        Attr::StrSet(set) => {
            let mut items = set.iter().map(|s| checked(s).map(Cow::Borrowed)).collect::<Result<Vec<_>, _>>()?;
            items.sort_unstable();
            Ok(Cell::TextArray(items))
        }
        Attr::NumSet(set) => {
            let mut items = set
                .iter()
                .map(|n| canonical_numeric(n).ok_or(MisfitReason::Unparsable))
                .collect::<Result<Vec<_>, _>>()?;
            items.sort_unstable();
            Ok(Cell::TextArray(items))
        }
        Attr::List(items) => items.iter().map(text).collect::<Result<Vec<_>, _>>().map(Cell::TextArray),
        _ => Err(MisfitReason::WrongType),
    }
}

/// Microseconds since the epoch. More than six fraction digits must be zeros: nothing is cut silently.
fn timestamp(attr: &Attr<'_>) -> Result<i64, MisfitReason> {
    match attr {
        Attr::Str(s) => {
            let at: jiff::Timestamp = s.parse().map_err(|_| MisfitReason::Unparsable)?;
            if at.subsec_nanosecond() % 1000 != 0 {
                return Err(MisfitReason::NumberRange);
            }
            Ok(at.as_microsecond())
        }
        Attr::Num(n) => {
            let n = canonical_numeric(n).ok_or(MisfitReason::NumberRange)?;
            let (whole, fraction) = n.split_once('.').unwrap_or((&n, ""));
            let seconds: i64 = whole.parse().map_err(|_| MisfitReason::NumberRange)?;
            let (per_unit, digits) = if seconds.abs() >= EPOCH_MS_FROM { (1_000, 3) } else { (1_000_000, 6) };
            if fraction.len() > digits {
                return Err(MisfitReason::NumberRange);
            }
            let fraction: i64 = format!("{fraction:0<digits$}").parse().map_err(|_| MisfitReason::NumberRange)?;
            let fraction = if n.starts_with('-') { -fraction } else { fraction };
            seconds.checked_mul(per_unit).and_then(|us| us.checked_add(fraction)).ok_or(MisfitReason::NumberRange)
        }
        _ => Err(MisfitReason::WrongType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MisfitReason::{Nul, NumberRange, TooLong, Unparsable, WrongType};

    fn s(text: &str) -> Attr<'_> {
        Attr::Str(Cow::Borrowed(text))
    }
    fn n(text: &str) -> Attr<'_> {
        Attr::Num(Cow::Borrowed(text))
    }
    fn num(text: &str) -> Cell<'_> {
        Cell::Numeric(Cow::Borrowed(text))
    }
    fn txt(text: &str) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(text))
    }

    #[test]
    fn what_fits_is_converted_and_what_does_not_is_named() {
        use ColumnType as T;
        let money = T::Numeric(Some((10, 2)));
        let cases: Vec<(Attr<'_>, T, Result<Cell<'_>, MisfitReason>)> = vec![
            (s("a"), T::Text, Ok(txt("a"))),
            (n("1.50"), T::Text, Ok(txt("1.5"))),
            (s("a\0"), T::Text, Err(Nul)),
            (Attr::Bool(true), T::Text, Err(WrongType)),
            (s("äöü"), T::Varchar(3), Ok(txt("äöü"))),
            (s("abcd"), T::Varchar(3), Err(TooLong)),
            (n("19.90"), money, Ok(num("19.9"))),
            (n("19.999"), money, Err(NumberRange)),
            (n("123456789"), money, Err(NumberRange)),
            (n("12345678.99"), money, Ok(num("12345678.99"))),
            (s("x"), money, Err(Unparsable)),
            (n("32768"), T::Smallint, Err(NumberRange)),
            (n("-32768"), T::Smallint, Ok(Cell::Int(-32768))),
            (n("1.5"), T::Integer, Err(NumberRange)),
            (n("1e3"), T::Integer, Ok(Cell::Int(1000))),
            (n("9223372036854775808"), T::Bigint, Err(NumberRange)),
            (n("1e308"), T::Double, Ok(Cell::Float(1e308))),
            (n("1e309"), T::Double, Err(NumberRange)),
            (s("true"), T::Boolean, Ok(Cell::Bool(true))),
            (s("yes"), T::Boolean, Err(Unparsable)),
            (s("2026-11-22T02:00:00Z"), T::Timestamptz, Ok(Cell::Timestamp(1_795_312_800_000_000))),
            (s("2026-11-22T03:00:00.5+01:00"), T::Timestamptz, Ok(Cell::Timestamp(1_795_312_800_500_000))),
            (s("2026-11-22T02:00:00.1234567Z"), T::Timestamptz, Err(NumberRange)),
            (s("2026-11-22T02:00:00.1234560Z"), T::Timestamptz, Ok(Cell::Timestamp(1_795_312_800_123_456))),
            (s("yesterday"), T::Timestamptz, Err(Unparsable)),
            (n("1795312800"), T::Timestamptz, Ok(Cell::Timestamp(1_795_312_800_000_000))),
            (n("1795312800123"), T::Timestamptz, Ok(Cell::Timestamp(1_795_312_800_123_000))),
            (n("-1.5"), T::Timestamptz, Ok(Cell::Timestamp(-1_500_000))),
            (s("1970-01-11"), T::Date, Ok(Cell::Date(10))),
            (s("not a uuid"), T::Uuid, Err(Unparsable)),
        ];
        for (attr, ty, wanted) in &cases {
            assert_eq!(&convert(attr, *ty), wanted, "{attr:?} as {ty:?}");
        }
    }

    #[test]
    fn uuids_in_any_form_are_one() {
        let forms = ["67e55044-10b1-426f-9247-bb680e5fe0c8", "67E5504410B1426F9247BB680E5FE0C8"];
        let cells: Vec<_> = forms.iter().map(|f| convert(&s(f), ColumnType::Uuid).unwrap().into_owned()).collect();
        assert_eq!(cells[0], cells[1]);
    }

    #[test]
    fn sets_arrive_sorted_and_lists_in_order() {
        let set = Attr::StrSet(vec!["b".into(), "a".into()]);
        assert_eq!(convert(&set, ColumnType::TextArray), Ok(Cell::TextArray(vec!["a".into(), "b".into()])));
        let list = Attr::List(vec![s("b"), s("a")]);
        assert_eq!(convert(&list, ColumnType::TextArray), Ok(Cell::TextArray(vec!["b".into(), "a".into()])));
    }

    #[test]
    fn literals_take_their_column_type() {
        assert_eq!(literal("0", ColumnType::Integer), Ok(Cell::Int(0)));
        assert_eq!(literal("General", ColumnType::Varchar(100)), Ok(txt("General")));
        assert_eq!(literal("[]", ColumnType::TextArray), Ok(Cell::TextArray(vec![])));
        assert_eq!(literal("{ \"b\": 1, \"a\": 2 }", ColumnType::Jsonb), Ok(Cell::Json("{\"a\":2,\"b\":1}".into())));
        assert_eq!(literal("many", ColumnType::Integer), Err(NumberRange));
    }
}
