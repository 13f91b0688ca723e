//! The inverse of lists whose elements are rows of a child table.

use std::borrow::Cow;

use super::RowErrorReason;
use super::back::attribute;
use super::convert::{Format, convert};
use super::inverse::{absent, put, set_of, settled};
use super::kinds::{Kind, Kinds};
use super::numeric::{by_value, canonical_numeric};
use crate::domain::plan::{ChildTable, ColumnSource, path_text};
use crate::domain::value::{Cell, OwnedRow, Value};

/// How a child table's rows become the elements of a list.
#[derive(Clone, Debug)]
pub(super) struct Elements {
    /// The column with the position, if there is one.
    ordinal: Option<usize>,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    place: usize,
    format: Format,
    absent: Option<Cell<'static>>,
    /// Path inside the element; empty for the element itself.
    path: Vec<String>,
}

impl Elements {
    pub(super) fn new(child: &ChildTable) -> Self {
        let ordinal = child.columns.iter().position(|c| c.from == ColumnSource::Ordinal);
        let parts = child.columns.iter().enumerate().filter_map(|(place, column)| {
            let path = match &column.from {
                ColumnSource::Attribute(path) => path.clone(),
                ColumnSource::Element => Vec::new(),
                _ => return None,
            };
            Some(Part { place, format: Format::of(column), absent: absent(column), path })
        });
        let mut parts: Vec<Part> = parts.collect();
        parts.sort_by_key(|p| p.path.len());
        Self { ordinal, parts }
    }

