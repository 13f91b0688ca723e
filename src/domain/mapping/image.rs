//! A digest of a whole item, to distinguish an image that we wrote from one that we did not.

use sha2::{Digest as _, Sha256};

use super::numeric::canonical;
use crate::domain::value::{Record, Value};

/// 128 bits over an item's attributes. The order of attributes, of map entries and of set members does not count,
/// nor does the way a number is written. `None` stands for an item that is gone.
#[must_use]
pub fn item_digest(item: Option<&Record<'_>>) -> u128 {
    let Some(item) = item else { return 0 };
    let mut hash = Sha256::new();
    entries(&mut hash, item.fields.iter().map(|(n, a)| (n.as_ref(), a)));
    hash.finalize().iter().take(16).fold(0, |sum, b| sum << 8 | u128::from(*b))
}

fn entries<'a, 'p: 'a>(hash: &mut Sha256, all: impl Iterator<Item = (&'a str, &'a Value<'p>)>) {
    let mut sorted: Vec<_> = all.collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(b.0));
    size(hash, sorted.len());
    for (name, attr) in sorted {
        bytes(hash, name.as_bytes());
        feed(hash, attr);
    }
}

fn feed(hash: &mut Sha256, attr: &Value<'_>) {
    bytes(hash, attr.kind().as_bytes());
    match attr {
        Value::Text(s) => bytes(hash, s.as_bytes()),
        Value::Decimal(n) => bytes(hash, canonical(n).unwrap_or_default().as_bytes()),
        Value::Bytes(b) => bytes(hash, b),
        Value::Bool(b) => hash.update([u8::from(*b)]),
        Value::Null => {}
        Value::List(items) => {
            size(hash, items.len());
            items.iter().for_each(|inner| feed(hash, inner));
        }
        Value::Map(all) => entries(hash, all.iter().map(|(n, a)| (n.as_ref(), a))),
        Value::TextSet(set) => members(hash, set.iter().map(|s| s.as_bytes().to_vec()).collect()),
        Value::DecimalSet(set) => {
            members(hash, set.iter().map(|n| canonical(n).unwrap_or_default().as_bytes().to_vec()).collect());
        }
        Value::BytesSet(set) => members(hash, set.iter().map(|b| b.to_vec()).collect()),
        Value::Cell(cell) => {
            let mut encoded = Vec::new();
            cell.encode(&mut encoded);
            bytes(hash, &encoded);
        }
    }
}

fn members(hash: &mut Sha256, mut set: Vec<Vec<u8>>) {
    set.sort_unstable();
    size(hash, set.len());
    set.iter().for_each(|member| bytes(hash, member));
}

fn bytes(hash: &mut Sha256, what: &[u8]) {
    size(hash, what.len());
    hash.update(what);
}

fn size(hash: &mut Sha256, n: usize) {
    hash.update((n as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_count_and_everything_else_does() {
        let item = |fields: Vec<(&'static str, Value<'static>)>| Record {
            fields: fields.into_iter().map(|(n, a)| (n.into(), a)).collect(),
        };
        let digest = |fields| item_digest(Some(&item(fields)));
        let set = |a: &'static str, b: &'static str| Value::TextSet(vec![a.into(), b.into()]);
        let one = digest(vec![("a", Value::Decimal("1.0".into())), ("b", set("x", "y"))]);
        assert_eq!(one, digest(vec![("b", set("y", "x")), ("a", Value::Decimal("1".into()))]));
        assert_ne!(one, digest(vec![("b", set("y", "x")), ("a", Value::Text("1".into()))]));
        assert_ne!(one, digest(vec![("b", set("y", "x"))]));
        assert_ne!(digest(vec![]), item_digest(None));
        let list = |items: Vec<Value<'static>>| digest(vec![("l", Value::List(items))]);
        assert_ne!(list(vec![Value::Null]), list(vec![Value::Null, Value::Null]));
    }
}
