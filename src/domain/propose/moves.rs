//! The sections of a config that move whole tables between two stores of one kind: by rule, or, where both are one account
//! and a rule would move each table onto itself, table by table under a new name.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::names::column_name;
use super::table::quoted;
use crate::domain::plan::{ColumnType, Listed};

/// One `[[moves]]` section for the tables of `listed`, with what keeps single ones from moving. `patterns` are what was
/// asked for; none means everything.
#[must_use]
pub fn moved(listed: &Listed, (from, to): (&str, &str), patterns: &[String]) -> String {
    let everything = ["*".to_owned()];
    let patterns = if patterns.is_empty() { &everything } else { patterns };
    let list = |names: &[String]| names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let unfit: Vec<String> = listed.tables.iter().filter(|t| !t.unfit.is_empty()).map(|t| t.name.clone()).collect();
    let mut out = String::new();
    for table in &listed.tables {
        let key = if table.key.is_empty() { "no key".to_owned() } else { format!("key {}", table.key.join(", ")) };
        let _ = writeln!(out, "# {} ({key})", table.name);
        for (why, what) in &table.unfit {
            let _ = writeln!(out, "# decide: {}: {why}; {what}", table.name);
        }
    }
    for thing in &listed.left_out {
        let _ = writeln!(out, "# decide: {thing} is not made on the new side: make it by hand, or leave it behind");
    }
    let _ = write!(out, "[[moves]]\nfrom = {}\nto = {}\ninclude = [{}]\n", quoted(from), quoted(to), list(patterns));
    if !unfit.is_empty() {
        let _ = writeln!(out, "exclude = [{}]", list(&unfit));
    }
    out.push_str("like = \"same\"\n\n");
    out
}

/// What is appended to a table's name where its new one stands in the same account and region.
const NEXT: &str = "-v2";

/// One `[[tables]]` section for each DynamoDB table of `listed`, for stores in which a name means the same table. The new
/// name is for a person to decide; a table that has the proposed name already is taken for the new one of the other.
#[must_use]
pub fn renamed(listed: &Listed, (from, to): (&str, &str), taken: &mut BTreeSet<String>) -> String {
    let new_ones: BTreeSet<String> = listed.tables.iter().map(|table| format!("{}{NEXT}", table.name)).collect();
    let mut out = String::new();
    for table in listed.tables.iter().filter(|table| !new_ones.contains(&table.name)) {
        let id = column_name(&table.name, |name| taken.contains(name));
        taken.insert(id.clone());
        let name = format!("{}{NEXT}", table.name);
        let there = if listed.names.contains(&name) { ", which is there already" } else { "" };
        let _ = writeln!(out, "# decide: {}: its name on the new side; proposed is {name}{there}", table.name);
        for (why, what) in &table.unfit {
            let _ = writeln!(out, "# decide: {}: {why}; {what}", table.name);
        }
        let _ = writeln!(out, "[[tables]]\nid = {}", quoted(&id));
        let _ = writeln!(out, "from = {}", quoted(&format!("{from}.{}", table.name)));
        let _ = writeln!(out, "to = {}", quoted(&format!("{to}.{name}")));
        let key = table.key.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "key = [{key}]");
        if let Some(ttl) = &table.ttl {
            let _ = writeln!(out, "ttl = {}     # items past this moment are not counted as missing", quoted(ttl));
        }
        out.push_str("like = \"same\"\n");
        if table.unfit.is_empty() {
            out.push_str("ddl = \"source\"\n");
        }
        let of_key = table.columns.iter().filter(|column| column.key && column.ty != ColumnType::Text);
        let typed: Vec<_> = of_key.collect();
        if !typed.is_empty() {
            out.push_str("[tables.columns]               # key attributes that are no text\n");
        }
        for column in typed {
            let _ = writeln!(out, "{} = {{ type = {}, key = true }}", quoted(&column.name), quoted(&column.ty.sql()));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{Column, ColumnSource, Declared, Fallback, ListedTable};

    #[test]
    fn tables_that_stay_in_one_account_are_proposed_one_by_one_under_a_new_name() {
        let column = |name: &str, ty| Column {
            name: name.to_owned(),
            ty,
            from: ColumnSource::Attribute(vec![name.to_owned()]),
            absent: Fallback::Required,
            key: true,
            declared: Declared::default(),
        };
        let table = |name: &str| ListedTable { name: name.into(), key: vec!["id".into()], ..ListedTable::default() };
        let limits = ListedTable {
            key: vec!["day".into(), "accountId".into()],
            columns: vec![column("day", ColumnType::Numeric(None)), column("accountId", ColumnType::Text)],
            ttl: Some("until".into()),
            ..table("limits")
        };
        let global = ListedTable { unfit: vec![("it is global".into(), "make it by hand".into())], ..table("Global") };
        let names = ["limits", "sessions", "sessions-v2", "Global"].map(String::from).to_vec();
        let tables = vec![limits, table("sessions"), table("sessions-v2"), global];
        let listed = Listed { names, tables, left_out: Vec::new() };
        let mut taken = BTreeSet::from(["sessions".to_owned()]);
        insta::assert_snapshot!(renamed(&listed, ("items", "items"), &mut taken));
    }
}
