//! What a column of one type takes of the values of another one, told by the types alone: before a row is read.

use crate::domain::plan::{Column, ColumnType};

/// How many of the values of a type a column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Every one, but for those that have no ordinary form: `NaN`, `infinity`.
    All,
    /// Those that fit; the rows of the others are parked.
    Some,
    /// None: every row that has a value would be parked.
    None,
}

impl Takes {
    const fn all_if(fits: bool) -> Self {
        if fits { Self::All } else { Self::Some }
    }
}

/// What a column of the plan takes of the values of a source's column of this type.
#[must_use]
pub fn takes(source: ColumnType, column: &Column) -> Takes {
    use ColumnType as T;
    match (source, column.ty) {
        (source, planned) if source == planned => Takes::All,
        // Types that only the database knows are compared by their names.
        (_, T::Native(_)) | (T::Native(_) | T::Document, _) => Takes::All,
        (T::Jsonb, T::Bytea) => Takes::None,
        (T::Jsonb, _) => Takes::Some,
        (T::Numeric(None) | T::Double | T::Bytea, T::Jsonb) => Takes::Some,
        (_, T::Jsonb) => Takes::All,
        (T::Text | T::Varchar(_), planned) => of_text(source, planned),
        (T::Smallint | T::Integer | T::Bigint | T::Numeric(_) | T::Double, T::Timestamptz) => {
            if column.declared.unit.is_some() { Takes::Some } else { Takes::None }
        }
        (T::Smallint, planned) => of_whole_numbers(5, planned),
        (T::Integer, planned) => of_whole_numbers(10, planned),
        (T::Bigint, planned) => of_whole_numbers(19, planned),
        (T::Numeric(limits), planned) => of_numbers(limits, planned),
        (T::Double, T::Text | T::Varchar(_) | T::Numeric(_) | T::Smallint | T::Integer | T::Bigint) => Takes::Some,
        (T::Uuid, T::Text) | (T::Timestamptz | T::Date, T::Text) => Takes::All,
        (T::Uuid, T::Varchar(n)) => {
            if n >= 36 {
                Takes::All
            } else {
                Takes::None
            }
        }
        (T::Timestamptz, T::Varchar(n)) => Takes::all_if(n >= 27),
        (T::Date, T::Varchar(n)) => Takes::all_if(n >= 10),
        (T::Timestamptz, T::Date) | (T::Date, T::Timestamptz) => Takes::Some,
        (T::Double | T::Uuid | T::Boolean | T::Timestamptz | T::Date | T::TextArray | T::Bytea, _) => Takes::None,
    }
}

const fn of_text(source: ColumnType, planned: ColumnType) -> Takes {
    use ColumnType as T;
    match (source, planned) {
        (_, T::Text) => Takes::All,
        (T::Varchar(has), T::Varchar(holds)) => Takes::all_if(has <= holds),
        (_, T::Varchar(_) | T::Uuid | T::Boolean | T::Timestamptz | T::Date) => Takes::Some,
        _ => Takes::None,
    }
}

/// Whole numbers of so many digits.
fn of_whole_numbers(digits: u16, planned: ColumnType) -> Takes {
    use ColumnType as T;
    match planned {
        T::Text | T::Numeric(None) | T::Bigint => Takes::All,
        T::Integer => Takes::all_if(digits <= 10),
        T::Smallint => Takes::all_if(digits <= 5),
        T::Double => Takes::all_if(digits <= 10),
        T::Numeric(Some((precision, scale))) => Takes::all_if(precision.saturating_sub(scale) >= digits),
        // A sign stands before them.
        T::Varchar(n) => Takes::all_if(n > u32::from(digits)),
        _ => Takes::None,
    }
}

