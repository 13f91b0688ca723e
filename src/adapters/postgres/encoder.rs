//! What can be said of a row before the database is asked: whether its columns hold it in their binary form, and how
//! large it is. What unique, foreign key and check constraints, triggers and types that only the database knows say of it,
//! only the database can tell.

use super::rows::RowBuffer;
use super::shape::Shape;
use crate::domain::mapping::{Mapped, RowError, RowSize};
use crate::ports::RowEncoder;

/// What a row takes up on a page beside its values: its place in the page's list, its head, and rounding.
const ROW_HEAD: u64 = 4 + 24 + 4;
/// What binary `COPY` sends for a row, and for each of its values, beside the values.
const SENT_ROW: u64 = 2;
const SENT_VALUE: u64 = 4;

/// Encodes rows of one table and its child tables.
pub(super) struct CopyEncoder {
    shape: Shape,
    buffer: RowBuffer,
}

impl CopyEncoder {
    pub(super) fn new(shape: Shape) -> Self {
        let buffer = RowBuffer::new(shape.children.len());
        Self { shape, buffer }
    }
}

impl RowEncoder for CopyEncoder {
    fn encode(&mut self, mapped: &Mapped<'_>) -> Result<RowSize, RowError> {
        self.buffer.push(&self.shape, "", "", &mapped.row, mapped.children.iter().map(Vec::as_slice))?;
        let sent = self.buffer.bytes() as u64;
        let rows = self.buffer.take();
        self.buffer.reuse(rows);
        let main = (1, self.shape.main.types.len() as u64);
        let children = mapped.children.iter().zip(&self.shape.children);
        let all = children.map(|(rows, part)| (rows.len() as u64, part.types.len() as u64)).chain([main]);
        let stored = all.fold(sent, |stored, (rows, columns)| {
            stored.saturating_sub(rows * (SENT_ROW + SENT_VALUE * columns)) + rows * ROW_HEAD
        });
        Ok(RowSize { sent, stored })
    }
}
