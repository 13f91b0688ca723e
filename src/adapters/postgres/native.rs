//! Types that only the database knows: how a value of one is asked for as text, and how text becomes a value again.
//!
//! The text is the one the type's own output function writes, under settings that every session of ours has, and its
//! input function reads it again: what a dump of the database does too. A cast of the value to `text` would not do: it
//! writes some types in another way (`inet` with its mask).
//!
//! A value that the type would write in another way than it was given (rounded, cut, put in another spelling) is refused
//! with its row: it would differ for ever.

use std::collections::BTreeMap;

use tokio_postgres::Error;

use super::connect::Ask;
use super::names::qualified;
use crate::domain::plan::{Column, ColumnSource, ColumnType, SaidKind, Table};
use crate::ports::{ColumnTypes, MadeOf, SourceColumn};

/// The settings that decide how values are written and read, and what the text of a statement means, for a session of
/// ours: in a string a backslash is one, and `= NULL` is never true. Names are quoted where they must be only, and the server
/// speaks of what it finds odd, not of what it does: among the frames of a log that would come between the changes.
pub(super) const SETTINGS: &str = "-c datestyle=ISO -c intervalstyle=postgres -c timezone=UTC -c extra_float_digits=1 \
     -c bytea_output=hex -c lc_monetary=C -c xmloption=content -c array_nulls=on \
     -c standard_conforming_strings=on -c transform_null_equals=off -c quote_all_identifiers=off \
     -c client_min_messages=warning";

/// One column's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Native {
    /// The type with its limits, for a cast whose value is looked at again: a cast cuts.
    limited: String,
    /// What it is made of without limits, for a value that is compared, or that the column itself refuses.
    base: String,
    /// Whether blanks at the end are none: `character(n)`.
    padded: bool,
    /// Whether the binary form is the text itself, letter by letter.
    as_text: bool,
    /// Whether it is made of an enum, to which most texts are no value.
    labels: bool,
    /// Whether somebody made a cast from `text`, which would be asked in place of the type's input function.
    cast: bool,
}

/// Types by the column's name.
pub(super) type Natives = BTreeMap<String, Native>;

/// The types of a table's columns `$2`, each followed to what its domain is made of.
const TYPES: &str = "
WITH RECURSIVE made(name, own, limits, oid, modifier) AS (
    SELECT a.attname::text, a.atttypid, a.atttypmod, a.atttypid, a.atttypmod FROM pg_attribute a
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2::text[])
    UNION ALL
    SELECT m.name, m.own, m.limits, t.typbasetype, t.typtypmod FROM made m JOIN pg_type t ON t.oid = m.oid
    WHERE t.typtype = 'd')
SELECT m.name, format_type(m.own, m.limits), format_type(t.oid, -1), t.oid = 'bpchar'::regtype,
       m.modifier = -1 AND (t.typtype = 'e' OR t.oid IN ('text'::regtype, 'json'::regtype) OR t.typname = 'citext'),
       t.typtype = 'e',
       EXISTS (SELECT FROM pg_cast c WHERE (c.castsource, c.casttarget) = ('text'::regtype, t.oid) AND c.castmethod = 'f' AND c.oid >= 16384)
FROM made m JOIN pg_type t ON t.oid = m.oid WHERE t.typtype <> 'd'";

/// Looks up the types of those columns whose type only the database knows. Asks nothing where there is none. A column
/// that is not there has no entry.
pub(super) async fn of<C: Ask>(client: &C, table: &str, columns: &[Column]) -> Result<Natives, Error> {
    let names: Vec<&str> = columns.iter().filter(|c| c.ty.is_native()).map(|c| c.name.as_str()).collect();
    if names.is_empty() {
        return Ok(Natives::new());
    }
    let rows = client.ask(TYPES, &[&qualified(table), &names]).await?;
    let each = |row: &tokio_postgres::Row| {
        let native = Native {
            limited: row.try_get(1)?,
            base: row.try_get(2)?,
            padded: row.try_get(3)?,
            as_text: row.try_get(4)?,
            labels: row.try_get(5)?,
            cast: row.try_get(6)?,
        };
        Ok((row.try_get(0)?, native))
    };
    rows.iter().map(each).collect()
}

