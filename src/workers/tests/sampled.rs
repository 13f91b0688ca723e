//! What a sample of items says of a mapping before the day begins.

use super::world::World;
use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Plan, Store, StoreKind, Unit};
use crate::domain::value::{Record, Value};
use crate::workers::{CheckRow, Missing, check};

/// The test's plan with another last column in `books`.
fn with(column: Column) -> Plan {
    let mut plan = super::plan::plan();
    plan.tables[0].columns.push(column);
    plan
}

fn added(unit: Option<Unit>) -> Column {
    let declared = Declared { unit, ..Declared::default() };
    let from = ColumnSource::Attribute(vec!["addedAt".into()]);
    let like = super::plan::plan().tables[0].columns[2].clone();
    Column { name: "added".into(), ty: ColumnType::Timestamptz, from, declared, ..like }
}

fn book(id: usize, more: &[(&'static str, Value<'static>)]) -> Record<'static> {
    let text = |v: String| Value::Text(v.into());
    let mut fields = vec![
        ("id".into(), text(format!("b{id}"))),
        ("price".into(), Value::Decimal("1.50".into())),
        ("isbn".into(), text(format!("978-{id}"))),
        ("author".into(), text("ann".into())),
    ];
    fields.extend(more.iter().map(|(name, value)| ((*name).into(), value.clone())));
    Record { fields }
}

fn number(n: &'static str) -> Value<'static> {
    Value::Decimal(n.into())
}

/// The check's rows about the mapping of `books`, over these items.
async fn said(plan: Plan, items: Vec<Record<'static>>) -> Vec<CheckRow> {
    let world = World::with(plan);
    let books = world.table("books");
    items.into_iter().for_each(|item| world.old.put(books, item));
    let rows = check(&world.plan, &world.ports(), &Missing::default()).await;
    rows.into_iter().filter(|r| r.what == "mapping books").collect()
}

/// What is wrong, what to do about it, and where the config says so.
fn failed(rows: &[CheckRow]) -> Vec<(&str, &str, &str)> {
    let wrong = rows.iter().filter(|r| r.result.is_err());
    wrong.map(|r| (r.result.as_ref().unwrap_err().as_str(), r.advice.as_str(), r.path.as_str())).collect()
}

#[tokio::test]
async fn an_attribute_that_no_item_has_is_an_error_with_the_name_that_is_meant() {
    let mut plan = super::plan::plan();
    plan.tables[0].columns[2].from = ColumnSource::Attribute(vec!["ISBN".into()]);
    let items = || (0..40).map(|n| book(n, &[])).collect();
    let rows = said(plan.clone(), items()).await;
    let [(why, advice, path)] = failed(&rows)[..] else { panic!("{rows:?}") };
    // The test's pages hold three items, and no more than four pages are read.
    assert_eq!(why, "books.isbn takes `ISBN`, which none of the 12 items looked at has");
    assert!(advice.contains("`isbn`"), "{advice}");
    assert_eq!(path, "tables[0].columns.isbn");
    let uncarried = rows.iter().find_map(|r| r.result.as_ref().ok().filter(|ok| ok.contains("no column carries")));
    assert!(uncarried.is_some_and(|ok| ok.contains("isbn (12x)")), "{rows:?}");

    plan.tables[0].columns[2].declared.sparse = true;
    let rows = said(plan, items()).await;
    assert_eq!(failed(&rows), [], "the config says that few have it");
}

#[tokio::test]
async fn numbers_without_a_unit_are_an_error_with_the_unit_that_fits() {
    for (numbers, unit) in [
        (["1795358836", "1695358836", "-86400"], "\"s\""),
        (["1795358836220", "1695358836220", "-631152000000"], "\"ms\""),
        (["1795358836220000", "1695358836220001", "1600000000000000"], "\"us\""),
    ] {
        let items = numbers.iter().enumerate().map(|(n, at)| book(n, &[("addedAt", number(at))])).collect();
        let rows = said(with(added(None)), items).await;
        let [(why, advice, path)] = failed(&rows)[..] else { panic!("{rows:?}") };
        assert!(why.contains("books.added is timestamptz without a unit, and 3 of the 3 values"), "{why}");
        assert!(advice.contains(&format!("write unit = {unit} in the column")), "{advice}");
        assert_eq!(path, "tables[0].columns.added");
        assert!(numbers.iter().all(|n| !why.contains(n) && !advice.contains(n)), "no value is shown");
    }
    // Two units in one column: nobody but its owner knows which is right.
    let mixed = ["1795358836220", "1795358836", "1695358836220"];
    let items = mixed.iter().enumerate().map(|(n, at)| book(n, &[("addedAt", number(at))])).collect();
    let rows = said(with(added(None)), items).await;
    let [(_, advice, _)] = failed(&rows)[..] else { panic!("{rows:?}") };
    assert!(advice.contains("1 read as s, 2 read as ms"), "{advice}");
}

#[tokio::test]
async fn a_wrong_unit_is_an_error_and_single_values_of_another_one_are_counted() {
    let items = |numbers: &[&'static str]| {
        numbers.iter().enumerate().map(|(n, at)| book(n, &[("addedAt", number(at))])).collect::<Vec<_>>()
    };
    let rows = said(with(added(Some(Unit::Seconds))), items(&["1795358836220", "1695358836220"])).await;
    let [(why, advice, _)] = failed(&rows)[..] else { panic!("{rows:?}") };
    assert!(why.contains("every one of the 2 values looked at would be parked"), "{why}");
    assert!(advice.contains("write unit = \"ms\""), "{advice}");

    let rows = said(with(added(Some(Unit::Millis))), items(&["1795358836220", "1795358836", "1695358836220"])).await;
    assert_eq!(failed(&rows), []);
    let found = rows[0].result.as_ref().unwrap();
    assert!(found.contains("would be parked: added 33.3 %"), "{found}");
}

#[tokio::test]
async fn shares_of_absence_are_told_and_of_no_items_nothing_is_known() {
    let text = Value::Text("2026-11-22T14:47:16Z".into());
    let some = (0..4).map(|n| book(n, &[])).chain((4..6).map(|n| book(n, &[("addedAt", text.clone())]))).collect();
    let rows = said(with(added(None)), some).await;
    assert_eq!(failed(&rows), []);
    let found = rows[0].result.as_ref().unwrap();
    assert!(found.starts_with("all 6 items looked at; absent: added 66.7 %"), "{found}");

    let rows = said(with(added(None)), vec![]).await;
    assert!(rows[0].result.as_ref().is_ok_and(|found| found.starts_with('?')), "{rows:?}");
}

#[tokio::test]
async fn a_column_of_a_typed_store_that_is_null_everywhere_is_there() {
    let mut plan = super::plan::plan();
    plan.tables[0].columns[2].from = ColumnSource::Attribute(vec!["ISBN".into()]);
    plan.stores.insert(plan.tables[0].from.clone(), Store::new(StoreKind::Postgresql));
    let rows = said(plan.clone(), (0..40).map(|n| book(n, &[])).collect()).await;
    assert_eq!(failed(&rows), [], "the catalogue says so: {rows:?}");
    // What stands inside a document no catalogue says.
    plan.tables[0].columns[2].from = ColumnSource::Attribute(vec!["author".into(), "isbn".into()]);
    let rows = said(plan, (0..40).map(|n| book(n, &[])).collect()).await;
    assert_eq!(failed(&rows).len(), 1, "{rows:?}");
}
