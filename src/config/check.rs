//! Compares the tree with the key table: unknown keys, wrong types, missing keys, words that do not parse.

use super::error::Sink;
use super::keys::{Key, Kind, REFERENCE, WORD};
use super::node::{Entry, Node, Value, join};
use super::words;
use crate::domain::lint::nearest;
use crate::domain::plan::{ColumnType, path_of};

/// Reports everything in `node` that is not as `keys` says.
pub(super) fn check(node: &Node, keys: &[Key], path: &str, sink: &mut Sink<'_>) {
    let Value::Table(entries) = &node.value else {
        wrong(node, path, "a table", sink);
        return;
    };
    for Entry { key, key_span, node } in entries {
        let inner = join(path, key);
        match keys.iter().find(|k| k.name == key) {
            Some(known) => value(node, known.kind, &inner, sink),
            None => {
                let near = nearest(key, keys.iter().map(|k| k.name));
                let message = match key.as_str() {
                    "url" | "uri" | "dsn" => format!("unknown key `{key}`; name host, database and user each"),
                    _ => format!("unknown key `{key}`"),
                };
                sink.error_near(key_span.start, &inner, message, near);
            }
        }
    }
    for key in keys.iter().filter(|k| k.required) {
        if !entries.iter().any(|e| e.key == key.name) {
            let message = format!("missing `{}`: {}", key.name, key.doc);
            sink.error(node.span.start, &join(path, key.name), message);
        }
    }
}

fn wrong(node: &Node, path: &str, wanted: &str, sink: &mut Sink<'_>) {
    if !matches!(node.value, Value::Broken) {
        sink.error(node.span.start, path, format!("this must be {wanted}, not {}", node.value.kind()));
    }
}

fn value(node: &Node, kind: Kind, path: &str, sink: &mut Sink<'_>) {
    let start = node.span.start;
    match (kind, &node.value) {
        (_, Value::Broken) | (Kind::Scalar, Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Text { .. }) => {}
        (Kind::Bool, Value::Bool(_)) | (Kind::Free, Value::Text { .. }) | (Kind::Moment, Value::Datetime(_)) => {}
        (Kind::Text | Kind::TextOrTexts | Kind::ValueRef, Value::Text { text, .. }) => {
            not_empty(text, start, path, sink)
        }
        (Kind::Url, Value::Text { text, .. }) => {
            let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
            if rest.is_none_or(|r| r.is_empty() || r.starts_with('/') || r.contains(char::is_whitespace)) {
                sink.error(start, path, "this must be a full URL: http://... or https://...");
            }
        }
        (Kind::Path, Value::Text { text, .. }) => {
            if let Err(why) = path_of(text) {
                sink.error(start, path, why);
            }
        }
        (Kind::OneOf(words), Value::Text { text, .. }) => {
            if !words.contains(&text.as_str()) {
                let near = nearest(text, words.iter().copied());
                let message = format!("`{text}` is not one of {}", words.join(", "));
                sink.error_near(start, path, message, near);
            }
        }
        (Kind::Duration, Value::Text { text, .. }) => {
            if words::duration(text).is_none() {
                sink.error(start, path, format!("`{text}` is not a duration; write `250ms`, `30s`, `10m`, `4h`"));
            }
        }
        (Kind::Offset, Value::Text { text, .. }) => {
            if words::offset(text).is_none() {
                sink.error(start, path, format!("`{text}` is not an offset; write `T-02:00`, `T+00:15`, `T+00:00:30`"));
            }
        }
        (Kind::Moment, Value::Text { text, .. }) => {
            if text.parse::<jiff::Timestamp>().is_err() {
                sink.error(start, path, format!("`{text}` is not a moment; write `2026-11-22T02:00:00Z`"));
            }
        }
        (Kind::ColumnType, Value::Text { text, .. }) => {
            if words::column_type(text).is_none() {
                let near = nearest(text, ColumnType::NAMES.into_iter());
                sink.error_near(start, path, format!("`{text}` is not a column type that can be written"), near);
            }
        }
        (Kind::Confirm, Value::Text { text, .. }) => {
            let choices = ["none", "key", "word"];
            if !choices.contains(&text.as_str()) {
                let near = nearest(text, choices.into_iter());
                let message = format!("`{text}` is not one of none, key, word, or {{ word = \"...\" }}");
                sink.error_near(start, path, message, near);
            }
        }
        (Kind::Confirm, Value::Table(_)) => check(node, WORD, path, sink),
        (Kind::Secret, Value::Text { .. }) => {
            let message = "a password must not stand in this file; refer to it: { env = \"PGPASSWORD\" }, \
                           { file = \"...\" } or { parameter = \"...\" }";
            sink.error(start, path, message);
        }
        (Kind::Secret | Kind::ValueRef, Value::Table(entries)) => {
            check(node, REFERENCE, path, sink);
            if entries.len() != 1 {
                sink.error(start, path, "name exactly one of env, file, parameter");
            }
        }
        (Kind::Int | Kind::Count | Kind::Number, found) => number(kind, found, node, path, sink),
        (Kind::Path | Kind::TextOrTexts, Value::List(items)) if items.is_empty() => {
            sink.error(start, path, "this list is empty")
        }
        (Kind::Texts | Kind::TextOrTexts | Kind::Path, Value::List(items)) => {
            each(items, Kind::Text, path, sink);
        }
        (Kind::Statuses, Value::List(items)) => {
            each(items, Kind::Count, path, sink);
            for (n, item) in items.iter().enumerate() {
                if matches!(item.value, Value::Int(i) if i > 0 && !(100..=599).contains(&i)) {
                    sink.error(item.span.start, &format!("{path}[{n}]"), "an HTTP status is from 100 to 599");
                }
            }
        }
        (Kind::Percents, Value::List(items)) => {
            each(items, Kind::Count, path, sink);
            for (n, item) in items.iter().enumerate() {
                if matches!(item.value, Value::Int(i) if i > 100) {
                    sink.error(item.span.start, &format!("{path}[{n}]"), "a percentage is from 1 to 100");
                }
            }
        }
        (Kind::ValueRefs, Value::List(items)) => each(items, Kind::ValueRef, path, sink),
        (Kind::Table(keys), Value::Table(_)) => check(node, keys, path, sink),
        (Kind::List(keys), Value::List(items)) => each(items, Kind::Table(keys), path, sink),
        (Kind::Part, Value::Table(_)) => {}
        (Kind::Map(kind), Value::Table(entries)) => {
            for e in entries {
                value(&e.node, *kind, &join(path, &e.key), sink);
            }
        }
        (kind, _) => wrong(node, path, wanted(kind), sink),
    }
}

