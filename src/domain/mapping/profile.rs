//! What the records of a table would become: how many values of each column fit, which are changed on the way and which
//! would park their row, what nothing reads, and how large rows become. Holds keys and counts, never a value.

use std::collections::BTreeMap;

use serde::Serialize;

use super::convert::{Format, convert};
use super::duplicates::Duplicates;
use super::key;
use super::table::walk;
use super::unread::Unread;
use super::{Mapped, RowError, RowErrorReason};
use crate::domain::plan::{ChildTable, Column, ColumnSource, ColumnType, Fallback, Table, path_text};
use crate::domain::value::{Record, Value};

/// Keys that are kept as examples of one finding.
const EXAMPLES: usize = 3;

/// How often something was found, and the keys of the first records it was found in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    /// How often.
    pub times: u64,
    /// The first keys.
    pub keys: Vec<String>,
}

impl Found {
    /// One more, in the record with this key.
    pub fn note(&mut self, key: &str) {
        self.times += 1;
        if self.keys.len() < EXAMPLES && self.keys.last().is_none_or(|last| last != key) {
            self.keys.push(if key.is_empty() { "?".to_owned() } else { key.to_owned() });
        }
    }
}

/// How a value is changed on its way into its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Alteration {
    /// It is absent or null, and the plan's default stands in.
    Default,
    /// A number or a moment loses digits, as the column's `lossy` allows.
    Rounded,
    /// A text loses its end, as the column's `lossy` allows.
    Cut,
}

impl Alteration {
    /// In words: `default applied`.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Default => "default applied",
            Self::Rounded => "rounded",
            Self::Cut => "cut",
        }
    }
}

/// What was found of one column.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnProfile {
    /// The column: `isbn`, `order_items.title`.
    pub column: String,
    /// Where its value comes from, as the config writes it.
    pub path: String,
    /// Records, or elements of a list, that were read.
    pub of: u64,
    /// Those that have a value there; a null is none.
    pub present: u64,
    /// Values that fit, defaults and absent ones that may be absent included.
    pub fit: u64,
    /// How the source writes its values, each with how often.
    pub types: BTreeMap<&'static str, u64>,
    /// Values that are changed on the way.
    pub altered: BTreeMap<Alteration, Found>,
    /// Values that would park their row.
    pub refused: BTreeMap<RowErrorReason, Found>,
    #[serde(skip)]
    names: Vec<String>,
    #[serde(skip)]
    format: Format,
    #[serde(skip)]
    absent: Fallback,
    /// Whether its values must have an exact inverse, because they tell keys apart.
    #[serde(skip)]
    tells_keys_apart: bool,
}

impl ColumnProfile {
    /// `None` for a column that takes no value of its own from a record.
    fn new(column: &Column, child: Option<&str>) -> Option<Self> {
        let names = match &column.from {
            ColumnSource::Attribute(names) => names.clone(),
            ColumnSource::Element => Vec::new(),
            ColumnSource::Constant(_) | ColumnSource::Parent(_) | ColumnSource::Ordinal | ColumnSource::Whole => {
                return None;
            }
        };
        Some(Self {
            column: child.map_or_else(|| column.name.clone(), |child| format!("{child}.{}", column.name)),
            path: path_text(&names),
            of: 0,
            present: 0,
            fit: 0,
            types: BTreeMap::new(),
            altered: BTreeMap::new(),
            refused: BTreeMap::new(),
            names,
            format: Format::of(column),
            absent: column.absent.clone(),
            tells_keys_apart: false,
        })
    }

