//! What customers write: captured from the opening on, each change once, with every state since.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue as A;

use super::items::orders;
use super::*;
use crate::domain::mapping::{Resolution, RowTree};
use crate::domain::plan::Table;
use crate::domain::value::{Cell, Key};
use crate::ports::tests::outbox::OutboxStore;
use crate::ports::tests::outbox_cases;
use crate::ports::tests::tables::{book, books, prepared, upsert};
use crate::ports::{ChangeBatch, Cleared, ErrorKind, Outbox, OutboxChange, OwnWrite, Unfinished};

fn item(id: &str, price: u32) -> HashMap<String, A> {
    HashMap::from([("id".to_owned(), A::S(id.to_owned())), ("price".to_owned(), A::N(price.to_string()))])
}

async fn put(account: &Account, table: &Table, item: HashMap<String, A>) {
    account.raw().put_item().table_name(&table.target).set_item(Some(item)).send().await.unwrap();
}

async fn delete(account: &Account, table: &Table, id: &str) {
    let delete = account.raw().delete_item().table_name(&table.target).key("id", A::S(id.to_owned()));
    delete.send().await.unwrap();
}

#[async_trait::async_trait]
impl OutboxStore for Account {
    fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::clone(&self.target) as _
    }

    fn outbox_elsewhere(&self) -> Arc<dyn Outbox> {
        Arc::new(self.elsewhere())
    }

    async fn put(&self, id: &str, price: u32) {
        put(self, &books(), item(id, price)).await;
    }

    async fn delete(&self, id: &str) {
        delete(self, &books(), id).await;
    }
}

mod as_an_outbox {
    use super::*;

    outbox_cases!(Account::embedded());
}

mod as_an_outbox_of_the_neighbour {
    use super::*;

    outbox_cases!(Account::of_the_neighbour());
}

/// A table with three rows of ours, captured.
async fn armed() -> (Account, Table) {
    armed_at(Account::embedded().await).await
}

async fn armed_at(account: Account) -> (Account, Table) {
    let table = books();
    prepared(&*account.target).await;
    let target = &account.target;
    let rows = ["a", "b", "c"].map(|id| upsert(&table, &book(id, "1")));
    target.apply(&table, ChangeBatch { rows: rows.into(), ..ChangeBatch::default() }).await.unwrap();
    let found = target.arm(std::slice::from_ref(&table)).await.unwrap();
    assert!(found[0].exercised && found[0].tables == [table.target.clone()]);
    (account, table)
}

/// The same, open to customers.
async fn opened() -> (Account, Table) {
    let (account, table) = armed().await;
    account.target.open_to_customers(std::slice::from_ref(&table)).await.unwrap();
    (account, table)
}

async fn waits(target: &DynamoTarget, table: &Table) -> u64 {
    target.waiting(std::slice::from_ref(table)).await.unwrap()[&table.id].records
}

/// What waits, applied at once.
async fn carried(target: &DynamoTarget, table: &Table) -> Vec<OutboxChange> {
    let Some(taken) = target.take(table, 100).await.unwrap() else { return Vec::new() };
    let changes = taken.changes().to_vec();
    for change in &changes {
        taken.clear(&[Cleared::of(&Key(id(change)), &change.records, Resolution::None)]).await.unwrap();
    }
    taken.done().await.unwrap();
    changes
}

fn id(change: &OutboxChange) -> String {
    match &change.key[0] {
        Cell::Text(id) => id.to_string(),
        other => format!("{other:?}"),
    }
}

/// The price of each state; `-` where there is no row.
fn prices(table: &Table, change: &OutboxChange) -> Vec<String> {
    let place = table.columns.iter().position(|column| column.name == "price").unwrap();
    let price = |state: &Option<RowTree>| match state.as_ref().map(|state| &state.row[place]) {
        None => "-".to_owned(),
        Some(Cell::Numeric(price)) => price.to_string(),
        Some(other) => format!("{other:?}"),
    };
    change.states.iter().map(price).collect()
}

#[tokio::test]
async fn what_is_ours_is_not_captured_and_what_comes_after_the_opening_is() {
    ours_and_theirs(Account::embedded().await).await;
}

#[tokio::test]
async fn another_emulator_tells_ours_from_theirs_too() {
    ours_and_theirs(Account::of_the_neighbour().await).await;
}

