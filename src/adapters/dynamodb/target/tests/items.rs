//! Whole items: as they are, equal when DynamoDB holds them as equal.

use std::collections::HashMap;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue as A;

use super::*;
use crate::domain::mapping::{Mapped, TableMapping};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Declared, Fallback, Table};
use crate::domain::value::{Cell, Key, OwnedRow, Record};
use crate::ports::tests::tables::WHOLE;
use crate::ports::{ChangeBatch, Checkpoint, Partition, RowChange, Source as _};

pub(super) fn column(name: &str, ty: ColumnType, key: bool) -> Column {
    let from = ColumnSource::Attribute(vec![name.to_owned()]);
    Column { name: name.to_owned(), ty, from, absent: Fallback::Null, key, declared: Declared::default() }
}

/// A table whose items move as they are: text and number make their key.
pub(super) fn orders() -> Table {
    let item = Column { from: ColumnSource::Whole, ..column("item", ColumnType::Document, false) };
    Table {
        target: "new-orders".to_owned(),
        key: vec!["customer".to_owned(), "number".to_owned()],
        columns: vec![
            column("customer", ColumnType::Text, true),
            column("number", ColumnType::Numeric(None), true),
            item,
        ],
        ..Table::watched("orders", "old-orders")
    }
}

fn order(number: &str, price: &str, tags: &[&str]) -> HashMap<String, A> {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    HashMap::from([
        ("customer".to_owned(), A::S("c|1".to_owned())),
        ("number".to_owned(), A::N(number.to_owned())),
        ("price".to_owned(), A::N(price.to_owned())),
        ("tags".to_owned(), A::Ss(tags)),
        ("ns".to_owned(), A::Ns(vec!["3".to_owned(), "20".to_owned()])),
        ("raw".to_owned(), A::B(Blob::new([0, 255]))),
        ("none".to_owned(), A::Null(true)),
        ("text".to_owned(), A::S("\"é\u{0}\n".to_owned())),
        ("deep".to_owned(), A::M(HashMap::from([("l".to_owned(), A::L(vec![A::Bool(true), A::S(String::new())]))]))),
    ])
}

async fn rows(target: &DynamoTarget, table: &Table) -> Vec<OwnedRow> {
    let mut found = Vec::new();
    let mut each = |row: &[Cell<'_>]| found.push(row.iter().cloned().map(Cell::into_owned).collect());
    for index in 0..3 {
        target.scan_part(table, None, Partition { index, of: 3 }, &mut each).await.unwrap();
    }
    found
}

#[tokio::test]
async fn whole_items_move_verbatim_and_compare_by_value_and_type() {
    let account = Account::embedded().await;
    let (target, table, raw) = (&account.target, orders(), account.raw());
    target.prepare().await.unwrap();
    target.claim("run-1", std::slice::from_ref(&table)).await.unwrap();
    assert!(target.create(&table).await.unwrap() && !target.create(&table).await.unwrap());
    // The old table has the same key under another name of its own.
    let old = Table { target: table.source.clone(), ..table.clone() };
    target.create(&old).await.unwrap();
    let items = [order("1", "1.50", &["b", "a"]), order("-2.5", "1E+2", &["x"])];
    for item in &items {
        raw.put_item().table_name(&table.source).set_item(Some(item.clone())).send().await.unwrap();
    }
    let (source, _) = dynamodb::connect(&account.sdk, &DynamoSettings::new(REGION).at(&account.endpoint)).unwrap();
    let page = source.page(&table, Partition { index: 0, of: 1 }, None).await.unwrap();
    let (mapping, mut bulk) = (TableMapping::new(&table), target.bulk(&table, WHOLE).await.unwrap());
    let mut sent: Vec<OwnedRow> = Vec::new();
    source
        .read(&page, &mut |item: &Record<'_>| {
            let mut mapped = Mapped::default();
            mapping.map(item, &mut mapped).unwrap();
            bulk.push(&mapped).unwrap();
            sent.push(mapped.row.into_iter().map(Cell::into_owned).collect());
        })
        .unwrap();
    bulk.flush(Vec::new(), &Checkpoint { part: WHOLE, cursor: None, rows: 2, parked: 0, done: true }).await.unwrap();
    let mut found = rows(target, &table).await;
    let by_text = |row: &OwnedRow| format!("{row:?}");
    found.sort_by_key(by_text);
    sent.sort_by_key(by_text);
    assert_eq!(found, sent, "what was read is what is written and read back");
    for item in &items {
        let key = ["customer", "number"].map(|name| (name.to_owned(), item[name].clone()));
        let stands =
            raw.get_item().table_name(&table.target).set_key(Some(key.into())).send().await.unwrap().item.unwrap();
        assert_eq!(stands.len(), item.len());
        assert_eq!((&stands["text"], &stands["raw"], &stands["deep"]), (&item["text"], &item["raw"], &item["deep"]));
    }
    // Written another way by somebody else, and equal all the same.
    let mut other = order("1.0", "15e-1", &["a", "b"]);
    raw.put_item().table_name(&table.target).set_item(Some(other.clone())).send().await.unwrap();
    let key = vec![Cell::Text("c|1".into()), Cell::Numeric("1".into())];
    let fetched = target.fetch(&table, &[key.clone(), vec![Cell::Text("c|1".into()), Cell::Numeric("7".into())]]).await;
    let fetched = fetched.unwrap();
    assert!(sent.contains(&fetched[0].as_ref().unwrap().0) && fetched[1].is_none(), "{fetched:?}");
    // The same digits of another type are another value.
    other.insert("price".to_owned(), A::S("1.5".to_owned()));
    raw.put_item().table_name(&table.target).set_item(Some(other)).send().await.unwrap();
    let fetched = target.fetch(&table, std::slice::from_ref(&key)).await.unwrap();
    assert!(!sent.contains(&fetched[0].as_ref().unwrap().0));
    assert_eq!(target.count(&table, true).await.unwrap().rows, Some(2));
    assert_eq!(target.count(&table, false).await.unwrap().kind, crate::domain::gauge::CountKind::Estimated);
    // A delete by the key of the source.
    let gone = RowChange::Delete { key: Key("c\\|1|1".into()), key_json: String::new(), row_key: key };
    let applied = target.apply(&table, ChangeBatch { rows: vec![gone], ..ChangeBatch::default() }).await.unwrap();
    assert_eq!((applied.deleted, rows(target, &table).await.len()), (1, 1));
}

