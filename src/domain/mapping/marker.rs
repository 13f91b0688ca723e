//! How our own marker items are told from everybody else's: by their key alone where it can hold a nonce, by their key
//! and an attribute of ours where it is a number.

use sha2::{Digest as _, Sha256};

use super::TableMapping;
use crate::domain::value::{Record, Value};

/// The attribute of a marker item that holds its nonce.
pub const MARK: &str = "cutover-marker";

/// Where numbers of markers begin, and how many there are. They fit the integers of every language that customers read
/// their keys with, and lie far above what is counted up from 1.
const NUMBERS: (u64, u64) = (9_000_000_000_000_000_000, 200_000_000_000_000_000);

/// The number that stands for a nonce where a key is a number.
#[must_use]
pub fn marker_number(nonce: &str) -> String {
    let digest = Sha256::digest(nonce.as_bytes());
    let number = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    // Odd, because a zero at its end may be written as an exponent.
    (NUMBERS.0 + ((number % NUMBERS.1) | 1)).to_string()
}

/// The nonce that an item carries as a marker, if it carries one.
#[must_use]
pub fn mark<'i>(item: &'i Record<'_>) -> Option<&'i str> {
    match item.get(MARK)? {
        Value::Text(nonce) => Some(nonce),
        _ => None,
    }
}

impl TableMapping {
    /// Whether this is one of our own marker items; gives the nonce.
    #[must_use]
    pub fn marker<'i>(&self, item: &'i Record<'_>) -> Option<&'i str> {
        self.marked(item, || mark(item))
    }

    /// The same of a key, and of what the item carried that had it.
    #[must_use]
    pub fn marker_of<'i>(&self, key: &'i Record<'_>, mark: Option<&'i str>) -> Option<&'i str> {
        self.marked(key, || mark)
    }

    fn marked<'i>(&self, key: &'i Record<'_>, mark: impl Fn() -> Option<&'i str>) -> Option<&'i str> {
        let (partition, prefix) = self.marker_key()?;
        match key.get(partition)? {
            Value::Text(text) => text.strip_prefix(prefix),
            Value::Bytes(bytes) => std::str::from_utf8(bytes.strip_prefix(prefix.as_bytes())?).ok(),
            // A customer's item may have this number, and another one this attribute.
            Value::Decimal(number) => mark().filter(|nonce| marker_number(nonce) == *number),
            // No key of a store whose markers are items is one of these.
            Value::Bool(_)
            | Value::Null
            | Value::List(_)
            | Value::Map(_)
            | Value::TextSet(_)
            | Value::DecimalSet(_)
            | Value::BytesSet(_)
            | Value::Cell(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::Table;

    fn mapping() -> TableMapping {
        let table = Table { key: vec!["id".into()], marker_prefix: "m#".into(), ..Table::watched("t", "T") };
        TableMapping::new(&table)
    }

    fn item(id: Value<'static>, nonce: Option<&str>) -> Record<'static> {
        let mut fields = vec![("id".into(), id)];
        fields.extend(nonce.map(|nonce| (MARK.into(), Value::Text(nonce.to_owned().into()))));
        Record { fields }
    }

    #[test]
    fn a_key_of_bytes_tells_by_itself() {
        let bytes = |b: &'static [u8]| Value::Bytes(b.into());
        assert_eq!(mapping().marker(&item(bytes(b"m#n-1"), None)), Some("n-1"));
        assert_eq!(mapping().marker(&item(bytes(b"m-n-1"), None)), None);
        assert_eq!(mapping().marker(&item(bytes(b"m#\xff"), None)), None, "no nonce has such bytes");
    }

    #[test]
    fn a_number_is_a_marker_only_with_the_nonce_it_stands_for() {
        let number = |n: &str| Value::Decimal(n.to_owned().into());
        let ours = marker_number("n-1");
        assert_eq!(mapping().marker(&item(number(&ours), Some("n-1"))), Some("n-1"));
        assert_eq!(mapping().marker(&item(number(&ours), None)), None, "a customer's item with this number");
        assert_eq!(mapping().marker(&item(number(&ours), Some("n-2"))), None, "a customer's item with this attribute");
        let gone = item(number(&ours), None);
        assert_eq!(mapping().marker_of(&gone, Some("n-1")), Some("n-1"));
        assert_eq!(mapping().marker_of(&gone, None), None);
    }

    #[test]
    fn numbers_of_markers_fit_a_signed_integer_and_end_in_no_zero() {
        for n in 0..1_000 {
            let number = marker_number(&format!("nonce {n}"));
            assert!(number.parse::<i64>().is_ok_and(|n| n > 0) && !number.ends_with('0'), "{number}");
        }
    }
}