impl Native {
    /// A value as the text it is compared in; NULL for NULL, and only for that: a composite value of NULLs is one.
    pub(super) fn read(&self, value: &str) -> String {
        if self.padded {
            format!("({value})::text")
        } else {
            format!("CASE WHEN {value} IS DISTINCT FROM NULL THEN concat({value}) END")
        }
    }

    /// Whether blanks at the end of a value are none.
    pub(super) const fn padded(&self) -> bool {
        self.padded
    }

    /// Whether a value may be sent as its text where a binary form is expected.
    pub(super) const fn as_text(&self) -> bool {
        self.as_text
    }

    /// The type with its limits.
    pub(super) fn limited(&self) -> &str {
        &self.limited
    }

    /// The type as people call it, without its schema.
    pub(super) fn name(&self) -> String {
        bare(&self.base)
    }

    /// Whether its values are labels that somebody adds one by one.
    pub(super) const fn labels(&self) -> bool {
        self.labels
    }

    /// Text as a value that is written where [`Native::kept`] holds.
    pub(super) fn value(&self, text: &str) -> String {
        format!("{text}{}::{}", self.way(), self.limited)
    }

    /// Text as a value that is compared, or written into a column that refuses what does not fit.
    pub(super) fn bare(&self, text: &str) -> String {
        format!("{text}{}::{}", self.way(), self.base)
    }

    /// What leads from text to the type's input function. A cast is found by the type it comes from, and text of a type with
    /// no cast of its own is read by the input function.
    const fn way(&self) -> &'static str {
        if self.cast { "::varchar" } else { "" }
    }

    /// That a column holds the value of a key's text, and no other value that the type holds equal to it. A label that
    /// this server does not know is no row's, and no error.
    pub(super) fn found(&self, column: &str, text: &str) -> String {
        let value = self.bare(text);
        let value = if self.labels {
            format!("CASE WHEN {text} = ANY (enum_range(NULL::{})::text[]) THEN {value} END", self.base)
        } else {
            value
        };
        format!("{column} = {value} AND ({}) COLLATE \"C\" = {text}", self.read(column))
    }

    /// That the type writes a text as it was given; an error of the row where it does not.
    pub(super) fn kept(&self, table: &str, column: &str, text: &str) -> String {
        let literal = |name: &str| format!("'{}'", name.replace('\'', "''"));
        let value = self.value(text);
        let again = if self.padded { format!("({value})::text") } else { format!("concat({value})") };
        format!(
            "CASE WHEN {text} IS NULL OR ({again}) COLLATE \"C\" = {text} THEN true ELSE cutover.rewritten({}, {}) IS NULL END",
            literal(table),
            literal(column)
        )
    }
}

