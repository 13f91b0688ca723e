//! Rows on their way in, encoded as they come. Kept in the form that goes on the wire, with marks where each
//! row ends, so that any run of rows can be sent again without owning them one by one.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::decode;
use super::encode;
use super::shape::Shape;
use crate::domain::mapping::{RowError, RowErrorReason};
use crate::domain::value::{Cell, Key};

/// The buffer of one main table and its children.
#[derive(Debug)]
pub(super) struct RowBuffer {
    /// Encoded rows: the main table's, then each child's.
    tables: Vec<BytesMut>,
    /// Keys and their JSON, one after the other.
    keys: String,
    /// Where each row ends: in every table, then its key and its JSON in `keys`.
    marks: Vec<usize>,
}

/// The same, ready to be sent: shared bytes, so a run of rows is a slice.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    tables: Vec<Bytes>,
    keys: String,
    marks: Vec<usize>,
}

impl RowBuffer {
    /// An empty buffer for a table with so many children.
    pub(super) fn new(children: usize) -> Self {
        Self { tables: vec![BytesMut::new(); children + 1], keys: String::new(), marks: Vec::new() }
    }

    /// Adds a row. A value that the columns cannot hold is a row error and leaves the buffer as it was.
    pub(super) fn push<'r, 'c: 'r>(
        &mut self,
        shape: &Shape,
        key: &str,
        key_json: &str,
        row: &[Cell<'c>],
        children: impl ExactSizeIterator<Item = &'r [Vec<Cell<'c>>]>,
    ) -> Result<(), RowError> {
        let stride = self.tables.len() + 2;
        let before = self.marks.len();
        let pushed = self.encode(shape, row, children);
        if let Err(row_error) = pushed {
            for (i, table) in self.tables.iter_mut().enumerate() {
                table.truncate(if before == 0 { 0 } else { self.marks[before - stride + i] });
            }
            return Err(row_error);
        }
        self.marks.extend(self.tables.iter().map(BytesMut::len));
        self.keys.push_str(key);
        self.marks.push(self.keys.len());
        self.keys.push_str(key_json);
        self.marks.push(self.keys.len());
        Ok(())
    }

    /// Adds rows of a table without children that are encoded already, with where each of them ends. Their keys stay empty:
    /// the rows themselves have them.
    pub(super) fn push_encoded(&mut self, rows: &[u8], ends: &[usize]) {
        let Some(main) = self.tables.first_mut() else { return };
        let begin = main.len();
        main.extend_from_slice(rows);
        self.marks.reserve(ends.len() * 3);
        for end in ends {
            self.marks.extend([begin + end, self.keys.len(), self.keys.len()]);
        }
    }

    fn encode<'r, 'c: 'r>(
        &mut self,
        shape: &Shape,
        row: &[Cell<'c>],
        children: impl ExactSizeIterator<Item = &'r [Vec<Cell<'c>>]>,
    ) -> Result<(), RowError> {
        let row_error = |column: String| RowError::new(column, RowErrorReason::WrongType);
        let Some((main, rest)) = self.tables.split_first_mut() else { return Err(row_error("-".into())) };
        encode::tuple(main, &shape.main.types, row).map_err(|i| row_error(shape.main.column(i)))?;
        if children.len() > shape.children.len() {
            return Err(row_error("-".into()));
        }
        for ((table, part), rows) in rest.iter_mut().zip(&shape.children).zip(children) {
            for row in rows {
                encode::tuple(table, &part.types, row)
                    .map_err(|i| row_error(format!("{}.{}", part.name, part.column(i))))?;
            }
        }
        Ok(())
    }

    /// Bytes waiting.
    pub(super) fn bytes(&self) -> usize {
        self.tables.iter().map(BytesMut::len).sum::<usize>() + self.keys.len()
    }

    /// Takes everything out, ready to be sent. The buffer keeps its memory.
    pub(super) fn take(&mut self) -> Rows {
        Rows {
            tables: self.tables.iter_mut().map(|t| t.split().freeze()).collect(),
            keys: std::mem::take(&mut self.keys),
            marks: std::mem::take(&mut self.marks),
        }
    }

    /// Puts back what could not be sent, to try again.
    pub(super) fn restore(&mut self, rows: Rows) {
        self.tables =
            rows.tables.into_iter().map(|b| b.try_into_mut().unwrap_or_else(|b| BytesMut::from(&b[..]))).collect();
        self.keys = rows.keys;
        self.marks = rows.marks;
    }

    /// Gives the memory of sent rows back to the buffer.
    pub(super) fn reuse(&mut self, rows: Rows) {
        for (table, sent) in self.tables.iter_mut().zip(rows.tables) {
            let capacity = sent.len();
            drop(sent);
            // The bytes were shared with this buffer; now that they are gone the buffer has its memory again.
            table.reserve(capacity);
        }
        self.keys = rows.keys;
        self.keys.clear();
        self.marks = rows.marks;
        self.marks.clear();
    }
}

impl Rows {
    /// How many.
    pub(super) fn len(&self) -> usize {
        self.marks.len() / self.stride()
    }

    fn stride(&self) -> usize {
        self.tables.len() + 2
    }

    fn mark(&self, row: usize, what: usize) -> usize {
        self.marks.get(row * self.stride() + what).copied().unwrap_or(0)
    }

    /// Encoded rows of a table (0 is the main one) that belong to a run of rows.
    pub(super) fn slice(&self, table: usize, rows: &Range<usize>) -> Bytes {
        let start = if rows.start == 0 { 0 } else { self.mark(rows.start - 1, table) };
        let end = if rows.end == 0 { 0 } else { self.mark(rows.end - 1, table) };
        self.tables[table].slice(start..end)
    }

    /// A row's key and its JSON.
    pub(super) fn key(&self, row: usize) -> (Key, &str) {
        let json_at = self.stride() - 1;
        let start = if row == 0 { 0 } else { self.mark(row - 1, json_at) };
        let middle = self.mark(row, json_at - 1);
        let end = self.mark(row, json_at);
        (Key(self.keys[start..middle].to_owned()), &self.keys[middle..end])
    }

    /// The key cells of a row, read back from its encoded form.
    pub(super) fn key_cells(&self, shape: &Shape, row: usize) -> Vec<Cell<'static>> {
        let raw = self.slice(0, &(row..row + 1));
        let mut key = Vec::new();
        decode::tuple(&raw, &shape.main.types, &mut |cells| {
            key = shape.key_of(cells).cloned().map(Cell::into_owned).collect();
        });
        key
    }
}
