//! A table's statements, made once from the plan.

use super::columns;
use super::encode::EPOCH_MICROS;
use super::names::{ident, list, qualified};
use super::native::{Native, Natives};
use super::owner::Of;
use crate::domain::plan::{Column, ColumnSource, ColumnType, Table};
use crate::domain::value::Cell;

/// One table as SQL: the main one or a child.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// The name as the plan writes it.
    pub name: String,
    /// The name, quoted.
    pub sql: String,
    /// Column types in order.
    pub types: Vec<ColumnType>,
    names: Vec<String>,
    /// Types that only the database knows.
    natives: Natives,
    /// `COPY … FROM STDIN`.
    pub copy_in: String,
    /// The SELECT list that reads rows in the form the decoder knows.
    pub select: String,
    /// `COPY (SELECT …) TO STDOUT`.
    pub copy_out: String,
    /// Columns that rows are ordered by within one parent.
    pub order: String,
    /// For a child: its columns that hold the parent's key, in the order of the parent's key columns.
    pub parent_key: Vec<String>,
}

/// A statement that takes one array a column.
#[derive(Clone, Debug)]
pub(super) struct Upsert {
    /// The statement.
    pub sql: String,
    /// Catalogue numbers of the arrays' elements, in column order.
    pub elements: Vec<u32>,
}

/// A main table with its children.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// The plan the table belongs to.
    pub plan: String,
    /// The plan's id of the table.
    pub id: String,
    /// The main table.
    pub main: Part,
    /// Child tables in the plan's order.
    pub children: Vec<Part>,
    /// Places of the key columns in the main row.
    pub key: Vec<usize>,
    /// Makes the staging table of this connection if it is not there; empties itself at commit.
    pub stage: String,
    /// `COPY` into the staging table.
    pub stage_copy: String,
    /// Moves the staging table's rows into the main table and deletes their old children first.
    pub merge: String,
    /// Puts rows given as one array a column into the main table, without staging: where no children hang on them and
    /// every column can be an array's element.
    pub upsert: Option<Upsert>,
    /// Empties the staging table within a transaction.
    pub unstage: String,
    /// Deletes rows by key, children first.
    pub delete: Vec<String>,
    /// Whether rows may be copied straight into the main table: each value's form is the one its column takes.
    pub direct: bool,
    /// Main rows `t` by key, for `FROM`.
    pub keyed: String,
    /// Whose keys are among those given: `SELECT` without columns, with `{}` for the row's name.
    among: String,
    /// Reads main rows by key.
    pub fetch: String,
    /// Reads child rows by the parent's key.
    pub fetch_children: Vec<String>,
}

impl Part {
    fn new(name: &str, columns: &[Column], parent_key: Vec<String>, natives: Natives) -> Self {
        let sql = qualified(name);
        let names = list(columns.iter().map(|c| c.name.as_str()));
        let select = columns.iter().map(|c| read("t", &c.name, c.ty, natives.get(&c.name))).collect::<Vec<_>>();
        let select = select.join(", ");
        let ordinal = columns.iter().filter(|c| c.from == ColumnSource::Ordinal).collect::<Vec<_>>();
        let by_key = columns.iter().filter(|c| c.key).collect::<Vec<_>>();
        let by_all = columns.iter().filter(|c| c.ty != ColumnType::Jsonb && !c.ty.is_native()).collect::<Vec<_>>();
        let order = [ordinal, by_key, by_all].into_iter().find(|o| !o.is_empty()).unwrap_or_default();
        let order = order.iter().map(|c| format!(", t.{}", ident(&c.name))).collect();
        Self {
            name: name.to_owned(),
            copy_in: format!("COPY {sql} ({names}) FROM STDIN (FORMAT binary)"),
            copy_out: format!("COPY (SELECT {select} FROM {sql} t) TO STDOUT (FORMAT binary)"),
            types: columns.iter().map(|c| c.ty).collect(),
            names: columns.iter().map(|c| c.name.clone()).collect(),
            sql,
            select,
            order,
            parent_key,
            natives,
        }
    }

