//! Which of several attribute types a source uses, learned by looking at its items.
//!
//! Several attribute types become the same column type: a list and a set are both `text[]`, a number and text are
//! both `text`. On the way back an item that is there shows its own types; for a new one, the types that most items
//! have are used.

use std::collections::BTreeMap;

use crate::domain::plan::quoted;
use crate::domain::value::{Attr, Item};

/// Paths that are remembered at most: maps with free keys have no end of them.
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
    /// How this attribute is written; `None` for an explicit null.
    #[must_use]
    pub fn of(attr: &Attr<'_>) -> Option<Self> {
        Some(match attr {
            Attr::Str(_) => Self::Text,
            Attr::Num(_) => Self::Number,
            Attr::Bin(_) => Self::Binary,
            Attr::Bool(_) => Self::Bool,
            Attr::Null => return None,
            Attr::List(_) => Self::List,
            Attr::Map(_) => Self::Map,
            Attr::StrSet(_) => Self::TextSet,
            Attr::NumSet(_) => Self::NumberSet,
            Attr::BinSet(_) => Self::BinarySet,
        })
    }
}

/// What was seen at each path. Elements of a list share the path of the list followed by `[]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kinds {
    seen: BTreeMap<String, BTreeMap<Kind, u64>>,
    items: u64,
}

impl Kinds {
    /// Looks at an item.
    pub fn learn(&mut self, item: &Item<'_>) {
        self.items += 1;
        for (name, attr) in &item.attrs {
            self.at(&quoted(name), attr);
        }
    }

    /// Items looked at so far.
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

    fn at(&mut self, path: &str, attr: &Attr<'_>) {
        if let Some(kind) = Kind::of(attr) {
            if self.seen.len() >= MOST && !self.seen.contains_key(path) {
                return;
            }
            *self.seen.entry(path.to_owned()).or_default().entry(kind).or_default() += 1;
        }
        match attr {
            Attr::Map(entries) => {
                entries.iter().for_each(|(name, inner)| self.at(&format!("{path}.{}", quoted(name)), inner))
            }
            Attr::List(items) => items.iter().for_each(|inner| self.at(&format!("{path}[]"), inner)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_kind_is_the_one_most_items_have() {
        let mut kinds = Kinds::default();
        let item = |attr: Attr<'static>| Item { attrs: vec![("tags".into(), attr)] };
        kinds.learn(&item(Attr::StrSet(vec!["a".into()])));
        kinds.learn(&item(Attr::StrSet(vec!["a".into()])));
        kinds.learn(&item(Attr::List(vec![Attr::Num("1700000000000".into())])));
        kinds.learn(&item(Attr::Null));
        assert_eq!(kinds.usual("tags"), Some(Kind::TextSet));
        assert_eq!(kinds.usual("tags[]"), Some(Kind::Number));
        assert_eq!(kinds.usual("other"), None);
        assert_eq!(kinds.items(), 4);
    }
}