/// Makes what refuses a row of which the server would write a value in another way.
pub(super) const REWRITTEN: &str = r#"
CREATE OR REPLACE FUNCTION cutover.rewritten(of_table text, of_column text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '22000', MESSAGE = 'the type would write the value in another way',
        TABLE = of_table, COLUMN = of_column;
END $$;
"#;

/// What is wrong with the names of types, and with types of key columns, of a target table's columns.
///
/// # Errors
/// The server's.
pub(super) async fn describe<C: Ask>(
    client: &C,
    table: &str,
    columns: &[Column],
    problems: &mut Vec<String>,
) -> Result<(), Error> {
    for column in columns {
        let ColumnType::Native(name) = column.ty else { continue };
        let (own, said) = name.parts();
        let sql = qualified(table);
        let row = match client.ask_one(NAMED, &[&sql, &column.name, &own]).await {
            Ok(Some(row)) => row,
            // It is missing, which is told elsewhere.
            Ok(None) => continue,
            // A name that is none ends the look-up, and says nothing of the others.
            Err(e) if e.code().is_some_and(|code| code.code().starts_with("42") || code.code() == "22023") => {
                problems.push(format!("{table}.{}: `{name}` is no name of a type", column.name));
                continue;
            }
            Err(e) => return Err(e),
        };
        let (same, found): (Option<bool>, String) = (row.try_get(0)?, row.try_get(1)?);
        let (kind, carried): (String, bool) = (row.try_get(2)?, row.try_get(3)?);
        let (told_apart, base): (bool, String) = (row.try_get(4)?, row.try_get(5)?);
        match same {
            None => problems.push(format!(
                "{table}.{} is {found}, and there is no type {own} here; name the column's type",
                column.name
            )),
            Some(false) => {
                problems.push(format!("{table}.{} is {found}, the plan says {own}; make them the same", column.name))
            }
            Some(true) => {}
        }
        let is_said = match said {
            None => true,
            Some(SaidKind::Enum) => kind == "e",
            Some(SaidKind::Domain) => kind == "d",
        };
        if same == Some(true) && !is_said {
            problems.push(format!("{table}.{}: {found} is not what the plan says, {name}", column.name));
        }
        if !carried {
            problems.push(format!(
                "{table}.{} is {found}: its values are numbers of this server's own catalogue, which mean nothing on \
                 another; leave the column out, or store names as text",
                column.name
            ));
        }
        if column.key && !told_apart {
            problems.push(format!(
                "{table}.{}: {base} holds values equal that are written differently, so a change of one key could find \
                 the row of another; give the key a type that does not (text, or char(n) for a fixed length)",
                column.name
            ));
        }
    }
    Ok(())
}

/// Whether values of a type `t` are numbers of the server's own catalogue.
macro_rules! of_this_server {
    () => {
        "(t.typname ~ '^_?reg' AND t.typnamespace = 'pg_catalog'::regnamespace
          OR t.oid IN ('tid'::regtype, 'xid'::regtype, 'cid'::regtype, 'oid'::regtype))"
    };
}

/// Of the table `$1` and its columns `$2`: those whose values mean nothing on another server, with their types.
const OF_THIS_SERVER: &str = concat!(
    "
WITH RECURSIVE made(place, name, own, limits, oid) AS (
    SELECT a.attnum, a.attname::text, a.atttypid, a.atttypmod, a.atttypid FROM pg_attribute a
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($2::text[])
    UNION ALL
    SELECT m.place, m.name, m.own, m.limits, t.typbasetype FROM made m JOIN pg_type t ON t.oid = m.oid
    WHERE t.typtype = 'd')
SELECT m.name, format_type(m.own, m.limits) FROM made m JOIN pg_type t ON t.oid = m.oid
WHERE t.typtype <> 'd' AND ",
    of_this_server!(),
    " ORDER BY m.place"
);

/// Of the table `$1` and its column `$2`: whether its type is called `$3`, how it is called, its kind, whether its
/// values mean the same on another server, whether equal values have one spelling, and what it is made of.
const NAMED: &str = concat!(
    "
WITH RECURSIVE made(oid, modifier) AS (
    SELECT a.atttypid, a.atttypmod FROM pg_attribute a
    WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = $2
    UNION ALL
    SELECT t.typbasetype, t.typtypmod FROM made m JOIN pg_type t ON t.oid = m.oid WHERE t.typtype = 'd')
SELECT to_regtype($3)::oid = a.atttypid, format_type(a.atttypid, a.atttypmod), own.typtype::text,
       NOT ",
    of_this_server!(),
    ",
       t.typtype = 'e' OR t.oid IN ('text'::regtype, 'varchar'::regtype, 'uuid'::regtype, 'int2'::regtype, 'int4'::regtype,
           'int8'::regtype, 'bool'::regtype, 'date'::regtype, 'time'::regtype, 'timetz'::regtype, 'timestamp'::regtype,
           'timestamptz'::regtype, 'inet'::regtype, 'cidr'::regtype, 'macaddr'::regtype, 'macaddr8'::regtype,
           'oid'::regtype, 'name'::regtype, '\"char\"'::regtype, 'bit'::regtype, 'varbit'::regtype, 'money'::regtype,
           'bytea'::regtype, 'pg_lsn'::regtype)
         OR t.oid = 'bpchar'::regtype AND m.modifier > 0,
       format_type(t.oid, m.modifier)
FROM pg_attribute a JOIN pg_type own ON own.oid = a.atttypid, made m JOIN pg_type t ON t.oid = m.oid AND t.typtype <> 'd'
WHERE a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped"
);

