//! Whether the inverse of a key gives the key as it was written.
//!
//! The inverse is a function of the target's cell. Where it gives the very attribute the cell was made of, for every
//! row that lands, no two keys of the source can share a cell: the function would have to give two answers. So one
//! check per row, of that row alone, proves that keys stay apart, and that a write of the new side finds the item it
//! belongs to.

use uuid::Uuid;

use super::back::{moment, scaled};
use super::convert::Format;
use super::numeric::{canonical, canonical_numeric};
use crate::domain::plan::ColumnType;
use crate::domain::value::{Cell, Value};

/// Whether values of some source type can be written in several ways that become the same cell.
pub(super) const fn has_spellings(ty: ColumnType) -> bool {
    match ty {
        ColumnType::Uuid | ColumnType::Double | ColumnType::Boolean | ColumnType::Timestamptz => true,
        // The cell holds the attribute itself. Numbers are one key whatever their spelling, at the source too, and
        // dates are read in one spelling only. Lists are no keys. What a type that only the database knows
        // would write in another way is refused there.
        ColumnType::Text
        | ColumnType::Varchar(_)
        | ColumnType::Numeric(_)
        | ColumnType::Smallint
        | ColumnType::Integer
        | ColumnType::Bigint
        | ColumnType::Date
        | ColumnType::Jsonb
        | ColumnType::TextArray
        | ColumnType::Bytea
        | ColumnType::Native(_)
        | ColumnType::Document => false,
    }
}

