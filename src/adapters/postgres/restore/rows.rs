//! Lines of an export as rows of `COPY … FROM STDIN` in its text form.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::{Bytes, BytesMut};

use crate::domain::verify::each_line;
use crate::ports::{ErrorKind, HeldTable, PortError, PortResult};

/// The rows of whole lines, each value as the text it was written as; NULL is `\N`.
///
/// # Errors
/// A line that is no record, or without one of the columns. Errors name no value.
pub(super) fn copied(table: &HeldTable, lines: &[u8]) -> PortResult<Bytes> {
    let torn = |why: &str| {
        PortError::new(ErrorKind::Invalid, super::TRIED, &table.name, format!("a line of the export {why}"))
            .advise("`cutover export --verify` says which file is not as it was written")
    };
    let mut out = BytesMut::with_capacity(lines.len());
    for line in each_line(lines) {
        let row: HashMap<Cow<'_, str>, Option<Cow<'_, str>>> =
            serde_json::from_slice(line).map_err(|_| torn("is no record of text and nulls"))?;
        for (n, (name, _)) in table.columns.iter().enumerate() {
            if n > 0 {
                out.extend_from_slice(b"\t");
            }
            match row.get(name.as_str()) {
                Some(Some(text)) => push(&mut out, text.as_bytes()),
                Some(None) => out.extend_from_slice(b"\\N"),
                None => return Err(torn(&format!("has no column {name}"))),
            }
        }
        out.extend_from_slice(b"\n");
    }
    Ok(out.freeze())
}

/// A value, with what would end it or be read as something else hidden.
fn push(out: &mut BytesMut, value: &[u8]) {
    for byte in value {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            plain => out.extend_from_slice(&[*plain]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_hidden_as_copy_reads_it_and_null_is_no_text() {
        let columns = ["id", "note"].map(|name| (name.to_owned(), "text".to_owned())).to_vec();
        let table = HeldTable { columns, ..HeldTable::default() };
        let lines = "{\"id\":\"1\",\"note\":\"a\\tb\\\\N\\n\\r\\u00e9\"}\n{\"note\":null,\"id\":\"\\\\.\"}\n{\"id\":\"\",\"note\":\"\\\\N\"}\n";
        let rows = copied(&table, lines.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&rows).unwrap(), "1\ta\\tb\\\\N\\n\\ré\n\\\\.\t\\N\n\t\\\\N\n");
        for (torn, why) in
            [("{\"id\":\"secret\"}\n", "has no column note"), ("{\"id\":7}\n", "is no record"), ("x\n", "is no record")]
        {
            let said = copied(&table, torn.as_bytes()).unwrap_err().to_string();
            assert!(said.contains(why) && !said.contains("secret"), "{said}");
        }
    }
}
