//! Attributes that records have and no column reads.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::sampled::carried;
use crate::domain::plan::{ColumnSource, Table, path_text, quoted};
use crate::domain::value::{Record, Value};

/// How many paths are looked at most: maps with free keys have any number of them.
const MOST: usize = 4_096;

/// How a path stands to what the plan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// A column holds it, alone or within its whole.
    Read,
    /// Columns read something within it.
    Within,
    /// Nothing does.
    Unread,
}

/// One attribute that nothing reads.
#[derive(Clone, Debug, Serialize)]
pub struct UnreadAttribute {
    /// Its path as the config would write it. Elements of a list stand at the list's path followed by `[]`.
    pub path: String,
    /// How its values are written, each with how often.
    pub types: BTreeMap<&'static str, u64>,
    /// Records that have it; absent for what stands within a list, which a record may hold many times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

/// Attributes that nothing reads, learned from records.
#[derive(Clone, Debug)]
pub struct Unread {
    table: Table,
    readings: HashMap<String, Reading>,
    seen: BTreeMap<String, BTreeMap<&'static str, u64>>,
    more: bool,
}

impl Unread {
    /// Nothing seen yet.
    pub(super) fn new(table: &Table) -> Self {
        Self { table: table.clone(), readings: HashMap::new(), seen: BTreeMap::new(), more: false }
    }

    pub(super) fn learn(&mut self, item: &Record<'_>) {
        for (name, value) in &item.fields {
            self.at(&quoted(name), value);
        }
    }

    fn at(&mut self, path: &str, value: &Value<'_>) {
        let reading = match self.readings.get(path) {
            Some(known) => *known,
            None if self.readings.len() >= MOST => {
                self.more = true;
                return;
            }
            None => {
                let found = reading(&self.table, path);
                self.readings.insert(path.to_owned(), found);
                found
            }
        };
        match (reading, value) {
            (Reading::Read, _) => {}
            (Reading::Unread, _) => {
                *self.seen.entry(path.to_owned()).or_default().entry(value.kind()).or_default() += 1;
            }
            (Reading::Within, Value::Map(entries)) => {
                entries.iter().for_each(|(name, inner)| self.at(&format!("{path}.{}", quoted(name)), inner));
            }
            (Reading::Within, Value::List(items)) => {
                let inner = format!("{path}[]");
                items.iter().for_each(|value| self.at(&inner, value));
            }
            (Reading::Within, _) => {}
        }
    }

    /// Every one of them.
    pub fn attributes(&self) -> impl Iterator<Item = UnreadAttribute> {
        self.seen.iter().map(|(path, types)| UnreadAttribute {
            path: path.clone(),
            types: types.clone(),
            records: (!path.contains("[]")).then(|| types.values().sum()),
        })
    }

    /// Whether there were more paths than are looked at.
    #[must_use]
    pub const fn more(&self) -> bool {
        self.more
    }
}

fn reading(table: &Table, path: &str) -> Reading {
    if !carried(table, path) {
        return Reading::Unread;
    }
    let below =
        |whole: &str| whole.strip_prefix(path).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("[]"));
    // A column that holds this path or something around it holds all of it.
    let holds = |whole: &str| path == whole || path.strip_prefix(whole).is_some_and(|r| r.starts_with(['.', '[']));
    let columns = table.columns.iter().filter_map(|c| match &c.from {
        ColumnSource::Attribute(names) => Some(path_text(names)),
        _ => None,
    });
    let columns: Vec<String> = columns.collect();
    if table.columns.iter().any(|c| c.from == ColumnSource::Whole) || columns.iter().any(|c| holds(c)) {
        return Reading::Read;
    }
    let within = table.children.iter().any(|child| {
        let list = path_text(&child.list);
        path == list || path == format!("{list}[]") || below(&list)
    });
    if within || columns.iter().any(|c| below(c)) {
        return Reading::Within;
    }
    // Within an element of a list: what a child's column holds, or leads to it.
    let inner = table.children.iter().any(|child| {
        let list = path_text(&child.list);
        let mut read = child.columns.iter().filter_map(|c| match &c.from {
            ColumnSource::Attribute(names) => Some(format!("{list}[].{}", path_text(names))),
            _ => None,
        });
        read.any(|c| below(&c))
    });
    if inner { Reading::Within } else { Reading::Read }
}
