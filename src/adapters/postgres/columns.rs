//! Encoded rows turned by columns: one binary array each, for `unnest`.
//!
//! A field of a binary `COPY` and an element of a binary array are the same bytes (length, value), so turning is
//! copying.

use std::error::Error;
use std::fmt;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::domain::plan::ColumnType;

/// A column's values, encoded as an array of its type.
pub(super) struct Column(BytesMut);

// The driver may log parameters; these are customers' values.
impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Column({} bytes)", self.0.len())
    }
}

impl ToSql for Column {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    // The statement names the type of each of its arrays, from the same columns.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The element type of an array for a column, and its number in the catalogue; `None` for a column that cannot be an
/// element. Lengths and precisions are left to the column itself: a cast in a statement would cut what it refuses.
pub(super) const fn element(ty: ColumnType) -> Option<(&'static str, u32)> {
    use ColumnType as T;
    Some(match ty {
        T::Text | T::Varchar(_) => ("text", 25),
        T::Uuid => ("uuid", 2950),
        T::Numeric(_) => ("numeric", 1700),
        T::Smallint => ("int2", 21),
        T::Integer => ("int4", 23),
        T::Bigint => ("int8", 20),
        T::Double => ("float8", 701),
        T::Boolean => ("bool", 16),
        T::Timestamptz => ("timestamptz", 1184),
        T::Date => ("date", 1082),
        T::Jsonb => ("jsonb", 3802),
        T::Bytea => ("bytea", 17),
        // As text; the statement makes a value of it.
        T::Native(_) => ("text", 25),
        // No type of PostgreSQL: the lint lets no document go there.
        T::TextArray | T::Document => return None,
    })
}

/// What stands before the elements of an array.
fn head(out: &mut BytesMut, oid: u32, rows: usize) {
    let (dimensions, nulls, first) = (1, 1, 1);
    out.put_i32(dimensions);
    out.put_i32(nulls);
    out.put_u32(oid);
    out.put_i32(i32::try_from(rows).unwrap_or(i32::MAX));
    out.put_i32(first);
}

/// Values that are encoded one by one, as an array whose elements have this number in the catalogue; `None` is NULL.
pub(super) fn array<'v>(oid: u32, values: impl ExactSizeIterator<Item = Option<&'v [u8]>>) -> Column {
    let mut out = BytesMut::with_capacity(20 + 16 * values.len());
    head(&mut out, oid, values.len());
    for value in values {
        // A length stands before it; it is less than 0 for NULL.
        out.put_i32(value.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX)));
        out.put_slice(value.unwrap_or_default());
    }
    Column(out)
}

/// Turns so many encoded rows into an array for each column, whose elements have these numbers in the catalogue. Bytes
/// that are not whole rows of these columns end in arrays that are too short, which the server refuses.
pub(super) fn turn(elements: &[u32], rows: usize, mut encoded: Bytes) -> Vec<Column> {
    let each = 20 + encoded.len() / elements.len().max(1);
    let mut columns: Vec<Column> = elements.iter().map(|_| Column(BytesMut::with_capacity(each))).collect();
    for (column, oid) in columns.iter_mut().zip(elements) {
        head(&mut column.0, *oid, rows);
    }
    for _ in 0..rows {
        // How many fields there are is known.
        let mut whole = split(&mut encoded, 2).is_some();
        for column in &mut columns {
            let field = field(&mut encoded).filter(|_| whole);
            whole = field.is_some();
            column.0.put_slice(&field.unwrap_or_default());
        }
    }
    columns
}

/// The next field with its length; a length of -1 is NULL and has nothing behind it.
fn field(encoded: &mut Bytes) -> Option<Bytes> {
    let length = i32::from_be_bytes(encoded.get(..4)?.try_into().ok()?);
    split(encoded, 4 + usize::try_from(length).unwrap_or(0))
}

/// The first bytes, if there are so many.
fn split(bytes: &mut Bytes, at: usize) -> Option<Bytes> {
    (at <= bytes.len()).then(|| bytes.split_to(at))
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;
    use crate::domain::value::Cell;

    #[test]
    fn rows_become_columns_and_bytes_that_are_not_rows_become_short_ones() {
        let types = [ColumnType::Integer, ColumnType::Text];
        let mut out = BytesMut::new();
        encode::tuple(&mut out, &types, &[Cell::Int(7), Cell::Text("ab".into())]).unwrap();
        encode::tuple(&mut out, &types, &[Cell::Int(8), Cell::Null]).unwrap();
        let encoded = out.freeze();
        let oids = types.map(|ty| element(ty).unwrap().1);
        let columns = turn(&oids, 2, encoded.clone());
        let head = |oid: u8| [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, oid, 0, 0, 0, 2, 0, 0, 0, 1];
        assert_eq!(columns[0].0[..20], head(23));
        assert_eq!(columns[0].0[20..], [0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0, 8]);
        assert_eq!(columns[1].0[..20], head(25));
        assert_eq!(columns[1].0[20..], [0, 0, 0, 2, b'a', b'b', 255, 255, 255, 255]);
        let length = |columns: &[Column]| columns.iter().map(|c| c.0.len()).sum::<usize>();
        for wrong in [0..0, 0..1, 0..encoded.len() - 1] {
            let short = turn(&oids, 2, encoded.slice(wrong));
            assert!(short.len() == 2 && length(&short) < length(&columns));
        }
        assert_eq!(element(ColumnType::TextArray), None, "an array is no element of an array");
        let same = array(25, [Some(b"ab".as_slice()), None].into_iter());
        assert_eq!(same.0, columns[1].0, "value by value it is the same array");
    }
}
