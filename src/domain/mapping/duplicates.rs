//! Different records that would become one row: found by digests of keys, in bounded memory.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use twox_hash::XxHash3_128;

use super::profile::Found;
use crate::domain::value::Cell;

/// Keys that are remembered at most: about 24 MB.
const MOST: usize = 1 << 20;

/// Keys of rows seen so far, each with the record it came from.
///
/// Of more keys than are remembered, those of an even share are: a half, a quarter, and so on. Both records of a pair
/// have the same digest, so a pair is in the share as a whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Duplicates {
    seen: HashMap<u64, u64>,
    /// The share of all keys is one in two to the power of this.
    halved: u32,
    found: Found,
    bytes: Vec<u8>,
}

impl Duplicates {
    /// Notes the key of a row and the key of the record it came from. The same record read twice is no duplicate.
    pub(super) fn note<'c, 'p: 'c>(&mut self, row: impl Iterator<Item = &'c Cell<'p>>, record: &str) {
        self.bytes.clear();
        row.for_each(|cell| cell.encode(&mut self.bytes));
        let digest = digest(&self.bytes);
        if in_share(digest, self.halved) {
            self.keep(digest, record, MOST);
        }
    }

    fn keep(&mut self, row: u64, record: &str, most: usize) {
        let of = digest(record.as_bytes());
        match self.seen.entry(row) {
            Entry::Vacant(free) => {
                free.insert(of);
            }
            Entry::Occupied(other) if *other.get() == of => {}
            Entry::Occupied(_) => self.found.note(record),
        }
        while self.seen.len() > most {
            self.halved += 1;
            let halved = self.halved;
            self.seen.retain(|row, _| in_share(*row, halved));
        }
    }

    /// Records whose row has the key of another record's row, among the keys that were compared.
    #[must_use]
    pub const fn found(&self) -> &Found {
        &self.found
    }

    /// One of how many keys was compared: 1 is all of them.
    #[must_use]
    pub const fn one_in(&self) -> u64 {
        1 << self.halved
    }
}

fn digest(bytes: &[u8]) -> u64 {
    // Half of it is as even as the whole.
    (XxHash3_128::oneshot(bytes) & u128::from(u64::MAX)) as u64
}

/// Whether a key's digest begins with as many zeros as the share was halved.
const fn in_share(digest: u64, halved: u32) -> bool {
    digest.leading_zeros() >= halved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_records_that_become_one_row_are_found_and_one_that_is_read_twice_is_not() {
        let mut all = Duplicates::default();
        let note = |all: &mut Duplicates, row: &'static str, record| {
            all.note([&Cell::Text(row.into())].into_iter(), record);
        };
        note(&mut all, "a", "1");
        note(&mut all, "b", "2");
        note(&mut all, "a", "1");
        assert_eq!((all.found().times, all.one_in()), (0, 1));
        note(&mut all, "a", "3");
        assert_eq!(all.found(), &Found { times: 1, keys: vec!["3".to_owned()] });
    }

    #[test]
    fn of_too_many_keys_an_even_share_is_compared() {
        let mut all = Duplicates::default();
        for n in 0_u64..10_000 {
            let row = digest(&n.to_le_bytes());
            if in_share(row, all.halved) {
                all.keep(row, &n.to_string(), 1_000);
            }
        }
        assert!(all.seen.len() <= 1_000 && all.one_in() >= 8 && all.found().times == 0, "{}", all.one_in());
        for n in 0_u64..10_000 {
            let row = digest(&n.to_le_bytes());
            if in_share(row, all.halved) {
                all.keep(row, "another", 1_000);
            }
        }
        let estimated = all.found().times * all.one_in();
        assert!((8_000..12_000).contains(&estimated), "{estimated}");
    }
}