fn of_numbers(limits: Option<(u16, u16)>, planned: ColumnType) -> Takes {
    use ColumnType as T;
    // Digits that a document holds.
    let sayable = limits.filter(|(precision, _)| *precision <= 38);
    match planned {
        T::Numeric(None) => Takes::All,
        T::Text => Takes::all_if(sayable.is_some()),
        T::Numeric(Some((precision, scale))) => Takes::all_if(sayable.is_some_and(|(p, s)| {
            scale >= s && i32::from(precision) - i32::from(scale) >= i32::from(p) - i32::from(s)
        })),
        T::Varchar(_) | T::Smallint | T::Integer | T::Bigint | T::Double => Takes::Some,
        _ => Takes::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::mapping::convert::{Format, convert};
    use crate::domain::plan::{ColumnSource, Declared, Fallback, Unit};
    use crate::domain::value::{Cell, Value};

    const fn numeric(precision: u16, scale: u16) -> ColumnType {
        ColumnType::Numeric(Some((precision, scale)))
    }

    fn column(ty: ColumnType, unit: Option<Unit>) -> Column {
        let from = ColumnSource::Attribute(vec!["c".into()]);
        let declared = Declared { unit, ..Declared::default() };
        Column { name: "c".into(), ty, from, absent: Fallback::Null, key: false, declared }
    }

    /// Values of each type, the longest among them.
    fn values(ty: ColumnType) -> Vec<Cell<'static>> {
        use ColumnType as T;
        let text = |t: &str| Cell::Text(t.to_owned().into());
        let number = |n: &str| Cell::Numeric(n.to_owned().into());
        match ty {
            T::Text => vec![text("x"), text(&"y".repeat(400))],
            T::Varchar(n) => vec![text(""), text(&"z".repeat(n as usize))],
            T::Uuid => vec![Cell::Uuid([7; 16])],
            T::Numeric(None) => vec![number("1.5"), number(&"9".repeat(60))],
            T::Numeric(Some((p, s))) => {
                vec![
                    number("-1"),
                    number(&format!("{}.{}", "9".repeat(usize::from(p - s)), "9".repeat(usize::from(s)))),
                ]
            }
            T::Smallint => vec![Cell::Int(0), Cell::Int(i64::from(i16::MIN)), Cell::Int(i64::from(i16::MAX))],
            T::Integer => vec![Cell::Int(1), Cell::Int(i64::from(i32::MIN)), Cell::Int(i64::from(i32::MAX))],
            T::Bigint => vec![Cell::Int(1), Cell::Int(i64::MIN), Cell::Int(i64::MAX)],
            T::Double => vec![Cell::Float(1.0), Cell::Float(0.1)],
            T::Boolean => vec![Cell::Bool(true)],
            T::Timestamptz => vec![Cell::Timestamp(1_795_358_836_220_001)],
            T::Date => vec![Cell::Date(20_000)],
            T::Jsonb => vec![Cell::Json("{\"a\":1}".into())],
            T::TextArray => vec![Cell::TextArray(vec!["a".into()])],
            T::Bytea => vec![Cell::Bytes(vec![0, 255].into())],
            T::Native(_) | T::Document => vec![],
        }
    }

    #[test]
    fn what_is_told_by_the_types_is_what_the_conversion_does() {
        use ColumnType as T;
        let all = [
            T::Text,
            T::Varchar(3),
            T::Varchar(6),
            T::Varchar(11),
            T::Varchar(40),
            T::Uuid,
            T::Numeric(None),
            numeric(5, 2),
            numeric(12, 2),
            numeric(12, 4),
            numeric(30, 0),
            T::Smallint,
            T::Integer,
            T::Bigint,
            T::Double,
            T::Boolean,
            T::Timestamptz,
            T::Date,
            T::Jsonb,
            T::TextArray,
            T::Bytea,
        ];
        for (source, planned) in all.iter().flat_map(|s| all.iter().map(move |p| (*s, *p))) {
            for unit in [None, Some(Unit::Seconds)] {
                let column = column(planned, unit);
                let told = takes(source, &column);
                let fits = |cell: &Cell<'static>| convert(Format::of(&column), &Value::from(cell.clone())).is_ok();
                let values = values(source);
                let fit = values.iter().filter(|cell| fits(cell)).count();
                let words =
                    format!("{} into {} ({unit:?}): {told:?}, {fit} of {}", source.sql(), planned.sql(), values.len());
                match told {
                    Takes::All => assert_eq!(fit, values.len(), "{words}"),
                    Takes::None => assert_eq!(fit, 0, "{words}"),
                    Takes::Some => {}
                }
            }
        }
    }

    #[test]
    fn a_type_that_holds_less_takes_some() {
        use ColumnType as T;
        for (source, planned) in [
            (T::Varchar(255), T::Varchar(20)),
            (T::Text, T::Varchar(20)),
            (T::Bigint, T::Integer),
            (T::Integer, T::Smallint),
            (T::Bigint, T::Double),
            (numeric(12, 2), numeric(10, 2)),
            (numeric(12, 4), numeric(12, 2)),
            (T::Numeric(None), numeric(12, 2)),
            (T::Double, T::Numeric(None)),
        ] {
            assert_eq!(takes(source, &column(planned, None)), Takes::Some, "{} into {}", source.sql(), planned.sql());
        }
        assert_eq!(takes(T::Boolean, &column(T::Uuid, None)), Takes::None);
        assert_eq!(takes(T::Text, &column(T::Integer, None)), Takes::None);
    }
}
