//! The way back in batches: many rows in one transaction, and the same as row by row.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::TestDatabase;
use super::back::{Pair, table};
use super::items::{database, every, named, record, things, write};
use crate::domain::mapping::{ItemChange, Resolution, Winner};
use crate::domain::plan::{ColumnType, Table};
use crate::domain::value::{Cell, Record};
use crate::ports::{Beyond, InBatch, ItemOutcome, Items, PortResult, ReverseCounts, Sequence, SequenceScan, Together};

fn delete(id: i64) -> ItemChange {
    ItemChange::Delete { key: record(vec![("id", Cell::Int(id))]), expect: vec![] }
}

async fn sum(db: &TestDatabase) -> i64 {
    db.number("SELECT coalesce(sum(s), 0)::bigint FROM things").await
}

#[tokio::test]
async fn each_row_of_a_batch_is_written_only_over_what_was_read() {
    let (db, source) = database().await;
    let made: Vec<ItemChange> = (1..=9).map(|id| write(id, false, vec![("s", Cell::Int(1))], vec![])).collect();
    assert_eq!(source.write_batch(&things(), &made).await.unwrap(), vec![InBatch::Written; 9]);
    assert_eq!(sum(&db).await, 9);
    let two = |n| vec![("s", Cell::Int(n))];
    let changes = [
        write(1, true, two(2), two(1)),
        // It holds something else.
        write(2, true, two(2), two(7)),
        write(3, true, vec![("s", Cell::Int(2)), ("t", Cell::Text("é".into()))], two(1)),
        delete(4),
        // It is not there.
        write(40, true, two(2), vec![]),
        delete(41),
        write(10, false, two(2), vec![]),
        ItemChange::Nothing,
    ];
    use InBatch::{Apart, Written};
    let met = source.write_batch(&things(), &changes).await.unwrap();
    assert_eq!(met, [Written, Apart, Written, Written, Apart, Apart, Written, Written]);
    assert_eq!((sum(&db).await, db.number("SELECT count(*) FROM things").await), (12, 9));

    // A row that a customer holds is left out at once, and nobody waits for it.
    let customer = db.connect().await;
    customer.batch_execute("BEGIN; UPDATE things SET s = 5 WHERE id = 1").await.unwrap();
    let changes = [write(1, true, two(3), two(2)), write(3, true, two(3), two(2)), delete(5)];
    assert_eq!(source.write_batch(&things(), &changes).await.unwrap(), [Apart, Written, Written]);
    customer.batch_execute("ROLLBACK").await.unwrap();

    // So does a batch that meets a new row of theirs, whole.
    customer.batch_execute("BEGIN; INSERT INTO things (id, s) OVERRIDING SYSTEM VALUE VALUES (20, 1)").await.unwrap();
    let changes = [write(20, false, two(3), vec![]), write(6, true, two(3), two(1))];
    assert_eq!(source.write_batch(&things(), &changes).await.unwrap(), [Apart, Apart]);
    customer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(source.write_batch(&things(), &changes).await.unwrap(), [Apart, Apart], "it is there already");
    assert_eq!(db.number("SELECT s FROM things WHERE id = 6").await, 1);
}

#[tokio::test]
async fn values_of_every_type_go_back_in_a_batch_as_they_do_alone() {
    let (db, source) = database().await;
    // An array can be no element of an array: such a change is a statement of its own, in the same transaction.
    for without in [None, Some("ts")] {
        db.sql.batch_execute("TRUNCATE things").await.unwrap();
        let unlike = |id: i64| {
            let fields = every().into_iter().filter(|(name, _)| Some(*name) != without);
            let own = move |(name, cell)| (name, if name == "v" { Cell::Text(format!("v{id}").into()) } else { cell });
            fields.map(own).collect::<Vec<_>>()
        };
        let made: Vec<ItemChange> = (1..=3).map(|id| write(id, false, unlike(id), vec![])).collect();
        assert_eq!(source.write_batch(&things(), &made).await.unwrap(), vec![InBatch::Written; 3]);
        let keys: Vec<Record<'static>> = (1..=3).map(|id| record(vec![("id", Cell::Int(id))])).collect();
        for (found, id) in source.read_batch(&things(), &keys).await.unwrap().into_iter().zip(1..) {
            let found = found.unwrap();
            for (name, value) in named(unlike(id)) {
                assert_eq!(found.get(&name), Some(&value), "{name} of {id}");
            }
        }
        // Each value is recognised, and another one is not.
        for (name, cell) in unlike(2).into_iter().filter(|(name, _)| *name != "s") {
            let over = |id, cell| write(id, true, vec![("s", Cell::Int(-1))], vec![(name, cell)]);
            let other = if cell == Cell::Null { Cell::Text("x".into()) } else { Cell::Null };
            let met = source.write_batch(&things(), &[over(2, cell), over(3, other)]).await.unwrap();
            assert_eq!(met, [InBatch::Written, InBatch::Apart], "{name}");
        }
    }
}

