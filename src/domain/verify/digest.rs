//! Row digests.

use std::cell::RefCell;

use twox_hash::XxHash3_128;

use crate::domain::value::Cell;

/// 128 bits over a row's canonical cells; equal rows have equal digests on both sides. Digests are compared within one
/// comparison and kept nowhere.
pub type Digest = u128;

thread_local! {
    /// What is hashed, kept so that a row costs no allocation.
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Digest of a row's cells in column order.
///
/// XXH3 with 128 bits over a prefix-free encoding: every cell is a type byte followed by a fixed width or by its
/// length and bytes, so neither cell boundaries nor NULL and empty text can be mistaken. Two rows share a digest by
/// chance once in 2^128. It is no defence against somebody who makes rows to that end: such a person writes both sides
/// already. A cryptographic hash cost a fifth of a comparison.
#[must_use]
pub fn digest_cells<'c, 'v: 'c>(cells: impl IntoIterator<Item = &'c Cell<'v>>) -> Digest {
    BYTES.with_borrow_mut(|bytes| {
        bytes.clear();
        for cell in cells {
            feed(bytes, cell);
        }
        XxHash3_128::oneshot(bytes)
    })
}

fn feed(bytes: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Null => bytes.push(0),
        Cell::Text(s) => sized(bytes, 1, s.as_bytes()),
        Cell::Uuid(u) => sized(bytes, 2, u),
        Cell::Numeric(s) => sized(bytes, 3, s.as_bytes()),
        Cell::Int(i) => fixed(bytes, 4, i.to_le_bytes()),
        Cell::Float(x) => {
            // Both zeros and all NaNs are one value to a reader of the target.
            let x = if *x == 0.0 { 0.0 } else { *x };
            let bits = if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
            fixed(bytes, 5, bits.to_le_bytes());
        }
        Cell::Bool(b) => bytes.extend([6, u8::from(*b)]),
        Cell::Timestamp(t) => fixed(bytes, 7, t.to_le_bytes()),
        Cell::Date(d) => fixed(bytes, 8, i64::from(*d).to_le_bytes()),
        Cell::Json(s) => sized(bytes, 9, s.as_bytes()),
        Cell::TextArray(v) => {
            fixed(bytes, 10, (v.len() as u64).to_le_bytes());
            v.iter().for_each(|s| sized(bytes, 1, s.as_bytes()));
        }
        Cell::Bytes(b) => sized(bytes, 11, b),
    }
}

fn fixed(bytes: &mut Vec<u8>, tag: u8, value: [u8; 8]) {
    bytes.push(tag);
    bytes.extend(value);
}

fn sized(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    fixed(bytes, tag, (value.len() as u64).to_le_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn t(text: &str) -> Cell<'_> {
        Cell::Text(text.into())
    }

    #[test]
    fn different_rows_have_different_digests() {
        let rows: Vec<Vec<Cell<'_>>> = vec![
            vec![],
            vec![Cell::Null],
            vec![Cell::Null, Cell::Null],
            vec![t("")],
            vec![t(""), Cell::Null],
            vec![Cell::Null, t("")],
            vec![t("ab"), t("c")],
            vec![t("a"), t("bc")],
            vec![t("abc")],
            vec![Cell::Json("abc".into())],
            vec![Cell::Numeric("1".into())],
            vec![Cell::Int(1)],
            vec![Cell::Timestamp(1)],
            vec![Cell::Date(1)],
            vec![Cell::Float(1.0)],
            vec![Cell::Bool(true)],
            vec![Cell::Bool(false)],
            vec![Cell::Bytes(b"abc"[..].into())],
            vec![Cell::TextArray(vec![])],
            vec![Cell::TextArray(vec!["a".into(), "b".into()])],
            vec![Cell::TextArray(vec!["ab".into()])],
            vec![Cell::TextArray(vec!["a".into()]), t("b")],
            vec![Cell::Uuid([0; 16])],
        ];
        let mut seen = HashMap::new();
        for row in &rows {
            assert_eq!(seen.insert(digest_cells(row), row), None, "{row:?}");
        }
    }

    #[test]
    fn equal_values_have_equal_digests() {
        assert_eq!(digest_cells(&[t("x")]), digest_cells(&[Cell::Text("x".to_owned().into())]));
        assert_eq!(digest_cells(&[Cell::Float(0.0)]), digest_cells(&[Cell::Float(-0.0)]));
        assert_eq!(digest_cells(&[Cell::Float(f64::NAN)]), digest_cells(&[Cell::Float(-f64::NAN)]));
    }
}
