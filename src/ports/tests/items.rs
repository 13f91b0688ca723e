//! What every store promises whose items are written back: each case on a table of authors, which is empty at first.

use std::sync::Arc;

use crate::domain::mapping::{ItemChange, ItemWrite};
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Record, Value};
use crate::ports::{ErrorKind, InBatch, ItemOutcome, Items, Together};

/// A store to try cases on, with one empty table of authors.
pub(crate) trait ItemsStore: Send + Sync {
    /// The table: `id` is its key, `name` is text that may be missing.
    fn table(&self) -> Table;

    /// The store, whose items are written.
    fn items(&self) -> Arc<dyn Items>;
}

/// A text as the store has it: a cell where values are those of typed columns.
fn text(items: &dyn Items, text: &str) -> Value<'static> {
    if items.of_columns() {
        Value::from(Cell::Text(text.to_owned().into()))
    } else {
        Value::Text(text.to_owned().into())
    }
}

fn key(items: &dyn Items, id: &str) -> Record<'static> {
    Record { fields: vec![("id".into(), text(items, id))] }
}

/// Sets the name of an author that must be there, or must not, with this name before.
fn write(items: &dyn Items, id: &str, exists: bool, name: &str, before: Option<&str>) -> ItemChange {
    let key = key(items, id);
    let mut after = key.clone();
    after.fields.push(("name".into(), text(items, name)));
    let expect = before.map(|before| ("name".to_owned(), Some(text(items, before)))).into_iter().collect();
    let set = vec![("name".to_owned(), text(items, name))];
    ItemChange::Write(ItemWrite { key, exists, set, remove: Vec::new(), expect, after })
}

fn delete(items: &dyn Items, id: &str, before: &str) -> ItemChange {
    ItemChange::Delete { key: key(items, id), expect: vec![("name".to_owned(), Some(text(items, before)))] }
}

fn name_of(record: Option<&Record<'_>>) -> Option<String> {
    match record?.get("name") {
        Some(Value::Text(name) | Value::Cell(Cell::Text(name))) => Some(name.to_string()),
        other => panic!("a name is text: {other:?}"),
    }
}

async fn name(items: &dyn Items, table: &Table, id: &str) -> Option<String> {
    name_of(items.read(table, &key(items, id)).await.unwrap().as_ref())
}

async fn made(items: &dyn Items, table: &Table, ids: &[&str]) {
    for id in ids {
        assert_eq!(items.write(table, &write(items, id, false, "first", None)).await.unwrap(), ItemOutcome::Written);
    }
}

pub(crate) async fn an_item_is_made_once_and_changed_only_over_what_was_read(store: &impl ItemsStore) {
    let (items, table) = (store.items(), store.table());
    let items = &*items;
    let wrote = async |change| items.write(&table, &change).await.unwrap();
    assert_eq!(wrote(write(items, "a", true, "x", None)).await, ItemOutcome::Moved, "it is not there");
    assert_eq!(wrote(write(items, "a", false, "first", None)).await, ItemOutcome::Written);
    assert_eq!(wrote(write(items, "a", false, "x", None)).await, ItemOutcome::Moved, "it is there");
    assert_eq!(wrote(write(items, "a", true, "x", Some("other"))).await, ItemOutcome::Moved);
    assert_eq!(name(items, &table, "a").await.as_deref(), Some("first"), "nothing was written");
    assert_eq!(wrote(write(items, "a", true, "second", Some("first"))).await, ItemOutcome::Written);
    assert_eq!(name(items, &table, "a").await.as_deref(), Some("second"));
    assert_eq!(wrote(ItemChange::Nothing).await, ItemOutcome::Written);
}

pub(crate) async fn an_item_goes_only_as_it_was_read(store: &impl ItemsStore) {
    let (items, table) = (store.items(), store.table());
    let items = &*items;
    made(items, &table, &["a"]).await;
    let gone = async |change| items.write(&table, &change).await.unwrap();
    assert_eq!(gone(delete(items, "a", "other")).await, ItemOutcome::Moved);
    assert_eq!(gone(delete(items, "a", "first")).await, ItemOutcome::Written);
    assert_eq!(name(items, &table, "a").await, None);
    assert_eq!(gone(delete(items, "a", "first")).await, ItemOutcome::Moved, "it is gone already");
}

