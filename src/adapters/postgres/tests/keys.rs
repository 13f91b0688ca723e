//! Keys of every length, and keys that the target would hold equal.

use std::collections::BTreeMap;

use super::{TestDatabase, book, books, column, key, owned, table};
use crate::domain::mapping::{Mapped, Resolution, RowError, RowErrorReason as R};
use crate::domain::plan::{ColumnType as T, Table};
use crate::domain::value::{Cell, Key};
use crate::ports::{ChangeBatch, Cleared, Outbox as _, OwnWrite, ParkedRow, RowChange, Target as _};

/// Text that does not compress, and so fills an index entry.
fn noise(seed: u64, length: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.alphanumeric()).take(length).collect()
}

fn notes() -> Table {
    let ddl = "CREATE TABLE notes (id text PRIMARY KEY, v text)";
    table("notes", vec![key("id", T::Text), column("v", T::Text)], ddl)
}

fn json(id: &str) -> String {
    format!(r#"{{"id":{{"S":"{id}"}}}}"#)
}

fn note(id: &str) -> Mapped<'static> {
    let row = vec![Cell::Text(id.to_owned().into()), Cell::Text("v".into())];
    Mapped { key: id.to_owned(), key_json: json(id), row, children: vec![] }
}

fn upsert(m: Mapped<'static>) -> RowChange {
    RowChange::Upsert { key: Key(m.key), key_json: m.key_json, row: m.row, children: m.children }
}

fn rows(rows: Vec<RowChange>) -> ChangeBatch {
    ChangeBatch { rows, ..ChangeBatch::default() }
}

fn parked(id: &str) -> ParkedRow {
    let row_error = RowError::new("v", R::TooLong);
    ParkedRow { table: "notes".into(), key: Key(id.into()), row_error, key_json: json(id) }
}

#[tokio::test]
async fn the_ledger_takes_every_key_the_source_takes() {
    let db = TestDatabase::new().await;
    let table = notes();
    db.create(&table).await.unwrap();
    // 2,048 bytes of partition key, 1,024 of sort key; two of them differ in the last byte only.
    let long = noise(1, 3_072);
    let twin = format!("{}!", &long[..3_071]);
    let mut all: Vec<String> = vec![long.clone(), twin.clone(), "short".into()];
    all.extend((0..5).map(|n| noise(10 + n, 3_000)));
    let parks = all.iter().map(|id| RowChange::Park(parked(id))).collect();
    db.target.apply(&table, rows(parks)).await.unwrap();
    // Page by page, each once.
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let page = db.target.parked(&table, None, after.as_ref(), 3).await.unwrap();
        let whole = page.len() == 3;
        after = page.last().map(|r| r.key.clone());
        for row in page {
            assert!(found.insert(row.key.0.clone(), row).is_none());
        }
        if !whole {
            break;
        }
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), {
        let mut all: Vec<_> = all.iter().collect();
        all.sort();
        all
    });
    let asked = [Key(twin.clone()), Key("absent".into()), Key(long.clone())];
    let since = db.target.parked_since(&table, &asked).await.unwrap();
    assert_eq!(
        since.iter().map(|r| r.as_ref().map(|(r, _)| &r.key.0)).collect::<Vec<_>>(),
        [Some(&twin), None, Some(&long)]
    );
    let gone = RowChange::Delete { key: Key(long.clone()), key_json: json(&long), row_key: vec![] };
    db.target.apply(&table, rows(vec![gone])).await.unwrap();
    let left = db.target.ledger(&table).await.unwrap().0;
    assert_eq!(left, BTreeMap::from([(R::TooLong, 7)]));
}

#[tokio::test]
async fn a_key_too_long_for_the_tables_own_index_is_parked_and_the_load_goes_on() {
    let db = TestDatabase::new().await;
    let table = notes();
    db.create(&table).await.unwrap();
    let long = noise(2, 3_000);
    let mut all: Vec<_> = (0..29).map(|n| note(&format!("n{n}"))).collect();
    all.insert(7, note(&long));
    let applied = db.load(&table, &all).await;
    let seen = |parked: &[ParkedRow]| {
        parked.iter().map(|p| (p.key.0.clone(), p.row_error.reason, p.row_error.detail.clone())).collect::<Vec<_>>()
    };
    let wanted = vec![(long.clone(), R::Refused, "SQLSTATE 54000, constraint notes_pkey".to_owned())];
    assert_eq!((applied.upserted, seen(&applied.parked)), (29, wanted.clone()));
    assert_eq!(seen(&db.target.parked(&table, None, None, 9).await.unwrap()), wanted);
    db.target.reset(&table).await.unwrap();
    let applied = db.target.apply(&table, rows(all.into_iter().map(upsert).collect())).await.unwrap();
    assert_eq!((applied.upserted, seen(&applied.parked)), (29, wanted));
    assert_eq!(db.number("SELECT count(*) FROM notes").await, 29);
}

