//! What the records of a table add up to, written as lines, in whatever order they are read.

use twox_hash::XxHash3_128;

/// A count of lines and the sum of their digests (XXH3 with 128 bits). Two tables whose records are written alike have the
/// same, in whatever order each was read; a record that is there twice counts twice. It is kept in manifests, so it must
/// stay what it is. No defence against somebody who makes records to that end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinesDigest {
    /// Lines.
    pub records: u64,
    sum: u128,
}

impl LinesDigest {
    /// The digest of one line, without its line break.
    #[must_use]
    pub fn of_line(line: &[u8]) -> u128 {
        XxHash3_128::oneshot(line)
    }

    /// Adds whole lines, each followed by a line break.
    pub fn add(&mut self, lines: &[u8]) {
        for line in each_line(lines) {
            self.records += 1;
            self.sum = self.sum.wrapping_add(Self::of_line(line));
        }
    }

    /// The sum in hexadecimal, as a manifest holds it.
    #[must_use]
    pub fn hex(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

/// The lines of a text that ends with a line break, without their line breaks.
pub fn each_line(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines.split_inclusive(|b| *b == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str) -> LinesDigest {
        let mut digest = LinesDigest::default();
        digest.add(lines.as_bytes());
        digest
    }

    #[test]
    fn the_order_of_lines_says_nothing_and_every_line_counts() {
        assert_eq!(of("{\"a\":1}\n{\"a\":2}\n"), of("{\"a\":2}\n{\"a\":1}\n"));
        assert_ne!(of("{\"a\":1}\n"), of("{\"a\":1}\n{\"a\":1}\n"));
        assert_ne!(of("{\"a\":1}\n{\"a\":1}\n").hex(), of("").hex(), "two alike do not take each other away");
        assert_ne!(of("ab\nc\n").hex(), of("a\nbc\n").hex());
        let mut pieces = of("x\n");
        pieces.add(b"y\nz\n");
        assert_eq!((pieces, pieces.records), (of("z\ny\nx\n"), 3));
    }

    #[test]
    fn what_manifests_hold_stays_what_it_is() {
        assert_eq!(of("{\"id\":\"7\"}\n").hex(), "de9eab2ea2f57b218347ea4d1e1462a3");
    }
}
