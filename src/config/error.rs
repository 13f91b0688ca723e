//! What is wrong with a config file, and where.

use std::fmt;

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The file's name as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Path of the key: `steps[3].gate`. Empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what to do. Never holds a value that may be secret.
    pub message: String,
    /// The nearest valid name, when a name is wrong.
    pub nearest: Option<String>,
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.nearest {
            Some(name) => write!(f, " (did you mean `{name}`?)"),
            None => Ok(()),
        }
    }
}

/// Every problem of a config file, sorted by position. Printed one to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The problems; never empty.
    pub items: Vec<Located>,
}

impl ConfigErrors {
    pub(super) fn new(mut items: Vec<Located>) -> Self {
        items.sort_by_key(|i| (i.line, i.column));
        items.dedup();
        Self { items }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, item) in self.items.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects problems while a file is read.
#[derive(Debug)]
pub(super) struct Sink<'t> {
    file: String,
    text: &'t str,
    pub(super) items: Vec<Located>,
}

impl<'t> Sink<'t> {
    pub(super) fn new(file: &str, text: &'t str) -> Self {
        Self { file: file.to_owned(), text, items: Vec::new() }
    }

    /// Makes a located problem without keeping it. `offset` is in bytes.
    pub(super) fn at(&self, offset: usize, path: &str, message: String, nearest: Option<String>) -> Located {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Located {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            path: path.to_owned(),
            message,
            nearest,
        }
    }

    pub(super) fn error(&mut self, offset: usize, path: &str, message: impl Into<String>) {
        let item = self.at(offset, path, message.into(), None);
        self.items.push(item);
    }

    pub(super) fn error_near(&mut self, offset: usize, path: &str, message: impl Into<String>, near: Option<String>) {
        let item = self.at(offset, path, message.into(), near);
        self.items.push(item);
    }

    /// Whether something was already reported at this path or inside it.
    pub(super) fn reported(&self, path: &str) -> bool {
        self.items
            .iter()
            .any(|i| i.path == path || i.path.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])))
    }
}
