//! A table's DDL as people have it: plain SQL, or what `pg_dump --schema-only` writes for `psql`.
//!
//! It runs on a connection of its own that is closed afterwards, because a dump sets what it likes (an empty
//! `search_path`, no time limits) for the whole session.

use tokio_postgres::Error;
use tokio_postgres::error::ErrorPosition;

use super::connect::Ask;
use super::trouble;
use crate::ports::{ErrorKind, PortError};

/// Commands of `psql` that a dump contains and nothing depends on.
const SKIPPED: [&str; 2] = ["\\restrict", "\\unrestrict"];

/// Something in the text that no server can run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotSql {
    /// Counted from 1.
    pub line: usize,
    /// What stands there: `\connect`.
    pub what: String,
}

/// The SQL of a DDL text, every line where it was, without what only `psql` reads and nothing depends on.
///
/// # Errors
/// The first thing that is not SQL and cannot be left out.
pub(super) fn sql(text: &str) -> Result<String, NotSql> {
    let mut inside = Inside::default();
    let mut out = String::with_capacity(text.len());
    for (n, line) in text.split_inclusive('\n').enumerate() {
        let plain = inside.is_plain();
        let trimmed = line.trim_start();
        if plain && trimmed.starts_with('\\') {
            let word = trimmed.split_whitespace().next().unwrap_or(trimmed);
            if !SKIPPED.contains(&word) {
                return Err(NotSql { line: n + 1, what: word.to_owned() });
            }
            out.push('\n');
            continue;
        }
        if plain && limits_itself(trimmed) {
            out.push('\n');
            continue;
        }
        if plain && brings_rows(trimmed) {
            return Err(NotSql { line: n + 1, what: "COPY … FROM stdin".to_owned() });
        }
        inside.read(line);
        out.push_str(line);
    }
    Ok(out)
}

/// The same without the schemas that are there already, every line where it was: a dump makes `public`, which every
/// database has. `IF NOT EXISTS` would ask for a right on the database first.
pub(super) async fn without_schemas(client: &impl Ask, text: &str) -> Result<String, Error> {
    let mut inside = Inside::default();
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let makes = if inside.is_plain() { made_schema(line) } else { None };
        inside.read(line);
        let there = match makes {
            Some(name) => client.ask_one("SELECT to_regnamespace($1) IS NOT NULL", &[&name]).await?,
            None => None,
        };
        match there.map_or(Ok(false), |row| row.try_get(0))? {
            true => out.push('\n'),
            false => out.push_str(line),
        }
    }
    Ok(out)
}

/// The name in a line that makes a schema and does nothing else.
fn made_schema(line: &str) -> Option<&str> {
    let rest = line.trim().strip_suffix(';')?;
    let (words, name) = rest.rsplit_once(char::is_whitespace)?;
    let words: Vec<String> = words.split_whitespace().map(str::to_ascii_lowercase).collect();
    (words == ["create", "schema"]).then_some(name)
}

/// A time limit of the dump's own session that servers before 17 do not know; the connection is closed afterwards.
fn limits_itself(line: &str) -> bool {
    line.to_ascii_lowercase().starts_with("set transaction_timeout = ") && line.trim_end().ends_with(';')
}

fn brings_rows(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.starts_with("copy ") && line.split_whitespace().collect::<Vec<_>>().join(" ").contains(" from stdin")
}

/// What a line begins inside of.
#[derive(Debug, Default)]
pub(super) enum Inside {
    #[default]
    Nothing,
    /// `'…'`; with a backslash that hides the next character in `E'…'`.
    Text(bool),
    /// `"…"`
    Name,
    /// `$tag$ … $tag$`
    Dollar(String),
    /// `/* … */`, which nest.
    Comment(u32),
}

impl Inside {
    /// Whether a line that begins now is SQL of its own.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    /// Reads one line with its end.
    pub(super) fn read(&mut self, line: &str) {
        let mut rest = line;
        let mut before = '\n';
        while let Some(c) = rest.chars().next() {
            let mut step = c.len_utf8();
            match self {
                Self::Nothing if rest.starts_with("--") => return,
                Self::Nothing if rest.starts_with("/*") => {
                    *self = Self::Comment(1);
                    step = 2;
                }
                Self::Nothing => match c {
                    '\'' => *self = Self::Text(matches!(before, 'e' | 'E')),
                    '"' => *self = Self::Name,
                    // `a$b` is a name.
                    '$' if !(before.is_alphanumeric() || before == '_') => {
                        if let Some(tag) = dollar(rest) {
                            step = tag.len();
                            *self = Self::Dollar(tag.to_owned());
                        }
                    }
                    _ => {}
                },
                Self::Text(true) if c == '\\' => step += rest[1..].chars().next().map_or(0, char::len_utf8),
                // A doubled quote ends the text and begins it again.
                Self::Text(_) if c == '\'' => *self = Self::Nothing,
                Self::Name if c == '"' => *self = Self::Nothing,
                Self::Dollar(tag) if rest.starts_with(tag.as_str()) => {
                    step = tag.len();
                    *self = Self::Nothing;
                }
                Self::Comment(depth) if rest.starts_with("/*") => {
                    *depth += 1;
                    step = 2;
                }
                Self::Comment(depth) if rest.starts_with("*/") => {
                    step = 2;
                    *depth -= 1;
                    if *depth == 0 {
                        *self = Self::Nothing;
                    }
                }
                Self::Text(_) | Self::Name | Self::Dollar(_) | Self::Comment(_) => {}
            }
            before = c;
            rest = &rest[step..];
        }
    }
}

