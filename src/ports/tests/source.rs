//! What every source promises, and what follows its changes: each case on a table of authors, which is empty at first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::tables::item;
use crate::domain::plan::Table;
use crate::domain::value::{Record, Value};
use crate::ports::{Batch, Change, ChangeKind, Changes, Partition, Position, ReadFrom, Source};

/// A source to try cases on, with one empty table of authors.
#[async_trait]
pub(crate) trait SourceStore: Send + Sync {
    /// The table: `id` is its key, `name` is text that may be missing.
    fn authors(&self) -> Table;

    /// The store, read.
    fn source(&self) -> Arc<dyn Source>;

    /// Its changes, as one process follows them.
    fn changes(&self) -> Arc<dyn Changes>;

    /// The same changes as another process follows them, with memory of its own.
    fn changes_elsewhere(&self) -> Arc<dyn Changes>;

    /// A customer writes an author.
    async fn put(&self, id: &str, name: &str);

    /// A customer removes one.
    async fn delete(&self, id: &str);
}

/// How long a change may take until it is read.
const PATIENCE: Duration = Duration::from_secs(180);

fn text(record: &Record<'_>, name: &str) -> Option<String> {
    match record.get(name) {
        Some(Value::Text(text)) => Some(text.to_string()),
        Some(Value::Null) | None => None,
        other => panic!("{name}: {other:?}"),
    }
}