#[tokio::test]
async fn a_customers_key_that_the_table_takes_is_captured_and_carried() {
    let db = TestDatabase::new().await;
    let table = notes();
    db.create(&table).await.unwrap();
    db.target.arm(std::slice::from_ref(&table)).await.unwrap();
    // As long as the table's own index takes it.
    let long = noise(3, 2_680);
    db.sql.execute("INSERT INTO notes VALUES ($1, 'theirs')", &[&long]).await.unwrap();
    let taken = db.target.take(&table, 9).await.unwrap().unwrap();
    let records = taken.changes()[0].records.clone();
    assert_eq!(owned(&taken.changes()[0].key), [Cell::Text(long.clone().into())]);
    let key = Key(long);
    let image = OwnWrite { key: key.clone(), digest: 7, record: records[0], resolution: Resolution::NewWon };
    taken.record_own_writes(std::slice::from_ref(&image)).await.unwrap();
    taken.record_own_writes(std::slice::from_ref(&image)).await.unwrap();
    assert_eq!(taken.unfinished(std::slice::from_ref(&key)).await.unwrap()[0][0].resolution, Resolution::NewWon);
    assert_eq!(db.target.own_writes(&table, &[(key.clone(), 7), (key.clone(), 8)]).await.unwrap(), [true, false]);
    taken.clear(&[Cleared::of(&key, &records, Resolution::NewWon)]).await.unwrap();
    taken.done().await.unwrap();
    assert_eq!(db.target.conflicts(&table).await.unwrap(), [(key, Resolution::NewWon)]);
    assert_eq!(db.number("SELECT count(*) FROM cutover.outbox").await, 0);
}

#[tokio::test]
async fn a_key_that_is_parked_or_deleted_takes_no_other_keys_row_along() {
    let (db, table) = TestDatabase::with_books().await;
    // Letters, so that there is another spelling.
    let id = uuid::Uuid::from_u128(0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11);
    let mut lower = book(1, "lower", &["t"]);
    lower.row[0] = Cell::Uuid(id.into_bytes());
    lower.children[0][0][0] = Cell::Uuid(id.into_bytes());
    (lower.key, lower.key_json) = (id.to_string(), json(&id.to_string()));
    db.load(&table, &[lower, book(2, "other", &[])]).await;
    let upper = id.to_string().to_uppercase();
    let row_error = RowError::new("id", R::KeyForm);
    let unmatched = ParkedRow { table: "books".into(), key: Key(upper.clone()), row_error, key_json: json(&upper) };
    db.target.apply(&table, rows(vec![RowChange::Park(unmatched.clone())])).await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM books").await, 2);
    assert_eq!(db.number("SELECT count(*) FROM book_tags").await, 1);
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap(), [unmatched]);
    let gone = RowChange::Delete { key: Key(upper.clone()), key_json: json(&upper), row_key: vec![] };
    let applied = db.target.apply(&table, rows(vec![gone])).await.unwrap();
    assert_eq!((applied.deleted, applied.parked.len()), (0, 0));
    assert_eq!(db.number("SELECT count(*) FROM books").await, 2);
    assert_eq!(db.target.parked(&table, None, None, 9).await.unwrap(), vec![]);
    assert!(db.target.fetch(&table, &[vec![]]).await.unwrap()[0].is_none());
}

#[tokio::test]
async fn key_columns_that_hold_different_texts_equal_fail_the_check() {
    let db = TestDatabase::new().await;
    let ddl = "CREATE COLLATION folds (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
               CREATE TABLE books (id text COLLATE folds PRIMARY KEY, title text COLLATE folds);
               CREATE TABLE book_tags (book_id text COLLATE folds, place integer, tag text, PRIMARY KEY (book_id, place))";
    db.sql.batch_execute(ddl).await.unwrap();
    let mut table = books();
    table.columns = vec![key("id", T::Text), column("title", T::Text)];
    table.children[0].columns[0].ty = T::Text;
    let problems = db.target.describe(&table).await.unwrap().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    for (problem, column) in problems.iter().zip(["books.id", "book_tags.book_id"]) {
        assert!(problem.contains(&format!("{column}: its collation public.folds")), "{problem}");
    }
    // What holds texts equal by its type is not the plan's type.
    for (n, ty) in ["character(20)", "same"].into_iter().enumerate() {
        let name = format!("folds_{n}");
        let ddl = format!(
            "CREATE DOMAIN {name}_d AS text COLLATE folds; CREATE TABLE {name} (id {}, v text, PRIMARY KEY (id))",
            if ty == "same" { format!("{name}_d") } else { ty.to_owned() }
        );
        db.sql.batch_execute(&ddl).await.unwrap();
        let table = super::table(&name, vec![key("id", T::Text), column("v", T::Text)], "");
        let problems = db.target.describe(&table).await.unwrap().problems;
        assert!(problems.iter().any(|p| p.contains(&format!("{name}.id is "))), "{ty}: {problems:?}");
    }
}