    /// The type of a column, where only the database knows it.
    pub(super) fn native(&self, column: &str) -> Option<&Native> {
        self.natives.get(column)
    }

    /// Names of the columns whose type only the database knows, with the types.
    pub(super) fn natives(&self) -> &Natives {
        &self.natives
    }

    /// The values of a row in the form the decoder knows, of a record of it as JSON, and the record as a row `t`, for
    /// `FROM`. Values of types that only the database knows stand in a record as the text they are compared in.
    pub(super) fn recorded(&self, json: &str) -> (String, String) {
        let columns = || self.names.iter().zip(&self.types);
        let select = columns().map(|(name, ty)| match self.natives.get(name) {
            Some(_) => format!("{json} ->> {}", literal(name)),
            None => read("t", name, *ty, None),
        });
        let known = columns().filter(|(name, _)| !self.natives.contains_key(*name));
        let known: Vec<String> = known.map(|(name, ty)| format!("{} {}", ident(name), read_as(*ty))).collect();
        let row = if known.is_empty() {
            "LATERAL (SELECT) t".to_owned()
        } else {
            format!("LATERAL jsonb_to_record({json}) AS t({})", known.join(", "))
        };
        (select.collect::<Vec<_>>().join(", "), row)
    }

    /// `COPY` of the rows in these blocks.
    pub(super) fn copy_blocks(&self, blocks: &std::ops::Range<i64>) -> String {
        let (select, sql, from, to) = (&self.select, &self.sql, blocks.start, blocks.end);
        format!(
            "COPY (SELECT {select} FROM {sql} t WHERE t.ctid >= '({from},0)'::tid AND t.ctid < '({to},0)'::tid) \
             TO STDOUT (FORMAT binary)"
        )
    }

    /// Names of the columns in order.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The name of a column by its place; `-` past the end.
    pub(super) fn column(&self, place: usize) -> String {
        self.names.get(place).map_or_else(|| "-".to_owned(), Clone::clone)
    }
}

