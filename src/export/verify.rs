//! Reading an export again: is every record there, and every byte as it was written?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use zstd::stream::read::Decoder;

use super::error::ExportError;
use super::lines::hex;
use super::manifest::{Manifest, RecordForm, TableEntry};
use crate::domain::mapping::read_typed_record;
use crate::domain::verify::LinesDigest;

/// What was found of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its id.
    pub table: String,
    /// Records that were read.
    pub records: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// What the records add up to in any order.
    pub digest: LinesDigest,
    /// What is not as it was written. Empty when all is.
    pub wrong: Vec<String>,
}

/// Reads every file of an export and compares it with the manifest; hands on what was found of each table. Nothing is
/// held in memory but a line.
///
/// # Errors
/// There is no manifest that can be read. A file that cannot be is one that is wrong.
pub fn verify(folder: &Path, each: &mut dyn FnMut(&Checked)) -> Result<Manifest, ExportError> {
    let manifest = Manifest::read(folder)?;
    for table in &manifest.tables {
        each(&one(folder, table));
    }
    Ok(manifest)
}

fn one(folder: &Path, table: &TableEntry) -> Checked {
    let mut checked =
        Checked { table: table.id.clone(), records: 0, bytes: 0, digest: LinesDigest::default(), wrong: Vec::new() };
    let path = match table.path(folder) {
        Ok(path) => path,
        Err(e) => {
            checked.wrong.push(e.to_string());
            return checked;
        }
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) => {
            checked.wrong.push(format!("{} cannot be opened: {e}", path.display()));
            return checked;
        }
    };
    let mut summed = Summed { file, sum: Sha256::new(), bytes: 0 };
    if let Err(e) = lines(&mut summed, table, &mut checked) {
        checked.wrong.push(format!("{} cannot be read to its end: {e}", table.file));
        // The rest is summed up all the same.
        let _ = io::copy(&mut summed, &mut io::sink());
    }
    let (bytes, sum) = (summed.bytes, hex(summed.sum));
    let pairs = [
        ("records", table.records, checked.records),
        ("bytes of lines", table.bytes, checked.bytes),
        ("bytes of the file", table.file_bytes, bytes),
    ];
    for (what, written, found) in pairs {
        if written != found {
            checked.wrong.push(format!("{}: {found} {what}, and {written} were written", table.file));
        }
    }
    if sum != table.sha256 {
        checked.wrong.push(format!("{}: its SHA-256 is {sum}, and {} was written", table.file, table.sha256));
    }
    if table.digest.as_ref().is_some_and(|written| *written != checked.digest.hex()) {
        checked
            .wrong
            .push(format!("{}: its records add up to something else than those that were written", table.file));
    }
    checked
}

fn lines(file: &mut Summed, table: &TableEntry, checked: &mut Checked) -> io::Result<()> {
    let mut lines = BufReader::new(Decoder::new(file)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        checked.records += 1;
        checked.bytes += line.len() as u64;
        checked.digest.add(&line);
        if !is_record(table, &line) && checked.wrong.is_empty() {
            checked.wrong.push(format!("{}: line {} is no whole record", table.file, checked.records));
        }
    }
}

fn is_record(table: &TableEntry, line: &[u8]) -> bool {
    let Some(text) = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok()) else { return false };
    match table.form {
        RecordForm::DynamodbJson => read_typed_record(text).is_ok(),
        RecordForm::PostgresqlText => serde_json::from_str::<BTreeMap<String, Option<String>>>(text)
            .is_ok_and(|row| table.columns.iter().all(|(name, _)| row.contains_key(name))),
    }
}

/// Sums up what is read.
struct Summed {
    file: File,
    sum: Sha256,
    bytes: u64,
}

impl Read for Summed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.sum.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}