pub(crate) async fn items_are_read_in_the_order_of_their_keys_and_absent_ones_are_named(store: &impl ItemsStore) {
    let (items, table) = (store.items(), store.table());
    let items = &*items;
    made(items, &table, &["a", "b"]).await;
    let keys: Vec<Record<'static>> = ["b", "none", "a"].iter().map(|id| key(items, id)).collect();
    let found = items.read_batch(&table, &keys).await.unwrap();
    let ids: Vec<Option<Value<'_>>> =
        found.iter().map(|item| item.as_ref().and_then(|item| item.get("id").cloned())).collect();
    assert_eq!(ids, [Some(text(items, "b")), None, Some(text(items, "a"))]);
    assert!(items.batch() >= 1);
    assert_eq!(items.sample(&table).await.unwrap().len(), 2);
}

pub(crate) async fn what_becomes_of_one_change_of_a_batch_says_nothing_of_another(store: &impl ItemsStore) {
    let (items, table) = (store.items(), store.table());
    let items = &*items;
    made(items, &table, &["b", "d"]).await;
    let changes = [
        write(items, "a", false, "new", None),
        write(items, "b", false, "over it", None),
        delete(items, "d", "first"),
        write(items, "e", true, "not there", None),
        write(items, "f", false, "new", None),
    ];
    let mut said = Vec::new();
    for some in changes.chunks(items.batch().max(1)) {
        let answers = items.write_batch(&table, some).await.unwrap();
        assert_eq!(answers.len(), some.len());
        said.extend(answers);
    }
    for (n, (change, answer)) in changes.iter().zip(&said).enumerate() {
        let stands = !matches!(n, 1 | 3);
        match answer {
            InBatch::Written => assert!(stands, "{n} is not as it was read"),
            // Whoever writes it by itself is told which.
            InBatch::Apart => {
                let wanted = if stands { ItemOutcome::Written } else { ItemOutcome::Moved };
                assert_eq!(items.write(&table, change).await.unwrap(), wanted, "{n}");
            }
            InBatch::Refused(e) => panic!("{n} can stand: {e}"),
        }
    }
    let mut names = Vec::new();
    for id in ["a", "b", "d", "e", "f"] {
        names.push(name(items, &table, id).await.unwrap_or_default());
    }
    assert_eq!(names, ["new", "first", "", "", "new"]);
}

pub(crate) async fn what_belongs_together_is_written_whole_or_not_at_all(store: &impl ItemsStore) {
    let (items, table) = (store.items(), store.table());
    let items = &*items;
    made(items, &table, &["b"]).await;
    let both = [write(items, "a", false, "new", None), write(items, "b", true, "second", Some("first"))];
    if !items.of_columns() {
        let refused = items.write_together(&table, &both).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
        assert_eq!(name(items, &table, "a").await, None);
        return;
    }
    let moved = [write(items, "a", false, "new", None), write(items, "b", true, "second", Some("other"))];
    let ended = items.write_together(&table, &moved).await.unwrap();
    assert!(matches!(ended, Together::Moved), "{ended:?}");
    assert_eq!(name(items, &table, "a").await, None, "nothing of it is written");
    let ended = items.write_together(&table, &both).await.unwrap();
    assert!(matches!(ended, Together::Written), "{ended:?}");
    assert_eq!(name(items, &table, "b").await.as_deref(), Some("second"));
    // Several changes of one item, in their order.
    let one = [write(items, "c", false, "1", None), write(items, "c", true, "2", Some("1")), delete(items, "c", "2")];
    let ended = items.write_together(&table, &one).await.unwrap();
    assert!(matches!(ended, Together::Written), "{ended:?}");
    assert_eq!(name(items, &table, "c").await, None);
}

pub(crate) async fn an_exercise_leaves_nothing_behind(store: &impl ItemsStore) {
    let (items, table) = (store.items(), store.table());
    for nonce in ["n-1", "n-1", "n-2"] {
        items.exercise(&table, nonce).await.unwrap();
    }
    assert_eq!(items.sample(&table).await.unwrap(), []);
}