    fn look(&mut self, found: Result<Option<&Value<'_>>, RowErrorReason>, key: &str) {
        self.of += 1;
        let judged = match found {
            Ok(None | Some(Value::Null)) => match &self.absent {
                Fallback::Required => Err(RowErrorReason::Missing),
                Fallback::Null => Ok(None),
                Fallback::Literal(_) => Ok(Some(Alteration::Default)),
            },
            Ok(Some(value)) => {
                self.present += 1;
                *self.types.entry(value.kind()).or_default() += 1;
                self.judged(value)
            }
            // Something else stands in the way.
            Err(reason) => Err(reason),
        };
        match judged {
            Ok(altered) => {
                self.fit += 1;
                if let Some(altered) = altered {
                    self.altered.entry(altered).or_default().note(key);
                }
            }
            Err(reason) => self.refused.entry(reason).or_default().note(key),
        }
    }

    fn judged(&self, value: &Value<'_>) -> Result<Option<Alteration>, RowErrorReason> {
        let cell = convert(self.format, value)?;
        if self.tells_keys_apart && !key::comes_back(self.format, value, &cell) {
            return Err(RowErrorReason::KeyForm);
        }
        if !self.format.declared.lossy {
            return Ok(None);
        }
        let mut exact = self.format;
        exact.declared.lossy = false;
        Ok(match convert(exact, value) {
            Ok(_) => None,
            Err(RowErrorReason::TooLong) => Some(Alteration::Cut),
            Err(_) => Some(Alteration::Rounded),
        })
    }
}

/// A list whose elements are rows.
#[derive(Clone, Debug)]
struct Elements {
    path: Vec<String>,
    columns: Vec<ColumnProfile>,
}

impl Elements {
    fn new(child: &ChildTable) -> Self {
        let columns = child.columns.iter().filter_map(|c| ColumnProfile::new(c, Some(&child.target)));
        Self { path: child.list.clone(), columns: columns.collect() }
    }

    /// What is no list is found when the whole row is mapped.
    fn look(&mut self, item: &Record<'_>, key: &str) {
        match inside(item, &self.path) {
            Ok(Some(Value::List(elements))) => elements.iter().for_each(|e| self.element(e, key)),
            Ok(Some(Value::TextSet(set))) => {
                set.iter().for_each(|s| self.element(&Value::Text(s.as_ref().into()), key));
            }
            Ok(Some(Value::DecimalSet(set))) => {
                set.iter().for_each(|n| self.element(&Value::Decimal(n.as_ref().into()), key));
            }
            Ok(
                None
                | Some(
                    Value::Text(_)
                    | Value::Decimal(_)
                    | Value::Bytes(_)
                    | Value::Bool(_)
                    | Value::Null
                    | Value::Map(_)
                    | Value::BytesSet(_)
                    | Value::Cell(_),
                ),
            )
            | Err(_) => {}
        }
    }

    fn element(&mut self, element: &Value<'_>, key: &str) {
        for column in &mut self.columns {
            let found = walk(Some(element), &column.names);
            column.look(found, key);
        }
    }
}

/// What stands at a path of a record.
fn inside<'s, 'p>(item: &'s Record<'p>, names: &[String]) -> Result<Option<&'s Value<'p>>, RowErrorReason> {
    names.split_first().map_or(Ok(None), |(first, rest)| walk(item.get(first), rest))
}

/// How large a row is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowSize {
    /// Bytes that are sent.
    pub sent: u64,
    /// Bytes it takes up in the target, without indexes and before the target compresses anything.
    pub stored: u64,
}

/// The rows of a table that would go in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Rows.
    pub rows: u64,
    /// All of them together.
    pub total: RowSize,
    /// The largest one's bytes in the target.
    pub largest: u64,
    /// The largest one's key.
    pub largest_key: String,
}

/// Records that would be parked for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WouldPark {
    /// The column, or `-` for the row as a whole.
    pub column: String,
    /// Why.
    pub reason: RowErrorReason,
    /// What is known besides.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// How many, and which.
    #[serde(flatten)]
    pub found: Found,
}

/// What was found of a table so far.
#[derive(Clone, Debug)]
pub struct TableProfile {
    records: u64,
    columns: Vec<ColumnProfile>,
    lists: Vec<Elements>,
    unread: Unread,
    parked: BTreeMap<(String, RowErrorReason, String), Found>,
    sizes: Sizes,
    duplicates: Duplicates,
    key: Vec<usize>,
    unjudged: Vec<String>,
}