impl Shape {
    /// The statements of a table.
    ///
    /// `natives` are the types of those of its columns whose type only the database knows.
    pub(super) fn new(plan: &str, table: &Table, natives: Natives) -> Self {
        let main = Part::new(&table.target, &table.columns, Vec::new(), natives);
        let children: Vec<Part> = table
            .children
            .iter()
            .map(|c| Part::new(&c.target, &c.columns, parent_key(table, &c.parent_key, &c.columns), Natives::new()))
            .collect();
        let keys: Vec<(usize, &Column)> = table.columns.iter().enumerate().filter(|(_, c)| c.key).collect();
        let names = list(table.columns.iter().map(|c| c.name.as_str()));
        let stage = stage_name(table);
        let typed: Vec<String> =
            table.columns.iter().map(|c| format!("{} {}", ident(&c.name), staged_as(c.ty))).collect();
        let rest: Vec<String> =
            table.columns.iter().filter(|c| !c.key).map(|c| format!("{0} = EXCLUDED.{0}", ident(&c.name))).collect();
        let conflict = match (keys.is_empty(), rest.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!("ON CONFLICT ({}) DO NOTHING", list(table.key_columns())),
            (false, false) => format!("ON CONFLICT ({}) DO UPDATE SET {}", list(table.key_columns()), rest.join(", ")),
        };
        let key_names: Vec<&str> = keys.iter().map(|(_, c)| c.name.as_str()).collect();
        let mut merge = String::new();
        for child in &children {
            let on = pairs(&child.parent_key, &key_names, |c, k| format!("t.{} = s.{}", ident(c), ident(k)));
            merge.push_str(&format!("DELETE FROM {} t USING {stage} s WHERE {on}; ", child.sql));
        }
        let insert = format!("INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT", main.sql);
        let (values, kept) =
            made_of(&main, |place| format!("s.{}", main.names.get(place).map_or_else(String::new, |n| ident(n))));
        merge.push_str(&format!("{insert} {values} FROM {stage} s{kept} {conflict}"));
        let elements: Option<Vec<(&str, u32)>> = main.types.iter().map(|ty| columns::element(*ty)).collect();
        let upsert = elements.filter(|_| children.is_empty()).map(|elements| {
            let (names, elements): (Vec<&str>, Vec<u32>) = elements.into_iter().unzip();
            let arrays: Vec<String> = names.iter().zip(1..).map(|(name, i)| format!("${i}::{name}[]")).collect();
            let (values, kept) = made_of(&main, |place| format!("u.c{place}"));
            let places = (0..elements.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
            let from = format!("unnest({}) AS u({places})", arrays.join(", "));
            Upsert { sql: format!("{insert} {values} FROM {from}{kept} {conflict}"), elements }
        });
        let params = (1..=keys.len()).map(|i| format!("${i}::text[]")).collect::<Vec<_>>().join(", ");
        let aliases = (0..keys.len()).map(|i| format!("k{i}")).collect::<Vec<_>>().join(", ");
        let given: Vec<String> = keys
            .iter()
            .enumerate()
            .map(|(i, (_, c))| from_text(c.ty, main.native(&c.name), &format!("k.k{i}")))
            .collect();
        let on_key = |row: &str| {
            let each = keys.iter().zip(&given).enumerate().map(|(i, ((_, c), given))| {
                let column = format!("{row}.{}", ident(&c.name));
                let equal = || format!("{column} = {given}");
                main.native(&c.name).map_or_else(equal, |native| native.found(&column, &format!("k.k{i}")))
            });
            let each: Vec<String> = each.collect();
            // Without a key nothing may match.
            if each.is_empty() { "false".to_owned() } else { each.join(" AND ") }
        };
        let on_main = on_key("t");
        let on_child = |child: &Part| pairs(&child.parent_key, &given, |c, g| format!("t.{} = {g}", ident(c)));
        let mut delete: Vec<String> = children
            .iter()
            .map(|c| format!("DELETE FROM {} t USING unnest({params}) AS k({aliases}) WHERE {}", c.sql, on_child(c)))
            .collect();
        delete.push(format!("DELETE FROM {} t USING unnest({params}) AS k({aliases}) WHERE {on_main}", main.sql));
        let keyed = format!("unnest({params}) AS k({aliases}) JOIN {} t ON {on_main}", main.sql);
        let on_other = on_key("{}");
        let among = format!("SELECT FROM unnest({params}) AS k({aliases}) WHERE {on_other}");
        let numbered = format!("unnest({params}) WITH ORDINALITY AS k({aliases}, n)");
        let fetch = format!("SELECT k.n, {} FROM {numbered} JOIN {} t ON {on_main}", main.select, main.sql);
        let fetch_children = children
            .iter()
            .map(|c| {
                let (select, sql, on, order) = (&c.select, &c.sql, on_child(c), &c.order);
                format!("SELECT k.n, {select} FROM {numbered} JOIN {sql} t ON {on} ORDER BY k.n{order}")
            })
            .collect();
        Self {
            plan: plan.to_owned(),
            id: table.id.clone(),
            stage: format!("CREATE TEMP TABLE IF NOT EXISTS {stage} ({}) ON COMMIT DELETE ROWS", typed.join(", ")),
            stage_copy: format!("COPY {stage} ({names}) FROM STDIN (FORMAT binary)"),
            unstage: format!("DELETE FROM {stage}"),
            key: keys.iter().map(|(i, _)| *i).collect(),
            direct: main.natives.values().all(Native::as_text),
            main,
            children,
            merge,
            upsert,
            delete,
            keyed,
            among,
            fetch,
            fetch_children,
        }
    }

    /// Whose bookkeeping it is.
    pub(super) fn of(&self) -> Of<'_> {
        Of { plan: &self.plan, table: &self.id }
    }