fn each(items: &[Node], kind: Kind, path: &str, sink: &mut Sink<'_>) {
    for (n, item) in items.iter().enumerate() {
        value(item, kind, &format!("{path}[{n}]"), sink);
    }
}

fn not_empty(text: &str, start: usize, path: &str, sink: &mut Sink<'_>) {
    if text.is_empty() {
        sink.error(start, path, "this must not be empty");
    }
}

fn number(kind: Kind, found: &Value, node: &Node, path: &str, sink: &mut Sink<'_>) {
    let least = if matches!(kind, Kind::Count) { 1 } else { 0 };
    // Text counts as a number only when a variable was filled in: `port = "${PG_PORT}"`.
    let number = match found {
        Value::Int(n) => Some(*n as f64),
        Value::Float(x) if matches!(kind, Kind::Number) => Some(*x),
        Value::Text { text, filled: true } if matches!(kind, Kind::Number) => text.parse::<f64>().ok(),
        Value::Text { text, filled: true } => text.parse::<i64>().ok().map(|n| n as f64),
        _ => None,
    };
    match number {
        None => wrong(node, path, wanted(kind), sink),
        Some(n) if n < f64::from(least) => sink.error(node.span.start, path, format!("this must be {least} or more")),
        Some(n) if !n.is_finite() || n > f64::from(u32::MAX) => {
            sink.error(node.span.start, path, format!("this must be {} or less", u32::MAX));
        }
        Some(_) => {}
    }
}

const fn wanted(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Free | Kind::OneOf(_) | Kind::ColumnType => "text",
        Kind::Url => "a URL as text",
        Kind::Path => "a path of attribute names as text",
        Kind::Texts => "a list of texts",
        Kind::TextOrTexts => "text or a list of texts",
        Kind::Statuses => "a list of HTTP statuses",
        Kind::Percents => "a list of percentages",
        Kind::ValueRefs => "a list of texts or references",
        Kind::Scalar => "text, a number, true or false",
        Kind::Bool => "true or false",
        Kind::Int | Kind::Count => "a whole number",
        Kind::Number => "a number",
        Kind::Duration => "a duration as text, like \"30s\"",
        Kind::Offset => "an offset as text, like \"T-02:00\"",
        Kind::Moment => "a date and time with its offset",
        Kind::Secret => "a reference, like { env = \"PGPASSWORD\" }",
        Kind::ValueRef => "text or a reference, like { env = \"NAME\" }",
        Kind::Confirm => "\"none\", \"key\", \"word\" or { word = \"...\" }",
        Kind::Table(_) | Kind::Map(_) | Kind::Part => "a table",
        Kind::List(_) => "a list of tables",
    }
}
