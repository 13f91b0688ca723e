//! Typed reading of a checked table. What is absent or was reported reads as `None`, so that reading goes on.

use super::keys::Key;
use super::node::{Entry, Node, Value, join};
use super::words;
use crate::domain::at::At;
use crate::domain::plan::{ColumnType, Confirm, ValueRef, path_of};

/// A table with the keys it may have.
#[derive(Clone, Debug)]
pub(super) struct Section<'n> {
    node: Option<&'n Node>,
    keys: &'static [Key],
    pub path: String,
}

impl<'n> Section<'n> {
    pub(super) fn new(node: &'n Node, keys: &'static [Key], path: &str) -> Self {
        Self { node: Some(node), keys, path: path.to_owned() }
    }

    fn get(&self, name: &str) -> Option<&'n Node> {
        debug_assert!(self.keys.iter().any(|k| k.name == name), "`{name}` is not in the key table of `{}`", self.path);
        self.node?.entry(name).map(|e| &e.node)
    }

    /// Whether the key stands there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The path of a key in here.
    pub(super) fn path_of(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Bytes up to the value of the key, or to this table.
    pub(super) fn offset_of(&self, name: &str) -> usize {
        self.get(name).or(self.node).map_or(0, |n| n.span.start)
    }

    /// Bytes up to one value of a list, or to the list.
    pub(super) fn offset_of_item(&self, name: &str, item: usize) -> usize {
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(items)) if item < items.len() => items[item].span.start,
            _ => self.offset_of(name),
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match &self.get(name)?.value {
            Value::Text { text, .. } => Some(text.clone()),
            _ => None,
        }
    }

    /// Text that must be there; its absence was reported.
    pub(super) fn must(&self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    /// Text, number or boolean as text.
    pub(super) fn scalar(&self, name: &str) -> Option<String> {
        match &self.get(name)?.value {
            Value::Text { text, .. } => Some(text.clone()),
            Value::Int(n) => Some(n.to_string()),
            Value::Float(x) => Some(x.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            _ => None,
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.get(name).map(|n| &n.value), Some(Value::Bool(true)))
    }

    pub(super) fn flag_or(&self, name: &str, default: bool) -> bool {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Bool(b)) => *b,
            _ => default,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        match &self.get(name)?.value {
            Value::Int(n) => Some(*n as f64),
            Value::Float(x) => Some(*x),
            Value::Text { text, filled: true } => text.parse().ok(),
            _ => None,
        }
    }

    pub(super) fn count(&self, name: &str, default: u32) -> u32 {
        // Range and wholeness were checked; a broken value reads as the default.
        self.number(name).map_or(default, |n| n as u32)
    }

    /// Milliseconds.
    pub(super) fn duration(&self, name: &str) -> Option<i64> {
        words::duration(&self.text(name)?)
    }

    /// Milliseconds, for settings that cannot be negative.
    pub(super) fn millis(&self, name: &str, default: u64) -> u64 {
        self.duration(name).and_then(|ms| u64::try_from(ms).ok()).unwrap_or(default)
    }

    /// Milliseconds from T-0.
    pub(super) fn offset(&self, name: &str) -> Option<i64> {
        words::offset(&self.text(name)?)
    }

    /// Text or date-time value of a moment; `None` in the text means it lacks its offset.
    pub(super) fn moment(&self, name: &str) -> Option<Option<At>> {
        match &self.get(name)?.value {
            Value::Text { text, .. } | Value::Datetime(text) => {
                Some(text.parse::<jiff::Timestamp>().ok().map(|t| At(t.as_millisecond())))
            }
            _ => None,
        }
    }

    pub(super) fn column_type(&self, name: &str) -> Option<ColumnType> {
        words::column_type(&self.text(name)?)
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(items)) => items
                .iter()
                .map(|n| match &n.value {
                    Value::Text { text, .. } => text.clone(),
                    _ => String::new(),
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// One text, or a list of them.
    pub(super) fn one_or_more(&self, name: &str) -> Vec<String> {
        self.text(name).map_or_else(|| self.texts(name), |one| vec![one])
    }

    /// A path of attribute names: text with dots, or a list of names as they are.
    pub(super) fn attribute(&self, name: &str) -> Option<Vec<String>> {
        match &self.get(name)?.value {
            Value::Text { text, .. } => path_of(text).ok(),
            Value::List(_) => Some(self.texts(name)),
            _ => None,
        }
    }

    pub(super) fn statuses(&self, name: &str) -> Vec<u16> {
        self.whole_numbers(name)
    }

    /// Percentages.
    pub(super) fn percents(&self, name: &str) -> Vec<u8> {
        self.whole_numbers(name)
    }

    fn whole_numbers<N: TryFrom<i64>>(&self, name: &str) -> Vec<N> {
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(items)) => items
                .iter()
                .filter_map(|n| match n.value {
                    Value::Int(i) => N::try_from(i).ok(),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// A list of texts and references; one that does not read is empty text, so that each keeps its place.
    pub(super) fn value_refs(&self, name: &str) -> Vec<ValueRef> {
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(items)) => {
                let read = |node| value_of(node).unwrap_or_else(|| ValueRef::Literal(String::new()));
                items.iter().map(read).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn value_ref(&self, name: &str) -> Option<ValueRef> {
        value_of(self.get(name)?)
    }

    /// A reference to a secret; never a literal.
    pub(super) fn reference(&self, name: &str) -> Option<ValueRef> {
        reference_of(self.get(name)?)
    }

    /// What a person must do; `word` alone means the migration's name.
    pub(super) fn confirm(&self, name: &str, default_word: &str) -> Confirm {
        let Some(node) = self.get(name) else { return Confirm::None };
        match &node.value {
            Value::Text { text, .. } if text == "key" => Confirm::Key,
            Value::Text { text, .. } if text == "word" => Confirm::Word(default_word.to_owned()),
            Value::Table(_) => match node.entry("word").map(|e| &e.node.value) {
                Some(Value::Text { text, .. }) => Confirm::Word(text.clone()),
                _ => Confirm::Key,
            },
            _ => Confirm::None,
        }
    }

    /// A table inside; reads as empty when it is absent.
    pub(super) fn table(&self, name: &str, keys: &'static [Key]) -> Section<'n> {
        Section { node: self.get(name), keys, path: self.path_of(name) }
    }

    /// The tables of a list.
    pub(super) fn list(&self, name: &str, keys: &'static [Key]) -> Vec<Section<'n>> {
        let path = self.path_of(name);
        match self.get(name).map(|n| &n.value) {
            Some(Value::List(items)) => {
                items.iter().enumerate().map(|(n, node)| Section::new(node, keys, &format!("{path}[{n}]"))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The tables of a table with free names, in file order.
    pub(super) fn map(&self, name: &str, keys: &'static [Key]) -> Vec<(String, Section<'n>)> {
        let path = self.path_of(name);
        match self.get(name).map(|n| &n.value) {
            Some(Value::Table(entries)) => {
                entries.iter().map(|e| (e.key.clone(), Section::new(&e.node, keys, &join(&path, &e.key)))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Names and texts of a table with free names, in file order.
    pub(super) fn pairs(&self, name: &str) -> Vec<(String, String)> {
        match self.get(name).map(|n| &n.value) {
            Some(Value::Table(entries)) => entries
                .iter()
                .filter_map(|e| match &e.node.value {
                    Value::Text { text, .. } => Some((e.key.clone(), text.clone())),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

fn value_of(node: &Node) -> Option<ValueRef> {
    match &node.value {
        Value::Text { text, .. } => Some(ValueRef::Literal(text.clone())),
        _ => reference_of(node),
    }
}

fn reference_of(node: &Node) -> Option<ValueRef> {
    let Value::Table(entries) = &node.value else { return None };
    let Entry { key, node, .. } = entries.first()?;
    let Value::Text { text, .. } = &node.value else { return None };
    match key.as_str() {
        "env" => Some(ValueRef::Env(text.clone())),
        "file" => Some(ValueRef::File(text.clone())),
        "parameter" => Some(ValueRef::Parameter(text.clone())),
        _ => None,
    }
}