#[tokio::test]
async fn a_table_is_compared_with_the_plan_and_its_rights_are_asked_for() {
    let account = Account::embedded().await;
    let (target, table) = (&account.target, orders());
    let found = target.describe(&table).await.unwrap();
    assert!(!found.exists && found.problems.is_empty(), "{found:?}");
    assert_eq!(target.inspect().await.unwrap().bookkeeping, crate::ports::Bookkeeping::Absent);
    target.claimable(std::slice::from_ref(&table)).await.unwrap();
    assert_eq!(target.owned().await.unwrap_err().kind, crate::ports::ErrorKind::NotFound);
    target.prepare().await.unwrap();
    target.prepare().await.unwrap();
    assert_eq!(target.inspect().await.unwrap().bookkeeping, crate::ports::Bookkeeping::Ready);
    target.create(&table).await.unwrap();
    let found = target.describe(&table).await.unwrap();
    assert!(found.exists && found.problems.is_empty(), "{found:?}");
    assert_eq!(found.columns, [("customer".to_owned(), "S".to_owned()), ("number".to_owned(), "N".to_owned())]);
    let missing = target.rights(std::slice::from_ref(&table), crate::ports::Owning::default()).await.unwrap();
    assert_eq!(missing, []);
    assert_eq!(target.count(&table, true).await.unwrap().rows, Some(0), "asking writes nothing");
    // Another key, a column that would be written nowhere, a key under another name.
    let mut odd = table.clone();
    odd.columns[1].ty = ColumnType::Text;
    odd.columns[0].from = ColumnSource::Attribute(vec!["client".to_owned()]);
    odd.columns.push(column("price", ColumnType::Numeric(None), false));
    let problems = target.describe(&odd).await.unwrap().problems;
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[tokio::test]
async fn keys_of_numbers_and_bytes_are_written_found_and_deleted() {
    for account in Account::both().await {
        let target = &account.target;
        let table = Table {
            target: "readings".to_owned(),
            key: vec!["sensor".to_owned(), "at".to_owned()],
            columns: vec![
                column("sensor", ColumnType::Bytea, true),
                column("at", ColumnType::Bigint, true),
                column("day", ColumnType::Date, false),
                column("tags", ColumnType::TextArray, false),
                column("json", ColumnType::Jsonb, false),
            ],
            ..Table::watched("readings", "old")
        };
        target.prepare().await.unwrap();
        target.claim("run-1", std::slice::from_ref(&table)).await.unwrap();
        target.create(&table).await.unwrap();
        let row = |n: i64| -> OwnedRow {
            vec![
                Cell::Bytes(vec![0, 255, 7].into()),
                Cell::Int(n),
                Cell::Date(20_000),
                Cell::TextArray(vec!["b".into(), "a".into()]),
                Cell::Json(r#"{"a":[1,null]}"#.into()),
            ]
        };
        let key = |n: i64| Key(format!("AP8H|{n}"));
        let json = |n: i64| format!(r#"{{"sensor":{{"B":"AP8H"}},"at":{{"N":"{n}"}}}}"#);
        let upsert = |n| RowChange::Upsert { key: key(n), key_json: json(n), row: row(n), children: Vec::new() };
        let batch = |rows| ChangeBatch { rows, ..ChangeBatch::default() };
        target.apply(&table, batch((-60..60).map(upsert).collect())).await.unwrap();
        let mut found = rows(target, &table).await;
        found.sort_by_key(|row| match row[1] {
            Cell::Int(n) => n,
            _ => panic!("{row:?}"),
        });
        assert_eq!(found, (-60..60).map(row).collect::<Vec<_>>());
        let fetched = target.fetch(&table, &[row(7)[..2].to_vec(), row(99)[..2].to_vec()]).await.unwrap();
        assert!(fetched[0].as_ref().is_some_and(|(found, _)| *found == row(7)) && fetched[1].is_none());
        let delete = |n: i64| RowChange::Delete { key: key(n), key_json: json(n), row_key: row(n)[..2].to_vec() };
        let applied = target.apply(&table, batch(vec![delete(7), delete(8), delete(99)])).await.unwrap();
        assert_eq!((applied.deleted, target.count(&table, true).await.unwrap().rows), (2, Some(118)));
        // A row that no longer fits is known by the key of the source alone.
        let parked = crate::ports::tests::tables::parked(&table, "x", crate::domain::mapping::RowErrorReason::TooLong);
        let parked = crate::ports::ParkedRow { key: key(9), key_json: json(9), ..parked };
        target.apply(&table, batch(vec![RowChange::Park(parked)])).await.unwrap();
        assert_eq!(target.count(&table, true).await.unwrap().rows, Some(117));
        target.reset(&table).await.unwrap();
        assert_eq!(target.count(&table, true).await.unwrap().rows, Some(0));
    }
}

#[tokio::test]
async fn an_index_tells_what_it_would_refuse_and_refuses_it_row_by_row() {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
        ScalarAttributeType,
    };
    let account = Account::embedded().await;
    let (target, raw) = (&account.target, account.raw());
    let define = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let hash = |name: &str| KeySchemaElement::builder().attribute_name(name).key_type(KeyType::Hash).build().unwrap();
    let all = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
    let index = GlobalSecondaryIndex::builder().index_name("by-author").key_schema(hash("author")).projection(all);
    let made = raw.create_table().table_name("books").attribute_definitions(define("id"));
    let made = made.attribute_definitions(define("author")).key_schema(hash("id"));
    let made = made.global_secondary_indexes(index.build().unwrap()).billing_mode(BillingMode::PayPerRequest);
    made.send().await.unwrap();
    let item = Column { from: ColumnSource::Whole, ..column("item", ColumnType::Document, false) };
    let whole = Table {
        target: "books".to_owned(),
        key: vec!["id".to_owned()],
        columns: vec![column("id", ColumnType::Text, true), item],
        ..Table::watched("books", "old-books")
    };
    let told = target.describe(&whole).await.unwrap();
    assert!(told.problems.is_empty() && told.notices.iter().any(|n| n.contains("by-author")), "{told:?}");
    let numbers = column("author", ColumnType::Numeric(None), false);
    let plain = Table { columns: vec![column("id", ColumnType::Text, true), numbers], ..whole.clone() };
    let told = target.describe(&plain).await.unwrap();
    assert!(told.problems.len() == 1 && told.problems[0].contains("by-author"), "{told:?}");
    target.prepare().await.unwrap();
    target.claim("run-1", std::slice::from_ref(&whole)).await.unwrap();
    let mapping = TableMapping::new(&whole);
    let mut bulk = target.bulk(&whole, WHOLE).await.unwrap();
    let record = |n: u32| {
        use crate::domain::value::Value;
        let author = if n % 10 == 3 { Value::Decimal("4711".into()) } else { Value::Text("a".into()) };
        Record { fields: vec![("id".into(), Value::Text(format!("b{n}").into())), ("author".into(), author)] }
    };
    for n in 0..40 {
        let mut mapped = Mapped::default();
        let record = record(n);
        mapping.map(&record, &mut mapped).unwrap();
        bulk.push(&mapped).unwrap();
    }
    let done = Checkpoint { part: WHOLE, cursor: None, rows: 40, parked: 0, done: true };
    let mut refused = bulk.flush(Vec::new(), &done).await.unwrap().parked;
    refused.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(refused.iter().map(|row| row.key.0.as_str()).collect::<Vec<_>>(), ["b13", "b23", "b3", "b33"]);
    assert!(refused.iter().all(|row| row.row_error.detail.contains("by-author")), "{refused:?}");
    assert!(!format!("{refused:?}").contains("4711"), "no value is told");
    assert_eq!(target.count(&whole, true).await.unwrap().rows, Some(36));
}
