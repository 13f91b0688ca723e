//! The lines of an export, piece by piece, for whoever writes them back.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::ops::ControlFlow;
use std::path::Path;

use zstd::stream::read::Decoder;

use super::error::ExportError;
use super::manifest::TableEntry;

/// About how many bytes of lines are handed on at a time.
const PIECE: usize = 256 * 1024;

/// Reads the file of a table and hands on whole lines, each followed by a line break, until `each` breaks off. What the
/// file holds is not judged: [`super::verify()`] does that, before anything is written anywhere.
///
/// # Errors
/// The file cannot be read, or ends within a line.
pub fn read(
    folder: &Path,
    table: &TableEntry,
    each: &mut dyn FnMut(Vec<u8>) -> ControlFlow<()>,
) -> Result<(), ExportError> {
    let path = table.path(folder)?;
    let error = || ExportError::io("read", &path);
    let file = File::open(&path).map_err(error())?;
    let mut lines = Decoder::with_buffer(BufReader::new(file)).map_err(error())?;
    let mut piece = Vec::with_capacity(PIECE);
    loop {
        let begun = piece.len();
        piece.resize(begun + PIECE, 0);
        let read = lines.read(&mut piece[begun..]).map_err(error())?;
        piece.truncate(begun + read);
        if read == 0 {
            break;
        }
        let Some(last) = piece.iter().rposition(|b| *b == b'\n') else { continue };
        let rest = piece.split_off(last + 1);
        if each(std::mem::replace(&mut piece, rest)).is_break() {
            return Ok(());
        }
    }
    if piece.is_empty() {
        return Ok(());
    }
    let ends = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ends within a line");
    Err(error()(ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::at::At;
    use crate::export::{ExportFolder, Manifest};

    #[test]
    fn whole_lines_come_in_pieces_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("backup");
        let folder = ExportFolder::create(&to).unwrap();
        let (name, mut file) = folder.table("t").unwrap();
        let long = "x".repeat(3 * PIECE);
        let text: String =
            (0..5_000).map(|n| format!("{n} {}\n", "y".repeat(n % 200))).chain([long, "\n".into()]).collect();
        file.write(text.as_bytes(), 5_001).unwrap();
        let entry = serde_json::json!({
            "id": "t", "store": "old", "source": "t", "key": [], "file": name, "form": "dynamodb-json", "records": 0,
            "bytes": 0, "file_bytes": 0, "sha256": "", "began": "", "ended": "",
        });
        let entry = serde_json::from_value::<TableEntry>(entry).unwrap().with(file.finish().unwrap());
        folder.complete(&Manifest::begun("a/b", "0", At(0))).unwrap();
        let (mut all, mut pieces) = (Vec::new(), 0);
        read(&to, &entry, &mut |piece| {
            assert_eq!(piece.last(), Some(&b'\n'));
            pieces += 1;
            all.extend(piece);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert!(all == text.as_bytes() && pieces > 2, "{pieces}");
        let mut first = 0;
        read(&to, &entry, &mut |_| {
            first += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(first, 1);
        let elsewhere = TableEntry { file: "../t.ndjson.zst".into(), ..entry };
        assert!(matches!(read(&to, &elsewhere, &mut |_| ControlFlow::Continue(())), Err(ExportError::Manifest { .. })));
    }
}
