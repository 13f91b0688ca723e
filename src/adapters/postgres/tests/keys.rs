//! Keys of every length, and keys that the target would hold equal.

use std::collections::BTreeMap;

use super::{Place, book, books, column, key, owned, table};
use crate::domain::mapping::{Clash, Mapped, Misfit, MisfitReason as R};
use crate::domain::plan::{ColumnType as T, Table};
use crate::domain::value::{Cell, Key};
use crate::ports::{ChangeBatch, Image, Outbox as _, ParkedRow, RowChange, Target as _};

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
    let misfit = Misfit::new("v", R::TooLong);
    ParkedRow { table: "notes".into(), key: Key(id.into()), misfit, key_json: json(id) }
}

#[tokio::test]
async fn the_ledger_takes_every_key_the_source_takes() {
    let place = Place::new().await;
    let table = notes();
    place.target.create(&table).await.unwrap();
    // 2,048 bytes of partition key, 1,024 of sort key; two of them differ in the last byte only.
    let long = noise(1, 3_072);
    let twin = format!("{}!", &long[..3_071]);
    let mut all: Vec<String> = vec![long.clone(), twin.clone(), "short".into()];
    all.extend((0..5).map(|n| noise(10 + n, 3_000)));
    let parks = all.iter().map(|id| RowChange::Park(parked(id))).collect();
    place.target.apply(&table, rows(parks)).await.unwrap();
    // Page by page, each once.
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let page = place.target.parked(&table, None, after.as_ref(), 3).await.unwrap();
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
    let since = place.target.parked_since(&table, &asked).await.unwrap();
    assert_eq!(
        since.iter().map(|r| r.as_ref().map(|(r, _)| &r.key.0)).collect::<Vec<_>>(),
        [Some(&twin), None, Some(&long)]
    );
    let gone = RowChange::Delete { key: Key(long.clone()), key_json: json(&long), row_key: vec![] };
    place.target.apply(&table, rows(vec![gone])).await.unwrap();
    let left = place.target.ledger(&table).await.unwrap().0;
    assert_eq!(left, BTreeMap::from([(R::TooLong, 7)]));
}

#[tokio::test]
async fn a_ledger_of_an_earlier_version_is_taken_over_with_its_rows() {
    let place = Place::new().await;
    let table = notes();
    place.target.create(&table).await.unwrap();
    let older = r#"DROP TABLE cutover.parked;
        CREATE TABLE cutover.parked (
            table_id text NOT NULL, key text NOT NULL, "column" text NOT NULL, reason text NOT NULL, key_json text NOT NULL,
            first_seen timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_id, key));
        INSERT INTO cutover.parked VALUES ('notes', 'a', 'v', 'too_long', '{"id":{"S":"a"}}', '2026-01-01');
        INSERT INTO cutover.parked VALUES ('notes', 'b', 'v', 'too_long', '{"id":{"S":"b"}}', '2026-01-01')"#;
    place.sql.batch_execute(older).await.unwrap();
    place.target.prepare().await.unwrap();
    place.target.prepare().await.unwrap();
    assert_eq!(place.target.parked(&table, None, None, 9).await.unwrap(), [parked("a"), parked("b")]);
    // The same key is the same row, first seen when it was.
    place.target.apply(&table, rows(vec![RowChange::Park(parked("a")), upsert(note("b"))])).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM cutover.parked WHERE first_seen = '2026-01-01'").await, 1);
    assert_eq!(place.target.parked(&table, None, None, 9).await.unwrap(), [parked("a")]);
}

#[tokio::test]
async fn a_key_too_long_for_the_tables_own_index_is_parked_and_the_load_goes_on() {
    let place = Place::new().await;
    let table = notes();
    place.target.create(&table).await.unwrap();
    let long = noise(2, 3_000);
    let mut all: Vec<_> = (0..29).map(|n| note(&format!("n{n}"))).collect();
    all.insert(7, note(&long));
    let applied = place.load(&table, &all).await;
    let seen = |parked: &[ParkedRow]| {
        parked.iter().map(|p| (p.key.0.clone(), p.misfit.reason, p.misfit.detail.clone())).collect::<Vec<_>>()
    };
    let wanted = vec![(long.clone(), R::Refused, "SQLSTATE 54000, constraint notes_pkey".to_owned())];
    assert_eq!((applied.upserted, seen(&applied.parked)), (29, wanted.clone()));
    assert_eq!(seen(&place.target.parked(&table, None, None, 9).await.unwrap()), wanted);
    place.target.reset(&table).await.unwrap();
    let applied = place.target.apply(&table, rows(all.into_iter().map(upsert).collect())).await.unwrap();
    assert_eq!((applied.upserted, seen(&applied.parked)), (29, wanted));
    assert_eq!(place.number("SELECT count(*) FROM notes").await, 29);
}

