//! Tables and their columns.

use std::path::Path;

use crate::config::error::Sink;
use crate::config::keys;
use crate::config::section::Section;
use crate::config::stores;
use crate::domain::plan::{
    Between, ChildTable, Column, ColumnSource, ColumnType, Declared, Definition, Encryption, Fallback, ForeignKey,
    MoverKind, NEW, OLD, StaysTable, Table, Unit,
};

/// How keys of marker items begin.
pub(super) const MARKER_PREFIX: &str = "cutover-marker-";

pub(super) fn table(s: &Section<'_>, base: &Path, sink: &mut Sink<'_>) -> Table {
    let id = s.must("id");
    let (from, source) = end(s, ("from", "source"), OLD, sink);
    let (to, target) = end(s, ("to", "target"), NEW, sink);
    if source.is_none() {
        missing_source(s, sink);
    }
    Table {
        from,
        source: source.unwrap_or_default(),
        to,
        target: target.unwrap_or_else(|| id.clone()),
        key: s.texts("key"),
        columns: own_columns(s, sink),
        children: s
            .list("children", keys::CHILDREN)
            .iter()
            .map(|c| ChildTable {
                target: c.must("target"),
                list: c.attribute("list").unwrap_or_default(),
                columns: columns(c, sink),
                parent_key: c.texts("parent_key"),
                sparse: c.flag("sparse"),
            })
            .collect(),
        foreign_keys: s
            .list("foreign_keys", keys::FOREIGN_KEYS)
            .iter()
            .map(|f| ForeignKey { columns: f.texts("columns"), references: f.must("references") })
            .collect(),
        ttl: s.text("ttl"),
        marker_prefix: s.text("marker_prefix").unwrap_or_else(|| MARKER_PREFIX.to_owned()),
        ddl: ddl(s, base, sink),
        triggers: s.texts("triggers"),
        leave_out: s.texts("leave_out"),
        after_load: Vec::new(),
        mover: mover(s),
        id,
    }
}

pub(super) fn stays(s: &Section<'_>, sink: &mut Sink<'_>) -> StaysTable {
    let (from, source) = end(s, ("from", "source"), OLD, sink);
    if source.is_none() {
        missing_source(s, sink);
    }
    StaysTable { id: s.must("id"), from, source: source.unwrap_or_default() }
}

fn missing_source(s: &Section<'_>, sink: &mut Sink<'_>) {
    if !sink.reported(&s.path_of("from")) && !sink.reported(&s.path_of("source")) {
        let message = "missing `source`: the table's name at the source, or `from` with store and table";
        sink.error(s.offset_of("id"), &s.path_of("source"), message);
    }
}

/// A table's store and its name there, at one end: `from = "old.books"`, or `source = "books"` at the store that is
/// understood.
fn end(
    s: &Section<'_>,
    (whole, name): (&str, &str),
    understood: &str,
    sink: &mut Sink<'_>,
) -> (String, Option<String>) {
    let Some(text) = s.text(whole) else { return (understood.to_owned(), s.text(name)) };
    if s.has(name) {
        let message = format!("`{whole}` and `{name}` exclude each other");
        sink.error(s.offset_of(whole), &s.path_of(whole), message);
    }
    match stores::place(&text) {
        Some((store, table)) => (store.to_owned(), Some(table.to_owned())),
        None => {
            let message = format!("`{text}` names no table: write store and table, like {understood}.public.books");
            sink.error(s.offset_of(whole), &s.path_of(whole), message);
            (understood.to_owned(), None)
        }
    }
}

/// What moves the rows in place of the console.
pub(super) fn mover(s: &Section<'_>) -> Option<MoverKind> {
    let named = s.text("mover")?;
    MoverKind::ALL.into_iter().find(|kind| kind.name() == named)
}

/// The word that stands for the definition of the source's own table.
const FROM_SOURCE: &str = "source";

/// Whether the target's table is made as the source's is.
pub(in crate::config) fn made_as_source(s: &Section<'_>) -> bool {
    s.text("ddl").as_deref() == Some(FROM_SOURCE)
}

/// The definition of a source's table as DDL of the target's: without indexes that are left out, and encrypted by the key
/// that the config names. DDL of another kind stays as it is.
pub(in crate::config) fn as_source(ddl: &str, leave_out: &[String], s: &Section<'_>) -> String {
    let Ok(mut definition) = Definition::read(ddl).map(|found| found.without(leave_out)) else { return ddl.to_owned() };
    if let Some(key) = s.text("kms_key") {
        definition.encryption = Some(Encryption::kms(Some(key)));
    }
    definition.ddl()
}

/// The statements themselves: the plan's hash must cover them, not a file name.
fn ddl(s: &Section<'_>, base: &Path, sink: &mut Sink<'_>) -> Option<String> {
    if s.has("ddl") && s.has("ddl_sql") {
        sink.error(s.offset_of("ddl_sql"), &s.path_of("ddl_sql"), "`ddl` and `ddl_sql` exclude each other");
    }
    let Some(file) = s.text("ddl") else { return s.text("ddl_sql") };
    // The source says it, once it is asked.
    if file == FROM_SOURCE {
        return None;
    }
    let path = base.join(&file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) => {
            sink.error(s.offset_of("ddl"), &s.path_of("ddl"), format!("cannot read {}: {e}", path.display()));
            None
        }
    }
}

