//! Row digests.

use sha2::{Digest as _, Sha256};

use crate::domain::value::Cell;

/// 128 bits over a row's canonical cells; equal rows have equal digests on both sides.
pub type Digest = u128;

/// Digest of a row's cells in column order.
///
/// The first half of SHA-256 over a prefix-free encoding: every cell is a type byte followed by a fixed
/// width or by its length and bytes, so neither cell boundaries nor NULL and empty text can be mistaken.
#[must_use]
pub fn digest_cells(cells: &[Cell<'_>]) -> Digest {
    let mut hash = Sha256::new();
    for cell in cells {
        feed(&mut hash, cell);
    }
    let out = hash.finalize();
    out.iter().take(16).fold(0, |sum, b| sum << 8 | u128::from(*b))
}

fn feed(hash: &mut Sha256, cell: &Cell<'_>) {
    match cell {
        Cell::Null => hash.update([0]),
        Cell::Text(s) => sized(hash, 1, s.as_bytes()),
        Cell::Uuid(u) => sized(hash, 2, u),
        Cell::Numeric(s) => sized(hash, 3, s.as_bytes()),
        Cell::Int(i) => fixed(hash, 4, i.to_le_bytes()),
        Cell::Float(x) => {
            // Both zeros and all NaNs are one value to a reader of the target.
            let x = if *x == 0.0 { 0.0 } else { *x };
            let bits = if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
            fixed(hash, 5, bits.to_le_bytes());
        }
        Cell::Bool(b) => hash.update([6, u8::from(*b)]),
        Cell::Timestamp(t) => fixed(hash, 7, t.to_le_bytes()),
        Cell::Date(d) => fixed(hash, 8, i64::from(*d).to_le_bytes()),
        Cell::Json(s) => sized(hash, 9, s.as_bytes()),
        Cell::TextArray(v) => {
            fixed(hash, 10, (v.len() as u64).to_le_bytes());
            v.iter().for_each(|s| sized(hash, 1, s.as_bytes()));
        }
        Cell::Bytes(b) => sized(hash, 11, b),
    }
}

fn fixed(hash: &mut Sha256, tag: u8, bytes: [u8; 8]) {
    let mut frame = [tag; 9];
    frame[1..].copy_from_slice(&bytes);
    hash.update(frame);
}

fn sized(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    fixed(hash, tag, (bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
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
        // Stable over releases: digests may be kept in a run folder.
        assert_eq!(digest_cells(&[]), 0xe3b0_c442_98fc_1c14_9afb_f4c8_996f_b924);
    }
}