/// Authors by id, as all parts of a reading give them, and how often each was given.
async fn read_whole(store: &impl SourceStore, of: u32) -> BTreeMap<String, (Option<String>, u32)> {
    let (source, table, mut found) = (store.source(), store.authors(), BTreeMap::new());
    for index in 0..of {
        let mut cursor = None;
        loop {
            let page = source.page(&table, Partition { index, of }, cursor.as_ref()).await.unwrap();
            let mut items = 0;
            let end = source.read(&page, &mut |record| {
                items += 1;
                let (_, times) = found
                    .entry(text(record, "id").expect("every row has its key"))
                    .or_insert_with(|| (text(record, "name"), 0));
                *times += 1;
            });
            let end = end.unwrap();
            assert_eq!(end.items, items, "the page says how many it holds");
            cursor = end.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    found
}

/// Follows all shards of the table, as a follower does that makes everything durable at once.
struct Follower {
    changes: Arc<dyn Changes>,
    table: Table,
    stream: String,
    /// Behind which position each shard was read.
    stands: BTreeMap<String, Position>,
    iterators: BTreeMap<String, String>,
}

impl Follower {
    async fn new(changes: Arc<dyn Changes>, table: Table) -> Self {
        let stream = changes.enable(&table).await.unwrap().id;
        let (stands, iterators) = Default::default();
        Self { changes, table, stream, stands, iterators }
    }

    async fn read(&mut self, shard: &str) -> Batch {
        let iterator = match self.iterators.remove(shard) {
            Some(iterator) => iterator,
            None => {
                let from = self.stands.get(shard).map_or(ReadFrom::Oldest, |p| ReadFrom::After(p.clone()));
                self.changes.iterator(&self.stream, shard, &from).await.unwrap()
            }
        };
        let batch = self.changes.read(&iterator).await.unwrap();
        self.iterators.extend(batch.next.clone().map(|next| (shard.to_owned(), next)));
        if let Some(position) = batch.reached.as_ref().or(batch.changes.last().map(|c| &c.position)) {
            self.stands.insert(shard.to_owned(), position.clone());
            self.changes.durable(&self.stream, shard, position);
        }
        batch
    }

    /// Reads until so many changes came, in the order of their shards.
    async fn take(&mut self, many: usize) -> Vec<Change> {
        let (mut all, began) = (Vec::new(), tokio::time::Instant::now());
        while all.len() < many {
            assert!(began.elapsed() < PATIENCE, "{} of {many} changes came: {all:?}", all.len());
            let stream = self.changes.stream(&self.table).await.unwrap().expect("it is on");
            assert_eq!(stream.id, self.stream);
            for shard in stream.shards {
                all.extend(self.read(&shard.id).await.changes);
            }
        }
        assert_eq!(all.len(), many, "{all:?}");
        all
    }
}

fn told(change: &Change) -> (ChangeKind, String, Option<String>) {
    let image = change.image.as_ref().map(|image| {
        assert_eq!(text(image, "id"), text(&change.key, "id"), "an image holds its key");
        text(image, "name").unwrap_or_default()
    });
    (change.kind, text(&change.key, "id").expect("a key"), image)
}

pub(crate) async fn all_parts_of_a_reading_give_each_row_once(store: &impl SourceStore) {
    assert_eq!(read_whole(store, 1).await, BTreeMap::new(), "an empty table is read to its end");
    for n in 0..40 {
        store.put(&format!("a{n:02}"), &format!("name {n}")).await;
    }
    let wanted: BTreeMap<_, _> = (0..40).map(|n| (format!("a{n:02}"), (Some(format!("name {n}")), 1))).collect();
    for of in [1, 2, 5] {
        assert_eq!(read_whole(store, of).await, wanted, "{of} parts");
    }
    assert_eq!(store.source().open_writes().await.unwrap(), [], "nobody has a transaction open");
    let count = store.source().count(&store.authors()).await.unwrap();
    assert_eq!(count.rows, Some(40));
}

pub(crate) async fn rows_are_given_in_the_order_of_their_keys_and_absent_ones_are_named(store: &impl SourceStore) {
    store.put("a1", "one").await;
    store.put("a2", "two").await;
    let key = |id: &str| item(&[("id", id)]);
    let (source, table) = (store.source(), store.authors());
    let found = source.get(&table, &[key("a2"), key("none"), key("a1"), key("a2")]).await.unwrap();
    let names: Vec<_> = found.iter().map(|row| row.as_ref().and_then(|row| text(row, "name"))).collect();
    assert_eq!(names, [Some("two".into()), None, Some("one".into()), Some("two".into())]);
    assert!(found[1].is_none());
    assert_eq!(source.get(&table, &[]).await.unwrap(), []);
    let described = source.describe(&table).await.unwrap();
    assert_eq!(described.key, [("id".to_owned(), "S".to_owned())]);
}

pub(crate) async fn changes_of_a_key_come_in_order_and_whole(store: &impl SourceStore) {
    let mut follower = Follower::new(store.changes(), store.authors()).await;
    store.put("a1", "one").await;
    store.put("b1", "other").await;
    store.put("a1", "uno").await;
    store.delete("a1").await;
    store.put("a1", "again").await;
    let all = follower.take(5).await;
    let of = |id: &str| -> Vec<_> { all.iter().map(told).filter(|(_, key, _)| key == id).collect() };
    use ChangeKind::{Insert, Modify, Remove};
    let a1 = |kind, name: Option<&str>| (kind, "a1".to_owned(), name.map(str::to_owned));
    assert_eq!(
        of("a1"),
        [
            a1(Insert, Some("one")),
            a1(Modify, Some("uno")),
            a1(Remove { expired: false }, None),
            a1(Insert, Some("again"))
        ]
    );
    assert_eq!(of("b1"), [(Insert, "b1".to_owned(), Some("other".to_owned()))]);
    let mut last: BTreeMap<String, &Position> = BTreeMap::new();
    for change in &all {
        let (_, key, _) = told(change);
        if let Some(before) = last.insert(key, &change.position) {
            assert_eq!(before.order(&change.position), Some(std::cmp::Ordering::Less), "positions grow");
        }
    }
    assert!(all.iter().all(|change| change.at.0 > 0), "each says when it happened");
}

pub(crate) async fn another_process_goes_on_behind_what_is_durable(store: &impl SourceStore) {
    let mut first = Follower::new(store.changes(), store.authors()).await;
    store.put("a1", "one").await;
    store.put("a1", "two").await;
    first.take(2).await;
    store.put("a1", "three").await;
    let mut second = Follower::new(store.changes_elsewhere(), store.authors()).await;
    assert_eq!(second.stream, first.stream, "enabling again changes nothing");
    second.stands.clone_from(&first.stands);
    drop(first);
    let rest: Vec<_> = second.take(1).await.iter().map(told).collect();
    assert_eq!(rest, [(ChangeKind::Modify, "a1".to_owned(), Some("three".to_owned()))]);
}

pub(crate) async fn what_is_not_durable_is_given_again(store: &impl SourceStore) {
    let mut first = Follower::new(store.changes(), store.authors()).await;
    store.put("a1", "one").await;
    first.take(1).await;
    let durable = first.stands.clone();
    store.put("a2", "two").await;
    // Read, and lost with the process before it was durable.
    let stream = first.changes.stream(&first.table).await.unwrap().unwrap();
    let began = tokio::time::Instant::now();
    let mut lost = BTreeSet::new();
    while lost.is_empty() {
        assert!(began.elapsed() < PATIENCE);
        for shard in &stream.shards {
            let from = durable.get(&shard.id).map_or(ReadFrom::Oldest, |p| ReadFrom::After(p.clone()));
            let iterator = first.changes.iterator(&first.stream, &shard.id, &from).await.unwrap();
            lost.extend(first.changes.read(&iterator).await.unwrap().changes.iter().map(|c| told(c).1));
        }
    }
    assert_eq!(lost, BTreeSet::from(["a2".to_owned()]));
    let mut second = Follower::new(store.changes_elsewhere(), store.authors()).await;
    second.stands = durable;
    drop(first);
    let again: Vec<_> = second.take(1).await.iter().map(told).collect();
    assert_eq!(again, [(ChangeKind::Insert, "a2".to_owned(), Some("two".to_owned()))]);
}

pub(crate) async fn a_marker_comes_behind_everything_that_was_written_before(store: &impl SourceStore) {
    let table = store.authors();
    let mut follower = Follower::new(store.changes(), table.clone()).await;
    for n in 0..20 {
        store.put(&format!("a{n}"), "x").await;
    }
    // As many as a drain sends, so that every shard has one.
    let nonces: Vec<String> = (0..16).map(|n| format!("n-{n}")).collect();
    for nonce in &nonces {
        store.source().put_marker(&table, nonce).await.unwrap();
    }
    let all = follower.take(20 + nonces.len()).await;
    let is_marker = |change: &&Change| told(change).1.starts_with(&table.marker_prefix);
    let came: BTreeSet<String> = all.iter().filter(is_marker).map(|change| told(change).1).collect();
    let sent = nonces.iter().map(|nonce| format!("{}{nonce}", table.marker_prefix)).collect();
    assert_eq!(came, sent, "its key is the prefix and the nonce");
    // What is in no table needs no removal, and where it is, it goes.
    for nonce in &nonces {
        store.source().delete_marker(&table, nonce).await.unwrap();
    }
    assert_eq!(read_whole(store, 1).await.len(), 20);
}
