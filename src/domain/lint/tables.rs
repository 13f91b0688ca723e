//! Tables, columns, children and foreign keys.

use std::collections::BTreeSet;

use super::Diagnostics;
use crate::domain::plan::{
    AfterLoad, CONTROL, Column, ColumnSource, ColumnType, Definition, Fallback, Fires, Plan, SaidKind, StoreKind,
    Table, TypeName, Unit,
};

pub(super) fn lint(plan: &Plan, found: &mut Diagnostics) {
    let stays = plan.stays.iter().map(|s| s.id.as_str());
    found.ids("tables", "table", plan.tables.iter().map(|t| t.id.as_str()));
    found.ids("stays", "staying table", stays);
    let mut sources: Vec<(&str, &str)> = Vec::new();
    let mut targets: Vec<(&str, &str)> = Vec::new();
    let taken = |all: &[(&str, &str)], store: &str, name: &str| {
        all.iter().any(|(other, table)| *other == store && plan.is_one_table(store, table, name))
    };
    for (n, table) in plan.tables.iter().enumerate() {
        let path = format!("tables[{n}]");
        if taken(&sources, &table.from, &table.source) {
            found.error(format!("{path}.source"), format!("`{}` moves already with another table", table.source));
        }
        sources.push((&table.from, &table.source));
        for (key, store) in [("from", &table.from), ("to", &table.to)] {
            store_of_the_plan(plan, store, format!("{path}.{key}"), found);
        }
        if taken(&targets, &table.to, &table.target) {
            found.error(format!("{path}.target"), format!("`{}` is another table's target already", table.target));
        }
        targets.push((&table.to, &table.target));
        own(plan, table, &path, found);
        definition(plan, table, &path, found);
        check_inverse(plan, table, &path, found);
        triggers_at_the_source(plan, table, &path, found);
        for (c, child) in table.children.iter().enumerate() {
            if taken(&targets, &table.to, &child.target) {
                let at = format!("{path}.children[{c}].target");
                found.error(at, format!("`{}` is another table's target already", child.target));
            }
            targets.push((&table.to, &child.target));
        }
        children(table, &path, found);
        foreign_keys(plan, n, &path, found);
    }
    write_budget(plan, found);
    for (n, table) in plan.stays.iter().enumerate() {
        store_of_the_plan(plan, &table.from, format!("stays[{n}].from"), found);
        if taken(&sources, &table.from, &table.source) {
            found
                .error(format!("stays[{n}].source"), format!("`{}` moves and stays; it can only do one", table.source));
        }
    }
}

fn write_budget(plan: &Plan, found: &mut Diagnostics) {
    let Some(units) = plan.load.write_budget_wcu else { return };
    if units <= 0.0 {
        found.error("load.write_budget_wcu", "a budget of 0 would never write anything; leave it out for unlimited");
    } else if !plan.tables.iter().any(|table| plan.kind(&table.to).sells_units()) {
        found.warn("load.write_budget_wcu", "no table goes to DynamoDB: nothing is held back by it");
    }
}

/// DDL of a DynamoDB table is its definition, and makes a table with the key of the plan.
fn definition(plan: &Plan, table: &Table, path: &str, found: &mut Diagnostics) {
    let (Some(ddl), StoreKind::Dynamodb) = (&table.ddl, plan.kind(&table.to)) else { return };
    let path = format!("{path}.ddl");
    let definition = match Definition::read(ddl) {
        Ok(definition) => definition,
        Err(wrong) => {
            let message = format!("the DDL of a DynamoDB table is the JSON that CreateTable takes: {wrong}");
            found.error(path, message);
            return;
        }
    };
    if definition.table_name.as_ref().is_some_and(|name| *name != table.target) {
        let message = format!("it makes another table than `{}`: leave TableName out, or name that one", table.target);
        found.error(&path, message);
    }
    let key: Vec<&str> = definition.key().into_iter().map(|(name, _)| name).collect();
    let wanted: Vec<&str> = table.key_columns().collect();
    if key != wanted {
        let message =
            format!("it makes a table with the key ({}), and the plan's is ({})", key.join(", "), wanted.join(", "));
        found.error(path, message);
    }
}