/// Of the table `$1` and its column `$2`: whether its type is the one that is called `$3` here.
const IS_CALLED: &str = "
SELECT to_regtype($3)::oid = a.atttypid FROM pg_attribute a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = $2";

/// Names of types in a plan's table that are none at this source, or not those of the columns that are read, each with what
/// to do. A type that people made may stand in another schema on each side, so its name alone is compared then.
///
/// # Errors
/// The server's.
pub(super) async fn misnamed<C: Ask>(
    client: &C,
    table: &Table,
    there: &[SourceColumn],
    types: &ColumnTypes,
) -> Result<Vec<(String, String)>, Error> {
    let mut found = Vec::new();
    for column in &table.columns {
        let (ColumnType::Native(name), ColumnSource::Attribute(path)) = (column.ty, &column.from) else { continue };
        let source = path.first().and_then(|from| there.iter().find(|c| c.name == *from));
        let Some((source, called)) = source.and_then(|s| Some((s, types.columns.get(&s.name)?))) else { continue };
        let own = name.parts().0;
        let is_called = match client.ask_one(IS_CALLED, &[&qualified(&table.source), &source.name, &own]).await {
            Ok(row) => row.map(|row| row.try_get::<_, Option<bool>>(0)).transpose()?.flatten(),
            // No name of a type at all.
            Err(e) if e.code().is_some_and(|code| code.code().starts_with("42") || code.code() == "22023") => None,
            Err(e) => return Err(e),
        };
        let same = is_called == Some(true) || bare(own).eq_ignore_ascii_case(&bare(called));
        if !same || limits(own).is_some_and(|wanted| limits(called) != Some(wanted)) {
            let meant = source.ty.map_or_else(|| called.clone(), ColumnType::sql);
            found.push((
                format!(
                    "{}.{} is {name} in the plan, and {} is {meant} at the source",
                    table.target, column.name, source.name
                ),
                format!("write type = \"{meant}\", and give the column of the target the same type"),
            ));
        }
    }
    Ok(found)
}

/// Columns of the source that are read as they are and whose values are numbers of its own catalogue, each with what to do.
/// Set-up would refuse the column of the target, once that is there.
///
/// # Errors
/// The server's.
pub(super) async fn of_the_source<C: Ask>(client: &C, table: &Table) -> Result<Vec<(String, String)>, Error> {
    let read = |column: &Column| match &column.from {
        ColumnSource::Attribute(path) if column.ty.is_native() => path.first().cloned(),
        ColumnSource::Attribute(_)
        | ColumnSource::Constant(_)
        | ColumnSource::Parent(_)
        | ColumnSource::Ordinal
        | ColumnSource::Element
        | ColumnSource::Whole => None,
    };
    let names: Vec<String> = table.columns.iter().filter_map(read).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for row in client.ask(OF_THIS_SERVER, &[&qualified(&table.source), &names]).await? {
        let (name, ty): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        found.push((
            format!(
                "{}.{name} is {ty} at the source: its values are numbers of that server's own catalogue (of a large object, \
                 a table, a transaction), which mean nothing on another",
                table.source
            ),
            "leave the column out, and move what it refers to yourself; or store it in another type".to_owned(),
        ));
    }
    Ok(found)
}

