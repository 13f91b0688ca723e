//! Row digests: 128 bits over canonical cells, the same on both sides.

use sha2::{Digest as _, Sha256};

use crate::domain::value::Cell;

/// 128 bits of SHA-256 over a row's canonical cells.
pub type Digest = u128;

/// Digest of a row's cells in column order. Every cell is tagged with its type and length, so that neither
/// null and empty nor shifted boundaries collide.
#[must_use]
pub fn digest_cells(cells: &[Cell<'_>]) -> Digest {
    let mut hash = Sha256::new();
    for cell in cells {
        add(&mut hash, cell);
    }
    truncate(hash)
}

/// Digest of text: a key.
#[must_use]
pub fn digest_text(text: &str) -> Digest {
    let mut hash = Sha256::new();
    tagged(&mut hash, b'k', text.as_bytes());
    truncate(hash)
}

fn truncate(hash: Sha256) -> Digest {
    let full = hash.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&full[..16]);
    u128::from_be_bytes(half)
}

fn tagged(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash.update([tag]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn add(hash: &mut Sha256, cell: &Cell<'_>) {
    match cell {
        Cell::Null => tagged(hash, b'0', &[]),
        Cell::Text(s) => tagged(hash, b't', s.as_bytes()),
        Cell::Uuid(u) => tagged(hash, b'u', u),
        Cell::Numeric(n) => tagged(hash, b'n', n.as_bytes()),
        Cell::Int(i) => tagged(hash, b'i', &i.to_be_bytes()),
        // Zero has two forms a reader cannot tell apart.
        Cell::Float(x) => tagged(hash, b'f', &(if *x == 0.0 { 0.0 } else { *x }).to_bits().to_be_bytes()),
        Cell::Bool(b) => tagged(hash, b'b', &[u8::from(*b)]),
        Cell::Timestamp(t) => tagged(hash, b's', &t.to_be_bytes()),
        Cell::Date(d) => tagged(hash, b'd', &d.to_be_bytes()),
        Cell::Json(s) => tagged(hash, b'j', s.as_bytes()),
        Cell::TextArray(items) => {
            tagged(hash, b'a', &(items.len() as u64).to_be_bytes());
            for item in items {
                tagged(hash, b't', item.as_bytes());
            }
        }
        Cell::Bytes(b) => tagged(hash, b'y', b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_can_tell_apart_has_another_digest() {
        let t = |s: &'static str| Cell::Text(s.into());
        let rows: Vec<Vec<Cell<'_>>> = vec![
            vec![],
            vec![Cell::Null],
            vec![t("")],
            vec![t("ab"), t("c")],
            vec![t("a"), t("bc")],
            vec![Cell::Numeric("1".into())],
            vec![Cell::Int(1)],
            vec![Cell::TextArray(vec!["a".into(), "b".into()])],
            vec![Cell::TextArray(vec!["ab".into()])],
            vec![Cell::Json("{}".into())],
        ];
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                assert_eq!(digest_cells(a) == digest_cells(b), i == j, "{a:?} {b:?}");
            }
        }
        assert_eq!(digest_cells(&[Cell::Float(0.0)]), digest_cells(&[Cell::Float(-0.0)]));
    }
}