/// The opening `$tag$` a text begins with.
fn dollar(text: &str) -> Option<&str> {
    let end = text[1..].find('$')? + 1;
    let tag = &text[1..end];
    let name = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    name.then(|| &text[..=end])
}

/// What a check and the step that creates the table say.
pub(super) fn refused(not_sql: &NotSql, table: &str) -> PortError {
    let came_back = format!("line {} of its DDL is for psql and not SQL: {}", not_sql.line, not_sql.what);
    PortError::new(ErrorKind::Invalid, "create", table, came_back)
        .advise("write the file with pg_dump --schema-only --no-owner --no-privileges, or take the line out")
}

/// A statement of the DDL that failed, with its line.
pub(super) fn failed(e: &Error, sql: &str, table: &str) -> PortError {
    let said = trouble::error(e, "create", table);
    let Some(db) = e.as_db_error() else { return said };
    let line = match db.position() {
        Some(ErrorPosition::Original(at)) => {
            Some(1 + sql.chars().take((*at as usize).saturating_sub(1)).filter(|c| *c == '\n').count())
        }
        // What it does not know it only names.
        Some(ErrorPosition::Internal { .. }) | None => {
            let named = db.message().split('"').nth(1);
            named.and_then(|name| sql.lines().position(|line| line.contains(name))).map(|line| line + 1)
        }
    };
    let line = line.map_or_else(|| "a statement".to_owned(), |line| format!("line {line}"));
    let advice = match db.code().code() {
        // A setting, an owner, a type.
        "42704" => {
            "take it out of the DDL if this server need not have it (owners: pg_dump --no-owner), or make it first"
        }
        "42P06" => "take the line out, or write CREATE SCHEMA IF NOT EXISTS",
        "42P07" | "42710" | "42723" => {
            "it is there already: take its lines out of the DDL (pg_dump -t TABLE writes one table only), or drop what is there \
             if it may go"
        }
        _ => said.advice.as_str(),
    };
    PortError { came_back: format!("{line} of its DDL: {}", said.came_back), advice: advice.to_owned(), ..said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_of_psql_are_left_out_and_every_line_stays_where_it_was() {
        let kept = [
            "CREATE TABLE a (b text DEFAULT '\n\\c\n');\n",
            "CREATE TABLE a (b text DEFAULT E'it\\'s\n\\c\n');\n",
            "SELECT $$\n\\c\n$$;\n",
            "SELECT $x$ $$\n\\c\n$x$;\n",
            "/* a /* b */\n\\c\n*/ SELECT 1;\n",
            "SELECT \"a'b\n\\c\n\";\n",
            "SELECT 'a''\n\\c\n';\n",
            "-- it's\nSELECT 1;\n",
            "SELECT a$b FROM c;\n",
            "SELECT 1\n\n",
            "",
        ];
        for text in kept {
            assert_eq!(sql(text).as_deref(), Ok(text));
        }
        assert_eq!(sql("\\restrict abc\nSELECT 1;\n  \\unrestrict abc").as_deref(), Ok("\nSELECT 1;\n\n"));
        for (text, line, what) in [
            ("SELECT 1;\n\\connect shop", 2, "\\connect"),
            ("-- it's\n\\c", 2, "\\c"),
            ("SELECT '--';\n\\c", 2, "\\c"),
            ("SELECT $1$ ;\n\\c", 2, "\\c"),
            ("SELECT 'a\\';\n\\c", 2, "\\c"),
            ("copy a (b)  FROM stdin;\n1\n\\.\n", 1, "COPY … FROM stdin"),
        ] {
            assert_eq!(sql(text), Err(NotSql { line, what: what.to_owned() }), "{text}");
        }
    }

    #[test]
    fn a_limit_that_a_newer_dump_sets_for_itself_is_left_out() {
        let dump = "SET lock_timeout = 0;\nSET transaction_timeout = 0;\nSELECT 'a\nSET transaction_timeout = 0;\n';\n";
        let kept = "SET lock_timeout = 0;\n\nSELECT 'a\nSET transaction_timeout = 0;\n';\n";
        assert_eq!(sql(dump).as_deref(), Ok(kept));
    }
}