/// Plans of before do not name their stores.
fn store_of_the_plan(plan: &Plan, store: &str, path: String, found: &mut Diagnostics) {
    if !plan.stores.is_empty() {
        found.name(path, "store", store, plan.stores.keys().map(String::as_str).filter(|name| *name != CONTROL));
    }
}

/// A table without an inverse leaves a rollback without its writes.
fn check_inverse(plan: &Plan, table: &Table, path: &str, found: &mut Diagnostics) {
    if plan.reverse.enabled {
        for why in crate::domain::mapping::inverse_gaps(table, plan.kind(&table.from)).blocks {
            let message = format!("writes of the new side to `{}` cannot be carried back: {why}", table.id);
            found.warn(format!("{path}.columns"), message);
        }
    }
}

/// What a rollback writes is written like anything else there, and the source's own triggers see it.
fn triggers_at_the_source(plan: &Plan, table: &Table, path: &str, found: &mut Diagnostics) {
    let fires = |one: &AfterLoad| match one {
        AfterLoad::Trigger { name, fires: Fires::Usually | Fires::Always, .. } => Some(name.clone()),
        AfterLoad::Trigger { .. } | AfterLoad::ForeignKey { .. } | AfterLoad::MaterializedView { .. } => None,
    };
    let names: Vec<String> = table.after_load.iter().filter_map(fires).collect();
    if plan.reverse.enabled && !names.is_empty() {
        let message = format!(
            "its trigger {} fires at the source too for each write that a rollback carries back, and may change it or write \
             others",
            names.join(", ")
        );
        found.warn(path, message);
    }
}

fn own(plan: &Plan, table: &Table, path: &str, found: &mut Diagnostics) {
    match (plan.kind(&table.from), table.key.len()) {
        (StoreKind::Dynamodb, 1 | 2) => {}
        (StoreKind::Dynamodb, _) => found.error(format!("{path}.key"), "a DynamoDB key is one attribute or two"),
        (_, 0) => found.error(format!("{path}.key"), "a table needs a key"),
        (_, _) => {}
    }
    if table.marker_prefix.is_empty() {
        found.error(format!("{path}.marker_prefix"), "an empty prefix would make every row a marker");
    }
    if plan.is_one_table(&table.from, &table.source, &table.target) && plan.may_be_one(&table.from, &table.to) {
        let message =
            format!("`{}` would go onto itself: `{}` and `{}` are one store", table.source, table.from, table.to);
        found.error(format!("{path}.to"), message);
    }
    for column in &table.columns {
        let at = format!("{path}.columns.{}", column.name);
        if matches!(column.from, ColumnSource::Parent(_) | ColumnSource::Ordinal | ColumnSource::Element) {
            found.error(&at, format!("column `{}` takes a value that only child tables have", column.name));
        }
        if column.key
            && !matches!(&column.from, ColumnSource::Attribute(p) if p.len() == 1 && table.key.contains(&p[0]))
        {
            let message =
                format!("key column `{}` must come from a key attribute ({})", column.name, table.key.join(", "));
            found.error(&at, message);
        }
        literal(column, &at, found);
        whole_key(column, &at, found);
        native(column, plan.kind(&table.from), &at, found);
        if column.key && column.ty.is_native() && !table.children.is_empty() {
            let message =
                format!("key column `{}` of a table with child tables has a type that is known here", column.name);
            found.error(format!("{at}.type"), message);
        }
        document(plan, table, column, &at, found);
        let expires = |ttl: &String| column.from == ColumnSource::Attribute(vec![ttl.clone()]);
        if column.ty == ColumnType::Timestamptz
            && column.declared.unit != Some(Unit::Seconds)
            && table.ttl.as_ref().is_some_and(expires)
        {
            found.error(
                &at,
                format!("column `{}` takes the time an item expires, which counts seconds: unit = \"s\"", column.name),
            );
        }
    }
    for (n, name) in table.leave_out.iter().enumerate() {
        if let Some(reader) = table.readers(name).next() {
            let message = format!("`{name}` is read by the column `{}`, so it is not left out", reader.name);
            found.error(format!("{path}.leave_out[{n}]"), message);
        }
    }
    for attribute in &table.key {
        let carried =
            |c: &&Column| c.key && matches!(&c.from, ColumnSource::Attribute(p) if p.len() == 1 && p[0] == *attribute);
        if !table.columns.iter().any(|c| carried(&c)) {
            let message =
                format!("no column with `key = true` comes from `{attribute}`: its deletes could not be carried");
            found.error(format!("{path}.key"), message);
        }
    }
}

