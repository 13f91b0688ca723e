//! What `pg_restore --verbose` writes, entry by entry.

use crate::adapters::postgres::ddl::Inside;

/// One entry: a table, an index, a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number in the dump.
    pub id: u32,
    /// Its class and number in the catalogue; zero for what has none of its own, like a comment.
    pub object: (u32, u32),
    /// Numbers of the entries it needs.
    pub needs: Vec<u32>,
    pub name: String,
    /// `TABLE`, `FK CONSTRAINT`.
    pub kind: String,
    /// `-` for what is in none.
    pub schema: String,
    pub sql: String,
}

impl Entry {
    /// `view public.totals`
    pub fn words(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        if self.schema == "-" {
            format!("{kind} {}", self.name)
        } else {
            format!("{kind} {}.{}", self.schema, self.name)
        }
    }
}

/// Every entry, in the order in which they can be made. What stands inside a text or a body is no header, whatever it looks
/// like.
pub(super) fn read(text: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut inside = Inside::default();
    let mut in_header = false;
    for line in text.split_inclusive('\n') {
        let plain = inside.is_plain();
        inside.read(line);
        if !plain {
            if let Some(entry) = entries.last_mut() {
                entry.sql.push_str(line);
            }
            continue;
        }
        if let Some(entry) = line.strip_prefix("-- TOC entry ").and_then(header) {
            entries.push(entry);
            in_header = true;
            continue;
        }
        let Some(entry) = entries.last_mut() else { continue };
        if in_header && let Some(needs) = line.strip_prefix("-- Dependencies:") {
            entry.needs = needs.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        } else if in_header && let Some(rest) = line.strip_prefix("-- Name: ") {
            (entry.name, entry.kind, entry.schema) = named(rest);
            in_header = false;
        } else if !(line.starts_with("--") || line.starts_with('\\') || line.starts_with("SET default_")) {
            entry.sql.push_str(line);
        }
    }
    for entry in &mut entries {
        entry.sql = entry.sql.trim().to_owned();
    }
    entries
}

/// `215 (class 1259 OID 16390)`
fn header(rest: &str) -> Option<Entry> {
    let (id, rest) = rest.trim_end().split_once(" (class ")?;
    let (class, oid) = rest.strip_suffix(')')?.split_once(" OID ")?;
    Some(Entry { id: id.parse().ok()?, object: (class.parse().ok()?, oid.parse().ok()?), ..Entry::default() })
}

/// `a; Type: TABLE; Schema: public; Owner: -`
fn named(rest: &str) -> (String, String, String) {
    let rest = rest.trim_end();
    let (rest, _) = rest.rsplit_once("; Owner: ").unwrap_or((rest, ""));
    let (rest, schema) = rest.rsplit_once("; Schema: ").unwrap_or((rest, "-"));
    let (name, kind) = rest.rsplit_once("; Type: ").unwrap_or((rest, ""));
    (name.to_owned(), kind.to_owned(), schema.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_inside_a_body_is_none_and_what_stands_between_entries_belongs_to_none() {
        let text = "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n--\n\
            -- TOC entry 269 (class 1255 OID 16531)\n-- Dependencies: 7 8\n\
            -- Name: touch(); Type: FUNCTION; Schema: public; Owner: -\n-- Data Pos: 0\n--\n\n\
            CREATE FUNCTION public.touch() RETURNS trigger\n    AS $$\nbegin\n\
            -- TOC entry 1 (class 1 OID 1)\n-- Name: x; Type: TABLE; Schema: y; Owner: -\n return new; end $$;\n\n\n\
            SET default_table_access_method = heap;\n\n--\n-- TOC entry 7 (class 2615 OID 16384)\n\
            -- Name: shop; Type: SCHEMA; Schema: -; Owner: -\n--\n\nCREATE SCHEMA shop;\n\n\n\
            -- Completed on 2026-11-30\n\n--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n";
        let found = read(text);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert_eq!((found[0].object, found[0].needs.as_slice()), ((1255, 16531), &[7, 8][..]));
        assert_eq!(found[0].words(), "function public.touch()");
        assert!(found[0].sql.starts_with("CREATE FUNCTION") && found[0].sql.ends_with("return new; end $$;"));
        assert!(found[0].sql.contains("-- TOC entry 1 "));
        assert_eq!((found[1].words().as_str(), found[1].sql.as_str()), ("schema shop", "CREATE SCHEMA shop;"));
    }
}