#[tokio::test]
async fn a_customers_key_that_the_table_takes_is_captured_and_carried() {
    let place = Place::new().await;
    let table = notes();
    place.target.create(&table).await.unwrap();
    place.target.arm(std::slice::from_ref(&table)).await.unwrap();
    // As long as the table's own index takes it.
    let long = noise(3, 2_680);
    place.sql.execute("INSERT INTO notes VALUES ($1, 'theirs')", &[&long]).await.unwrap();
    let taken = place.target.take(&table, 9).await.unwrap().unwrap();
    let records = taken.changes()[0].records.clone();
    assert_eq!(owned(&taken.changes()[0].key), [Cell::Text(long.clone().into())]);
    let key = Key(long);
    let image = Image { key: key.clone(), digest: 7, record: records[0], clash: Clash::NewWon };
    taken.sign(&image).await.unwrap();
    taken.sign(&image).await.unwrap();
    assert_eq!(taken.unfinished(&key, 7).await.unwrap().map(|u| u.clash), Some(Clash::NewWon));
    assert_eq!(place.target.signed(&table, &[(key.clone(), 7), (key.clone(), 8)]).await.unwrap(), [true, false]);
    taken.clear(&key, &records, Clash::NewWon).await.unwrap();
    taken.done().await.unwrap();
    assert_eq!(place.target.conflicts(&table).await.unwrap(), [(key, Clash::NewWon)]);
    assert_eq!(place.number("SELECT count(*) FROM cutover.outbox").await, 0);
}

#[tokio::test]
async fn what_an_earlier_version_keeps_for_the_way_back_is_taken_over() {
    let place = Place::new().await;
    let table = notes();
    place.target.create(&table).await.unwrap();
    let older = "CREATE TABLE cutover.reverse_image (
            table_id text NOT NULL, key text NOT NULL, digest text NOT NULL, record bigint NOT NULL, clash text NOT NULL,
            at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (table_id, key, digest));
        CREATE TABLE cutover.reverse_conflict (
            table_id text NOT NULL, key text NOT NULL, clash text NOT NULL, PRIMARY KEY (table_id, key));
        INSERT INTO cutover.reverse_image VALUES ('notes', 'a', lpad('7', 32, '0'), 1, 'none');
        INSERT INTO cutover.reverse_conflict VALUES ('notes', 'a', 'new')";
    place.sql.batch_execute(older).await.unwrap();
    for _ in 0..2 {
        place.target.arm(std::slice::from_ref(&table)).await.unwrap();
    }
    let key = || Key("a".into());
    assert_eq!(place.target.signed(&table, &[(key(), 7), (Key("b".into()), 7)]).await.unwrap(), [true, false]);
    assert_eq!(place.target.conflicts(&table).await.unwrap(), [(key(), Clash::NewWon)]);
}

#[tokio::test]
async fn a_key_that_is_parked_or_deleted_takes_no_other_keys_row_along() {
    let (place, table) = Place::with_books().await;
    // Letters, so that there is another spelling.
    let id = uuid::Uuid::from_u128(0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11);
    let mut lower = book(1, "lower", &["t"]);
    lower.row[0] = Cell::Uuid(id.into_bytes());
    lower.children[0][0][0] = Cell::Uuid(id.into_bytes());
    (lower.key, lower.key_json) = (id.to_string(), json(&id.to_string()));
    place.load(&table, &[lower, book(2, "other", &[])]).await;
    let upper = id.to_string().to_uppercase();
    let misfit = Misfit::new("id", R::KeyForm);
    let strange = ParkedRow { table: "books".into(), key: Key(upper.clone()), misfit, key_json: json(&upper) };
    place.target.apply(&table, rows(vec![RowChange::Park(strange.clone())])).await.unwrap();
    assert_eq!(place.number("SELECT count(*) FROM books").await, 2);
    assert_eq!(place.number("SELECT count(*) FROM book_tags").await, 1);
    assert_eq!(place.target.parked(&table, None, None, 9).await.unwrap(), [strange]);
    let gone = RowChange::Delete { key: Key(upper.clone()), key_json: json(&upper), row_key: vec![] };
    let applied = place.target.apply(&table, rows(vec![gone])).await.unwrap();
    assert_eq!((applied.deleted, applied.parked.len()), (0, 0));
    assert_eq!(place.number("SELECT count(*) FROM books").await, 2);
    assert_eq!(place.target.parked(&table, None, None, 9).await.unwrap(), vec![]);
    assert!(place.target.fetch(&table, &[vec![]]).await.unwrap()[0].is_none());
}

#[tokio::test]
async fn key_columns_that_hold_different_texts_equal_fail_the_check() {
    let place = Place::new().await;
    let ddl = "CREATE COLLATION folds (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
               CREATE TABLE books (id text COLLATE folds PRIMARY KEY, title text COLLATE folds);
               CREATE TABLE book_tags (book_id text COLLATE folds, place integer, tag text, PRIMARY KEY (book_id, place))";
    place.sql.batch_execute(ddl).await.unwrap();
    let mut table = books();
    table.columns = vec![key("id", T::Text), column("title", T::Text)];
    table.children[0].columns[0].ty = T::Text;
    let problems = place.target.describe(&table).await.unwrap().problems;
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
        place.sql.batch_execute(&ddl).await.unwrap();
        let table = super::table(&name, vec![key("id", T::Text), column("v", T::Text)], "");
        let problems = place.target.describe(&table).await.unwrap().problems;
        assert!(problems.iter().any(|p| p.contains(&format!("{name}.id is "))), "{ty}: {problems:?}");
    }
}
