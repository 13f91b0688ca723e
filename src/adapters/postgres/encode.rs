//! Cells to `COPY … (FORMAT binary)`: our own encoder, straight into the buffer that goes on the wire.

use bytes::{BufMut, Bytes, BytesMut};

use super::numeric;
use crate::domain::plan::ColumnType;
use crate::domain::value::Cell;

/// What a binary COPY begins with: signature, flags, no extension.
pub(super) const HEADER: Bytes = Bytes::from_static(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
/// What it ends with.
pub(super) const TRAILER: Bytes = Bytes::from_static(b"\xff\xff");

/// Microseconds from the Unix epoch to 2000-01-01, where PostgreSQL counts from.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The same in days.
pub(super) const EPOCH_DAYS: i32 = 10_957;
const TEXT_OID: u32 = 25;

/// Appends one row. On failure nothing is appended and the place of the column that does not fit is given.
pub(super) fn tuple(out: &mut BytesMut, types: &[ColumnType], cells: &[Cell<'_>]) -> Result<(), usize> {
    let start = out.len();
    if types.len() != cells.len() {
        return Err(types.len().min(cells.len()));
    }
    out.put_i16(i16::try_from(types.len()).map_err(|_| 0usize)?);
    for (i, (ty, cell)) in types.iter().zip(cells).enumerate() {
        if field(out, *ty, cell).is_none() {
            out.truncate(start);
            return Err(i);
        }
    }
    Ok(())
}

/// Appends one value behind its length; `None` for one that does not fit its type, with nothing usable appended.
pub(super) fn field(out: &mut BytesMut, ty: ColumnType, cell: &Cell<'_>) -> Option<()> {
    use ColumnType as T;
    if matches!(cell, Cell::Null) {
        out.put_i32(-1);
        return Some(());
    }
    let at = out.len();
    out.put_i32(0);
    match (ty, cell) {
        (T::Text | T::Varchar(_) | T::Native(_), Cell::Text(s)) => out.put_slice(s.as_bytes()),
        (T::Uuid, Cell::Uuid(u)) => out.put_slice(u),
        (T::Numeric(_), Cell::Numeric(n)) => numeric::encode(out, n)?,
        (T::Smallint, Cell::Int(i)) => out.put_i16(i16::try_from(*i).ok()?),
        (T::Integer, Cell::Int(i)) => out.put_i32(i32::try_from(*i).ok()?),
        (T::Bigint, Cell::Int(i)) => out.put_i64(*i),
        (T::Double, Cell::Float(x)) => out.put_f64(*x),
        (T::Boolean, Cell::Bool(b)) => out.put_u8(u8::from(*b)),
        (T::TextArray | T::Jsonb | T::Timestamptz, Cell::Other(raw)) => out.put_slice(raw),
        // The ends of both ranges are the infinite ones.
        (T::Timestamptz, Cell::Timestamp(t @ (i64::MIN | i64::MAX))) => out.put_i64(*t),
        (T::Date, Cell::Date(d @ (i32::MIN | i32::MAX))) => out.put_i32(*d),
        (T::Timestamptz, Cell::Timestamp(t)) => out.put_i64(t.checked_sub(EPOCH_MICROS)?),
        (T::Date, Cell::Date(d)) => out.put_i32(d.checked_sub(EPOCH_DAYS)?),
        (T::Jsonb, Cell::Json(j)) => {
            out.put_u8(1);
            out.put_slice(j.as_bytes());
        }
        (T::TextArray, Cell::TextArray(items)) => {
            out.put_i32(i32::from(!items.is_empty()));
            out.put_i32(0);
            out.put_u32(TEXT_OID);
            if !items.is_empty() {
                out.put_i32(i32::try_from(items.len()).ok()?);
                out.put_i32(1);
            }
            for item in items {
                out.put_i32(i32::try_from(item.len()).ok()?);
                out.put_slice(item.as_bytes());
            }
        }
        (T::Bytea, Cell::Bytes(b)) => out.put_slice(b),
        _ => return None,
    }
    let length = i32::try_from(out.len() - at - 4).ok()?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Some(())
}
