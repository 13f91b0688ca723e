//! What every outbox promises: each case on a table of books with two rows of ours, captured and open to customers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::TargetStore;
use super::tables::{book, books, prepared, upsert};
use crate::domain::mapping::Resolution;
use crate::domain::value::{Cell, Key};
use crate::ports::{ChangeBatch, Cleared, ErrorKind, Outbox, OutboxChange, OwnWrite, ReverseCounts, Taken, Unfinished};

/// A store whose customers' writes are captured.
#[async_trait]
pub(crate) trait OutboxStore: TargetStore {
    /// The outbox as the process under test sees it.
    fn outbox(&self) -> Arc<dyn Outbox>;

    /// The same outbox as another process sees it.
    fn outbox_elsewhere(&self) -> Arc<dyn Outbox>;

    /// A customer writes a book.
    async fn put(&self, id: &str, price: u32);

    /// A customer removes one.
    async fn delete(&self, id: &str);
}

/// Two rows of ours; armed, and open to customers.
async fn opened(store: &impl OutboxStore) -> Arc<dyn Outbox> {
    let (target, outbox) = (store.target(), store.outbox());
    prepared(&*target).await;
    let rows = ["a", "b"].map(|id| upsert(&books(), &book(id, "1"))).into();
    target.apply(&books(), ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap();
    let found = outbox.arm(&[books()]).await.unwrap();
    assert!(found[0].exercised && found[0].table == "books", "{found:?}");
    target.open_to_customers(&[books()]).await.unwrap();
    outbox
}

async fn waits(outbox: &dyn Outbox) -> u64 {
    outbox.waiting(&[books()]).await.unwrap()["books"].records
}

/// Takes what waits, once nobody else has the turn: where somebody dropped it, that takes a moment.
async fn taken(outbox: &dyn Outbox, limit: u32) -> Option<Box<dyn Taken>> {
    loop {
        match outbox.take(&books(), limit).await {
            Ok(taken) => return taken,
            Err(e) if e.kind == ErrorKind::Throttled => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(e) => panic!("{e}"),
        }
    }
}

fn id(change: &OutboxChange) -> String {
    match &change.key[0] {
        Cell::Text(id) => id.to_string(),
        other => panic!("a key is text: {other:?}"),
    }
}

/// The price of each state; `-` where there is no row.
fn prices(change: &OutboxChange) -> Vec<String> {
    let price = |row: &[Cell<'_>]| match &row[2] {
        Cell::Numeric(price) => price.to_string(),
        other => panic!("a price is a number: {other:?}"),
    };
    change.states.iter().map(|state| state.as_ref().map_or_else(|| "-".to_owned(), |state| price(&state.row))).collect()
}

/// All that waits, cleared as applied.
async fn cleared(outbox: &dyn Outbox, resolution: Resolution) {
    let Some(taken) = taken(outbox, 100).await else { return };
    let applied = |change: &OutboxChange| Cleared::of(&Key(id(change)), &change.records, resolution);
    taken.clear(&taken.changes().iter().map(applied).collect::<Vec<_>>()).await.unwrap();
    taken.done().await.unwrap();
}

pub(crate) async fn what_is_ours_leaves_no_record_and_what_a_customer_writes_does(store: &impl OutboxStore) {
    let outbox = opened(store).await;
    assert!(outbox.armed(&[books()]).await.unwrap());
    assert_eq!(outbox.gaps(&[books()]).await.unwrap(), []);
    assert_eq!(waits(&*outbox).await, 0, "rows of ours");
    assert!(outbox.take(&books(), 9).await.unwrap().is_none());
    store.put("a", 2).await;
    store.put("new", 5).await;
    store.delete("b").await;
    assert_eq!(waits(&*store.outbox_elsewhere()).await, 3);
    let taken = taken(&*outbox, 100).await.unwrap();
    let found: Vec<(String, Vec<String>)> = taken.changes().iter().map(|c| (id(c), prices(c))).collect();
    let wanted = [("a", ["1", "2"]), ("new", ["-", "5"]), ("b", ["1", "-"])];
    assert_eq!(found, wanted.map(|(id, prices)| (id.to_owned(), prices.map(str::to_owned).to_vec())));
    assert!(taken.changes().iter().all(|change| change.absent.is_none()) && !taken.rolled_back());
}

pub(crate) async fn each_key_is_taken_whole_with_every_state_it_had(store: &impl OutboxStore) {
    let outbox = opened(store).await;
    for price in [2, 3] {
        store.put("a", price).await;
        store.put("b", price).await;
    }
    store.delete("a").await;
    store.put("a", 9).await;
    // A change of nothing is no change.
    store.put("a", 9).await;
    assert_eq!(waits(&*outbox).await, 6);
    let taken = taken(&*outbox, 1).await.unwrap();
    let [change] = taken.changes() else { panic!("{:?}", taken.changes()) };
    assert_eq!((id(change).as_str(), prices(change)), ("a", ["1", "2", "3", "-", "9"].map(str::to_owned).to_vec()));
    assert_eq!((change.from[0], &change.from[1..]), (0, &change.records[..]));
    assert_eq!(change.state_after(change.records[0]), Some(1));
    assert_eq!(change.state_after(change.records[3]), Some(4));
}

pub(crate) async fn only_one_applies_at_a_time_and_what_is_given_back_comes_again(store: &impl OutboxStore) {
    let (outbox, other) = (opened(store).await, store.outbox_elsewhere());
    store.put("a", 2).await;
    let first = taken(&*outbox, 100).await.unwrap();
    let refused = other.take(&books(), 100).await.err().expect("one has the turn");
    assert_eq!(refused.kind, ErrorKind::Throttled, "{refused}");
    let changes = first.changes().to_vec();
    drop(first);
    let again = taken(&*other, 100).await.expect("nothing of it was cleared");
    assert_eq!(again.changes(), changes);
    // What is written while it is held waits for the next turn.
    store.put("b", 2).await;
    assert_eq!(again.changes().len(), 1);
    again.clear(&[Cleared::of(&Key("a".into()), &changes[0].records, Resolution::None)]).await.unwrap();
    again.done().await.unwrap();
    let next = taken(&*outbox, 100).await.unwrap();
    assert_eq!(next.changes().iter().map(id).collect::<Vec<_>>(), ["b"]);
}

pub(crate) async fn what_is_cleared_counts_once_and_conflicts_keep_their_key(store: &impl OutboxStore) {
    let outbox = opened(store).await;
    store.put("a", 2).await;
    store.put("b", 2).await;
    let now = taken(&*outbox, 100).await.unwrap();
    let applied: Vec<Cleared> = (now.changes().iter().zip([Resolution::NewWon, Resolution::Merged]))
        .map(|(change, resolution)| Cleared::of(&Key(id(change)), &change.records, resolution))
        .collect();
    now.clear(&applied).await.unwrap();
    // An answer that was lost is asked for again.
    now.clear(&applied).await.unwrap();
    now.done().await.unwrap();
    let elsewhere = store.outbox_elsewhere();
    let wanted = ReverseCounts { carried: 2, merged: 1, conflicts: 1 };
    assert_eq!(elsewhere.tally(&[books()]).await.unwrap()["books"], wanted);
    assert_eq!(elsewhere.conflicts(&books()).await.unwrap(), [(Key("a".into()), Resolution::NewWon)]);
    assert_eq!(waits(&*elsewhere).await, 0);
    assert!(outbox.take(&books(), 9).await.unwrap().is_none());
}

pub(crate) async fn what_was_signed_is_known_until_its_records_are_cleared(store: &impl OutboxStore) {
    let outbox = opened(store).await;
    store.put("a", 2).await;
    store.put("b", 2).await;
    let (a, b) = (Key("a".to_owned()), Key("b".to_owned()));
    let first = taken(&*outbox, 100).await.unwrap();
    let records = first.changes()[0].records.clone();
    let image = OwnWrite { key: a.clone(), digest: 7, record: records[0], resolution: Resolution::Merged };
    assert!(!first.record_own_writes(std::slice::from_ref(&image)).await.unwrap(), "no rollback was ordered");
    // Whoever signed it dies; the next one finds it.
    drop(first);
    let other = store.outbox_elsewhere();
    let next = taken(&*other, 100).await.unwrap();
    let unfinished = Unfinished { digest: 7, record: records[0], resolution: Resolution::Merged };
    assert_eq!(next.unfinished(&[b.clone(), a.clone()]).await.unwrap(), [vec![], vec![unfinished]]);
    let asked = [(a.clone(), 7), (a.clone(), 8), (b, 7)];
    assert_eq!(other.own_writes(&books(), &asked).await.unwrap(), [true, false, false]);
    next.clear(&[Cleared::of(&a, &records, Resolution::Merged)]).await.unwrap();
    assert_eq!(next.unfinished(std::slice::from_ref(&a)).await.unwrap(), [vec![]]);
}

pub(crate) async fn a_rollback_is_told_to_whoever_has_the_turn_and_that_of_another_run_is_refused(
    store: &impl OutboxStore,
) {
    let outbox = opened(store).await;
    store.put("a", 2).await;
    let before = taken(&*outbox, 100).await.unwrap();
    assert!(!before.rolled_back());
    let elsewhere = store.outbox_elsewhere();
    let refused = elsewhere.mark_rolled_back("run-0", &[books()]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
    elsewhere.mark_rolled_back("run-1", &[books()]).await.unwrap();
    let image = OwnWrite {
        key: Key("a".into()),
        digest: 7,
        record: before.changes()[0].records[0],
        resolution: Resolution::None,
    };
    assert!(before.record_own_writes(&[image]).await.unwrap(), "it was ordered meanwhile");
    drop(before);
    assert!(taken(&*outbox, 100).await.unwrap().rolled_back());
}

pub(crate) async fn capture_does_not_end_while_anything_waits(store: &impl OutboxStore) {
    let outbox = opened(store).await;
    store.put("a", 2).await;
    let refused = outbox.disarm(&[books()]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict, "{refused}");
    assert_eq!(waits(&*outbox).await, 1, "what a customer wrote is nowhere else");
    cleared(&*outbox, Resolution::None).await;
    outbox.disarm(&[books()]).await.unwrap();
    assert!(!store.outbox_elsewhere().armed(&[books()]).await.unwrap());
}

pub(crate) async fn a_marker_comes_with_what_is_taken_and_does_not_wait(store: &impl OutboxStore) {
    let outbox = opened(store).await;
    outbox.put_marker(&books(), "n-1").await.unwrap();
    assert_eq!(waits(&*outbox).await, 0);
    let taken = taken(&*outbox, 100).await.expect("a marker is something to take");
    assert_eq!((taken.markers(), taken.changes()), (&["n-1".to_owned()][..], &[][..]));
    taken.done().await.unwrap();
    assert!(store.outbox_elsewhere().take(&books(), 100).await.unwrap().is_none());
}
