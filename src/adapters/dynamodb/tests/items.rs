//! Single items, each written only over what was read.

use aws_sdk_dynamodb::types::{GlobalSecondaryIndex, Projection, ProjectionType};

use super::*;
use crate::domain::mapping::{ItemChange, ItemWrite};
use crate::ports::{ItemOutcome, Items};

fn key(id: &'static str) -> Record<'static> {
    Record { fields: vec![("id".into(), Value::Text(id.into()))] }
}

fn n(number: &'static str) -> Value<'static> {
    Value::Decimal(number.into())
}

fn write(id: &'static str, exists: bool, set: Vec<(&str, Value<'static>)>) -> ItemWrite {
    let set: Vec<(String, Value<'static>)> = set.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    ItemWrite { key: key(id), exists, set, remove: vec![], expect: vec![], after: Record::default() }
}

async fn place() -> (Server, DynamoSource, crate::domain::plan::Table) {
    let server = server().await;
    let name = fresh("items");
    create(&raw(&server), &name, &[("id", ScalarAttributeType::S)], None).await;
    let (source, _) = connect(&sdk_config(), &settings(&server)).unwrap();
    (server, source, table(&name, &["id"]))
}

#[tokio::test]
async fn a_write_touches_its_attributes_and_only_over_what_was_read() {
    let (_server, source, table) = place().await;
    let set = Value::TextSet(vec!["a".into(), "b".into()]);
    let map = Value::Map(vec![("x".into(), Value::List(vec![Value::Null, n("1.5")]))]);
    let first =
        write("b1", false, vec![("name", Value::Text("one".into())), ("tags", set.clone()), ("odd name", map.clone())]);
    let put = |w: ItemWrite| ItemChange::Write(w);
    assert_eq!(source.write(&table, &put(first.clone())).await.unwrap(), ItemOutcome::Written);
    assert_eq!(source.write(&table, &put(first)).await.unwrap(), ItemOutcome::Moved, "it is there already");

    let mut change = write("b1", true, vec![("price", n("2"))]);
    change.remove = vec!["name".into()];
    change.expect = vec![("name".into(), Some(Value::Text("two".into()))), ("price".into(), None)];
    assert_eq!(
        source.write(&table, &put(change.clone())).await.unwrap(),
        ItemOutcome::Moved,
        "another name stands there"
    );
    change.expect[0].1 = Some(Value::Text("one".into()));
    assert_eq!(source.write(&table, &put(change)).await.unwrap(), ItemOutcome::Written);
    let found = Items::read(&source, &table, &key("b1")).await.unwrap().unwrap();
    assert_eq!((found.get("name"), found.get("price")), (None, Some(&n("2"))));
    assert_eq!(found.get("odd name"), Some(&map));
    assert!(matches!(found.get("tags"), Some(Value::TextSet(s)) if s.len() == 2), "what was not touched stays");

    // Whole values of any type can be compared with what was read.
    let mut change = write("b1", true, vec![("tags", Value::TextSet(vec!["c".into()]))]);
    change.expect = vec![("tags".into(), Some(set)), ("odd name".into(), Some(map))];
    assert_eq!(source.write(&table, &put(change)).await.unwrap(), ItemOutcome::Written);
    let gone = write("b2", true, vec![("price", n("1"))]);
    assert_eq!(source.write(&table, &put(gone)).await.unwrap(), ItemOutcome::Moved, "nothing is made by an update");
}

#[tokio::test]
async fn a_delete_takes_only_what_was_read() {
    let (_server, source, table) = place().await;
    source.write(&table, &ItemChange::Write(write("b1", false, vec![("price", n("1"))]))).await.unwrap();
    let delete = |price| ItemChange::Delete { key: key("b1"), expect: vec![("price".into(), Some(n(price)))] };
    assert_eq!(source.write(&table, &delete("2")).await.unwrap(), ItemOutcome::Moved);
    assert!(Items::read(&source, &table, &key("b1")).await.unwrap().is_some());
    assert_eq!(source.write(&table, &delete("1")).await.unwrap(), ItemOutcome::Written);
    assert_eq!(Items::read(&source, &table, &key("b1")).await.unwrap(), None);
}

#[tokio::test]
async fn an_item_too_large_is_invalid_and_a_key_alone_is_an_item() {
    let (_server, source, table) = place().await;
    assert_eq!(
        source.write(&table, &ItemChange::Write(write("k", false, vec![]))).await.unwrap(),
        ItemOutcome::Written,
        "an item may be nothing but its key"
    );
    assert_eq!(Items::read(&source, &table, &key("k")).await.unwrap(), Some(key("k")));
    let large = Value::Text("x".repeat(410 * 1024).into());
    let refused =
        source.write(&table, &ItemChange::Write(write("b1", false, vec![("text", large)]))).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn the_exercise_leaves_nothing_behind() {
    let (_server, source, table) = place().await;
    source.exercise(&table, "n-1").await.unwrap();
    source.exercise(&table, "n-1").await.unwrap();
    assert_eq!(source.sample(&table).await.unwrap(), vec![]);
    let missing = super::table("cutover-not-there", &["id"]);
    assert_eq!(source.exercise(&missing, "n-1").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_marker_writes_over_nothing_that_is_there() {
    let (server, source, table) = place().await;
    let key = source.marker_key(&table, "n-2").await.unwrap();
    let mut theirs = key.clone();
    theirs.insert("title".to_owned(), AttributeValue::S("theirs".to_owned()));
    source.sdk().put_item().table_name(&table.source).set_item(Some(theirs.clone())).send().await.unwrap();
    source.put_marker(&table, "n-2").await.unwrap();
    let stands = source.sdk().get_item().table_name(&table.source).set_key(Some(key)).send().await.unwrap();
    assert_eq!(stands.item, Some(theirs));
    drop(server);
}

#[tokio::test]
async fn an_index_that_cannot_hold_a_value_is_named_and_the_value_is_not() {
    let server = server().await;
    let name = fresh("indexed");
    let definitions = ["id", "author"].map(|attribute| {
        AttributeDefinition::builder().attribute_name(attribute).attribute_type(ScalarAttributeType::S).build().unwrap()
    });
    let key =
        |attribute| KeySchemaElement::builder().attribute_name(attribute).key_type(KeyType::Hash).build().unwrap();
    let index = GlobalSecondaryIndex::builder()
        .index_name("by-author")
        .key_schema(key("author"))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
    let table_made = raw(&server)
        .create_table()
        .table_name(&name)
        .set_attribute_definitions(Some(definitions.to_vec()))
        .key_schema(key("id"))
        .global_secondary_indexes(index.build().unwrap())
        .billing_mode(BillingMode::PayPerRequest);
    table_made.send().await.unwrap();
    let (source, _) = connect(&sdk_config(), &settings(&server)).unwrap();
    let change = ItemChange::Write(write("b1", false, vec![("author", n("4711"))]));
    let error = source.write(&table(&name, &["id"]), &change).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("by-author") && !error.to_string().contains("4711"), "{error}");
}
