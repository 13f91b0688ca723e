//! Extensions of the old database that the new one lacks, or has otherwise.

use std::collections::BTreeMap;

use super::rights::in_schema;
use crate::domain::plan::{Plan, Table};
use crate::ports::{Extension, ExtensionUse, Surroundings};
use crate::workers::preflight::CheckRow;

/// Tables named of one extension.
const NAMED: usize = 5;

/// What is wrong, and notes, for the tables that move from one store to another.
pub(super) fn rows(plan: &Plan, (from, to): (&str, &str), old: &Surroundings, new: &Surroundings) -> Vec<CheckRow> {
    let moving: Vec<&Table> =
        plan.tables.iter().filter(|table| (table.from.as_str(), table.to.as_str()) == (from, to)).collect();
    let mut rows = Vec::new();
    let mut uses: BTreeMap<&str, Vec<(&ExtensionUse, &Table)>> = BTreeMap::new();
    for used in &old.uses {
        if let Some(table) = moving.iter().find(|table| in_schema(&table.source) == used.table) {
            uses.entry(&used.extension).or_default().push((used, table));
        }
    }
    let mut unused = Vec::new();
    for extension in &old.extensions {
        let uses = uses.get(extension.name.as_str()).map_or(&[][..], Vec::as_slice);
        if let Some(there) = new.extensions.iter().find(|there| there.name == extension.name) {
            rows.extend(
                differs(extension, there, !uses.is_empty()).map(|note| CheckRow::ok(format!("note {to}"), note)),
            );
            continue;
        }
        // A table that stands there already does without.
        let lacking: Vec<&(&ExtensionUse, &Table)> =
            uses.iter().filter(|(_, table)| !new.tables.contains(&in_schema(&table.target))).collect();
        let by_rule = |table: &Table| {
            plan.moves.iter().any(|rule| rule.from == from && rule.to == to && rule.takes(&table.source))
        };
        let brought = lacking.iter().any(|(_, table)| brings(table, &extension.name));
        let needed = brought || lacking.iter().any(|(used, table)| by_rule(table) || named(table, used));
        let available = new.available.contains(&extension.name);
        if lacking.is_empty() {
            unused.push(format!("{} {}", extension.name, extension.version));
        } else if brought && available {
            let note = format!("the set_up step makes the extension {}: {} rest on it", extension.name, of(&lacking));
            rows.push(CheckRow::ok(format!("extension {to}"), note));
        } else if needed {
            let wrong = format!(
                "the extension {} is not there, and tables that move rest on it: {}",
                extension.name,
                of(&lacking)
            );
            rows.push(CheckRow::bad(format!("extension {to}"), wrong, how(extension, new)));
        } else {
            let note = format!(
                "the extension {} is not there; at the source these tables rest on it: {}; where their DDL does too, {}",
                extension.name,
                of(&lacking),
                how(extension, new)
            );
            rows.push(CheckRow::ok(format!("note {to}"), note));
        }
    }
    if !unused.is_empty() {
        let note = format!(
            "extensions of the old database are not in {}: {}; no table of the plan that is yet to be made rests on them by a \
             column, a default, an index or a constraint; functions, triggers and applications may",
            new.database,
            unused.join(", ")
        );
        rows.push(CheckRow::ok(format!("note {to}"), note));
    }
    rows
}

/// Whether the DDL of a table makes the extension itself.
fn brings(table: &Table, extension: &str) -> bool {
    let ddl = table.ddl.as_deref().unwrap_or_default().to_lowercase();
    ddl.match_indices("create extension").any(|(at, _)| {
        let statement = ddl[at..].split(';').next().unwrap_or_default();
        statement.contains(&extension.to_lowercase())
    })
}

/// Whether the DDL of a table says the extension's name, as that of its type or operator class mostly is.
fn named(table: &Table, used: &ExtensionUse) -> bool {
    table.ddl.as_deref().unwrap_or_default().to_lowercase().contains(&used.extension.to_lowercase())
}

/// `public.users (a column), public.words (an index)`.
fn of(uses: &[&(&ExtensionUse, &Table)]) -> String {
    let mut said: Vec<String> =
        uses.iter().take(NAMED).map(|(used, _)| format!("{} ({})", used.table, used.by)).collect();
    if uses.len() > NAMED {
        said.push(format!("and {} more", uses.len() - NAMED));
    }
    said.join(", ")
}

/// The statement that makes it, or that there is none.
fn how(extension: &Extension, new: &Surroundings) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    if !new.available.contains(&extension.name) {
        return format!(
            "{} is not available on the server of {}: install its package there, or move to a server that has it",
            extension.name, new.database
        );
    }
    let schema = &extension.schema;
    let place = if schema == "public" || schema == "pg_catalog" {
        String::new()
    } else {
        format!("CREATE SCHEMA IF NOT EXISTS {}; ", quoted(schema))
    };
    let with = if schema == "pg_catalog" { String::new() } else { format!(" WITH SCHEMA {}", quoted(schema)) };
    format!("in the database {}: {place}CREATE EXTENSION {}{with};", new.database, quoted(&extension.name))
}

