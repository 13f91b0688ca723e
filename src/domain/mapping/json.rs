//! Canonical JSON text.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::RowErrorReason;
use super::back::document;
use super::numeric::{by_value, canonical};
use crate::domain::value::{Cell, Value};

/// How deep nested JSON may be; DynamoDB itself stops at 32.
const MAX_DEPTH: usize = 256;

/// Compact JSON of an attribute with sorted object keys, canonical numbers and sorted sets.
/// Binary values become base64 text. `None` when text holds U+0000, which jsonb cannot store.
#[must_use]
pub fn canonical_json(attr: &Value<'_>) -> Option<String> {
    json_of(attr).ok()
}

/// The same with the reason it cannot be written.
pub(super) fn json_of(attr: &Value<'_>) -> Result<String, RowErrorReason> {
    let mut out = String::new();
    write_attr(&mut out, attr)?;
    Ok(out)
}

fn write_attr(out: &mut String, attr: &Value<'_>) -> Result<(), RowErrorReason> {
    match attr {
        Value::Text(s) => write_text(out, s)?,
        Value::Decimal(n) => write_number(out, n)?,
        Value::Bytes(b) => push_base64(out, b),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Null => out.push_str("null"),
        Value::List(items) => write_list(out, items, write_attr)?,
        Value::Map(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            out.push('{');
            for (i, (name, value)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_text(out, name)?;
                out.push(':');
                write_attr(out, value)?;
            }
            out.push('}');
        }
        Value::TextSet(set) => {
            let mut sorted: Vec<&str> = set.iter().map(AsRef::as_ref).collect();
            sorted.sort_unstable();
            write_list(out, &sorted, |out, s| write_text(out, s))?;
        }
        Value::DecimalSet(set) => {
            let mut sorted = set
                .iter()
                .map(|n| canonical(n).ok_or(RowErrorReason::Unparsable))
                .collect::<Result<Vec<Cow<'_, str>>, _>>()?;
            sorted.sort_unstable_by(|a, b| by_value(a, b));
            write_list(out, &sorted, |out, n| {
                out.push_str(n);
                Ok(())
            })?;
        }
        Value::BytesSet(set) => {
            let mut sorted: Vec<&[u8]> = set.iter().map(AsRef::as_ref).collect();
            sorted.sort_unstable();
            write_list(out, &sorted, |out, b| {
                push_base64(out, b);
                Ok(())
            })?;
        }
        Value::Cell(Cell::Json(json)) => out.push_str(json),
        Value::Cell(cell) => write_attr(out, &document(cell)?)?,
    }
    Ok(())
}

fn write_list<T>(
    out: &mut String,
    items: &[T],
    mut each: impl FnMut(&mut String, &T) -> Result<(), RowErrorReason>,
) -> Result<(), RowErrorReason> {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(out, item)?;
    }
    out.push(']');
    Ok(())
}

fn write_text(out: &mut String, text: &str) -> Result<(), RowErrorReason> {
    if text.as_bytes().contains(&0) {
        return Err(RowErrorReason::Nul);
    }
    push_json_text(out, text);
    Ok(())
}

fn write_number(out: &mut String, text: &str) -> Result<(), RowErrorReason> {
    out.push_str(&canonical(text).ok_or(RowErrorReason::Unparsable)?);
    Ok(())
}

fn push_base64(out: &mut String, bytes: &[u8]) {
    out.push('"');
    STANDARD.encode_string(bytes, out);
    out.push('"');
}

