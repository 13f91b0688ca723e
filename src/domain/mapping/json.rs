//! Canonical JSON text.

use crate::domain::value::Attr;

/// Compact JSON of an attribute with sorted object keys, canonical numbers and sorted sets.
/// Binary values become base64 text. `None` when text holds U+0000, which jsonb cannot store.
#[must_use]
pub fn canonical_json(attr: &Attr<'_>) -> Option<String> {
    let _ = attr;
    None
}