/// The columns of a table. One that is like its source has those of its key, and one with everything an item holds.
fn own_columns(s: &Section<'_>, sink: &mut Sink<'_>) -> Vec<Column> {
    let declared = columns(s, sink);
    if !s.has("like") {
        if !s.has("columns") && !sink.reported(&s.path_of("columns")) {
            let message = "missing `columns`: Target columns in insert order; or say like = \"same\"";
            sink.error(s.offset_of("id"), &s.path_of("columns"), message);
        }
        return declared;
    }
    let key = s.texts("key");
    for other in declared.iter().filter(|c| !key.contains(&c.name)) {
        let path = s.path_of(&format!("columns.{}", other.name));
        let message = format!("`{}` is no key attribute: with like = \"same\" the others go as they are", other.name);
        sink.error(s.offset_of("columns"), &path, message);
    }
    whole_item(&key, &declared)
}

/// The columns of a table whose items go as they are: those of its key, which are text unless `known` says otherwise, and
/// one with everything an item holds.
pub(super) fn whole_item(key: &[String], known: &[Column]) -> Vec<Column> {
    let whole = |name: &str, ty, from, key, absent| Column {
        name: name.to_owned(),
        ty,
        from,
        absent,
        key,
        declared: Declared::default(),
    };
    let of_key = |name: &String| {
        let ty = known.iter().find(|c| c.name == *name).map_or(ColumnType::Text, |c| c.ty);
        whole(name, ty, ColumnSource::Attribute(vec![name.clone()]), true, Fallback::Required)
    };
    // No attribute of a key can have this name: it stands beside the item, not in it.
    let name = if key.iter().any(|k| k == ITEM) { "whole_item" } else { ITEM };
    let item = whole(name, ColumnType::Document, ColumnSource::Whole, false, Fallback::Required);
    key.iter().map(of_key).chain([item]).collect()
}

/// The column with everything an item holds.
const ITEM: &str = "item";

fn columns(s: &Section<'_>, sink: &mut Sink<'_>) -> Vec<Column> {
    s.map("columns", keys::COLUMN).iter().map(|(name, c)| column(name, c, sink)).collect()
}

fn column(name: &str, c: &Section<'_>, sink: &mut Sink<'_>) -> Column {
    let sources = ["from", "constant", "parent", "ordinal", "element"];
    let given: Vec<&str> = sources.into_iter().filter(|k| c.has(k)).collect();
    if given.len() > 1 {
        let message = format!("column `{name}` has {} sources; keep one of {}", given.len(), given.join(", "));
        sink.error(c.offset_of(given[1]), &c.path_of(given[1]), message);
    }
    let key = c.flag("key");
    let required = c.flag("required");
    if c.has("default") && (required || key) {
        let message = "a required or key column cannot have a default: its row is parked when the value is absent";
        sink.error(c.offset_of("default"), &c.path_of("default"), message);
    }
    let from = match given.first() {
        Some(&"constant") => c.scalar("constant").map(ColumnSource::Constant),
        Some(&"parent") => c.text("parent").map(ColumnSource::Parent),
        Some(&"ordinal") if c.flag("ordinal") => Some(ColumnSource::Ordinal),
        Some(&"element") if c.flag("element") => Some(ColumnSource::Element),
        _ => c.attribute("from").map(ColumnSource::Attribute),
    };
    Column {
        name: name.to_owned(),
        ty: c.column_type("type").unwrap_or(ColumnType::Text),
        from: from.unwrap_or_else(|| ColumnSource::Attribute(vec![name.to_owned()])),
        absent: match c.scalar("default") {
            _ if required || key => Fallback::Required,
            Some(text) => Fallback::Literal(text),
            None => Fallback::Null,
        },
        key,
        declared: declared(c, sink),
    }
}

fn declared(c: &Section<'_>, sink: &mut Sink<'_>) -> Declared {
    let unit = c.text("unit").and_then(|name| Unit::ALL.into_iter().find(|u| u.name() == name));
    let moments = c.column_type("type") == Some(ColumnType::Timestamptz);
    if c.has("type") && !moments && c.has("unit") {
        sink.error(c.offset_of("unit"), &c.path_of("unit"), "only a timestamptz column has a unit");
    }
    if c.has("between") && !c.has("unit") {
        sink.error(c.offset_of("between"), &c.path_of("between"), "only numbers are held against it: add `unit`");
    }
    Declared { unit, between: between(c, sink), lossy: c.flag("lossy"), sparse: c.flag("sparse") }
}

/// Two days, the second not before the first.
fn between(c: &Section<'_>, sink: &mut Sink<'_>) -> Option<Between> {
    let days = c.has("between").then(|| c.texts("between"))?;
    let number = |text: &String| {
        let day: jiff::civil::Date = text.parse().ok()?;
        jiff::civil::date(1970, 1, 1).until(day).ok().map(|span| span.get_days())
    };
    let numbers: Option<Vec<i32>> = days.iter().map(number).collect();
    match numbers.as_deref() {
        Some(&[first, last]) if first <= last => Some(Between(first, last)),
        _ => {
            let message = "this must be two days, the earlier first: [\"1900-01-01\", \"9999-12-31\"]";
            sink.error(c.offset_of("between"), &c.path_of("between"), message);
            None
        }
    }
}
