//! Tables that something else than the console moves: what it can move at all, told from the plan alone.

use super::Diagnostics;
use crate::domain::plan::{Column, ColumnSource, Declared, Fallback, MoverKind, Plan, StoreKind, Table, listed_name};

/// What to do about a table that a mover cannot take.
const OWN: &str = "leave `mover` out, and the console moves this table itself";

pub(super) fn lint(plan: &Plan, found: &mut Diagnostics) {
    for (n, table) in plan.tables.iter().enumerate() {
        let path = format!("tables[{n}]");
        match table.mover {
            None => {}
            Some(MoverKind::Subscription) => subscription(plan, table, &path, found),
        }
    }
}

/// A subscription writes to the table and the columns of the same name, and changes no value on the way.
fn subscription(plan: &Plan, table: &Table, path: &str, found: &mut Diagnostics) {
    let mover = format!("{path}.mover");
    for store in [&table.from, &table.to] {
        match plan.kind(store) {
            StoreKind::Postgresql => {}
            StoreKind::Dynamodb | StoreKind::Aws => {
                let message = format!(
                    "a subscription goes from one PostgreSQL database to another, and `{store}` is none: {OWN}"
                );
                found.error(&mover, message);
                return;
            }
        }
    }
    let (source, target) =
        (listed_name(StoreKind::Postgresql, &table.source), listed_name(StoreKind::Postgresql, &table.target));
    if source != target {
        let message = format!("a subscription writes {source} to the table of the same name, not to {target}: {OWN}");
        found.error(&mover, message);
    }
    if !table.children.is_empty() {
        let message = format!("a subscription makes no child tables of lists: {OWN}");
        found.error(format!("{path}.children"), message);
    }
    if !table.leave_out.is_empty() {
        let message = format!("a subscription takes every column, also {}: {OWN}", table.leave_out.join(", "));
        found.error(format!("{path}.leave_out"), message);
    }
    if !table.triggers.is_empty() {
        let message = format!(
            "{} fires for no row that a subscription writes, unless it is ENABLE ALWAYS or ENABLE REPLICA: {OWN}",
            table.triggers.join(", ")
        );
        found.warn(format!("{path}.triggers"), message);
    }
    for column in &table.columns {
        if let Some(why) = changed(column) {
            let message = format!("column `{}` {why}, and a subscription changes no value: {OWN}", column.name);
            found.error(format!("{path}.columns.{}", column.name), message);
        }
    }
}

/// What the mapping does to a column's value; `None` where it goes as it is.
fn changed(column: &Column) -> Option<String> {
    match &column.from {
        ColumnSource::Attribute(path) if path.len() == 1 && path[0] == column.name => {}
        ColumnSource::Attribute(path) => return Some(format!("takes `{}`", path.join("."))),
        ColumnSource::Constant(_) => return Some("holds a constant".to_owned()),
        ColumnSource::Parent(_) | ColumnSource::Ordinal | ColumnSource::Element => {
            return Some("belongs to a child table".to_owned());
        }
        ColumnSource::Whole => return Some("takes the whole record".to_owned()),
    }
    match &column.absent {
        Fallback::Literal(_) => return Some("has a default for what is absent".to_owned()),
        Fallback::Null | Fallback::Required => {}
    }
    let Declared { unit, between, lossy, sparse: _ } = column.declared;
    if unit.is_some() || between.is_some() {
        return Some("reads numbers as moments".to_owned());
    }
    lossy.then(|| "may be rounded or cut".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lint::lint;
    use crate::domain::plan::{ChildTable, ColumnType, Store, Unit};

    fn column(name: &str, from: &str) -> Column {
        Column {
            name: name.into(),
            ty: ColumnType::Text,
            from: ColumnSource::Attribute(vec![from.into()]),
            absent: Fallback::Null,
            key: name == "id",
            declared: Declared::default(),
        }
    }

    fn table() -> Table {
        Table {
            from: "v1".into(),
            to: "v2".into(),
            target: "books".into(),
            key: vec!["id".into()],
            columns: vec![column("id", "id"), column("title", "title")],
            marker_prefix: "m".into(),
            mover: Some(MoverKind::Subscription),
            ..Table::watched("books", "public.books")
        }
    }

    /// What is said of the mover of this table, between stores of these kinds.
    fn said(table: Table, kinds: [StoreKind; 2]) -> Vec<String> {
        let mut plan = crate::workers::tests::plan::plan();
        plan.stores = ["v1", "v2"].map(str::to_owned).into_iter().zip(kinds.map(Store::new)).collect();
        plan.tables = vec![table];
        let of_mover = |message: &String| message.contains("subscription");
        lint(&plan).into_iter().map(|d| format!("{} {}", d.path, d.message)).filter(of_mover).collect()
    }

    #[test]
    fn what_a_subscription_cannot_move_is_refused_by_its_name() {
        const BOTH: [StoreKind; 2] = [StoreKind::Postgresql, StoreKind::Postgresql];
        assert_eq!(said(table(), BOTH), Vec::<String>::new());
        let child = ChildTable {
            target: "tags".into(),
            list: vec!["tags".into()],
            columns: vec![],
            parent_key: vec!["id".into()],
            sparse: false,
        };
        let with = |change: &dyn Fn(&mut Table)| {
            let mut changed = table();
            change(&mut changed);
            changed
        };
        let title = |change: &dyn Fn(&mut Column)| with(&|t| change(&mut t.columns[1]));
        let cases = [
            (with(&|t| t.target = "shop.books".into()), "tables[0].mover", "not to shop.books"),
            (with(&|t| t.children = vec![child.clone()]), "tables[0].children", "child tables"),
            (with(&|t| t.leave_out = vec!["note".into()]), "tables[0].leave_out", "also note"),
            (with(&|t| t.triggers = vec!["search".into()]), "tables[0].triggers", "search fires for no row"),
            (
                title(&|c| c.from = ColumnSource::Attribute(vec!["name".into()])),
                "tables[0].columns.title",
                "takes `name`",
            ),
            (title(&|c| c.from = ColumnSource::Constant("x".into())), "tables[0].columns.title", "a constant"),
            (title(&|c| c.absent = Fallback::Literal("x".into())), "tables[0].columns.title", "a default"),
            (title(&|c| c.declared.lossy = true), "tables[0].columns.title", "rounded or cut"),
            (title(&|c| c.declared.unit = Some(Unit::Seconds)), "tables[0].columns.title", "as moments"),
        ];
        for (wrong, path, words) in cases {
            let found = said(wrong, BOTH);
            assert!(found.iter().any(|line| line.starts_with(path) && line.contains(words)), "{words}: {found:?}");
        }
        let found = said(table(), [StoreKind::Dynamodb, StoreKind::Postgresql]);
        assert!(found.iter().any(|line| line.contains("`v1` is none")), "{found:?}");
    }
}