    /// Whether the main row by this name is one of those whose keys are given: for `EXISTS`.
    pub(super) fn among(&self, row: &str) -> String {
        self.among.replace("{}", row)
    }

    /// Names of the key columns.
    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().filter_map(|i| self.main.names.get(*i)).map(String::as_str)
    }

    /// Types of the key columns.
    pub(super) fn key_types(&self) -> Vec<ColumnType> {
        self.key.iter().filter_map(|i| self.main.types.get(*i)).copied().collect()
    }

    /// The SELECT list of the key columns, in the form the decoder knows.
    pub(super) fn key_select(&self) -> String {
        let each = self.key_names().zip(self.key_types()).map(|(n, ty)| read("t", n, ty, self.main.native(n)));
        each.collect::<Vec<_>>().join(", ")
    }

    /// A key that stands as JSON in a record, as a row with the key's columns, for `FROM`.
    pub(super) fn recorded_key(&self, json: &str, row: &str) -> String {
        let each = self.key_names().zip(self.key_types()).map(|(name, ty)| {
            let ty = self.main.native(name).map_or_else(|| read_as(ty), |native| native.limited().to_owned());
            format!("{} {ty}", ident(name))
        });
        let columns = each.collect::<Vec<_>>().join(", ");
        // A table without a key has no rows of a key.
        if columns.is_empty() {
            format!("LATERAL (SELECT) {row}")
        } else {
            format!("LATERAL jsonb_to_record({json}) AS {row}({columns})")
        }
    }

    /// The key cells of a main row.
    pub(super) fn key_of<'r, 'c>(&'r self, row: &'r [Cell<'c>]) -> impl Iterator<Item = &'r Cell<'c>> {
        self.key.iter().filter_map(|i| row.get(*i))
    }

    /// Keys as one text array per key column, for `unnest`. A key that does not fit the columns becomes NULL
    /// and matches nothing.
    pub(super) fn key_arrays<'k>(&self, keys: impl Iterator<Item = &'k [Cell<'static>]>) -> Vec<Vec<Option<String>>> {
        let mut arrays = vec![Vec::new(); self.key.len()];
        for key in keys {
            for (i, array) in arrays.iter_mut().enumerate() {
                array.push(key.get(i).and_then(as_text));
            }
        }
        arrays
    }
}

/// The child's columns in the order of the parent's key columns: by the attribute both come from, else by place.
fn parent_key(table: &Table, named: &[String], columns: &[Column]) -> Vec<String> {
    let matching: Vec<String> = table
        .columns
        .iter()
        .filter(|c| c.key)
        .filter_map(|key| {
            let ColumnSource::Attribute(path) = &key.from else { return None };
            let [attribute] = path.as_slice() else { return None };
            let from = ColumnSource::Parent(attribute.clone());
            columns.iter().find(|c| c.from == from && named.contains(&c.name)).map(|c| c.name.clone())
        })
        .collect();
    if matching.len() == table.key_columns().count() { matching } else { named.to_vec() }
}

fn pairs<A: AsRef<str>, B: AsRef<str>>(left: &[A], right: &[B], each: impl Fn(&str, &str) -> String) -> String {
    let on: Vec<String> = left.iter().zip(right).map(|(l, r)| each(l.as_ref(), r.as_ref())).collect();
    // Without a key nothing may match; an empty condition would match everything.
    if on.is_empty() || left.len() != right.len() { "false".to_owned() } else { on.join(" AND ") }
}

/// The type a column is read as: no lengths, so that nothing is cut or rounded on the way.
fn read_as(ty: ColumnType) -> String {
    match ty {
        ColumnType::Varchar(_) => "text".to_owned(),
        ColumnType::Numeric(_) => "numeric".to_owned(),
        other => other.sql(),
    }
}

/// The type a column has in the staging table.
fn staged_as(ty: ColumnType) -> String {
    if ty.is_native() { "text".to_owned() } else { ty.sql() }
}

