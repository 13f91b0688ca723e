//! What the catalogue of a source says of its tables.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Error, Row};

use crate::adapters::postgres::connect::{Ask, Object};
use crate::adapters::postgres::names::qualified;
use crate::adapters::postgres::trouble;
use crate::domain::at::At;
use crate::domain::lint::nearest;
use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, Table, TypeName};
use crate::ports::{ErrorKind, PortError, PortResult, SourceColumn};

/// Columns that rows have of their own: name, type with its limits, and the place in the primary key, from 1.
const COLUMNS: &str = "
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod),
       array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum)
FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum";

/// Every column of a table: name, type with its limits, whether it is generated, an identity that the server alone gives,
/// and whether a new row has to bring a value.
const ALL: &str = "
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attgenerated <> '', a.attidentity = 'a',
       (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Every column of a table, as it stands there now.
pub(in crate::adapters::postgres) async fn columns<C: Ask>(
    client: &C,
    table: &str,
) -> Result<Vec<SourceColumn>, Error> {
    let one = |row: &Row| {
        let written: String = row.try_get(1)?;
        Ok(SourceColumn {
            name: row.try_get(0)?,
            ty: column_type(&written),
            written,
            generated: row.try_get(2)?,
            always: row.try_get(3)?,
            required: row.try_get(4)?,
        })
    };
    client.ask(ALL, &[&qualified(table)]).await?.iter().map(one).collect()
}

/// The type of a column, as `format_type` writes it; `None` for one whose values are not carried.
pub(super) fn column_type(written: &str) -> Option<ColumnType> {
    let (name, limits) = match written.split_once('(') {
        Some((name, limits)) => (name, Some(limits.strip_suffix(')')?)),
        None => (written, None),
    };
    let pair = |limits: &str| {
        let (precision, scale) = limits.split_once(',').unwrap_or((limits, "0"));
        Some((precision.parse().ok()?, scale.parse().ok()?))
    };
    Some(match (name, limits) {
        ("text", None) | ("character varying", None) => ColumnType::Text,
        ("character varying", Some(n)) => ColumnType::Varchar(n.parse().ok()?),
        ("uuid", None) => ColumnType::Uuid,
        ("numeric", None) => ColumnType::Numeric(None),
        // A scale below zero or past the precision rounds in a way that no limit of ours has.
        ("numeric", Some(limits)) => ColumnType::Numeric(pair(limits).filter(|(precision, scale)| scale <= precision)),
        ("smallint", None) => ColumnType::Smallint,
        ("integer", None) => ColumnType::Integer,
        ("bigint", None) => ColumnType::Bigint,
        ("double precision", None) => ColumnType::Double,
        ("boolean", None) => ColumnType::Boolean,
        ("timestamp with time zone", None) => ColumnType::Timestamptz,
        ("date", None) => ColumnType::Date,
        ("jsonb", None) => ColumnType::Jsonb,
        // Its limits hold for every element, and no column of ours has them.
        ("text[]", None) => ColumnType::TextArray,
        ("bytea", None) => ColumnType::Bytea,
        _ => return None,
    })
}

/// The type of a column that moves by rule, which the target has too: where no type of ours has its limits, one that only
/// the database knows.
pub(super) fn by_rule(written: &str) -> ColumnType {
    match column_type(written) {
        Some(ColumnType::Numeric(None)) if written != "numeric" => ColumnType::Native(TypeName::new(written)),
        Some(ty) => ty,
        None => ColumnType::Native(TypeName::new(written)),
    }
}

/// Columns of a source that a plan's table takes as the text of a type that only the database knows, and those that it
/// takes in another way too, with the type that it says.
fn natives_of(table: &Table) -> (BTreeMap<&str, TypeName>, BTreeMap<&str, ColumnType>) {
    let (mut natives, mut others) = (BTreeMap::new(), BTreeMap::new());
    for column in &table.columns {
        let ColumnSource::Attribute(path) = &column.from else { continue };
        match (path.as_slice(), column.ty) {
            ([name], ColumnType::Native(ty)) => drop(natives.insert(name.as_str(), ty)),
            ([name, ..], ty) => drop(others.insert(name.as_str(), ty)),
            ([], _) => {}
        }
    }
    (natives, others)
}

/// The columns of a source that a plan's table reads; none where it is only watched.
pub(super) fn read_of(table: &Table) -> BTreeSet<String> {
    let of = |column: &Column| match &column.from {
        ColumnSource::Attribute(path) => path.first().cloned(),
        // The lint takes whole records from document stores only.
        ColumnSource::Constant(_)
        | ColumnSource::Parent(_)
        | ColumnSource::Ordinal
        | ColumnSource::Element
        | ColumnSource::Whole => None,
    };
    let lists = table.children.iter().filter_map(|child| child.list.first().cloned());
    table.columns.iter().filter_map(of).chain(lists).collect()
}

/// The table as the source has it: its columns of types whose values are carried.
///
/// # Errors
/// `NotFound` when it, or a column that the plan reads, is not there; `Invalid` for a column of the key or of the plan
/// whose values are not carried, and for a table without a primary key.
pub(super) async fn table(client: &Object, table: &Table) -> PortResult<Table> {
    let (tried, on) = ("describe", table.source.as_str());
    let error = |e: Error| trouble::error(&e, tried, on);
    let sql = qualified(on);
    let rows = client.query(COLUMNS, &[&sql]).await.map_err(error)?;
    if rows.is_empty() {
        let missing = PortError::new(ErrorKind::NotFound, tried, on, "the table does not exist");
        return Err(missing.advise("name it with its schema, as the source has it"));
    }
    let (mut columns, mut key, mut refused, mut there) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (natives, others) = natives_of(table);
    let (read, mut unmet) = (read_of(table), read_of(table));
    for row in rows {
        let (name, written): (String, String) = (row.try_get(0).map_err(error)?, row.try_get(1).map_err(error)?);
        let place: Option<i32> = row.try_get(2).map_err(error)?;
        unmet.remove(&name);
        there.push(name.clone());
        let ty = match (natives.get(name.as_str()), others.get(name.as_str()), column_type(&written)) {
            (Some(native), None, _) => ColumnType::Native(*native),
            // In one column as its text and in another as something else: one reading cannot be both.
            (Some(_), Some(_), _) => {
                refused.push(format!("{name} {written}, which two columns take as different types"));
                continue;
            }
            (None, _, Some(ty)) => ty,
            // A table that is only watched, or a key that no column takes.
            (None, None, None) if place.is_some() || read.is_empty() => ColumnType::Native(TypeName::new(&written)),
            (None, _, None) => {
                if read.contains(&name) {
                    let says = |ty: &ColumnType| format!(", which the plan takes as {}", ty.sql());
                    refused
                        .push(format!("{name} {written}{}", others.get(name.as_str()).map_or_else(String::new, says)));
                }
                continue;
            }
        };
        key.extend(place.map(|place| (place, name.clone())));
        let from = ColumnSource::Attribute(vec![name.clone()]);
        let declared = Declared::default();
        columns.push(Column { name, ty, from, absent: Fallback::Null, key: place.is_some(), declared });
    }
    let invalid = |why: String| PortError::new(ErrorKind::Invalid, tried, on, why);
    if !unmet.is_empty() {
        let meant = |name: &String| {
            let near = nearest(name, there.iter().map(String::as_str).filter(|there| !read.contains(*there)));
            near.map_or_else(|| name.clone(), |near| format!("{name} (did you mean {near}?)"))
        };
        let unmet = unmet.iter().map(meant).collect::<Vec<_>>().join(", ");
        let missing = PortError::new(ErrorKind::NotFound, tried, on, format!("it has no column {unmet}"));
        return Err(missing.advise("name columns as the source has them; generated ones are not read"));
    }
    if !refused.is_empty() {
        let why = format!("values of these columns are not carried: {}", refused.join("; "));
        return Err(invalid(why).advise("give each column the type it has at the source: type = \"...\""));
    }
    if key.is_empty() {
        return Err(invalid("it has no primary key, by which changes find their row".to_owned())
            .advise(format!("ALTER TABLE {sql} ADD PRIMARY KEY (...)")));
    }
    key.sort();
    Ok(Table {
        target: on.to_owned(),
        key: key.into_iter().map(|(_, name)| name).collect(),
        columns,
        ..Table::watched(&table.id, on)
    })
}

/// How large a table is.
pub(super) struct Size {
    /// Rows when it was analysed last; `None` before it ever was.
    pub rows: Option<u64>,
    /// When that was.
    pub at: Option<At>,
    /// Bytes of the table with what is stored beside its rows, indexes left out.
    pub bytes: u64,
}

/// Of the table, or of all its partitions together.
const SIZE: &str = "
SELECT coalesce(sum(greatest(c.reltuples, 0)) FILTER (WHERE c.reltuples >= 0), -1)::bigint,
       coalesce(sum(pg_table_size(c.oid)), 0)::bigint,
       (extract(epoch FROM min(greatest(s.last_analyze, s.last_autoanalyze))) * 1000)::bigint
FROM (SELECT to_regclass($1)::oid AS relid UNION SELECT relid FROM pg_partition_tree(to_regclass($1))) tree
JOIN pg_class c ON c.oid = tree.relid AND c.relkind = 'r' LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid";

/// The size of a table by its quoted name.
pub(super) async fn size(client: &Object, sql: &str) -> Result<Size, Error> {
    let row = client.query_one(SIZE, &[&sql]).await?;
    let at: Option<i64> = row.try_get(2)?;
    Ok(Size {
        // Without a time the number says nothing.
        rows: at.and(u64::try_from(row.try_get::<_, i64>(0)?).ok()),
        at: at.map(At),
        bytes: row.try_get::<_, i64>(1)?.unsigned_abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_the_catalogue_writes_them() {
        for (written, ty) in [
            ("character varying(20)", Some(ColumnType::Varchar(20))),
            ("character varying", Some(ColumnType::Text)),
            ("numeric(10,2)", Some(ColumnType::Numeric(Some((10, 2))))),
            ("numeric(10)", Some(ColumnType::Numeric(Some((10, 0))))),
            ("numeric(3,-2)", Some(ColumnType::Numeric(None))),
            ("numeric(2,5)", Some(ColumnType::Numeric(None))),
            ("numeric", Some(ColumnType::Numeric(None))),
            ("timestamp with time zone", Some(ColumnType::Timestamptz)),
            ("timestamp(3) with time zone", None),
            ("timestamp without time zone", None),
            ("text[]", Some(ColumnType::TextArray)),
            ("character varying[]", None),
            ("integer[]", None),
            ("mood", None),
        ] {
            assert_eq!(column_type(written), ty, "{written}");
        }
        for native in ["numeric(3,-2)", "numeric(2,5)", "mood"] {
            assert_eq!(by_rule(native), ColumnType::Native(TypeName::new(native)));
        }
        assert_eq!(by_rule("numeric(10,2)"), ColumnType::Numeric(Some((10, 2))));
        assert_eq!(by_rule("numeric"), ColumnType::Numeric(None));
    }
}