async fn ours_and_theirs(account: Account) {
    let (account, table) = armed_at(account).await;
    let (target, tables) = (&account.target, std::slice::from_ref(&table));
    assert!(target.armed(tables).await.unwrap());
    assert_eq!(target.gaps(tables).await.unwrap(), []);
    let batch = ChangeBatch { rows: vec![upsert(&table, &book("a", "2"))], ..ChangeBatch::default() };
    target.apply(&table, batch).await.unwrap();
    assert_eq!((waits(target, &table).await, carried(target, &table).await), (0, vec![]));
    let batch = ChangeBatch { rows: vec![upsert(&table, &book("a", "3"))], ..ChangeBatch::default() };
    target.apply(&table, batch.clone()).await.unwrap();
    target.open_to_customers(tables).await.unwrap();
    // A process that slept through the opening writes nothing any more.
    assert_eq!(account.elsewhere().apply(&table, batch).await.unwrap_err().kind, ErrorKind::Conflict);
    put(&account, &table, item("a", 4)).await;
    // Done again by a process that does not know, it takes nothing for ours.
    account.elsewhere().open_to_customers(tables).await.unwrap();
    put(&account, &table, item("new", 5)).await;
    delete(&account, &table, "b").await;
    assert_eq!(waits(target, &table).await, 3);
    let changes = carried(&account.elsewhere(), &table).await;
    let found: Vec<_> = changes.iter().map(|change| (id(change), prices(&table, change))).collect();
    let wanted = [("a", ["3", "4"]), ("new", ["-", "5"]), ("b", ["1", "-"])];
    let wanted = wanted.map(|(id, prices)| (id.to_owned(), prices.map(str::to_owned).to_vec()));
    assert_eq!(found, wanted);
    assert_eq!((waits(target, &table).await, carried(target, &table).await), (0, vec![]));
    assert_eq!(target.tally(tables).await.unwrap()[&table.id].carried, 3);
}

#[tokio::test]
async fn every_state_of_a_key_is_known_and_each_key_is_taken_whole() {
    let (account, table) = opened().await;
    for price in [2, 3] {
        put(&account, &table, item("a", price)).await;
        put(&account, &table, item("b", price)).await;
    }
    delete(&account, &table, "a").await;
    put(&account, &table, item("a", 9)).await;
    // A change of nothing is no change.
    put(&account, &table, item("a", 9)).await;
    let target = &account.target;
    let taken = target.take(&table, 1).await.unwrap().unwrap();
    let [change] = taken.changes() else { panic!("{:?}", taken.changes()) };
    assert_eq!(
        (id(change).as_str(), prices(&table, change)),
        ("a", ["1", "2", "3", "-", "9"].map(str::to_owned).to_vec())
    );
    assert_eq!(change.from[1..], change.records);
    assert_eq!(change.state_after(*change.records.last().unwrap()), Some(4));
    let waiting = target.waiting(std::slice::from_ref(&table)).await.unwrap()[&table.id];
    assert!(waiting.records == 6 && waiting.oldest_ms >= 0, "{waiting:?}");
}

