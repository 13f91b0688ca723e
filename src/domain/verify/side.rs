//! One side of a table in constant memory: sums of row digests by bucket of the key.

use super::digest::Digest;

/// Buckets of a side. A power of two.
const BUCKETS: usize = 1 << 16;

/// The bucket of a key's digest.
#[must_use]
pub const fn bucket(key: Digest) -> usize {
    (key >> 112) as usize & (BUCKETS - 1)
}

/// A side of a table, summed up. Two sides whose sums and counts agree in a bucket hold the same rows there: the
/// digests have 128 bits, so another set of rows with the same sum does not occur by chance.
/// Sums do not depend on the order of reading, so parts may be read in parallel and merged.
#[derive(Clone, Debug)]
pub struct SideDigest {
    buckets: Vec<(Digest, u64)>,
}

impl Default for SideDigest {
    fn default() -> Self {
        Self { buckets: vec![(0, 0); BUCKETS] }
    }
}

impl SideDigest {
    /// Adds a row by its key's digest and its own.
    pub fn row(&mut self, key: Digest, row: Digest) {
        let (sum, rows) = &mut self.buckets[bucket(key)];
        *sum = sum.wrapping_add(row);
        *rows += 1;
    }

    /// Adds what belongs to a row that is counted elsewhere: a child row, by its parent's key.
    pub fn part(&mut self, key: Digest, weight: Digest) {
        let (sum, _) = &mut self.buckets[bucket(key)];
        *sum = sum.wrapping_add(weight);
    }

    /// Takes another part of the same side in.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            ours.0 = ours.0.wrapping_add(theirs.0);
            ours.1 += theirs.1;
        }
    }

    /// Rows of this side.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.buckets.iter().map(|(_, rows)| rows).sum()
    }

    /// Buckets in which two sides differ, each with the larger number of rows; and the rows of all other buckets.
    #[must_use]
    pub fn differing(&self, other: &Self) -> (Vec<(usize, u64)>, u64) {
        let (mut found, mut equal) = (Vec::new(), 0);
        for (n, (a, b)) in self.buckets.iter().zip(&other.buckets).enumerate() {
            if a == b {
                equal += a.1;
            } else {
                found.push((n, a.1.max(b.1)));
            }
        }
        (found, equal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Digest = 0x0007 << 112;

    fn side(rows: &[(Digest, Digest)]) -> SideDigest {
        let mut tally = SideDigest::default();
        rows.iter().for_each(|(key, row)| tally.row(*key, *row));
        tally
    }

    #[test]
    fn the_order_and_the_parts_do_not_matter() {
        let whole = side(&[(KEY, 3), (KEY + 1, 5), (1 << 120, 9)]);
        let mut parts = side(&[(1 << 120, 9), (KEY + 1, 5)]);
        parts.merge(&side(&[(KEY, 3)]));
        assert_eq!(whole.differing(&parts), (vec![], 3));
        assert_eq!(parts.rows(), 3);
    }

    #[test]
    fn a_row_that_changed_is_missing_or_came_twice_shows_in_its_bucket() {
        let whole = side(&[(KEY, 3), (KEY + 1, 5), (1 << 120, 9)]);
        for other in [
            side(&[(KEY, 4), (KEY + 1, 5), (1 << 120, 9)]),
            side(&[(KEY + 1, 5), (1 << 120, 9)]),
            side(&[(KEY, 3), (KEY + 1, 5), (KEY + 2, 0), (1 << 120, 9)]),
        ] {
            let (found, equal) = whole.differing(&other);
            assert_eq!((found[0].0, equal), (7, 1));
        }
        let mut child = whole.clone();
        child.part(KEY, 1);
        assert_eq!((child.rows(), whole.differing(&child).0), (3, vec![(7, 2)]));
    }

    #[test]
    fn every_key_has_a_bucket() {
        assert_eq!((bucket(0), bucket(Digest::MAX)), (0, BUCKETS - 1));
    }
}