/// Whether the inverse of this cell gives the attribute it was made of.
pub(super) fn comes_back(format: Format, attr: &Value<'_>, cell: &Cell<'_>) -> bool {
    let Format { ty, declared } = format;
    if !has_spellings(ty) {
        // Bytes become JSON text, which stands for text.
        return ty != ColumnType::Jsonb || !matches!(attr, Value::Bytes(_));
    }
    match (attr, cell) {
        (Value::Cell(one), other) if one.kind() == other.kind() => one == other,
        (Value::Text(text), Cell::Uuid(bytes)) => {
            *Uuid::from_bytes(*bytes).hyphenated().encode_lower(&mut Uuid::encode_buffer()) == **text
        }
        (Value::Text(text), Cell::Bool(true)) => text == "true",
        (Value::Text(text), Cell::Bool(false)) => text == "false",
        (Value::Bool(a), Cell::Bool(b)) => a == b,
        (Value::Decimal(n), Cell::Float(x)) => canonical(n).as_deref() == canonical_numeric(&x.to_string()).as_deref(),
        (Value::Text(text), Cell::Timestamp(micros)) => moment(*micros).is_ok_and(|back| *back == **text),
        // A number became a moment in the column's unit, and becomes a number of it again.
        (Value::Decimal(n), Cell::Timestamp(micros)) => declared.unit.is_some_and(|unit| {
            canonical(n).as_deref() == canonical_numeric(&scaled(*micros, unit.decimals())).as_deref()
        }),
        // Nothing else converts to these types.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::mapping::back::attribute;
    use crate::domain::mapping::convert::convert;
    use crate::domain::mapping::kinds::{Kind, Kinds};
    use crate::domain::plan::{Declared, Unit};

    fn s(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn n(text: &str) -> Value<'_> {
        Value::Decimal(text.into())
    }

    const EVERY: [ColumnType; 14] = {
        use ColumnType::*;
        let limited = Numeric(Some((10, 2)));
        [
            Text,
            Varchar(99),
            Uuid,
            Numeric(None),
            limited,
            Smallint,
            Integer,
            Bigint,
            Double,
            Boolean,
            Timestamptz,
            Date,
            Jsonb,
            Bytea,
        ]
    };

    /// Never lossy: lint refuses that of a key.
    const fn format(ty: ColumnType, unit: Option<Unit>) -> Format {
        Format { ty, declared: Declared { unit, between: None, lossy: false, sparse: false } }
    }

    fn back(ty: ColumnType, unit: Option<Unit>, attr: &Value<'_>) -> Option<bool> {
        let format = format(ty, unit);
        convert(format, attr).ok().map(|cell| comes_back(format, attr, &cell))
    }

    #[test]
    fn only_one_spelling_of_a_key_comes_back() {
        use ColumnType::{Boolean, Double, Numeric, Text, Timestamptz, Uuid};
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let (upper, simple, braced) = (id.to_uppercase(), id.replace('-', ""), format!("{{{id}}}"));
        for (ty, attr, want) in [
            (Uuid, s(id), true),
            (Uuid, s(&upper), false),
            (Uuid, s(&simple), false),
            (Uuid, s(&braced), false),
            (Text, s(&upper), true),
            (Boolean, s("true"), true),
            (Boolean, s("True"), false),
            (Timestamptz, s("2026-11-22T14:47:16.220Z"), true),
            (Timestamptz, s("2026-11-22T14:47:16.220001Z"), true),
            (Timestamptz, s("2026-11-22T14:47:16.220000Z"), false),
            (Timestamptz, s("2026-11-22T14:47:16Z"), false),
            (Timestamptz, s("2026-11-22T15:47:16.220+01:00"), false),
            (Double, n("0.1"), true),
            (Double, n("1e-1"), true),
            (Numeric(None), n("1.0"), true),
        ] {
            assert_eq!(back(ty, None, &attr), Some(want), "{attr:?} into {}", ty.sql());
        }
        for (unit, attr, want) in [
            (Unit::Seconds, n("1795358836"), true),
            (Unit::Seconds, n("1795358836.5"), true),
            (Unit::Millis, n("1795358836000"), true),
            (Unit::Micros, n("1795358836000000"), true),
        ] {
            assert_eq!(back(Timestamptz, Some(unit), &attr), Some(want), "{attr:?} as {unit:?}");
        }
        // What would lose digits or is no moment does not even become a cell.
        assert_eq!(back(Timestamptz, None, &n("1795358836")), None);
        assert_eq!(back(Timestamptz, Some(Unit::Seconds), &n("1795358836.0000001")), None);
        assert_eq!(back(Double, None, &n("0.1000000000000000055511151231257827")), None);
    }

    fn any_key() -> impl Strategy<Value = String> {
        let uuid = any::<u128>().prop_map(|u| uuid::Uuid::from_u128(u).to_string());
        prop_oneof![
            "[ -~é]{0,12}",
            uuid.clone(),
            uuid.prop_map(|u| u.to_uppercase()),
            "(true|false|True|FALSE)",
            "-?[0-9]{1,20}(\\.[0-9]{1,6})?",
            "[0-9]{1,4}e[0-9]",
            "202[0-9]-0[1-9]-1[0-9]T1[0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,6})?)?(Z|z|\\+01:00)",
        ]
    }

    proptest! {
        /// The inverse itself agrees: for what is accepted it gives the attribute, so no two attributes share a cell.
        #[test]
        fn what_comes_back_is_what_the_way_back_gives(text in any_key()) {
            for attr in [s(&text), n(&text), Value::Bytes(text.as_bytes().into())] {
                let units = [None, Some(Unit::Seconds), Some(Unit::Millis), Some(Unit::Micros)];
                for (ty, unit) in EVERY.iter().flat_map(|ty| units.map(|unit| (*ty, unit))) {
                    let format = format(ty, unit);
                    let Ok(cell) = convert(format, &attr) else { continue };
                    if !comes_back(format, &attr, &cell) {
                        continue;
                    }
                    let kind = if matches!(attr, Value::Decimal(_)) { Some(Kind::Number) } else { Kind::of(&attr) };
                    let given = attribute(&cell, kind, unit, "k", &Kinds::default()).unwrap().unwrap();
                    match (&attr, &given) {
                        (Value::Decimal(one), Value::Decimal(other)) => prop_assert_eq!(canonical(one), canonical(other), "{}", ty.sql()),
                        (one, other) => prop_assert_eq!(one, other, "{}", ty.sql()),
                    }
                }
            }
        }
    }
}