/// What holds of columns that take documents, and of those that take the whole record.
fn document(plan: &Plan, table: &Table, column: &Column, at: &str, found: &mut Diagnostics) {
    let name = &column.name;
    if column.from == ColumnSource::Whole {
        if column.ty != ColumnType::Document {
            found.error(at, format!("column `{name}` takes the whole record, so its type must be document"));
        }
        if plan.kind(&table.from).of_columns() {
            found.error(at, format!("column `{name}` takes the whole record, and only a document store has records"));
        }
    }
    if column.ty != ColumnType::Document {
        return;
    }
    if column.key {
        found.error(at, format!("column `{name}` holds a document, which is no key"));
    }
    match plan.kind(&table.to) {
        StoreKind::Dynamodb => {}
        StoreKind::Postgresql | StoreKind::Aws => {
            found.error(at, format!("column `{name}` holds a document, which only a document store takes"));
        }
    }
}

fn children(table: &Table, path: &str, found: &mut Diagnostics) {
    let keys = table.key_columns().count();
    for (n, child) in table.children.iter().enumerate() {
        let path = format!("{path}.children[{n}]");
        if child.parent_key.len() != keys {
            let message = format!("must name {keys} columns, as the parent's key has");
            found.error(format!("{path}.parent_key"), message);
        }
        for (k, name) in child.parent_key.iter().enumerate() {
            let at = format!("{path}.parent_key[{k}]");
            found.name(&at, "column", name, child.columns.iter().map(|c| c.name.as_str()));
            let is_parent = |c: &&Column| c.name == *name && !matches!(c.from, ColumnSource::Parent(_));
            if child.columns.iter().any(|c| is_parent(&c)) {
                found.error(at, format!("column `{name}` must take the parent's key: {{ parent = \"...\" }}"));
            }
        }
        for column in &child.columns {
            let at = format!("{path}.columns.{}", column.name);
            if let ColumnSource::Parent(attribute) = &column.from {
                found.name(format!("{at}.parent"), "key attribute", attribute, table.key.iter().map(String::as_str));
            }
            literal(column, &at, found);
            whole_key(column, &at, found);
            if let ColumnType::Native(name) = column.ty {
                not_a_type(name, &at, "columns of child tables have one of the types that are known here", found);
            }
            if column.ty == ColumnType::Document || column.from == ColumnSource::Whole {
                found.error(&at, format!("column `{}` holds a document, which a child table does not", column.name));
            }
        }
        if !child.columns.iter().any(|c| c.key && !child.parent_key.contains(&c.name)) {
            let message = "needs a key column besides the parent's, usually { ordinal = true, key = true }";
            found.error(format!("{path}.columns"), message);
        }
    }
}

fn foreign_keys(plan: &Plan, n: usize, path: &str, found: &mut Diagnostics) {
    let table = &plan.tables[n];
    for (f, key) in table.foreign_keys.iter().enumerate() {
        let at = format!("{path}.foreign_keys[{f}]");
        for (c, column) in key.columns.iter().enumerate() {
            found.name(format!("{at}.columns[{c}]"), "column", column, table.columns.iter().map(|c| c.name.as_str()));
        }
        let references = format!("{at}.references");
        found.name(&references, "table", &key.references, plan.tables.iter().map(|t| t.id.as_str()));
        let Some(parent) = plan.table(&key.references) else { continue };
        if parent.to != table.to {
            let message = format!(
                "`{}` goes to the store `{}`, where no reference of `{}` reaches",
                parent.id, parent.to, table.to
            );
            found.error(&references, message);
        }
        if parent.key_columns().count() != key.columns.len() {
            let message = format!("`{}` has {} key columns", parent.id, parent.key_columns().count());
            found.error(format!("{at}.columns"), message);
        }
        if parent.id != table.id && reaches(plan, &parent.id, &table.id) {
            let message = format!("`{}` and `{}` refer to each other, so neither can load first", table.id, parent.id);
            found.error(references, message);
        }
    }
}