#[tokio::test]
async fn only_one_carries_and_what_is_given_back_is_taken_again() {
    let (account, table) = opened().await;
    let (target, other) = (&account.target, account.elsewhere());
    put(&account, &table, item("a", 2)).await;
    put(&account, &table, item("b", 2)).await;
    let taken = target.take(&table, 100).await.unwrap().unwrap();
    assert_eq!((taken.changes().len(), taken.rolled_back()), (2, false));
    assert_eq!(other.take(&table, 100).await.err().unwrap().kind, ErrorKind::Throttled);
    drop(taken);
    let taken = loop {
        match other.take(&table, 100).await {
            Ok(taken) => break taken.unwrap(),
            Err(e) if e.kind == ErrorKind::Throttled => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            Err(e) => panic!("{e}"),
        }
    };
    // What is written while it is held belongs to the next turn.
    put(&account, &table, item("a", 3)).await;
    let one = taken.changes()[0].clone();
    target.mark_rolled_back("run-1", std::slice::from_ref(&table)).await.unwrap();
    let key = Key("a".to_owned());
    let own = OwnWrite { key: key.clone(), digest: 7, record: one.records[0], resolution: Resolution::Merged };
    assert!(
        taken.record_own_writes(std::slice::from_ref(&own)).await.unwrap(),
        "it says that a rollback was ordered by now"
    );
    let unfinished = Unfinished { digest: 7, record: one.records[0], resolution: Resolution::Merged };
    assert_eq!(taken.unfinished(std::slice::from_ref(&key)).await.unwrap()[0], [unfinished]);
    assert_eq!(taken.unfinished(&[Key("b".to_owned())]).await.unwrap()[0], []);
    taken.clear(&[Cleared::of(&key, &one.records, Resolution::NewWon)]).await.unwrap();
    // An answer that was lost is asked for again, and counts once.
    taken.clear(&[Cleared::of(&key, &one.records, Resolution::NewWon)]).await.unwrap();
    assert_eq!(taken.unfinished(std::slice::from_ref(&key)).await.unwrap()[0], [], "its record is cleared");
    taken.done().await.unwrap();
    let tally = target.tally(std::slice::from_ref(&table)).await.unwrap()[&table.id];
    assert_eq!((tally.carried, tally.conflicts), (1, 1));
    assert_eq!(target.conflicts(&table).await.unwrap(), [(key.clone(), Resolution::NewWon)]);
    let asked = [(key.clone(), 7), (key.clone(), 8), (Key("b".to_owned()), 7)];
    assert_eq!(target.own_writes(&table, &asked).await.unwrap(), [true, false, false]);
    let taken = target.take(&table, 100).await.unwrap().unwrap();
    assert!(taken.rolled_back());
    let left: Vec<_> = taken.changes().iter().map(|change| (id(change), prices(&table, change))).collect();
    let wanted = [("b", ["1", "2"]), ("a", ["2", "3"])];
    assert_eq!(left, wanted.map(|(id, prices)| (id.to_owned(), prices.map(str::to_owned).to_vec())));
}

