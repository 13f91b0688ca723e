//! The section of a config that moves one sampled table into PostgreSQL.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use super::SampledTable;
use super::attribute::Seen;
use super::names::{column_name, in_sql};
use crate::domain::plan::{ColumnType, path_text};

/// A column as it is proposed.
struct Proposal<'s> {
    name: String,
    attribute: &'s str,
    ty: ColumnType,
    key: bool,
    parked: u64,
    seen: &'s Seen,
}

/// What is seen of a key in a table without items.
static NOTHING: LazyLock<Seen> = LazyLock::new(Seen::default);

/// The `[[tables]]` section: id, names, key, DDL and columns, each column with what the sample showed. What a person has to
/// decide stands in lines that begin with `# decide:`. `from` and `to` are the names of the stores; `taken` are the ids
/// that other tables have, and gets this one's.
#[must_use]
pub fn proposed(table: &SampledTable, (from, to): (&str, &str), taken: &mut BTreeSet<String>) -> String {
    let id = column_name(&table.name, |name| taken.contains(name));
    taken.insert(id.clone());
    let columns = columns(table);
    let mut out = format!("[[tables]]\nid = {}\n", quoted(&id));
    let _ = writeln!(out, "from = {}", quoted(&format!("{from}.{}", table.name)));
    let _ = writeln!(out, "to = {}", quoted(&format!("{to}.{id}")));
    let _ = writeln!(out, "key = [{}]", table.key.iter().map(|(k, _)| quoted(k)).collect::<Vec<_>>().join(", "));
    if let Some(ttl) = &table.ttl {
        let _ = writeln!(out, "ttl = {}     # items past this moment are not counted as missing", quoted(ttl));
    }
    let _ = write!(out, "ddl_sql = {}", ddl(&id, &columns));
    let _ = writeln!(out, "# From {} items{}.", table.items, count(table));
    for column in &columns {
        decisions(&mut out, table, column);
    }
    out.push_str("[tables.columns]\n");
    for column in &columns {
        let key = if column.key { ", key = true" } else { "" };
        let sparse = if !column.key && rare(column.seen, table.items) { ", sparse = true" } else { "" };
        let _ = writeln!(
            out,
            "{} = {{ from = {}, type = {}{key}{sparse} }}   # {}",
            column.name,
            quoted(&path_text(&[column.attribute.to_owned()])),
            quoted(&column.ty.sql()),
            column.seen.shares(table.items)
        );
    }
    out
}

/// The key first, in its order, then the others by name.
fn columns(table: &SampledTable) -> Vec<Proposal<'_>> {
    let keyed = table.key.iter().map(|(name, ty)| (name, table.attributes.get(name).unwrap_or(&NOTHING), Some(*ty)));
    let others = table.attributes.iter().filter(|(name, _)| table.key.iter().all(|(key, _)| key != *name));
    let mut taken = BTreeSet::new();
    keyed
        .chain(others.map(|(name, seen)| (name, seen, None)))
        .map(|(attribute, seen, key)| {
            let name = column_name(attribute, |name| taken.contains(name));
            taken.insert(name.clone());
            let fit = seen.fit(key.is_some());
            let ty = key.filter(|_| seen.present == 0).unwrap_or(fit.ty);
            Proposal { name, attribute, ty, key: key.is_some(), parked: fit.parked, seen }
        })
        .collect()
}

fn ddl(id: &str, columns: &[Proposal<'_>]) -> String {
    let mut sql = format!("CREATE TABLE IF NOT EXISTS {} (\n", in_sql(id));
    for column in columns {
        let _ = writeln!(sql, "    {} {},", in_sql(&column.name), column.ty.sql());
    }
    let key = columns.iter().filter(|c| c.key).map(|c| in_sql(&c.name)).collect::<Vec<_>>().join(", ");
    let _ = writeln!(sql, "    PRIMARY KEY ({key})\n);");
    format!("\"\"\"\n{}\"\"\"\n", sql.replace('\\', "\\\\"))
}

fn decisions(out: &mut String, table: &SampledTable, column: &Proposal<'_>) {
    let mut decide = |what: String| {
        let _ = writeln!(out, "# decide: {what}");
    };
    let Proposal { name, ty, seen, .. } = column;
    if column.parked > 0 {
        decide(format!(
            "{name}: {} of {} values of the sample do not fit {} and would be parked",
            column.parked,
            seen.present,
            ty.sql()
        ));
    }
    if seen.present == 0 {
        let shows = if column.key { "the table shows no item" } else { "the sample shows no value but null" };
        decide(format!("{name}: {shows}, so {} is a guess", ty.sql()));
    }
    if let Some(unit) = seen.unit().filter(|_| !column.key && table.ttl.as_deref() != Some(column.attribute)) {
        let unit = unit.name();
        decide(format!(
            "{name}: every number is a likely moment; if they are, type = \"timestamptz\", unit = \"{unit}\""
        ));
    }
    if *ty == ColumnType::Text && seen.longest > 0 && !column.key {
        // Nobody is asked: text has no limit. The length helps whoever wants one.
        let _ = writeln!(out, "# {name}: the longest text has {} characters", seen.longest);
    }
}

/// So rare that the sample `check` reads may show none.
const fn rare(seen: &Seen, items: u64) -> bool {
    seen.present * 20 < items
}

fn count(table: &SampledTable) -> String {
    table.count.map_or_else(String::new, |n| format!("; the store says the table has about {n}"))
}

/// A text of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    // A variable of the environment begins like this.
    out.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::value::{Record, Value};

    fn item(fields: &[(&'static str, Value<'static>)]) -> Record<'static> {
        Record { fields: fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect() }
    }

    fn text(s: &'static str) -> Value<'static> {
        Value::Text(s.into())
    }

    #[test]
    fn a_sampled_table_becomes_a_section_with_what_a_person_has_to_decide() {
        let mut table = SampledTable {
            name: "Shop-Orders".into(),
            key: vec![("orderId".into(), ColumnType::Text), ("line.no".into(), ColumnType::Numeric(None))],
            ttl: Some("expiresAt".into()),
            count: Some(9_000),
            ..SampledTable::default()
        };
        let number = |n: &'static str| Value::Decimal(n.into());
        for n in ["1", "2", "3"] {
            table.look(&item(&[
                ("orderId", text("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
                ("line.no", number(n)),
                ("user", text("bob")),
                ("User", text("Bob")),
                ("createdAt", number("1764000000")),
                ("expiresAt", number("1764000000")),
                ("stock", if n == "3" { text("many") } else { number(n) }),
            ]));
        }
        let said = proposed(&table, ("old", "new"), &mut BTreeSet::new());
        insta::assert_snapshot!(said);
    }
}