/// That both have it, and not as the same.
fn differs(old: &Extension, new: &Extension, used: bool) -> Option<String> {
    let name = &old.name;
    if used && old.schema != new.schema {
        return Some(format!(
            "the extension {name} stands in the schema {} where the old one has it in {}: statements that name the schema fail; \
             ALTER EXTENSION \"{name}\" SET SCHEMA \"{}\"",
            new.schema, old.schema, old.schema
        ));
    }
    (old.version != new.version).then(|| {
        format!(
            "the extension {name} is of version {} where the old one has {}: its values, functions and orders may differ",
            new.version, old.version
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{NEW, OLD};

    fn extension(name: &str, version: &str, schema: &str) -> Extension {
        Extension { name: name.into(), version: version.into(), schema: schema.into() }
    }

    fn plan(ddl: Option<&str>) -> Plan {
        let mut plan = crate::workers::tests::plan::plan();
        plan.tables.truncate(1);
        let table = &mut plan.tables[0];
        (table.from, table.to) = (OLD.to_owned(), NEW.to_owned());
        (table.source, table.target, table.ddl) =
            ("public.users".into(), "public.users".into(), ddl.map(str::to_owned));
        plan
    }

    fn old(extensions: Vec<Extension>) -> Surroundings {
        let used = ExtensionUse { extension: "citext".into(), table: "public.users".into(), by: "a column".into() };
        Surroundings { database: "shop".into(), extensions, uses: vec![used], ..Surroundings::default() }
    }

    fn new(available: &[&str], extensions: Vec<Extension>) -> Surroundings {
        let available = available.iter().map(|name| (*name).to_owned()).collect();
        Surroundings { database: "shop2".into(), available, extensions, ..Surroundings::default() }
    }

    fn said(plan: &Plan, old: &Surroundings, new: &Surroundings) -> Vec<(bool, String)> {
        let each = rows(plan, (OLD, NEW), old, new).into_iter();
        each.map(|row| match row.result {
            Ok(text) => (true, text),
            Err(text) => (false, format!("{text}; {}", row.advice)),
        })
        .collect()
    }

    #[test]
    fn one_that_tables_rest_on_and_that_is_not_there_is_wrong_with_the_statement_that_makes_it() {
        let plan = plan(Some("CREATE TABLE users (id int PRIMARY KEY, mail util.citext)"));
        let old = old(vec![extension("citext", "1.6", "util")]);
        let all = said(&plan, &old, &new(&["citext"], vec![]));
        let [(false, text)] = all.as_slice() else { panic!("{all:?}") };
        for part in [
            "rest on it: public.users (a column)",
            "CREATE SCHEMA IF NOT EXISTS \"util\"; CREATE EXTENSION \"citext\" WITH SCHEMA \"util\";",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let all = said(&plan, &old, &new(&[], vec![]));
        assert!(!all[0].0 && all[0].1.contains("not available on the server of shop2"), "{all:?}");
        // A table that stands there does without it.
        let mut there = new(&["citext"], vec![]);
        there.tables.push("public.users".into());
        assert!(said(&plan, &old, &there)[0].0);
    }

    #[test]
    fn what_may_be_meant_otherwise_is_a_note_and_what_ddl_makes_itself_is_nothing_wrong() {
        let old = old(vec![extension("citext", "1.6", "public")]);
        let plain = plan(Some("CREATE TABLE users (id int PRIMARY KEY, mail text)"));
        let all = said(&plain, &old, &new(&["citext"], vec![]));
        assert!(all[0].0 && all[0].1.contains("where their DDL does too"), "{all:?}");
        let brings = plan(Some("CREATE EXTENSION IF NOT EXISTS citext; CREATE TABLE users (mail citext)"));
        let all = said(&brings, &old, &new(&["citext"], vec![]));
        assert!(
            all.len() == 1 && all[0].0 && all[0].1.contains("the set_up step makes the extension citext"),
            "{all:?}"
        );
        let all = said(&brings, &old, &new(&[], vec![]));
        assert!(!all[0].0 && all[0].1.contains("not available"), "nothing can make it: {all:?}");
    }

    #[test]
    fn another_version_or_schema_is_a_note_and_the_same_is_nothing() {
        let plan = plan(None);
        let old = old(vec![extension("citext", "1.6", "public")]);
        let with = |version, schema| new(&["citext"], vec![extension("citext", version, schema)]);
        assert_eq!(said(&plan, &old, &with("1.6", "public")), []);
        let all = said(&plan, &old, &with("1.5", "public"));
        assert!(all[0].0 && all[0].1.contains("version 1.5 where the old one has 1.6"), "{all:?}");
        let all = said(&plan, &old, &with("1.6", "ext"));
        assert!(all[0].0 && all[0].1.contains("schema ext where the old one has it in public"), "{all:?}");
    }
}