/// Whether following foreign keys from one table leads to another.
fn reaches(plan: &Plan, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(id) = open.pop() {
        if id == to {
            return true;
        }
        if seen.insert(id) {
            open.extend(plan.table(id).into_iter().flat_map(|t| t.foreign_keys.iter().map(|f| f.references.as_str())));
        }
    }
    false
}

/// Types of the database's own whose values an item may hold as text, in the words PostgreSQL writes them in.
const OF_ITEMS: [&str; 6] = ["char", "character", "json", "time", "time without time zone", "interval"];

/// A type that only the database knows: between two databases any, from items one whose text is its value.
fn native(column: &Column, source: StoreKind, path: &str, found: &mut Diagnostics) {
    let ColumnType::Native(name) = column.ty else { return };
    if source.of_columns() {
        return;
    }
    // Limits stand behind the name or within it: `char(2)`, `time(3) without time zone`.
    let lower = name.written().to_ascii_lowercase();
    let (head, rest) = lower.split_once('(').unwrap_or((&lower, ""));
    let behind = rest.split_once(')').map_or("", |(_, behind)| behind);
    let bare = format!("{}{behind}", head.trim_end());
    let said = name.parts().1;
    if said.is_some() || OF_ITEMS.contains(&bare.as_str()) {
        // Any other text may be no value of the type, and then no row could be looked for by it.
        if column.key && said != Some(SaidKind::Enum) && !bare.starts_with("char") {
            let message =
                format!("key column `{}` of a table of items is of a known type, an enum or char(n)", column.name);
            found.error(format!("{path}.type"), message);
        }
        return;
    }
    let advice = if bare.starts_with("timestamp") {
        "it does not say which zone its moments are of; `timestamptz` does"
    } else {
        "an enum is written `enum NAME`, a domain `domain NAME`"
    };
    not_a_type(name, path, advice, found);
}

fn not_a_type(name: TypeName, path: &str, advice: &str, found: &mut Diagnostics) {
    let near = super::nearest(name.written(), ColumnType::NAMES.into_iter());
    let message = format!("`{name}` is not a column type that can be written: {advice}");
    found.push(super::Severity::Error, format!("{path}.type"), message, near);
}

/// Keys that are rounded or cut become one, and documents and lists are no keys: nothing is looked up by them.
fn whole_key(column: &Column, path: &str, found: &mut Diagnostics) {
    if column.key && matches!(column.ty, ColumnType::Jsonb | ColumnType::TextArray | ColumnType::Document) {
        let message = format!(
            "key column `{}` is {}: rows are told apart by numbers, texts, moments and bytes; leave the table out, or give it \
             another key",
            column.name,
            column.ty.sql()
        );
        found.error(format!("{path}.type"), message);
    }
    if column.key && column.declared.lossy {
        let message = format!("key column `{}` must not be lossy: two rows would become one", column.name);
        found.error(format!("{path}.lossy"), message);
    }
}

/// A literal must be one the column can hold.
fn literal(column: &Column, path: &str, found: &mut Diagnostics) {
    for (text, key) in [
        (if let Fallback::Literal(t) = &column.absent { Some(t) } else { None }, "default"),
        (if let ColumnSource::Constant(t) = &column.from { Some(t) } else { None }, "constant"),
    ] {
        let Some(text) = text else { continue };
        let fits = match column.ty {
            ColumnType::Smallint => text.parse::<i16>().is_ok(),
            ColumnType::Integer => text.parse::<i32>().is_ok(),
            ColumnType::Bigint => text.parse::<i64>().is_ok(),
            ColumnType::Numeric(_) | ColumnType::Double => text.parse::<f64>().is_ok_and(f64::is_finite),
            ColumnType::Boolean => matches!(text.as_str(), "true" | "false"),
            ColumnType::Varchar(n) => text.chars().count() <= n as usize,
            ColumnType::Uuid => uuid::Uuid::parse_str(text).is_ok(),
            ColumnType::Jsonb => serde_json::from_str::<serde_json::Value>(text).is_ok(),
            _ => !text.contains('\0'),
        };
        let ty = column.ty.sql();
        let why = match crate::domain::mapping::literal_fits(column, text) {
            Ok(()) if fits => continue,
            Ok(()) => String::new(),
            Err(reason) => format!(": {reason}"),
        };
        found.error(
            format!("{path}.{key}"),
            format!("`{text}` does not fit column `{}` of type {ty}{why}", column.name),
        );
    }
}