#[tokio::test]
async fn one_row_that_is_refused_takes_the_whole_batch_back() {
    let (db, source) = database().await;
    let check = "INSERT INTO things (s) SELECT 1 FROM generate_series(1, 5);
         ALTER TABLE things ADD CHECK (s < 10);
         CREATE TABLE late (id int PRIMARY KEY, s smallint, CONSTRAINT one UNIQUE (s) DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO late VALUES (1, 1), (2, 2)";
    db.sql.batch_execute(check).await.unwrap();
    let s = |n| vec![("s", Cell::Int(n))];
    let changes = [write(1, true, s(2), s(1)), write(2, true, s(99), s(1)), delete(3)];
    assert_eq!(source.write_batch(&things(), &changes).await.unwrap(), vec![InBatch::Apart; 3]);
    assert_eq!(sum(&db).await, 5);
    // What is looked at last is looked at before anything is acknowledged.
    let late = Table::watched("late", "late");
    let changes = [write(1, true, s(3), s(1)), write(2, true, s(3), s(2))];
    assert_eq!(source.write_batch(&late, &changes).await.unwrap(), vec![InBatch::Apart; 2]);
    assert_eq!(db.number("SELECT sum(s) FROM late").await, 3);
}

#[tokio::test]
async fn one_bad_row_of_many_leaves_few_others_to_go_by_themselves() {
    let (db, source) = database().await;
    let rows = "INSERT INTO things (s) SELECT 1 FROM generate_series(1, 200); ALTER TABLE things ADD CHECK (s < 10)";
    db.sql.batch_execute(rows).await.unwrap();
    let changes: Vec<ItemChange> = (1..=200)
        .map(|id| write(id, true, vec![("s", Cell::Int(if id == 37 { 99 } else { 2 }))], vec![("s", Cell::Int(1))]))
        .collect();
    let met = source.write_batch(&things(), &changes).await.unwrap();
    assert_eq!((met.len(), &met[36]), (200, &InBatch::Apart));
    let apart = met.iter().filter(|one| **one == InBatch::Apart).count();
    assert!(
        apart <= 8 && met.iter().filter(|one| **one == InBatch::Written).count() == 200 - apart,
        "{apart} go alone"
    );
    assert_eq!(sum(&db).await, 400 - apart as i64);
}

#[tokio::test]
async fn a_removal_that_would_spread_is_refused_and_takes_no_other_with_it() {
    let (db, source) = database().await;
    let more = "INSERT INTO things (s) SELECT 1 FROM generate_series(1, 5);
         CREATE TABLE kept (id int PRIMARY KEY, thing int REFERENCES things ON DELETE CASCADE);
         INSERT INTO kept VALUES (1, 2)";
    db.sql.batch_execute(more).await.unwrap();
    let met = source.write_batch(&things(), &[delete(1), delete(2), delete(3)]).await.unwrap();
    assert_eq!((&met[0], &met[2]), (&InBatch::Written, &InBatch::Written));
    assert!(matches!(&met[1], InBatch::Refused(e) if e.came_back.contains("rows of kept refer to it")), "{met:?}");
    assert_eq!((db.number("SELECT count(*) FROM things").await, db.number("SELECT count(*) FROM kept").await), (3, 1));
}

/// A store that takes each item by itself.
struct OneByOne(Arc<dyn Items>);

#[async_trait]
impl Items for OneByOne {
    async fn write(&self, table: &Table, change: &ItemChange) -> PortResult<ItemOutcome> {
        self.0.write(table, change).await
    }

    async fn write_batch(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Vec<InBatch>> {
        self.0.write_batch(table, changes).await
    }

    fn batch(&self) -> usize {
        1
    }

    async fn write_together(&self, table: &Table, changes: &[ItemChange]) -> PortResult<Together> {
        self.0.write_together(table, changes).await
    }

    async fn read(&self, table: &Table, key: &Record<'static>) -> PortResult<Option<Record<'static>>> {
        self.0.read(table, key).await
    }

    async fn read_batch(&self, table: &Table, keys: &[Record<'static>]) -> PortResult<Vec<Option<Record<'static>>>> {
        self.0.read_batch(table, keys).await
    }

    fn of_columns(&self) -> bool {
        self.0.of_columns()
    }

    async fn sample(&self, table: &Table) -> PortResult<Vec<Record<'static>>> {
        self.0.sample(table).await
    }

    async fn exercise(&self, table: &Table, nonce: &str) -> PortResult<()> {
        self.0.exercise(table, nonce).await
    }

    async fn sequences(&self, tables: &[Table]) -> PortResult<Vec<Sequence>> {
        self.0.sequences(tables).await
    }

    async fn advance_sequences(
        &self,
        tables: &[Table],
        look: SequenceScan,
        by_hand: &[String],
        beyond: &[Beyond],
    ) -> PortResult<Vec<Sequence>> {
        self.0.advance_sequences(tables, look, by_hand, beyond).await
    }
}

const SCHEMA: &str = "
CREATE TABLE tree (id int PRIMARY KEY, above int REFERENCES tree ON DELETE CASCADE, name text, n numeric(6,2), tags text[]);
INSERT INTO tree SELECT n, nullif(n / 3, 0), 'node ' || n, n, ARRAY['a', 'b'] FROM generate_series(1, 40) n";

/// One write of a customer. What the server refuses is no write.
fn statement(rng: &mut fastrand::Rng) -> String {
    let (id, other, n) = (rng.u8(1..60), rng.u8(1..60), rng.u16(0..900));
    match rng.u8(0..9) {
        0 => format!("DELETE FROM tree WHERE id = {id}"),
        1 | 2 => format!("INSERT INTO tree VALUES ({id}, {other}, 'new', {n}, '{{}}') ON CONFLICT DO NOTHING"),
        3 => format!("UPDATE tree SET above = nullif({other}, {id}) WHERE id = {id}"),
        4 => format!("UPDATE tree SET tags = ARRAY['{n}', NULL] WHERE id = {id}"),
        5 => format!("UPDATE tree SET name = NULL WHERE id BETWEEN {id} AND {id} + 9"),
        6 => format!("UPDATE tree SET name = 'n{n}', n = {n} WHERE id BETWEEN {id} AND {id} + 19"),
        _ => format!("UPDATE tree SET n = {n}.5 WHERE id = {id}"),
    }
}

/// What a history leaves: the old side's rows, the counts, conflicts, and what stays behind.
type Left = (Vec<String>, ReverseCounts, BTreeSet<(String, Resolution)>, BTreeSet<String>, i64);

async fn history(seed: u64, singly: bool) -> Left {
    let mut rng = fastrand::Rng::with_seed(seed);
    let columns = [
        ("above", ColumnType::Integer),
        ("name", ColumnType::Text),
        ("n", ColumnType::Numeric(Some((6, 2)))),
        ("tags", ColumnType::TextArray),
    ];
    let tables = vec![table("tree", &columns)];
    let mut pair = Pair::with(SCHEMA, tables, |items| if singly { Arc::new(OneByOne(items)) } else { items }).await;
    if rng.bool() {
        // Rows that the old side alone refuses.
        pair.old.sql.batch_execute("ALTER TABLE tree ADD CHECK (n < 850) NOT VALID").await.unwrap();
    }
    let winner = if rng.bool() { Winner::New } else { Winner::Old };
    let (mut conflicts, mut unfit) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..3 {
        for _ in 0..rng.u8(5..40) {
            let side = if rng.u8(0..6) == 0 { &pair.old } else { &pair.new };
            let _ = side.sql.batch_execute(&statement(&mut rng)).await;
        }
        // Until a round finds what the one before it left.
        let mut before = None;
        loop {
            let round = pair.applier.round(&pair.tables[0], 500, &move || winner).await.unwrap().unwrap_or_default();
            assert_eq!(round.trouble, None, "seed {seed}");
            conflicts.extend(round.conflicts.into_iter().map(|(key, how)| (key.0, how)));
            unfit = round.unfit.into_iter().map(|(key, _)| key.0).collect();
            let left = (unfit.clone(), pair.new.number("SELECT count(*) FROM cutover.outbox").await);
            if before.as_ref() == Some(&left) {
                break;
            }
            before = Some(left);
        }
    }
    let tally = pair.ports.outbox.tally(&pair.tables).await.unwrap()["tree"];
    let waits = pair.new.number("SELECT count(*) FROM cutover.outbox").await;
    (Pair::held(&pair.old, &pair.tables).await, tally, conflicts, unfit, waits)
}

#[tokio::test]
async fn batches_leave_what_row_by_row_leaves_under_any_history() {
    let (mut carried, mut met) = (0, 0);
    for seed in 0..12 {
        let (singly, batches) = tokio::join!(history(seed, true), history(seed, false));
        assert_eq!(batches, singly, "seed {seed}");
        carried += batches.1.carried;
        met += batches.1.merged + batches.1.conflicts;
    }
    assert!(carried > 100 && met > 10, "too little happened: {carried} carried, {met} met the other side");
}
