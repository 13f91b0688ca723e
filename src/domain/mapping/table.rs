//! The compiled mapping of one table.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::back::document;
use super::convert::{Format, convert, literal};
use super::json::push_json_text;
use super::numeric::{by_value, canonical};
use super::{RowError, RowErrorReason, typed};
use super::{key, key_cell};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Fallback, Table};
use crate::domain::value::{Cell, Key, Record, Value};

/// One item, mapped: the main row and its child rows, borrowing from the page the item came in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mapped<'a> {
    /// The row's key as text.
    pub key: String,
    /// The key attributes as compact JSON, DynamoDB form: `{"bookId":{"S":"…"}}`.
    pub key_json: String,
    /// Cells in the plan's column order.
    pub row: Vec<Cell<'a>>,
    /// Child rows, one entry per child table in the plan's order.
    pub children: Vec<ChildRows<'a>>,
}

/// Rows of one child table.
pub type ChildRows<'a> = Vec<Vec<Cell<'a>>>;

/// A table's mapping, compiled once.
#[derive(Clone, Debug)]
pub struct TableMapping {
    key: Vec<String>,
    marker_prefix: String,
    columns: Vec<Compiled>,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
struct Compiled {
    name: String,
    /// Its place among its table's columns, where a record of columns most likely has its value.
    place: usize,
    format: Format,
    from: From,
    absent: Absent,
    key: bool,
    /// Whether this column distinguishes one key of the source from all others: then its values must have an exact
    /// inverse.
    tells_keys_apart: bool,
}

#[derive(Clone, Debug)]
enum From {
    Path { first: String, rest: Vec<String>, in_key: bool },
    Constant(Result<Cell<'static>, RowErrorReason>),
    Parent(String),
    Ordinal,
    Element,
    Whole,
}

#[derive(Clone, Debug)]
enum Absent {
    Cell(Cell<'static>),
    RowError(RowErrorReason),
}

#[derive(Clone, Debug)]
struct Child {
    target: String,
    list: Vec<String>,
    columns: Vec<Compiled>,
}

/// What a column's value is taken from.
struct Scope<'s, 'p> {
    item: &'s Record<'p>,
    /// The list element and its place, in a child table.
    element: Option<(&'s Value<'p>, usize)>,
}

impl TableMapping {
    /// Compiles the mapping of a linted table. A literal that does not convert becomes a row error of the rows
    /// that need it; the plan's lint refuses such literals.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        let compile =
            |columns: &[Column]| columns.iter().enumerate().map(|(n, c)| Compiled::new(n, c, &table.key)).collect();
        let mut columns: Vec<Compiled> = compile(&table.columns);
        // The first one of each attribute, which is the one the inverse reads.
        for attribute in &table.key {
            let whole =
                |from: &From| matches!(from, From::Path { first, rest, .. } if first == attribute && rest.is_empty());
            if let Some(column) = columns.iter_mut().find(|c| c.key && whole(&c.from)) {
                column.tells_keys_apart = true;
            }
        }
        Self {
            key: table.key.clone(),
            marker_prefix: table.marker_prefix.clone(),
            columns,
            children: table
                .children
                .iter()
                .map(|c| Child { target: c.target.clone(), list: c.list.clone(), columns: compile(&c.columns) })
                .collect(),
        }
    }

    /// Key columns of which some source values have no exact inverse.
    pub fn has_spellings(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|c| c.tells_keys_apart && key::has_spellings(c.format.ty)).map(|c| c.name.as_str())
    }

    /// The attribute whose value tells markers, and how it begins; nothing where there are none.
    pub(super) fn marker_key(&self) -> Option<(&str, &str)> {
        let prefix = Some(self.marker_prefix.as_str()).filter(|prefix| !prefix.is_empty())?;
        Some((self.key.first()?, prefix))
    }

    /// The item's key as text and as JSON, for the ledger. Missing key attributes are a row error.
    pub fn key(&self, item: &Record<'_>) -> Result<(Key, String), RowError> {
        let (mut text, mut json) = (String::new(), String::new());
        self.write_key(item, &mut text, &mut json)?;
        Ok((Key(text), json))
    }