impl TableProfile {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(table: &Table) -> Self {
        let natives = table.columns.iter().filter(|c| matches!(c.ty, ColumnType::Native(_)));
        let mut columns: Vec<ColumnProfile> =
            table.columns.iter().filter_map(|c| ColumnProfile::new(c, None)).collect();
        // As the mapping judges them: the first key column of each key attribute.
        for attribute in &table.key {
            let whole = ColumnSource::Attribute(vec![attribute.clone()]);
            let of_key = table.columns.iter().find(|c| c.key && c.from == whole);
            if let Some(column) = of_key.and_then(|key| columns.iter_mut().find(|c| c.column == key.name)) {
                column.tells_keys_apart = true;
            }
        }
        Self {
            records: 0,
            columns,
            lists: table.children.iter().map(Elements::new).collect(),
            unread: Unread::new(table),
            parked: BTreeMap::new(),
            sizes: Sizes::default(),
            duplicates: Duplicates::default(),
            key: table.columns.iter().enumerate().filter(|(_, c)| c.key).map(|(n, _)| n).collect(),
            unjudged: natives.map(|c| c.name.clone()).collect(),
        }
    }

    /// Reads a record that is no marker, and how it was judged as a whole: the row as it was mapped with its size, or
    /// why it would be parked.
    pub fn look(&mut self, item: &Record<'_>, mapped: &Mapped<'_>, judged: Result<RowSize, RowError>) {
        let key = mapped.key.as_str();
        self.records += 1;
        self.unread.learn(item);
        for column in &mut self.columns {
            let found = inside(item, &column.names);
            column.look(found, key);
        }
        self.lists.iter_mut().for_each(|list| list.look(item, key));
        match judged {
            Ok(size) => self.fits(mapped, size),
            Err(e) => self.parked.entry((e.column, e.reason, e.detail)).or_default().note(key),
        }
    }

    fn fits(&mut self, mapped: &Mapped<'_>, size: RowSize) {
        let sizes = &mut self.sizes;
        sizes.rows += 1;
        sizes.total.sent += size.sent;
        sizes.total.stored += size.stored;
        if size.stored > sizes.largest {
            sizes.largest = size.stored;
            sizes.largest_key.clone_from(&mapped.key);
        }
        self.duplicates.note(self.key.iter().filter_map(|n| mapped.row.get(*n)), &mapped.key);
    }

    /// Records read.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// What was found of each column that takes a value from records; those of child tables last.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnProfile> {
        self.columns.iter().chain(self.lists.iter().flat_map(|l| &l.columns))
    }

    /// Attributes that nothing reads.
    #[must_use]
    pub const fn unread(&self) -> &Unread {
        &self.unread
    }

    /// Records that would be parked, most first.
    #[must_use]
    pub fn parked(&self) -> Vec<WouldPark> {
        let each = self.parked.iter().map(|((column, reason, detail), found)| WouldPark {
            column: column.clone(),
            reason: *reason,
            detail: detail.clone(),
            found: found.clone(),
        });
        let mut all: Vec<WouldPark> = each.collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.found.times));
        all
    }

    /// How many records would be parked.
    #[must_use]
    pub fn would_park(&self) -> u64 {
        self.parked.values().map(|found| found.times).sum()
    }

    /// The rows that would go in.
    #[must_use]
    pub const fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Records that share their key in the target.
    #[must_use]
    pub const fn duplicates(&self) -> &Duplicates {
        &self.duplicates
    }

    /// Columns whose values only the target's database can judge: their types are known to it alone.
    #[must_use]
    pub fn unjudged(&self) -> &[String] {
        &self.unjudged
    }

    /// Whether something would go wrong.
    #[must_use]
    pub fn has_findings(&self) -> bool {
        !self.parked.is_empty() || self.duplicates.found().times > 0
    }
}

#[cfg(test)]
mod tests;