/// Text as a JSON string, quotes included, appended to `out`. Escapes only what JSON demands.
pub(super) fn push_json_text(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (i, b) in text.bytes().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.push_str(&text[plain..i]);
        plain = i + 1;
        match b {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            0x09 => out.push_str("\\t"),
            0x0a => out.push_str("\\n"),
            0x0c => out.push_str("\\f"),
            0x0d => out.push_str("\\r"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(char::from(HEX[usize::from(b >> 4)]));
                out.push(char::from(HEX[usize::from(b & 15)]));
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// JSON text as a store wrote it (for instance a `jsonb` column read as text) in the form
/// [`canonical_json`] gives: compact, keys sorted, numbers canonical, one way of escaping.
/// `None` when it is not JSON. The last of several equal keys wins, as in `jsonb`.
#[must_use]
pub fn canonical_json_text(text: &str) -> Option<String> {
    let mut reader = Reader { text, at: 0 };
    let mut out = String::with_capacity(text.len());
    reader.value(&mut out, 0)?;
    reader.space();
    (reader.at == text.len()).then_some(out)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn space(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn word(&mut self, word: &str, out: &mut String) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            out.push_str(word);
        })
    }

    fn string(&mut self) -> Option<Cow<'t, str>> {
        let start = self.at;
        self.eat(b'"')?;
        let (start, mut escaped) = (self.at.max(start + 1), false);
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        if escaped {
            serde_json::from_str(&self.text[start - 1..self.at]).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&self.text[start..self.at - 1]))
        }
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.peek()? {
            b'{' => self.object(out, depth),
            b'[' => {
                self.at += 1;
                out.push('[');
                if self.peek()? == b']' {
                    self.at += 1;
                } else {
                    loop {
                        self.value(out, depth + 1)?;
                        match self.peek()? {
                            b',' => out.push(','),
                            b']' => break,
                            _ => return None,
                        }
                        self.at += 1;
                    }
                    self.at += 1;
                }
                out.push(']');
                Some(())
            }
            b'"' => {
                let text = self.string()?;
                push_json_text(out, &text);
                Some(())
            }
            b't' => self.word("true", out),
            b'f' => self.word("false", out),
            b'n' => self.word("null", out),
            b'-' | b'0'..=b'9' => {
                let rest = &self.text[self.at..];
                let len =
                    rest.bytes().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count();
                out.push_str(&canonical(&rest[..len])?);
                self.at += len;
                Some(())
            }
            _ => None,
        }
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.at += 1;
        let mut entries: Vec<(Cow<'t, str>, String)> = Vec::new();
        if self.peek()? == b'}' {
            self.at += 1;
        } else {
            loop {
                self.space();
                let name = self.string()?;
                self.eat(b':')?;
                let mut value = String::new();
                self.value(&mut value, depth + 1)?;
                entries.push((name, value));
                let next = self.peek()?;
                self.at += 1;
                match next {
                    b',' => {}
                    b'}' => break,
                    _ => return None,
                }
            }
        }
        // Stable, so that the last of several equal keys is the last of its group.
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        let mut first = true;
        for (i, (name, value)) in entries.iter().enumerate() {
            if entries.get(i + 1).is_some_and(|next| next.0 == *name) {
                continue;
            }
            if !first {
                out.push(',');
            }
            first = false;
            push_json_text(out, name);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn n(text: &str) -> Value<'_> {
        Value::Decimal(text.into())
    }

    #[test]
    fn every_type_has_one_form() {
        let item = Value::Map(vec![
            ("z".into(), n("1.50")),
            ("a".into(), s("x\"\\\n\u{1}é")),
            ("list".into(), Value::List(vec![Value::Null, Value::Bool(true), n("2e3")])),
            ("ss".into(), Value::TextSet(vec!["b".into(), "a".into()])),
            ("ns".into(), Value::DecimalSet(vec!["10".into(), "9.0".into(), "-1".into()])),
            ("bs".into(), Value::BytesSet(vec![vec![2u8].into(), vec![1u8].into()])),
            ("b".into(), Value::Bytes(b"hi"[..].into())),
            ("m".into(), Value::Map(vec![])),
        ]);
        assert_eq!(
            canonical_json(&item).unwrap(),
            r#"{"a":"x\"\\\n\u0001é","b":"aGk=","bs":["AQ==","Ag=="],"list":[null,true,2000],"m":{},"ns":[-1,9,10],"ss":["a","b"],"z":1.5}"#
        );
    }

    #[test]
    fn a_nul_anywhere_is_refused() {
        assert_eq!(canonical_json(&s("a\0b")), None);
        assert_eq!(canonical_json(&Value::Map(vec![("a\0".into(), Value::Null)])), None);
        assert_eq!(canonical_json(&Value::TextSet(vec!["\0".into()])), None);
        assert_eq!(json_of(&Value::List(vec![s("\0")])), Err(RowErrorReason::Nul));
    }

    #[test]
    fn text_from_a_store_comes_to_the_same_form() {
        for (text, want) in [
            (r#"{"bb": 1.50, "a": [1, 2.0, "\u00e9\/"]}"#, r#"{"a":[1,2,"é/"],"bb":1.5}"#),
            (" null ", "null"),
            ("[ ]", "[]"),
            ("{ }", "{}"),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            ("123456789012345678901234567890.10", "123456789012345678901234567890.1"),
            (r#""\ud83d\ude00""#, "\"😀\""),
        ] {
            assert_eq!(canonical_json_text(text).as_deref(), Some(want), "{text}");
        }
        for text in ["", "{", "[1,]", "{\"a\"}", "tru", "1 2", "\"", "\"a\nb\"", "{,}", "[1 2]", "\"\\x\"", "\"abc\\"] {
            assert_eq!(canonical_json_text(text), None, "{text:?}");
        }
    }

    fn attr() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            "[^\0]{0,12}".prop_map(|s| Value::Text(s.into())),
            "-?[0-9]{1,20}(\\.[0-9]{1,18})?".prop_map(|s| Value::Decimal(s.into())),
            any::<bool>().prop_map(Value::Bool),
            Just(Value::Null),
            prop::collection::vec(any::<u8>(), 0..8).prop_map(|b| Value::Bytes(b.into())),
            prop::collection::vec("[a-z]{1,4}", 1..4)
                .prop_map(|v| Value::TextSet(v.into_iter().map(Cow::Owned).collect())),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::btree_map("[^\0]{0,6}", inner, 0..5)
                    .prop_map(|m| Value::Map(m.into_iter().map(|(k, v)| (Cow::Owned(k), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_json_is_json_and_settled(attr in attr()) {
            let text = canonical_json(&attr).unwrap();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            prop_assert_eq!(canonical_json_text(&text), Some(text));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}:,\"\\\\a0-9 .eu-]{0,40}") {
            let ours = canonical_json_text(&text);
            if let Some(once) = ours {
                prop_assert_eq!(canonical_json_text(&once), Some(once.clone()));
            } else if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert!(text.contains(['e', '9']), "refused {}", text);
            }
        }
    }
}
