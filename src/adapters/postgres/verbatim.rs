//! Rows that are taken as another database wrote them: where each column of the plan is a column of the source, under
//! the same name and of the same type, decoding and encoding a row gives the very bytes it came in.

use super::decode::{self, form};
use crate::domain::mapping::TableMapping;
use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, Table};
use crate::domain::value::{Cell, Key, Record, Value};

/// A table whose rows can be taken as they are.
pub(super) struct Verbatim {
    names: Vec<String>,
    types: Vec<ColumnType>,
    /// What the type of each column cuts off without a word where it is more.
    limits: Vec<Limit>,
    mapping: TableMapping,
}

/// What a column takes without changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Any,
    /// Bytes: no text of so many has more characters.
    Bytes(usize),
    /// Digits behind the point, as the binary form of `numeric` counts them.
    Scale(u16),
}

impl Limit {
    fn of(ty: ColumnType) -> Self {
        match ty {
            // Spaces past the limit are cut off.
            ColumnType::Varchar(length) => Self::Bytes(length as usize),
            // Digits past the limit are rounded away.
            ColumnType::Numeric(Some((_, scale))) => Self::Scale(scale),
            ColumnType::Numeric(None)
            | ColumnType::Text
            | ColumnType::Uuid
            | ColumnType::Smallint
            | ColumnType::Integer
            | ColumnType::Bigint
            | ColumnType::Double
            | ColumnType::Boolean
            | ColumnType::Timestamptz
            | ColumnType::Date
            | ColumnType::Jsonb
            | ColumnType::TextArray
            | ColumnType::Bytea
            | ColumnType::Native(_)
            | ColumnType::Document => Self::Any,
        }
    }

    fn takes(self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Bytes(most) => value.len() <= most,
            // Digits, weight and sign stand before it, two bytes each.
            Self::Scale(most) => value.get(6..8).is_some_and(|scale| u16::from_be_bytes([scale[0], scale[1]]) <= most),
        }
    }
}

impl Verbatim {
    /// `None` for a table of which something is mapped.
    pub(super) fn of(table: &Table) -> Option<Self> {
        let same = |column: &Column| {
            let from = matches!(&column.from, ColumnSource::Attribute(path) if path.len() == 1);
            // What is NULL is not replaced, nor refused; a key is never NULL.
            let absent = column.key || column.absent == Fallback::Null;
            let known = !column.ty.is_native() && column.ty != ColumnType::Document;
            from && absent && known && column.declared == Declared::default()
        };
        if !table.children.is_empty() || !table.columns.iter().all(same) {
            return None;
        }
        let name = |column: &Column| match &column.from {
            ColumnSource::Attribute(path) => path.first().cloned(),
            ColumnSource::Constant(_)
            | ColumnSource::Parent(_)
            | ColumnSource::Ordinal
            | ColumnSource::Element
            | ColumnSource::Whole => None,
        };
        let names = table.columns.iter().map(name).collect::<Option<_>>()?;
        let types: Vec<ColumnType> = table.columns.iter().map(|column| column.ty).collect();
        let limits = types.iter().map(|ty| Limit::of(*ty)).collect();
        Some(Self { names, types, limits, mapping: TableMapping::new(table) })
    }

    /// Whether rows of these columns are the rows of this table.
    pub(super) fn fits(&self, columns: &[(&str, ColumnType)]) -> bool {
        let own = self.names.iter().zip(&self.types);
        columns.len() == self.names.len()
            && own.zip(columns).all(|((name, ty), (other, read))| name == other && form(*ty) == form(*read))
    }

    /// Whether no column would change any value of these rows.
    pub(super) fn takes(&self, mut tuples: &[u8]) -> bool {
        if self.limits.iter().all(|limit| *limit == Limit::Any) {
            return true;
        }
        while !tuples.is_empty() {
            let Some((_, rest)) = tuples.split_first_chunk::<2>() else { return false };
            tuples = rest;
            for limit in &self.limits {
                let Some((length, rest)) = tuples.split_first_chunk::<4>() else { return false };
                tuples = rest;
                // Less than 0 for NULL.
                let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else { continue };
                let Some((value, rest)) = tuples.split_at_checked(length) else { return false };
                tuples = rest;
                if !limit.takes(value) {
                    return false;
                }
            }
        }
        true
    }

    /// Hands on every row, in order, and gives how many; `None` when a value is not in the form of its type. Rows before
    /// it were handed on.
    pub(super) fn rows(&self, tuples: &[u8], each: &mut dyn FnMut(&[Cell<'_>])) -> Option<usize> {
        let mut read = 0;
        let all = decode::tuples(tuples, &self.types, &mut |cells| {
            read += 1;
            each(cells);
        });
        all.ok().map(|()| read)
    }

    /// The key of a row, and its JSON.
    pub(super) fn key(&self, tuple: &[u8]) -> (Key, String) {
        let mut key = None;
        decode::tuple(tuple, &self.types, &mut |cells| {
            let fields = self.names.iter().cloned().map(Into::into);
            let fields = fields.zip(cells.iter().cloned().map(Value::from)).collect();
            key = self.mapping.key(&Record { fields }).ok();
        });
        // A key column is never NULL, and every value of a column has a text.
        key.unwrap_or_else(|| (Key("?".to_owned()), "{}".to_owned()))
    }
}