    /// Rows in list order: by their position, which may have gaps.
    fn sorted<'r>(&self, rows: &'r [OwnedRow]) -> Vec<&'r OwnedRow> {
        let mut rows: Vec<&OwnedRow> = rows.iter().collect();
        if let Some(place) = self.ordinal {
            let number = |row: &OwnedRow| match row.get(place) {
                Some(Cell::Int(i)) => *i,
                Some(Cell::Text(s) | Cell::Numeric(s)) => s.parse().unwrap_or(i64::MAX),
                _ => i64::MAX,
            };
            rows.sort_by_key(|r| number(r));
        }
        rows
    }

    /// The rows in the form both sides share: without keys and positions.
    pub(super) fn of_rows(&self, rows: &[OwnedRow]) -> Vec<OwnedRow> {
        let part = |row: &OwnedRow, p: &Part| {
            settled(row.get(p.place).cloned().unwrap_or(Cell::Null), false, p.absent.as_ref())
        };
        self.sorted(rows).into_iter().map(|row| self.parts.iter().map(|p| part(row, p)).collect()).collect()
    }

    /// The elements of a list in the same form; `None` when one of them does not convert.
    pub(super) fn of_attr(&self, list: Option<&Value<'_>>) -> Option<Vec<OwnedRow>> {
        match list {
            None | Some(Value::Null) => Some(Vec::new()),
            Some(Value::List(items)) => items.iter().map(|e| self.of_element(e)).collect(),
            Some(Value::TextSet(set)) => {
                let mut sorted = set.clone();
                sorted.sort_unstable();
                sorted.into_iter().map(|s| self.of_element(&Value::Text(s))).collect()
            }
            Some(Value::DecimalSet(set)) => {
                let mut sorted: Vec<String> = set.iter().map(|n| canonical_numeric(n)).collect::<Option<_>>()?;
                sorted.sort_unstable_by(|a, b| by_value(a, b));
                sorted.into_iter().map(|n| self.of_element(&Value::Decimal(Cow::Owned(n)))).collect()
            }
            Some(_) => None,
        }
    }

    fn of_element(&self, element: &Value<'_>) -> Option<OwnedRow> {
        let part = |p: &Part| {
            let mut here = Some(element);
            for name in &p.path {
                here = match here {
                    Some(Value::Map(entries)) => entries.iter().find(|(n, _)| n == name).map(|(_, v)| v),
                    Some(Value::Null) | None => None,
                    Some(_) => return None,
                };
            }
            match here.filter(|a| **a != Value::Null) {
                None => p.absent.clone(),
                Some(attr) => convert(p.format, attr).ok().map(Cell::into_owned),
            }
        };
        self.parts.iter().map(part).collect()
    }

    /// The list attribute. Elements that were there and agree with a row keep what no column holds: first those that
    /// agree in everything, then those that agree in the most columns.
    pub(super) fn build(
        &self,
        rows: &[OwnedRow],
        kind: Option<Kind>,
        old: Option<&Value<'static>>,
        path: &str,
        kinds: &Kinds,
    ) -> Result<Option<Value<'static>>, RowErrorReason> {
        let rows = self.sorted(rows);
        let plain = self.parts.first().filter(|p| p.path.is_empty());
        if let (Some(part), Some(kind @ (Kind::TextSet | Kind::NumberSet))) = (plain, kind) {
            let cells: Vec<&Cell<'static>> = rows.iter().filter_map(|r| r.get(part.place)).collect();
            return set_of(&cells, kind).transpose();
        }
        if rows.is_empty() && old.is_none() && kind.is_none() {
            return Ok(None);
        }
        let old: &[Value<'static>] = match old {
            Some(Value::List(items)) => items,
            _ => &[],
        };
        let like = self.matches(&rows, old);
        let inner = format!("{path}[]");
        let element = |(n, row): (usize, &&OwnedRow)| {
            let mut element = like[n].map(|i| old[i].clone());
            for part in &self.parts {
                let path =
                    if part.path.is_empty() { inner.clone() } else { format!("{inner}.{}", path_text(&part.path)) };
                let cell = row.get(part.place).unwrap_or(&Cell::Null);
                let before = element.as_ref().and_then(|e| self.part_of(e, part));
                if before.as_ref() == Some(&settled(cell.clone(), false, part.absent.as_ref())) {
                    continue;
                }
                let unit = part.format.declared.unit;
                put(&mut element, &part.path, attribute(cell, kinds.usual(&path), unit, &path, kinds)?);
            }
            Ok(element.unwrap_or_else(|| if plain.is_some() { Value::Null } else { Value::Map(Vec::new()) }))
        };
        rows.iter().enumerate().map(element).collect::<Result<Vec<_>, _>>().map(|items| Some(Value::List(items)))
    }

    fn part_of(&self, element: &Value<'static>, part: &Part) -> Option<Cell<'static>> {
        let place = self.parts.iter().position(|p| p.place == part.place)?;
        self.of_element(element)?.into_iter().nth(place)
    }

    /// For each row the element it takes after.
    fn matches(&self, rows: &[&OwnedRow], old: &[Value<'static>]) -> Vec<Option<usize>> {
        let wanted = self.of_rows(&rows.iter().map(|r| (*r).clone()).collect::<Vec<_>>());
        let there: Vec<Option<OwnedRow>> = old.iter().map(|e| self.of_element(e)).collect();
        let agree = |a: &OwnedRow, b: &OwnedRow| a.iter().zip(b).filter(|(a, b)| a == b).count();
        let mut used = vec![false; old.len()];
        let mut found = vec![None; rows.len()];
        for least in (1..=self.parts.len()).rev() {
            for (n, want) in wanted.iter().enumerate().filter(|(n, _)| found[*n].is_none()).collect::<Vec<_>>() {
                let fits = |i: &usize| !used[*i] && there[*i].as_ref().is_some_and(|t| agree(t, want) == least);
                let place = Some(n).filter(|i| *i < old.len() && fits(i)).or_else(|| (0..old.len()).find(fits));
                if let Some(i) = place {
                    used[i] = true;
                    found[n] = Some(i);
                }
            }
        }
        found
    }
}

/// A set of numbers, sorted and without repeats; `None` when it would be empty.
pub(super) fn number_set(texts: &[String]) -> Option<Result<Value<'static>, RowErrorReason>> {
    let mut set = Vec::with_capacity(texts.len());
    for text in texts {
        match canonical_numeric(text) {
            Some(n) => set.push(n),
            None => return Some(Err(RowErrorReason::Unparsable)),
        }
    }
    set.sort_unstable_by(|a, b| by_value(a, b));
    set.dedup();
    let set: Vec<Cow<'static, str>> = set.into_iter().map(Cow::Owned).collect();
    (!set.is_empty()).then_some(Ok(Value::DecimalSet(set)))
}
