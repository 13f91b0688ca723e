//! Binary values from the server to canonical cells.

use std::borrow::Cow;

use super::encode::{EPOCH_DAYS, EPOCH_MICROS, HEADER};
use super::numeric;
use crate::domain::mapping::canonical_json_text;
use crate::domain::plan::ColumnType;
use crate::domain::value::Cell;

/// Bytes that are not what the column's type promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// One value. SELECT lists cast every column to the plan's type, so the form is known.
pub(super) fn cell(ty: ColumnType, raw: Option<&[u8]>) -> Result<Cell<'_>, Unreadable> {
    use ColumnType as T;
    let Some(raw) = raw else { return Ok(Cell::Null) };
    Ok(match ty {
        T::Text | T::Varchar(_) | T::Native(_) => Cell::Text(Cow::Borrowed(text(raw)?)),
        T::Uuid => Cell::Uuid(raw.try_into().map_err(|_| Unreadable)?),
        T::Numeric(_) => Cell::Numeric(Cow::Owned(numeric::decode(raw).ok_or(Unreadable)?)),
        T::Smallint => Cell::Int(i16::from_be_bytes(fixed(raw)?).into()),
        T::Integer => Cell::Int(i32::from_be_bytes(fixed(raw)?).into()),
        T::Bigint => Cell::Int(i64::from_be_bytes(fixed(raw)?)),
        T::Double => Cell::Float(f64::from_be_bytes(fixed(raw)?)),
        T::Boolean => Cell::Bool(fixed::<1>(raw)? != [0]),
        // The ends of both ranges are the infinite ones, and stay what they are.
        T::Timestamptz => match i64::from_be_bytes(fixed(raw)?) {
            infinite @ (i64::MIN | i64::MAX) => Cell::Timestamp(infinite),
            // In the last days of the year 294276, counted from 1970, there are no more numbers.
            micros => match micros.checked_add(EPOCH_MICROS) {
                Some(micros) => Cell::Timestamp(micros),
                None => Cell::Other(Cow::Borrowed(raw)),
            },
        },
        T::Date => Cell::Date(match i32::from_be_bytes(fixed(raw)?) {
            infinite @ (i32::MIN | i32::MAX) => infinite,
            days => days.saturating_add(EPOCH_DAYS),
        }),
        T::Jsonb => match raw.split_first() {
            // Nested deeper than we read it, it is carried as it is.
            Some((1, body)) => match canonical_json_text(text(body)?) {
                Some(json) => Cell::Json(Cow::Owned(json)),
                None => Cell::Other(Cow::Borrowed(raw)),
            },
            _ => return Err(Unreadable),
        },
        T::TextArray => match text_array(raw) {
            Ok(items) => Cell::TextArray(items),
            Err(Unreadable) => other_array(raw)?,
        },
        T::Bytea => Cell::Bytes(Cow::Borrowed(raw)),
        T::Document => return Err(Unreadable),
    })
}

fn text(raw: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(raw).map_err(|_| Unreadable)
}

fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], Unreadable> {
    raw.try_into().map_err(|_| Unreadable)
}

fn text_array(mut raw: &[u8]) -> Result<Vec<Cow<'_, str>>, Unreadable> {
    let dimensions = word(&mut raw)?;
    word(&mut raw)?;
    word(&mut raw)?;
    match dimensions {
        0 => return Ok(Vec::new()),
        1 => {}
        _ => return Err(Unreadable),
    }
    let count = usize::try_from(word(&mut raw)?).map_err(|_| Unreadable)?;
    // Counted from elsewhere, it is another array.
    if word(&mut raw)? != 1 {
        return Err(Unreadable);
    }
    let mut items = Vec::with_capacity(count.min(raw.len()));
    for _ in 0..count {
        // Less than 0 for an element that is NULL.
        let length = usize::try_from(word(&mut raw)?).map_err(|_| Unreadable)?;
        let (item, rest) = raw.split_at_checked(length).ok_or(Unreadable)?;
        items.push(Cow::Borrowed(text(item)?));
        raw = rest;
    }
    Ok(items)
}

/// What a list of texts does not say: an element is NULL, or it has several dimensions, or does not count from 1.
/// The numbers of its element's type and whether one is NULL stand in its head, and are the same whatever wrote it.
fn other_array(raw: &[u8]) -> Result<Cell<'_>, Unreadable> {
    const TEXT: i32 = 25;
    let mut rest = raw;
    let dimensions = word(&mut rest)?;
    word(&mut rest)?;
    word(&mut rest)?;
    let mut count = 1_i64;
    let sizes = rest;
    for _ in 0..dimensions {
        count = count.saturating_mul(word(&mut rest)?.into());
        word(&mut rest)?;
    }
    let mut null = 0;
    for _ in 0..count {
        match word(&mut rest)? {
            -1 => null = 1,
            length => {
                let length = usize::try_from(length).map_err(|_| Unreadable)?;
                let (item, behind) = rest.split_at_checked(length).ok_or(Unreadable)?;
                text(item)?;
                rest = behind;
            }
        }
    }
    if !rest.is_empty() {
        return Err(Unreadable);
    }
    let head = [dimensions, null, TEXT].map(i32::to_be_bytes).concat();
    Ok(Cell::Other(Cow::Owned([head.as_slice(), sizes].concat())))
}

fn word(raw: &mut &[u8]) -> Result<i32, Unreadable> {
    let (head, rest) = raw.split_first_chunk::<4>().ok_or(Unreadable)?;
    *raw = rest;
    Ok(i32::from_be_bytes(*head))
}

