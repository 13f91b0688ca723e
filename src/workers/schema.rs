//! The source's key schema compared with the plan: each problem with what to do. What the target holds is compared by
//! its adapter.

use crate::domain::plan::{ColumnSource, ColumnType, Table};
use crate::ports::SourceTable;

/// Problems of a source table, each with what to do about it.
pub fn problems(table: &Table, found: &SourceTable) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let names: Vec<&str> = found.key.iter().map(|(name, _)| name.as_str()).collect();
    if names != table.key.iter().map(String::as_str).collect::<Vec<_>>() {
        problems.push((
            format!("{} has the key {}, the plan says {}", table.source, names.join(", "), table.key.join(", ")),
            "mend `key` in the config".to_owned(),
        ));
        return problems;
    }
    for (attribute, ty) in &found.key {
        if table.is_whole() {
            problems.extend(whole_key(table, attribute, ty));
            continue;
        }
        let from = ColumnSource::Attribute(vec![attribute.clone()]);
        for column in table.columns.iter().filter(|c| c.key && c.from == from && !holds(c.ty, ty)) {
            problems.push((
                format!(
                    "the key {attribute} is of type {ty}; {}.{} is {}, which no such value converts to",
                    table.target,
                    column.name,
                    column.ty.sql()
                ),
                format!("give the column {} a type that holds it: {}", column.name, suited(ty)),
            ));
        }
    }
    if !found.replicas.is_empty() {
        problems.push((
            format!(
                "{} has replicas in {}: what is written there arrives here later, also after the drain is proven",
                table.source,
                found.replicas.join(", ")
            ),
            "remove the replicas before the day, or move this table by other means".to_owned(),
        ));
    }
    match (&table.ttl, &found.ttl) {
        (Some(plan), Some(source)) if plan != source => problems.push((
            format!("rows of {} expire by {source}, the plan says {plan}", table.source),
            format!("write ttl = \"{source}\" in the table's section"),
        )),
        _ => {}
    }
    problems
}

/// Items that go as they are keep the types of their keys: a table whose key has another one takes none of them.
fn whole_key(table: &Table, attribute: &str, ty: &str) -> Option<(String, String)> {
    let column = table.columns.iter().find(|c| c.key && c.name == attribute)?;
    (column.ty.key_attribute() != Some(ty)).then(|| {
        (
            format!(
                "the key {attribute} of {} is of type {ty}, and {} in the plan: {} would take no item",
                table.source,
                column.ty.sql(),
                table.target
            ),
            format!("write under [tables.columns]: {attribute} = {{ type = \"{}\" }}", of_items(ty)),
        )
    })
}

/// The type by which a key of whole items is declared.
const fn of_items(key: &str) -> &'static str {
    match key.as_bytes() {
        b"N" => "numeric",
        b"B" => "bytea",
        _ => "text",
    }
}

/// Whether a key attribute of this DynamoDB type can convert to the column's type.
const fn holds(column: ColumnType, key: &str) -> bool {
    use ColumnType as T;
    match key.as_bytes() {
        b"S" => matches!(
            column,
            T::Text | T::Varchar(_) | T::Uuid | T::Timestamptz | T::Date | T::Boolean | T::Jsonb | T::Native(_)
        ),
        b"N" => matches!(
            column,
            T::Text
                | T::Varchar(_)
                | T::Numeric(_)
                | T::Smallint
                | T::Integer
                | T::Bigint
                | T::Double
                | T::Timestamptz
                | T::Jsonb
                | T::Native(_)
        ),
        b"B" => matches!(column, T::Bytea),
        // A type that is not known here is not judged.
        _ => true,
    }
}

const fn suited(key: &str) -> &'static str {
    match key.as_bytes() {
        b"N" => "numeric, bigint or text",
        b"B" => "bytea",
        _ => "text or uuid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{Column, Declared, Fallback};

    fn table(ty: ColumnType) -> Table {
        let from = ColumnSource::Attribute(vec!["id".into()]);
        let id = Column {
            name: "id".into(),
            ty,
            from,
            absent: Fallback::Required,
            key: true,
            declared: Declared::default(),
        };
        Table { columns: vec![id], key: vec!["id".into()], target: "carts".into(), ..Table::watched("carts", "Carts") }
    }

    fn found(ty: &str, ttl: Option<&str>) -> SourceTable {
        SourceTable { key: vec![("id".into(), ty.into())], ttl: ttl.map(str::to_owned), ..SourceTable::default() }
    }

    fn said(table: &Table, found: &SourceTable) -> String {
        problems(table, found).into_iter().map(|(what, advice)| format!("{what} -> {advice}\n")).collect()
    }

    #[test]
    fn a_table_with_replicas_is_refused() {
        let one = SourceTable { replicas: vec!["us-east-1".into()], ..found("S", None) };
        let said = said(&table(ColumnType::Text), &one);
        assert!(said.contains("replicas in us-east-1") && said.contains("remove the replicas"), "{said}");
        assert_eq!(self::said(&table(ColumnType::Text), &found("S", None)), "");
    }

    #[test]
    fn a_key_that_cannot_be_the_rows_key_is_named() {
        assert_eq!(said(&table(ColumnType::Uuid), &found("S", None)), "");
        assert!(said(&table(ColumnType::Bigint), &found("S", None)).contains("carts.id is bigint"));
        assert!(said(&table(ColumnType::Uuid), &found("N", None)).contains("numeric, bigint or text"));
        assert!(said(&table(ColumnType::Text), &found("B", None)).contains("bytea"));
        for (ty, key) in [(ColumnType::Bigint, "N"), (ColumnType::Numeric(None), "N"), (ColumnType::Bytea, "B")] {
            assert_eq!(said(&table(ty), &found(key, None)), "");
        }
        let other = SourceTable { key: vec![("pk".into(), "S".into())], ..SourceTable::default() };
        assert!(said(&table(ColumnType::Uuid), &other).contains("has the key pk, the plan says id"));
    }

    #[test]
    fn items_that_go_as_they_are_keep_the_types_of_their_keys() {
        let whole = |ty| {
            let mut table = table(ty);
            let item = Column {
                name: "item".into(),
                ty: ColumnType::Document,
                from: ColumnSource::Whole,
                key: false,
                ..table.columns[0].clone()
            };
            table.columns.push(item);
            table
        };
        assert_eq!(said(&whole(ColumnType::Text), &found("S", None)), "");
        // Otherwise a table would be made that refuses every item.
        let wrong = said(&whole(ColumnType::Text), &found("N", None));
        assert!(
            wrong.contains("is of type N, and text in the plan") && wrong.contains("id = { type = \"numeric\" }"),
            "{wrong}"
        );
        assert!(!said(&whole(ColumnType::Numeric(None)), &found("N", None)).contains("in the plan"));
        assert!(said(&whole(ColumnType::Numeric(None)), &found("B", None)).contains("type = \"bytea\""));
    }

    #[test]
    fn another_attribute_of_expiry_is_named() {
        let plan = Table { ttl: Some("expiresAt".into()), ..table(ColumnType::Uuid) };
        assert_eq!(said(&plan, &found("S", Some("expiresAt"))), "");
        // Off at the source: nothing is removed, and the plan's attribute still says what is past its time.
        assert_eq!(said(&plan, &found("S", None)), "");
        assert!(said(&plan, &found("S", Some("ttl"))).contains("write ttl = \"ttl\""));
    }
}
