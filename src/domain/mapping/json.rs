//! Canonical JSON text: sorted object keys, canonical numbers, no white space.

use std::borrow::Cow;

use base64::Engine as _;
use serde_json::value::RawValue;

use super::numeric::canonical_numeric;
use crate::domain::value::Attr;

/// Compact JSON of an attribute with sorted object keys, canonical numbers and sorted sets.
/// Binary values become base64 text. `None` when text holds U+0000, which jsonb cannot store.
#[must_use]
pub fn canonical_json(attr: &Attr<'_>) -> Option<String> {
    let mut out = String::new();
    write(attr, &mut out)?;
    Some(out)
}

fn write(attr: &Attr<'_>, out: &mut String) -> Option<()> {
    match attr {
        Attr::Str(s) => text(s, out)?,
        Attr::Num(n) => out.push_str(&canonical_numeric(n)?),
        Attr::Bin(b) => text(&encode(b), out)?,
        Attr::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Attr::Null => out.push_str("null"),
        Attr::List(items) => sequence(items.iter(), out, |v, out| write(v, out))?,
        Attr::Map(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            out.push('{');
            for (i, (name, value)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                text(name, out)?;
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
        Attr::StrSet(set) => {
            let mut sorted: Vec<&str> = set.iter().map(AsRef::as_ref).collect();
            sorted.sort_unstable();
            sequence(sorted.iter(), out, |v, out| text(v, out))?;
        }
        Attr::NumSet(set) => {
            let mut sorted: Vec<String> =
                set.iter().map(|n| canonical_numeric(n).map(Cow::into_owned)).collect::<Option<_>>()?;
            sorted.sort_unstable();
            sequence(sorted.iter(), out, |v, out| {
                out.push_str(v);
                Some(())
            })?;
        }
        Attr::BinSet(set) => {
            let mut sorted: Vec<String> = set.iter().map(|b| encode(b)).collect();
            sorted.sort_unstable();
            sequence(sorted.iter(), out, |v, out| text(v, out))?;
        }
    }
    Some(())
}

fn encode(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn sequence<T>(
    items: impl Iterator<Item = T>,
    out: &mut String,
    mut each: impl FnMut(T, &mut String) -> Option<()>,
) -> Option<()> {
    out.push('[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(item, out)?;
    }
    out.push(']');
    Some(())
}

/// A JSON string, escaped as `serde_json` escapes. `None` for U+0000.
fn text(s: &str, out: &mut String) -> Option<()> {
    if s.contains('\0') {
        return None;
    }
    out.push_str(&serde_json::to_string(s).ok()?);
    Some(())
}

/// The canonical form of JSON text as a database writes it. Numbers never pass through floats.
/// `None` when the text is not JSON.
#[must_use]
pub fn canonical_json_text(json: &str) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(json).ok()?;
    let mut out = String::with_capacity(json.len());
    rewrite(raw.get(), &mut out)?;
    Some(out)
}

fn rewrite(json: &str, out: &mut String) -> Option<()> {
    let json = json.trim();
    match json.as_bytes().first()? {
        b'{' => {
            let map: std::collections::BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
            out.push('{');
            for (i, (name, value)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::to_string(name).ok()?);
                out.push(':');
                rewrite(value.get(), out)?;
            }
            out.push('}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            sequence(items.iter(), out, |v, out| rewrite(v.get(), out))?;
        }
        b'"' => {
            let s: String = serde_json::from_str(json).ok()?;
            out.push_str(&serde_json::to_string(&s).ok()?);
        }
        b't' | b'f' | b'n' => out.push_str(json),
        _ => out.push_str(&canonical_numeric(json)?),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_write_one_form() {
        let attr = Attr::Map(vec![
            ("zip".into(), Attr::Str("012".into())),
            ("n".into(), Attr::Num("1.50".into())),
            ("tags".into(), Attr::StrSet(vec!["b".into(), "a".into()])),
            ("deep".into(), Attr::List(vec![Attr::Null, Attr::Bool(true), Attr::Str("q\"\\\u{1F600}".into())])),
        ]);
        let ours = canonical_json(&attr).expect("no NUL");
        assert_eq!(ours, r#"{"deep":[null,true,"q\"\\😀"],"n":1.5,"tags":["a","b"],"zip":"012"}"#);
        let theirs = r#"{"n": 1.50, "zip": "012", "deep": [null, true, "q\"\\\ud83d\ude00"], "tags": ["a", "b"]}"#;
        assert_eq!(canonical_json_text(theirs), Some(ours));
    }

    #[test]
    fn long_numbers_keep_every_digit() {
        let n = "12345678901234567890.123456789012345678";
        assert_eq!(canonical_json_text(&format!("[{n}, 1e2]")), Some(format!("[{n},100]")));
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(canonical_json(&Attr::Str("a\0b".into())), None);
        assert_eq!(canonical_json(&Attr::Map(vec![("a\0".into(), Attr::Null)])), None);
    }
}