/// The limits of a type as it is written, without blanks: `10,2`.
fn limits(ty: &str) -> Option<String> {
    let (_, rest) = ty.split_once('(')?;
    Some(rest.split_once(')')?.0.replace(' ', ""))
}

/// A type as it is written, without its schema and its limits: `mood[]`, `time with time zone`.
fn bare(ty: &str) -> String {
    let (head, rest) = ty.split_once('(').unwrap_or((ty, ""));
    let behind = rest.split_once(')').map_or("", |(_, behind)| behind);
    // A point within quotes is part of a name.
    let quoted = |at: usize| head.get(..at).is_some_and(|before| before.matches('"').count() % 2 == 1);
    let dot = head.char_indices().rfind(|(at, c)| *c == '.' && !quoted(*at));
    let own = dot.and_then(|(at, _)| head.get(at + 1..)).unwrap_or(head);
    format!("{}{behind}", own.trim_end())
}

/// A type as people call it, without its schema: one type may stand in another schema on each side.
const CALLED: &str = r#"regexp_replace(format_type({type}, {limits}), '^("([^"]|"")*"|[^."([]+)\.', '')"#;

fn called(ty: &str, limits: &str) -> String {
    CALLED.replace("{type}", ty).replace("{limits}", limits)
}

/// What these columns' types are, and what those that people made are made of.
///
/// # Errors
/// The server's.
pub(super) async fn types<C: Ask>(client: &C, table: &str, columns: &[&str]) -> Result<ColumnTypes, Error> {
    let mut found = ColumnTypes::default();
    if columns.is_empty() {
        return Ok(found);
    }
    let of = "FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
                  AND a.attname = ANY ($2::text[])";
    let table = qualified(table);
    let sql = format!("SELECT a.attname::text, {} {of}", called("a.atttypid", "a.atttypmod"));
    for row in client.ask(&sql, &[&table, &columns]).await? {
        found.columns.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let sql = format!(
        "WITH RECURSIVE reached(oid) AS (
             SELECT a.atttypid {of}
             UNION
             SELECT part.oid FROM reached r JOIN pg_type t ON t.oid = r.oid, LATERAL (
                 SELECT t.typelem AS oid WHERE t.typelem <> 0 AND t.typcategory = 'A'
                 UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
                 UNION ALL SELECT g.rngsubtype FROM pg_range g WHERE g.rngtypid = t.oid
                 UNION ALL SELECT f.atttypid FROM pg_attribute f
                           WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped) part)
         SELECT {name}, t.typtype::text, CASE t.typtype
             WHEN 'e' THEN ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
             WHEN 'd' THEN ARRAY[{base}]
             WHEN 'r' THEN ARRAY(SELECT {bounds} FROM pg_range g WHERE g.rngtypid = t.oid)
             ELSE ARRAY(SELECT f.attname || ' ' || {field} FROM pg_attribute f WHERE f.attrelid = t.typrelid
                        AND f.attnum > 0 AND NOT f.attisdropped ORDER BY f.attnum) END
         FROM reached r JOIN pg_type t ON t.oid = r.oid
         WHERE t.typtype IN ('e', 'd', 'c', 'r') AND t.typnamespace <> 'pg_catalog'::regnamespace",
        name = called("t.oid", "-1"),
        base = called("t.typbasetype", "t.typtypmod"),
        bounds = called("g.rngsubtype", "-1"),
        field = called("f.atttypid", "f.atttypmod"),
    );
    for row in client.ask(&sql, &[&table, &columns]).await? {
        let (name, kind, parts): (String, String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let one = || parts.first().cloned().unwrap_or_default();
        let made = match kind.as_str() {
            "e" => MadeOf::Enum(parts),
            "d" => MadeOf::Domain(one()),
            "r" => MadeOf::Range(one()),
            _ => MadeOf::Composite(parts),
        };
        found.made.insert(name, made);
    }
    Ok(found)
}
