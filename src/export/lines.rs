//! A table's records, line by line, compressed and summed up on their way.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use zstd::stream::write::Encoder;

use super::error::ExportError;
use crate::domain::verify::LinesDigest;

/// The compressor's own default: what a disk takes is written as fast as it is read.
const LEVEL: i32 = 3;

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// What the records add up to in any order, in hexadecimal ([`LinesDigest`]).
    pub digest: String,
}

/// A file of compressed lines that is being written.
pub struct LinesFile<W: Write> {
    encoder: Encoder<'static, Summed<W>>,
    path: PathBuf,
    records: u64,
    bytes: u64,
    digest: LinesDigest,
}

impl<W: Write> LinesFile<W> {
    /// Writes into `out`, which is what errors call `path`.
    ///
    /// # Errors
    /// There is no memory for the compressor.
    pub fn new(out: W, path: PathBuf) -> Result<Self, ExportError> {
        let open = || {
            let mut encoder = Encoder::new(Summed { out, sum: Sha256::new(), bytes: 0 }, LEVEL)?;
            encoder.include_checksum(true)?;
            Ok(encoder)
        };
        let encoder = open().map_err(ExportError::io("compress", &path))?;
        Ok(Self { encoder, path, records: 0, bytes: 0, digest: LinesDigest::default() })
    }

    /// Writes so many records, each a line.
    ///
    /// # Errors
    /// The disk takes no more.
    pub fn write(&mut self, lines: &[u8], records: u64) -> Result<(), ExportError> {
        self.encoder.write_all(lines).map_err(ExportError::io("write", &self.path))?;
        self.digest.add(lines);
        self.records += records;
        self.bytes += lines.len() as u64;
        Ok(())
    }

    fn end(self) -> Result<(W, PathBuf, Written), ExportError> {
        let summed = self.encoder.finish().map_err(ExportError::io("write", &self.path))?;
        let Summed { out, sum, bytes } = summed;
        let (records, digest) = (self.records, self.digest.hex());
        let written = Written { records, bytes: self.bytes, file_bytes: bytes, sha256: hex(sum), digest };
        Ok((out, self.path, written))
    }
}

impl LinesFile<File> {
    /// Ends the file and waits until it is on disk.
    ///
    /// # Errors
    /// The disk takes no more.
    pub fn finish(self) -> Result<Written, ExportError> {
        let (file, path, written) = self.end()?;
        file.sync_all().map_err(ExportError::io("sync", &path))?;
        Ok(written)
    }
}

/// A sum in hexadecimal.
pub(super) fn hex(sum: Sha256) -> String {
    sum.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Sums up what is written.
struct Summed<W> {
    out: W,
    sum: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk(usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_is_full_is_said_with_what_to_do() {
        let mut file = LinesFile::new(Disk(10_000), "backup.partial/books.ndjson.zst".into()).unwrap();
        let mut seed = 7_u64;
        let mut line = || {
            let more = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                format!("{seed:x}")
            });
            more.take(1_000).collect::<String>() + "\n"
        };
        let failed = (0..100).find_map(|_| file.write(line().as_bytes(), 1).err());
        let e = failed.expect("no error of a full disk").to_string();
        assert!(e.starts_with("write backup.partial/books.ndjson.zst: ") && e.contains("free space there"), "{e}");
    }

    #[test]
    fn a_file_knows_what_it_holds() {
        let mut file = LinesFile::new(Vec::new(), "t".into()).unwrap();
        file.write(b"{\"a\":1}\n{\"a\":2}\n", 2).unwrap();
        let (raw, _, written) = file.end().unwrap();
        assert_eq!((written.records, written.bytes, written.file_bytes), (2, 16, raw.len() as u64));
        assert_eq!(zstd::decode_all(&raw[..]).unwrap(), b"{\"a\":1}\n{\"a\":2}\n");
        assert_eq!(written.sha256, hex(Sha256::new_with_prefix(&raw)));
    }
}