/// The type in whose form values of a type are read: what limits a type says nothing of how its values are.
pub(super) const fn form(ty: ColumnType) -> ColumnType {
    match ty {
        ColumnType::Varchar(_) | ColumnType::Native(_) => ColumnType::Text,
        ColumnType::Numeric(_) => ColumnType::Numeric(None),
        other => other,
    }
}

/// Reads one row in the form our encoder writes it. Bytes that are not one are not shown.
pub(super) fn tuple(raw: &[u8], types: &[ColumnType], each: &mut dyn FnMut(&[Cell<'_>])) {
    let _ = tuples(raw, types, each);
}

/// Reads rows in the form our encoder writes them, without what stands before and behind them.
///
/// # Errors
/// A value is not in the form of its type; the rows before it were shown.
pub(super) fn tuples(raw: &[u8], types: &[ColumnType], each: &mut dyn FnMut(&[Cell<'_>])) -> Result<(), Unreadable> {
    RowReader { started: true, ..RowReader::default() }.feed(raw, types, each)
}

/// Splits a binary COPY stream into rows, whatever the size of the pieces it arrives in.
#[derive(Debug, Default)]
pub(super) struct RowReader {
    started: bool,
    ended: bool,
    carry: Vec<u8>,
}

impl RowReader {
    /// Takes one piece and hands every whole row in it to `each`.
    pub(super) fn feed(
        &mut self,
        piece: &[u8],
        types: &[ColumnType],
        each: &mut dyn FnMut(&[Cell<'_>]),
    ) -> Result<(), Unreadable> {
        if self.carry.is_empty() {
            let rest = self.rows(piece, types, each)?;
            self.carry.extend_from_slice(rest);
        } else {
            let mut all = std::mem::take(&mut self.carry);
            all.extend_from_slice(piece);
            let rest = self.rows(&all, types, each)?;
            self.carry.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Whether the stream came to its own end with nothing left over.
    pub(super) fn complete(&self) -> bool {
        self.ended && self.carry.is_empty()
    }

    fn rows<'p>(
        &mut self,
        mut raw: &'p [u8],
        types: &[ColumnType],
        each: &mut dyn FnMut(&[Cell<'_>]),
    ) -> Result<&'p [u8], Unreadable> {
        if !self.started {
            if raw.len() < HEADER.len() {
                return Ok(raw);
            }
            if raw[..11] != HEADER[..11] {
                return Err(Unreadable);
            }
            raw = &raw[HEADER.len()..];
            self.started = true;
        }
        let mut cells = Vec::with_capacity(types.len());
        while !self.ended {
            let Some((count, mut rest)) = raw.split_first_chunk::<2>() else { break };
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                self.ended = true;
                raw = rest;
                break;
            }
            if usize::try_from(count) != Ok(types.len()) {
                return Err(Unreadable);
            }
            let mut whole = true;
            for ty in types {
                let Some((length, tail)) = rest.split_first_chunk::<4>() else {
                    whole = false;
                    break;
                };
                let length = i32::from_be_bytes(*length);
                if length == -1 {
                    cells.push(Cell::Null);
                    rest = tail;
                    continue;
                }
                let Some((value, tail)) = tail.split_at_checked(usize::try_from(length).map_err(|_| Unreadable)?)
                else {
                    whole = false;
                    break;
                };
                cells.push(cell(*ty, Some(value))?);
                rest = tail;
            }
            if !whole {
                break;
            }
            each(&cells);
            cells.clear();
            raw = rest;
        }
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::adapters::postgres::encode::{self, TRAILER};

    #[test]
    fn rows_come_out_whole_however_the_stream_is_cut() {
        let types = [ColumnType::Text, ColumnType::Integer, ColumnType::TextArray, ColumnType::Numeric(None)];
        let rows = [
            vec![
                Cell::Text("a|é".into()),
                Cell::Int(-7),
                Cell::TextArray(vec!["x".into(), "".into()]),
                Cell::Numeric("1.25".into()),
            ],
            vec![Cell::Null, Cell::Null, Cell::TextArray(vec![]), Cell::Numeric("-30000".into())],
        ];
        let mut wire = BytesMut::from(&HEADER[..]);
        for row in &rows {
            encode::tuple(&mut wire, &types, row).unwrap();
        }
        wire.extend_from_slice(&TRAILER);
        for size in 1..wire.len() {
            let mut reader = RowReader::default();
            let mut seen: Vec<Vec<Cell<'static>>> = Vec::new();
            for piece in wire.chunks(size) {
                reader
                    .feed(piece, &types, &mut |r| seen.push(r.iter().cloned().map(Cell::into_owned).collect()))
                    .unwrap();
            }
            assert!(reader.complete());
            assert_eq!(seen, rows);
        }
        let mut reader = RowReader::default();
        reader.feed(&wire[..wire.len() - 3], &types, &mut |_| {}).unwrap();
        assert!(!reader.complete());
    }

    #[test]
    fn a_row_that_does_not_fit_leaves_the_buffer_as_it_was() {
        let mut out = BytesMut::from(&b"kept"[..]);
        let types = [ColumnType::Text, ColumnType::Smallint];
        assert_eq!(encode::tuple(&mut out, &types, &[Cell::Text("a".into()), Cell::Int(70_000)]), Err(1));
        assert_eq!(encode::tuple(&mut out, &types, &[Cell::Int(1), Cell::Int(1)]), Err(0));
        assert_eq!(encode::tuple(&mut out, &types, &[Cell::Null]), Err(1));
        assert_eq!(&out[..], b"kept");
    }
}