    /// Cells of the target's primary key columns, in column order, from an item that holds at least the key.
    ///
    /// A key whose inverse is not the key as it was written has no row: the row its cells would find is another key's.
    ///
    /// A key column that is not made of source key attributes cannot be known from a key alone: when its attribute is
    /// absent that is a row error even if the plan has a fallback, because the fallback may be another row's key.
    pub fn row_key(&self, key: &Record<'_>) -> Result<Vec<Cell<'static>>, RowError> {
        let scope = Scope { item: key, element: None };
        let mut cells = Vec::with_capacity(2);
        for column in self.columns.iter().filter(|c| c.key) {
            if let From::Path { first, in_key: false, .. } = &column.from
                && key.get(first).is_none()
            {
                return Err(row_error(None, &column.name, RowErrorReason::Missing));
            }
            let cell = column.cell(&scope).map_err(|reason| row_error(None, &column.name, reason))?;
            cells.push(cell.into_owned());
        }
        Ok(cells)
    }

    /// Maps one item. `out` is reused from item to item: cleared first, capacity kept. When a column does
    /// not fit, `out.key` and `out.key_json` still hold the item's key.
    ///
    /// Cells borrow from the page, not from the item, so the item may be reused at once.
    pub fn map<'p>(&'p self, item: &Record<'p>, out: &mut Mapped<'p>) -> Result<(), RowError> {
        out.key.clear();
        out.key_json.clear();
        out.row.clear();
        out.children.iter_mut().for_each(Vec::clear);
        self.write_key(item, &mut out.key, &mut out.key_json)?;
        let scope = Scope { item, element: None };
        for column in &self.columns {
            out.row.push(column.cell(&scope).map_err(|reason| row_error(None, &column.name, reason))?);
        }
        out.children.resize_with(self.children.len(), Vec::new);
        for (child, rows) in self.children.iter().zip(&mut out.children) {
            child.rows(item, rows)?;
        }
        Ok(())
    }

    fn write_key(&self, item: &Record<'_>, text: &mut String, json: &mut String) -> Result<(), RowError> {
        let composite = self.key.len() > 1;
        json.push('{');
        for (i, name) in self.key.iter().enumerate() {
            if i > 0 {
                text.push('|');
                json.push(',');
            }
            push_json_text(json, name);
            json.push(':');
            let value = item.get(name).ok_or_else(|| row_error(None, name, RowErrorReason::Missing))?;
            // A key is stored as a document would say it, whatever kind of source it is of.
            let said = match value {
                Value::Cell(cell) => match document(cell) {
                    Ok(said) => Some(said),
                    Err(reason) => {
                        key_cell::push(cell, text, json).ok_or_else(|| row_error(None, name, reason))?;
                        continue;
                    }
                },
                _ => None,
            };
            let value = said.as_ref().unwrap_or(value);
            json.push_str("{\"");
            json.push_str(value.kind());
            json.push_str("\":");
            match value {
                Value::Text(s) => {
                    push_key_part(text, s, composite);
                    push_json_text(json, s);
                }
                Value::Decimal(n) => {
                    let number = canonical(n).ok_or_else(|| row_error(None, name, RowErrorReason::Unparsable))?;
                    text.push_str(&number);
                    push_json_text(json, n);
                }
                Value::Bytes(b) => {
                    let encoded = STANDARD.encode(b);
                    text.push_str(&encoded);
                    push_json_text(json, &encoded);
                }
                Value::Bool(b) => {
                    let said = if *b { "true" } else { "false" };
                    text.push_str(said);
                    push_json_text(json, said);
                }
                Value::Null => return Err(row_error(None, name, RowErrorReason::Missing)),
                Value::List(_)
                | Value::Map(_)
                | Value::TextSet(_)
                | Value::DecimalSet(_)
                | Value::BytesSet(_)
                | Value::Cell(_) => return Err(row_error(None, name, RowErrorReason::WrongType)),
            }
            json.push('}');
        }
        json.push('}');
        Ok(())
    }
}

/// Appends a text part of a key so that two different keys never read the same: the separator inside a part
/// and a NUL, which the ledger could not store, are escaped by a backslash.
fn push_key_part(out: &mut String, part: &str, composite: bool) {
    if !part.bytes().any(|b| matches!(b, b'\\' | 0 | b'|')) {
        out.push_str(part);
        return;
    }
    for c in part.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '|' if composite => out.push_str("\\|"),
            c => out.push(c),
        }
    }
}

impl Compiled {
    fn new(place: usize, column: &Column, key: &[String]) -> Self {
        let format = Format::of(column);
        let from = match &column.from {
            ColumnSource::Attribute(path) => {
                let (first, rest) = path.split_first().map_or((String::new(), &[][..]), |(f, r)| (f.clone(), r));
                let in_key = key.contains(&first);
                From::Path { first, rest: rest.to_vec(), in_key }
            }
            ColumnSource::Constant(text) => From::Constant(literal(format, text)),
            ColumnSource::Parent(name) => From::Parent(name.clone()),
            ColumnSource::Ordinal => From::Ordinal,
            ColumnSource::Element => From::Element,
            ColumnSource::Whole => From::Whole,
        };
        let absent = match &column.absent {
            Fallback::Null => Absent::Cell(Cell::Null),
            Fallback::Literal(text) => literal(format, text).map_or_else(Absent::RowError, Absent::Cell),
            Fallback::Required => Absent::RowError(RowErrorReason::Missing),
        };
        Self { name: column.name.clone(), place, format, from, absent, key: column.key, tells_keys_apart: false }
    }