/// A column's value in the form the decoder knows.
fn read(row: &str, name: &str, ty: ColumnType, native: Option<&Native>) -> String {
    let value = format!("{row}.{}", ident(name));
    native.map_or_else(|| format!("{value}::{}", read_as(ty)), |native| native.read(&value))
}

/// Values of a row from the places they stand in, and the condition under which they are written: behind `FROM`.
fn made_of(part: &Part, at: impl Fn(usize) -> String) -> (String, String) {
    let (mut values, mut kept) = (Vec::new(), Vec::new());
    for (place, name) in part.names.iter().enumerate() {
        let value = at(place);
        match part.natives.get(name) {
            None => values.push(value),
            Some(native) => {
                values.push(native.value(&value));
                kept.push(native.kept(&part.name, name, &value));
            }
        }
    }
    let kept = if kept.is_empty() { String::new() } else { format!(" WHERE {}", kept.join(" AND ")) };
    (values.join(", "), kept)
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A key's text back to its type, in SQL.
fn from_text(ty: ColumnType, native: Option<&Native>, text: &str) -> String {
    if let Some(native) = native {
        return native.bare(text);
    }
    match ty {
        // Counted from where the server counts: from 1970 its last days have no number. In days and what is left of them,
        // because intervals are multiplied as floats; without a zone, because days of a zone differ in length.
        ColumnType::Timestamptz => finite_or(
            "timestamptz",
            text,
            &format!(
                "('2000-01-01'::timestamp + {text}::bigint / 86400000000 * interval '1 day' \
                 + {text}::bigint % 86400000000 * interval '1 microsecond') AT TIME ZONE 'UTC'"
            ),
        ),
        ColumnType::Date => finite_or("date", text, &format!("'epoch'::date + {text}::integer")),
        ColumnType::Bytea => format!("decode({text}, 'hex')"),
        other => format!("{text}::{}", read_as(other)),
    }
}

/// A moment that was written as a number, or as the word for an infinite one.
fn finite_or(ty: &str, text: &str, finite: &str) -> String {
    format!("CASE WHEN {text} LIKE '%infinity' THEN {text}::{ty} ELSE {finite} END")
}

fn as_text(cell: &Cell<'_>) -> Option<String> {
    Some(match cell {
        Cell::Text(s) | Cell::Numeric(s) | Cell::Json(s) => s.to_string(),
        Cell::Uuid(u) => uuid::Uuid::from_bytes(*u).to_string(),
        Cell::Timestamp(i64::MAX) | Cell::Date(i32::MAX) => "infinity".to_owned(),
        Cell::Timestamp(i64::MIN) | Cell::Date(i32::MIN) => "-infinity".to_owned(),
        Cell::Int(i) => i.to_string(),
        Cell::Timestamp(micros) => micros.checked_sub(EPOCH_MICROS)?.to_string(),
        Cell::Date(d) => d.to_string(),
        Cell::Float(x) => x.to_string(),
        Cell::Bool(b) => b.to_string(),
        Cell::Bytes(b) => b.iter().map(|b| format!("{b:02x}")).collect(),
        // A moment past what can be counted from 1970; no other value of this form is a key.
        Cell::Other(raw) => i64::from_be_bytes(raw.as_ref().try_into().ok()?).to_string(),
        Cell::Null | Cell::TextArray(_) => return None,
    })
}

/// A staging table's name: it changes when the columns do, so that a changed mapping never meets an old one.
fn stage_name(table: &Table) -> String {
    let mut crc = crc32fast::Hasher::new();
    crc.update(table.target.as_bytes());
    for c in &table.columns {
        crc.update(c.name.as_bytes());
        crc.update(staged_as(c.ty).as_bytes());
    }
    let id: String = table.id.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    ident(&format!("cutover_stage_{}_{:08x}", id.to_lowercase(), crc.finalize()))
}
