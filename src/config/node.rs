//! The file as a tree of values that know where they stand, with `${NAME}` filled in.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environments;
use super::error::Sink;
use crate::domain::lint::nearest;

/// One value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Bytes of the value.
    pub span: Range<usize>,
    pub value: Value,
}

/// One entry of a table, in file order.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text; `filled` when a `${NAME}` was replaced, so that numbers may come from variables.
    Text {
        text: String,
        filled: bool,
    },
    Int(i64),
    Float(f64),
    Bool(bool),
    Datetime(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// Already reported; says nothing further.
    Broken,
}

impl Value {
    /// What the value is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Datetime(_) => "a date and time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Broken => "broken",
        }
    }
}

impl Node {
    /// The entry with this key, if this is a table that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Table(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// Puts a value where this key stands, or adds it; nothing happens to what is no table.
    pub(super) fn set(&mut self, key: &str, node: Node) {
        let Value::Table(entries) = &mut self.value else { return };
        entries.retain(|e| e.key != key);
        entries.push(Entry { key: key.to_owned(), key_span: node.span.clone(), node });
    }

    /// Byte offset of the value a path names, or of its nearest enclosing value that exists.
    pub(super) fn locate(&self, path: &str) -> usize {
        let (mut node, mut offset) = (self, self.span.start);
        for part in path.split('.').flat_map(|p| p.split('[')) {
            let next = match (part.strip_suffix(']').and_then(|n| n.parse::<usize>().ok()), &node.value) {
                (Some(n), Value::List(items)) => items.get(n),
                _ => node.entry(part).map(|e| &e.node),
            };
            match next {
                Some(found) => (node, offset) = (found, found.span.start),
                None => break,
            }
        }
        offset
    }
}

/// Parses a document and lays the environment called `env` over it. Syntax errors are reported and the rest is read as
/// well as it can be.
pub(super) fn parse(text: &str, vars: &BTreeMap<String, String>, env: Option<&str>, sink: &mut Sink<'_>) -> Node {
    let (document, errors) = DeTable::parse_recoverable(text);
    for e in errors {
        let offset = e.span().map_or(0, |s| s.start);
        sink.error(offset, "", format!("not valid TOML: {}", e.message()));
    }
    let span = document.span();
    let mut document = Builder { vars, env, sink }.table(document.get_ref(), span, "");
    environments::lay_over(&mut document, env, sink);
    document
}

struct Builder<'b, 't> {
    vars: &'b BTreeMap<String, String>,
    env: Option<&'b str>,
    sink: &'b mut Sink<'t>,
}

impl Builder<'_, '_> {
    fn table(&mut self, table: &DeTable<'_>, span: Range<usize>, path: &str) -> Node {
        let mut entries: Vec<Entry> = table
            .iter()
            .map(|(key, value)| {
                let name = key.get_ref().to_string();
                let inner = join(path, &name);
                // Variables of an environment that is not meant need not be set.
                let node = if path == environments::SECTION && self.env != Some(name.as_str()) {
                    Node { span: value.span(), value: Value::Table(Vec::new()) }
                } else {
                    self.value(value, &inner)
                };
                Entry { node, key: name, key_span: key.span() }
            })
            .collect();
        entries.sort_by_key(|e| e.key_span.start);
        Node { span, value: Value::Table(entries) }
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> Node {
        let span = value.span();
        let value = match value.get_ref() {
            DeValue::String(s) => self.fill(s, span.start, path),
            DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
                Ok(n) => Value::Int(n),
                Err(_) => {
                    self.sink.error(span.start, path, "this whole number is too large");
                    Value::Broken
                }
            },
            DeValue::Float(x) => match x.as_str().parse::<f64>() {
                Ok(x) if x.is_finite() => Value::Float(x),
                _ => {
                    self.sink.error(span.start, path, "this must be a finite number");
                    Value::Broken
                }
            },
            DeValue::Boolean(b) => Value::Bool(*b),
            DeValue::Datetime(d) => Value::Datetime(d.to_string()),
            DeValue::Array(items) => {
                let nodes = items.iter().enumerate().map(|(n, v)| self.value(v, &format!("{path}[{n}]")));
                Value::List(nodes.collect())
            }
            DeValue::Table(t) => return self.table(t, span, path),
        };
        Node { span, value }
    }

    /// Replaces each `${NAME}`; `$${` stands for a plain `${`.
    fn fill(&mut self, text: &str, offset: usize, path: &str) -> Value {
        if inline_password(text) {
            let message = "a password inside a URL: leave it out and refer to it, like \
                           password = { env = \"PGPASSWORD\" }";
            self.sink.error(offset, path, message);
            return Value::Broken;
        }
        let (mut out, mut rest, mut filled) = (String::with_capacity(text.len()), text, false);
        while let Some(start) = rest.find("${") {
            if let Some(plain) = rest[..start].strip_suffix('$') {
                out.push_str(plain);
                out.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            let Some(len) = rest[start..].find('}') else {
                self.sink.error(offset, path, "`${` without its `}`; write `$${` for a plain `${`");
                return Value::Broken;
            };
            let name = &rest[start + 2..start + len];
            let Some(value) = self.vars.get(name) else {
                let near = nearest(name, self.vars.keys().map(String::as_str));
                self.sink.error_near(offset, path, format!("variable `${{{name}}}` is not set"), near);
                return Value::Broken;
            };
            out.push_str(&rest[..start]);
            out.push_str(value);
            rest = &rest[start + len + 1..];
            filled = true;
        }
        out.push_str(rest);
        // A variable may bring in what the file must not hold.
        if filled && inline_password(&out) {
            self.sink.error(offset, path, "a variable puts a password inside this URL; refer to it instead");
            return Value::Broken;
        }
        Value::Text { text: out, filled }
    }
}

/// `a.b`, or `b` at the top.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether the text is a URL with `user:password@` in it.
fn inline_password(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    !scheme.contains(char::is_whitespace)
        && authority.rsplit_once('@').is_some_and(|(user, _)| user.split_once(':').is_some_and(|(_, p)| !p.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Node, Vec<String>) {
        let vars = [("HOST".to_owned(), "h".to_owned()), ("PORT".to_owned(), "1".to_owned())].into();
        let mut sink = Sink::new("c.toml", text);
        let node = parse(text, &vars, None, &mut sink);
        (node, sink.items.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn variables_are_filled_and_unknown_ones_located() {
        let (node, errors) = read("a = \"http://${HOST}:${PORT}/$${x}\"\nb = \"${HOTS}\"\n");
        let Some(Entry { node: Node { value: Value::Text { text, filled: true }, .. }, .. }) = node.entry("a") else {
            panic!("{node:?}")
        };
        assert_eq!(text, "http://h:1/${x}");
        assert_eq!(errors, ["c.toml:2:5: variable `${HOTS}` is not set (did you mean `HOST`?)"]);
    }

    #[test]
    fn passwords_in_urls_are_refused_without_being_shown() {
        let (_, errors) = read("a = \"postgres://me:hunter2@db/x\"\nb = \"http://me@db\"\n");
        assert_eq!(errors.len(), 1);
        assert!(errors[0].starts_with("c.toml:1:5: a password inside a URL"));
        assert!(!errors[0].contains("hunter2"));
    }

    #[test]
    fn paths_are_located_or_their_nearest_parent() {
        let text = "[[s]]\nid = 1\n[[s]]\nid = { x = [1, 2] }\n";
        let (node, _) = read(text);
        assert_eq!(&text[node.locate("s[1].id.x[1]")..][..1], "2");
        assert_eq!(node.locate("s[1].id.y"), node.locate("s[1].id"));
    }
}