    fn cell<'p>(&'p self, scope: &Scope<'_, 'p>) -> Result<Cell<'p>, RowErrorReason> {
        let attr = match &self.from {
            From::Path { first, rest, .. } => match scope.element {
                None => walk(scope.item.get_at(self.place, first), rest)?,
                Some((element, _)) => walk(field(element, first)?, rest)?,
            },
            From::Constant(cell) => return cell.as_ref().map(borrow).map_err(|reason| *reason),
            From::Parent(name) => scope.item.get(name),
            From::Ordinal => {
                let place = scope.element.map_or(0, |(_, place)| place).to_string();
                return convert(self.format, &Value::Decimal(Cow::Owned(place)));
            }
            From::Element => scope.element.map(|(element, _)| element),
            // A child row is no record of its own, and no other type holds a record.
            From::Whole if scope.element.is_some() || self.format.ty != ColumnType::Document => {
                return Err(RowErrorReason::WrongType);
            }
            From::Whole => return typed::record(scope.item).map(|text| Cell::Json(Cow::Owned(text))),
        };
        match attr {
            None | Some(Value::Null) => match &self.absent {
                Absent::Cell(cell) => Ok(borrow(cell)),
                Absent::RowError(reason) => Err(*reason),
            },
            Some(attr) => {
                let cell = convert(self.format, attr)?;
                // The key of every row is checked here: in load, follow, comparison, repair and retry.
                if self.tells_keys_apart && !key::comes_back(self.format, attr, &cell) {
                    return Err(RowErrorReason::KeyForm);
                }
                Ok(cell)
            }
        }
    }
}

impl Child {
    fn rows<'p>(&'p self, item: &Record<'p>, rows: &mut ChildRows<'p>) -> Result<(), RowError> {
        let whole = |reason| row_error(Some(self), "-", reason);
        let list = match self.list.split_first() {
            Some((first, rest)) => walk(item.get(first), rest).map_err(whole)?,
            None => None,
        };
        match list {
            None | Some(Value::Null) => Ok(()),
            Some(Value::List(items)) => {
                items.iter().enumerate().try_for_each(|(place, element)| self.row(item, element, place, rows))
            }
            // A set has no order of its own; sorted, its ordinals are the same on every reading.
            Some(Value::TextSet(set)) => {
                let mut sorted = set.clone();
                sorted.sort_unstable();
                self.set(item, sorted, Value::Text, rows)
            }
            Some(Value::DecimalSet(set)) => {
                let mut sorted = set.clone();
                sorted.sort_unstable_by(|a, b| match (canonical(a), canonical(b)) {
                    (Some(a), Some(b)) => by_value(&a, &b),
                    (a, b) => a.cmp(&b),
                });
                self.set(item, sorted, Value::Decimal, rows)
            }
            Some(_) => Err(whole(RowErrorReason::WrongType)),
        }
    }

    fn set<'p>(
        &'p self,
        item: &Record<'p>,
        values: Vec<Cow<'p, str>>,
        attr: fn(Cow<'p, str>) -> Value<'p>,
        rows: &mut ChildRows<'p>,
    ) -> Result<(), RowError> {
        values.into_iter().enumerate().try_for_each(|(place, value)| self.row(item, &attr(value), place, rows))
    }

    fn row<'p>(
        &'p self,
        item: &Record<'p>,
        element: &Value<'p>,
        place: usize,
        rows: &mut ChildRows<'p>,
    ) -> Result<(), RowError> {
        let scope = Scope { item, element: Some((element, place)) };
        let cells = self
            .columns
            .iter()
            .map(|column| column.cell(&scope).map_err(|reason| row_error(Some(self), &column.name, reason)))
            .collect::<Result<_, _>>()?;
        rows.push(cells);
        Ok(())
    }
}

/// The attribute at the end of a path; a step through something that is not a map does not convert.
pub(super) fn walk<'s, 'p>(
    start: Option<&'s Value<'p>>,
    rest: &[String],
) -> Result<Option<&'s Value<'p>>, RowErrorReason> {
    let mut here = start;
    for name in rest {
        match here {
            None => return Ok(None),
            Some(attr) => here = field(attr, name)?,
        }
    }
    Ok(here)
}

fn field<'s, 'p>(attr: &'s Value<'p>, name: &str) -> Result<Option<&'s Value<'p>>, RowErrorReason> {
    match attr {
        Value::Map(entries) => Ok(entries.iter().find(|(n, _)| n == name).map(|(_, v)| v)),
        Value::Null => Ok(None),
        _ => Err(RowErrorReason::WrongType),
    }
}

/// A cell of the mapping's own, lent to a row.
fn borrow<'m>(cell: &'m Cell<'static>) -> Cell<'m> {
    match cell {
        Cell::Text(s) => Cell::Text(Cow::Borrowed(s)),
        Cell::Numeric(s) => Cell::Numeric(Cow::Borrowed(s)),
        Cell::Json(s) => Cell::Json(Cow::Borrowed(s)),
        Cell::Bytes(b) => Cell::Bytes(Cow::Borrowed(b)),
        other => other.clone(),
    }
}

fn column_name(child: Option<&Child>, column: &str) -> String {
    child.map_or_else(|| column.to_owned(), |c| format!("{}.{column}", c.target))
}

fn row_error(child: Option<&Child>, column: &str, reason: RowErrorReason) -> RowError {
    RowError::new(column_name(child, column), reason)
}

#[cfg(test)]
mod tests;
