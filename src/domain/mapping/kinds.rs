//! Which of several attribute types a source uses, learned from its items.
//!
//! Several attribute types become the same column type: a list and a set are both `text[]`, a number and text are
//! both `text`. For the inverse, an item that exists shows its own types; for a new one, the types that most items have
//! are used.

use std::collections::BTreeMap;

use crate::domain::plan::quoted;
use crate::domain::value::{Record, Value};

/// How many paths are remembered at most: maps with free keys have any number of them.
const MOST: usize = 4_096;

/// How an attribute is written at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `S`.
    Text,
    /// `N`.
    Number,
    /// `B`.
    Binary,
    /// `BOOL`.
    Bool,
    /// `L`.
    List,
    /// `M`.
    Map,
    /// `SS`.
    TextSet,
    /// `NS`.
    NumberSet,
    /// `BS`.
    BinarySet,
}

impl Kind {
    /// How this attribute is written; `None` for an explicit null, and for a value of a typed column, which is written in
    /// one way only.
    #[must_use]
    pub fn of(attr: &Value<'_>) -> Option<Self> {
        Some(match attr {
            Value::Text(_) => Self::Text,
            Value::Decimal(_) => Self::Number,
            Value::Bytes(_) => Self::Binary,
            Value::Bool(_) => Self::Bool,
            Value::Null | Value::Cell(_) => return None,
            Value::List(_) => Self::List,
            Value::Map(_) => Self::Map,
            Value::TextSet(_) => Self::TextSet,
            Value::DecimalSet(_) => Self::NumberSet,
            Value::BytesSet(_) => Self::BinarySet,
        })
    }
}

/// What was seen at each path. Elements of a list share the path of the list followed by `[]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kinds {
    columns: bool,
    seen: BTreeMap<String, BTreeMap<Kind, u64>>,
    items: u64,
}

impl Kinds {
    /// Of a source whose values are those of typed columns: there is nothing to learn, a cell is written as it is.
    #[must_use]
    pub fn of_columns() -> Self {
        Self { columns: true, ..Self::default() }
    }

    /// Whether the source's values are those of typed columns.
    #[must_use]
    pub const fn are_columns(&self) -> bool {
        self.columns
    }

    /// Learns from an item.
    pub fn learn(&mut self, item: &Record<'_>) {
        self.items += 1;
        for (name, attr) in &item.fields {
            self.at(&quoted(name), attr);
        }
    }

    /// Number of items read so far.
    #[must_use]
    pub const fn items(&self) -> u64 {
        self.items
    }

    /// The type most items have at a path, if any item has it.
    #[must_use]
    pub fn usual(&self, path: &str) -> Option<Kind> {
        self.seen.get(path)?.iter().max_by_key(|(_, n)| **n).map(|(kind, _)| *kind)
    }

    /// How often something stood at a path.
    #[must_use]
    pub fn times(&self, path: &str) -> u64 {
        self.seen.get(path).map_or(0, |kinds| kinds.values().sum())
    }

    /// Every path that was seen, written as in the config.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.seen.keys().map(String::as_str)
    }

    fn at(&mut self, path: &str, attr: &Value<'_>) {
        if let Some(kind) = Kind::of(attr) {
            if self.seen.len() >= MOST && !self.seen.contains_key(path) {
                return;
            }
            *self.seen.entry(path.to_owned()).or_default().entry(kind).or_default() += 1;
        }
        match attr {
            Value::Map(entries) => {
                entries.iter().for_each(|(name, inner)| self.at(&format!("{path}.{}", quoted(name)), inner))
            }
            Value::List(items) => items.iter().for_each(|inner| self.at(&format!("{path}[]"), inner)),
            Value::Text(_)
            | Value::Decimal(_)
            | Value::Bytes(_)
            | Value::Bool(_)
            | Value::Null
            | Value::TextSet(_)
            | Value::DecimalSet(_)
            | Value::BytesSet(_)
            | Value::Cell(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_kind_is_the_one_most_items_have() {
        let mut kinds = Kinds::default();
        let item = |attr: Value<'static>| Record { fields: vec![("tags".into(), attr)] };
        kinds.learn(&item(Value::TextSet(vec!["a".into()])));
        kinds.learn(&item(Value::TextSet(vec!["a".into()])));
        kinds.learn(&item(Value::List(vec![Value::Decimal("1700000000000".into())])));
        kinds.learn(&item(Value::Null));
        assert_eq!(kinds.usual("tags"), Some(Kind::TextSet));
        assert_eq!(kinds.usual("tags[]"), Some(Kind::Number));
        assert_eq!(kinds.usual("other"), None);
        assert_eq!(kinds.items(), 4);
    }
}
