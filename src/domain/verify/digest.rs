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
/// XXH3 with 128 bits over [`Cell::encode`]. Two rows share a digest by chance once in 2^128. It is no defence against somebody who makes rows to that end: such a person writes both sides
/// already. A cryptographic hash cost a fifth of a comparison.
#[must_use]
pub fn digest_cells<'c, 'v: 'c>(cells: impl IntoIterator<Item = &'c Cell<'v>>) -> Digest {
    BYTES.with_borrow_mut(|bytes| {
        bytes.clear();
        for cell in cells {
            cell.encode(bytes);
        }
        XxHash3_128::oneshot(bytes)
    })
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