#[tokio::test]
async fn a_turn_that_is_over_goes_to_the_next_and_the_one_before_clears_nothing_more() {
    let (account, table) = opened().await;
    put(&account, &table, item("a", 2)).await;
    let slept = account.target.take(&table, 100).await.unwrap().unwrap();
    let turn = super::super::names::turn(PLAN);
    let over = super::super::write::Write::update(&turn, "SET #until = :then").with("then", super::super::call::n(1));
    account.target.store.write(&over, ("test", "t")).await.unwrap();
    let other = account.elsewhere();
    let taken = other.take(&table, 100).await.unwrap().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    let (key, records) = (Key("a".to_owned()), slept.changes()[0].records.clone());
    let own = OwnWrite { key: key.clone(), digest: 7, record: records[0], resolution: Resolution::None };
    assert_eq!(slept.record_own_writes(std::slice::from_ref(&own)).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(
        slept.clear(&[Cleared::of(&key, &records, Resolution::None)]).await.unwrap_err().kind,
        ErrorKind::Conflict
    );
    drop(slept);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    taken.clear(&[Cleared::of(&key, &records, Resolution::None)]).await.unwrap();
    taken.done().await.unwrap();
    assert_eq!(carried(&account.target, &table).await, vec![]);
}

#[tokio::test]
async fn each_change_is_kept_once_however_many_read() {
    let (account, table) = opened().await;
    let others: Vec<_> = (0..3).map(|_| account.elsewhere()).collect();
    let write = async {
        for n in 0..120_u32 {
            put(&account, &table, item(&format!("k{}", n % 40), n + 10)).await;
        }
    };
    let read = others.iter().map(|other| async {
        for _ in 0..12 {
            // That somebody else stored it first is no failure.
            let looked = other.waiting(std::slice::from_ref(&table)).await;
            assert!(looked.is_ok() || looked.is_err_and(|e| e.kind.transient()));
        }
    });
    tokio::join!(write, futures::future::join_all(read));
    assert_eq!(waits(&account.target, &table).await, 120);
    let changes = carried(&account.target, &table).await;
    assert_eq!(changes.len(), 40);
    for change in &changes {
        let states = prices(&table, change);
        let mut sorted = states[1..].to_vec();
        sorted.sort_by_key(|price| price.parse::<u32>().unwrap());
        assert_eq!((states.len(), &states[1..]), (4, &sorted[..]), "in their order");
    }
    assert_eq!(waits(&account.target, &table).await, 0);
}

#[tokio::test]
async fn markers_go_through_the_stream_and_leave_nothing() {
    let (account, table) = opened().await;
    let target = &account.target;
    put(&account, &table, item("a", 2)).await;
    target.put_marker(&table, "nonce-1").await.unwrap();
    // Put again, as after an answer that was lost: it comes twice at once.
    let markers = super::super::outbox::markers(&table);
    for _ in 0..2 {
        markers.send(&target.store, &table.target, "nonce-1", ("test", "t")).await.unwrap();
    }
    assert_eq!(waits(target, &table).await, 1);
    let taken = target.take(&table, 100).await.unwrap().unwrap();
    assert_eq!((taken.markers(), taken.changes().len()), (&["nonce-1".to_owned()][..], 1));
    taken.done().await.unwrap();
    let taken = target.take(&table, 100).await.unwrap().unwrap();
    assert_eq!(taken.markers(), &[] as &[String]);
    drop(taken);
    assert_eq!(waits(target, &table).await, 1, "markers are no writes of customers");
    let count = account.raw().scan().table_name(&table.target).send().await.unwrap().count();
    assert_eq!(count, 3, "nothing of ours is left in the table");
}

#[tokio::test]
async fn what_was_lost_is_said_and_what_waits_is_kept() {
    let (account, table) = opened().await;
    let (target, tables) = (&account.target, std::slice::from_ref(&table));
    put(&account, &table, item("a", 2)).await;
    assert_eq!(waits(target, &table).await, 1);
    let switched = |on: bool| {
        let spec = aws_sdk_dynamodb::types::StreamSpecification::builder().stream_enabled(on);
        let view = aws_sdk_dynamodb::types::StreamViewType::NewAndOldImages;
        let spec = if on { spec.stream_view_type(view) } else { spec };
        account.raw().update_table().table_name(&table.target).stream_specification(spec.build().unwrap())
    };
    switched(false).send().await.unwrap();
    put(&account, &table, item("b", 7)).await;
    let fresh = account.elsewhere();
    assert!(!fresh.armed(tables).await.unwrap());
    assert!(fresh.gaps(tables).await.unwrap()[0].lost);
    assert_eq!(waits(&fresh, &table).await, 1, "what was captured before is applied all the same");
    assert_eq!(fresh.put_marker(&table, "n").await.unwrap_err().kind, ErrorKind::Invalid, "nothing can be proven");
    switched(true).send().await.unwrap();
    put(&account, &table, item("c", 8)).await;
    fresh.arm(tables).await.unwrap();
    assert!(fresh.armed(tables).await.unwrap());
    let gaps = fresh.gaps(tables).await.unwrap();
    assert!(gaps[0].lost && gaps[0].what.contains("is off"), "it is never forgotten: {gaps:?}");
    let found: Vec<_> = carried(&fresh, &table).await.iter().map(id).collect();
    assert_eq!(found, ["a", "c"]);
}

#[tokio::test]
async fn before_customers_write_there_a_stream_may_be_replaced() {
    let (account, table) = armed().await;
    let tables = std::slice::from_ref(&table);
    for on in [false, true] {
        let spec = aws_sdk_dynamodb::types::StreamSpecification::builder().stream_enabled(on);
        let view = aws_sdk_dynamodb::types::StreamViewType::NewAndOldImages;
        let spec = if on { spec.stream_view_type(view) } else { spec };
        let update = account.raw().update_table().table_name(&table.target);
        update.stream_specification(spec.build().unwrap()).send().await.unwrap();
        if !on {
            // Customers are not let in where nothing they write would be captured.
            let refused = account.target.open_to_customers(tables).await.unwrap_err();
            assert!(refused.came_back.contains("is off"), "{refused}");
        }
    }
    account.target.open_to_customers(tables).await.unwrap();
    assert_eq!(account.target.gaps(tables).await.unwrap(), []);
    put(&account, &table, item("a", 2)).await;
    assert_eq!(carried(&account.target, &table).await.len(), 1);
}

#[tokio::test]
async fn what_was_captured_of_a_table_that_is_gone_is_counted_still() {
    let (account, table) = opened().await;
    let tables = std::slice::from_ref(&table);
    put(&account, &table, item("a", 2)).await;
    assert_eq!(waits(&account.target, &table).await, 1);
    account.raw().delete_table().table_name(&table.target).send().await.unwrap();
    let fresh = account.elsewhere();
    assert_eq!(waits(&fresh, &table).await, 1);
    assert!(fresh.gaps(tables).await.unwrap()[0].lost);
    assert_eq!(fresh.disarm(tables).await.unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(carried(&fresh, &table).await.len(), 1);
}

#[tokio::test]
async fn a_capture_that_was_never_open_stands_in_no_later_runs_way() {
    let (account, table) = armed().await;
    let tables = std::slice::from_ref(&table);
    account.raw().delete_table().table_name(&table.target).send().await.unwrap();
    let fresh = account.elsewhere();
    assert_eq!(waits(&fresh, &table).await, 0, "nothing of customers can wait");
    fresh.disarm(tables).await.unwrap();
    assert_eq!(fresh.gaps(tables).await.unwrap(), []);
}

#[tokio::test]
async fn a_later_run_begins_anew_once_nothing_waits() {
    let (account, table) = opened().await;
    let (target, tables) = (&account.target, std::slice::from_ref(&table));
    put(&account, &table, item("a", 2)).await;
    assert_eq!(target.disarm(tables).await.unwrap_err().kind, ErrorKind::Conflict);
    let owned = target.owned().await.unwrap();
    assert_eq!(owned.tables.iter().find(|owned| owned.id == table.id).unwrap().waits, 1);
    target.mark_rolled_back("run-1", tables).await.unwrap();
    carried(target, &table).await;
    target.settle("run-1", tables).await.unwrap();
    assert_eq!(target.opened_to_customers(tables).await.unwrap(), None);
    target.claim("run-2", tables).await.unwrap();
    assert_eq!(target.mark_rolled_back("run-1", tables).await.unwrap_err().kind, ErrorKind::Invalid);
    target.disarm(tables).await.unwrap();
    assert!(!target.armed(tables).await.unwrap());
    assert_eq!(target.take(&table, 1).await.unwrap().map(|_| ()), None);
    assert_eq!(target.tally(tables).await.unwrap()[&table.id].carried, 0);
    target.reset(&table).await.unwrap();
    target.arm(tables).await.unwrap();
    let rows = vec![upsert(&table, &book("a", "2"))];
    target.apply(&table, ChangeBatch { rows, ..ChangeBatch::default() }).await.unwrap();
    assert_eq!(waits(target, &table).await, 0, "it is ours again");
    target.open_to_customers(tables).await.unwrap();
    put(&account, &table, item("a", 3)).await;
    let taken = target.take(&table, 10).await.unwrap().unwrap();
    assert!(!taken.rolled_back() && taken.changes().len() == 1);
    drop(taken);
    // A release takes all of it away.
    target.disown().await.unwrap();
    assert!(!target.armed(tables).await.unwrap());
    assert_eq!(target.tally(tables).await.unwrap()[&table.id].carried, 0);
}

#[tokio::test]
async fn items_of_any_size_wait_whole() {
    let account = Account::embedded().await;
    let (target, table) = (&account.target, orders());
    let tables = std::slice::from_ref(&table);
    target.prepare().await.unwrap();
    target.claim("run-1", tables).await.unwrap();
    target.create(&table).await.unwrap();
    target.arm(tables).await.unwrap();
    target.open_to_customers(tables).await.unwrap();
    let large = |letter: &str| {
        HashMap::from([
            ("customer".to_owned(), A::S("c".to_owned())),
            ("number".to_owned(), A::N("1.50".to_owned())),
            ("raw".to_owned(), A::B(vec![255_u8; 190_000].into())),
            ("text".to_owned(), A::S(letter.repeat(95_000))),
        ])
    };
    for letter in ["é", "ö", "ü"] {
        put(&account, &table, large(letter)).await;
    }
    let changes = carried(target, &table).await;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].key, [Cell::Text("c".into()), Cell::Numeric("1.5".into())]);
    let last = changes[0].states.last().unwrap().as_ref().unwrap();
    let Cell::Json(text) = &last.row[2] else { panic!("no document") };
    assert!(changes[0].states.len() == 4 && text.matches('ü').count() == 95_000);
    assert_eq!(waits(target, &table).await, 0);
}
