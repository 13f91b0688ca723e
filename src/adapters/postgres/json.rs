//! `jsonb` as the server writes it, in canonical form.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::numeric;

/// Compact JSON with sorted keys and canonical numbers, as `domain::mapping::canonical_json` writes it.
/// Numbers stay text all the way. `None` when it is not JSON.
pub(super) fn canonical_json_text(text: &str) -> Option<Cow<'_, str>> {
    let mut out = String::with_capacity(text.len());
    write(&mut out, serde_json::from_str(text).ok()?)?;
    Some(if out == text { Cow::Borrowed(text) } else { Cow::Owned(out) })
}

fn write(out: &mut String, raw: &RawValue) -> Option<()> {
    let text = raw.get();
    match text.as_bytes().first()? {
        b'{' => {
            // Names may hold escapes, so they are owned; sorted as the mapping sorts them, by bytes.
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            out.push('{');
            for (i, (name, value)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::to_string(name).ok()?);
                out.push(':');
                write(out, value)?;
            }
            out.push('}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push('[');
            for (i, item) in items.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(out, item)?;
            }
            out.push(']');
        }
        b'"' if text.contains('\\') => {
            let plain: String = serde_json::from_str(text).ok()?;
            out.push_str(&serde_json::to_string(&plain).ok()?);
        }
        b'-' | b'0'..=b'9' => out.push_str(&number(text)?),
        _ => out.push_str(text),
    }
    Some(())
}

/// `jsonb` prints numbers as `numeric` does: plain decimal with the scale that was written.
fn number(text: &str) -> Option<String> {
    let mut raw = BytesMut::new();
    numeric::encode(&mut raw, text)?;
    numeric::decode(&raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_order_and_number_forms_are_made_one() {
        let text = r#"{"b": 1.50, "aa": [1, 2.0, -0, 12345678901234567890123456789012345678], "a": {"y": null, "x": "q\u0022\n"}}"#;
        assert_eq!(
            canonical_json_text(text).unwrap(),
            r#"{"a":{"x":"q\"\n","y":null},"aa":[1,2,0,12345678901234567890123456789012345678],"b":1.5}"#
        );
        assert_eq!(canonical_json_text("{").as_deref(), None);
        assert!(matches!(canonical_json_text(r#"[true,"a"]"#), Some(Cow::Borrowed(_))));
    }
}
