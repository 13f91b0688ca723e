//! The account against shelves made by hand.

use super::*;
use crate::rehearsal::seed::Sizes;
use crate::rehearsal::shelf::{Decimal, Moment};

fn data() -> Dataset {
    Dataset::generate(Sizes { books: 12, users: 4, orders: 6, carts: 2 }, 3, true)
}

fn shelf(data: &Dataset, kind: Kind) -> Vec<Record> {
    data.records.iter().filter(|r| r.key().kind == kind).cloned().collect()
}

fn carried(data: &Dataset) -> Vec<Record> {
    let books = shelf(data, Kind::Book).into_iter().filter(|r| !data.parked.contains_key(&r.key()));
    books
        .map(|r| match r {
            Record::Book(b) => Record::Book(Book { category: b.category.or(Some("General".into())), ..b }),
            other => other,
        })
        .collect()
}

fn stock(id: &str, stock: i64) -> Write {
    Write::Stock { id: id.into(), stock, at: Moment(9_000_000) }
}

fn write(oracle: &Oracle, write: Write, side: Side, outcome: Outcome) {
    let mut claim = oracle.claim(&write.key()).unwrap();
    claim.begin(write, side);
    claim.settle(outcome);
}

#[test]
fn untouched_shelves_are_clean() {
    let data = data();
    let oracle = Oracle::new(&data);
    for kind in Kind::ALL {
        let found = oracle.compare_with(Side::Old, kind, shelf(&data, kind));
        assert!(found.clean(), "{found:?}");
    }
    let found = oracle.compare_with(Side::New, Kind::Book, carried(&data));
    assert!(found.clean(), "{found:?}");
    assert_eq!((found.checked, found.parked), (12, 3));
}

#[test]
fn every_kind_of_damage_is_found() {
    let data = data();
    let oracle = Oracle::new(&data);
    let books = shelf(&data, Kind::Book);

    let mut missing = books.clone();
    let gone = missing.remove(4).key();
    let found = oracle.compare_with(Side::Old, Kind::Book, missing);
    assert_eq!(found.lost.iter().map(|f| f.key.clone()).collect::<Vec<_>>(), [gone]);
    assert_eq!(found.wrong(), 1);

    let mut changed = books.clone();
    if let Record::Book(b) = &mut changed[2] {
        b.price = Decimal::cents(1);
    }
    let found = oracle.compare_with(Side::Old, Kind::Book, changed);
    assert_eq!((found.differing.len(), found.wrong()), (1, 1));
    assert_eq!(found.differing[0].fields, ["price"]);

    let mut more = books.clone();
    if let Record::Book(mut b) = books[0].clone() {
        b.id = "another".into();
        more.push(Record::Book(b));
    }
    let found = oracle.compare_with(Side::Old, Kind::Book, more);
    assert_eq!((found.extra.len(), found.wrong()), (1, 1));
}

#[test]
fn a_row_that_cannot_be_carried_must_not_arrive() {
    let data = data();
    let oracle = Oracle::new(&data);
    let mut arrived = carried(&data);
    // What a console that rounds or strips would have written.
    if let Some(Record::Book(b)) = data.records.iter().find(|r| data.parked.contains_key(&r.key())) {
        arrived.push(Record::Book(Book { title: "The nullbyte".into(), ..b.clone() }));
    }
    let found = oracle.compare_with(Side::New, Kind::Book, arrived);
    assert_eq!((found.wrong(), found.parked), (1, 2), "{found:?}");
}

#[test]
fn the_last_acknowledged_write_counts_and_refused_ones_do_not() {
    let data = data();
    let oracle = Oracle::new(&data);
    let id = data.records[0].key().id;
    write(&oracle, stock(&id, 71), Side::Old, Outcome::Acknowledged);
    write(&oracle, stock(&id, 72), Side::Old, Outcome::Refused);
    let stale = oracle.compare_with(Side::Old, Kind::Book, shelf(&data, Kind::Book));
    assert_eq!(stale.differing[0].fields, ["stockQuantity", "updatedAt"]);
    let mut books = shelf(&data, Kind::Book);
    books[0] = stock(&id, 71).apply(Some(books[0].clone())).unwrap();
    assert!(oracle.compare_with(Side::Old, Kind::Book, books.clone()).clean());
    books[0] = stock(&id, 72).apply(Some(books[0].clone())).unwrap();
    assert!(!oracle.compare_with(Side::Old, Kind::Book, books).clean());
    assert_eq!(oracle.tally(), Tally { old: 1, refused: 1, ..Tally::default() });
}

#[test]
fn an_unknown_outcome_allows_both_values_and_no_third() {
    let data = data();
    let oracle = Oracle::new(&data);
    let id = data.records[0].key().id;
    write(&oracle, stock(&id, 71), Side::Old, Outcome::Unknown);
    let mut books = shelf(&data, Kind::Book);
    assert!(oracle.compare_with(Side::Old, Kind::Book, books.clone()).clean());
    books[0] = stock(&id, 71).apply(Some(books[0].clone())).unwrap();
    let found = oracle.compare_with(Side::Old, Kind::Book, books.clone());
    assert!(found.clean());
    assert_eq!(found.unknown, 1);
    books[0] = stock(&id, 99).apply(Some(books[0].clone())).unwrap();
    assert!(!oracle.compare_with(Side::Old, Kind::Book, books.clone()).clean());
    books.remove(0);
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, books).lost.len(), 1);
    assert!(oracle.claim(&RecordKey { kind: Kind::Book, id }).is_none(), "nobody writes it again");
}

#[test]
fn a_dropped_write_is_unknown_and_a_dropped_claim_is_nothing() {
    let data = data();
    let oracle = Oracle::new(&data);
    let key = data.records[0].key();
    drop(oracle.claim(&key).unwrap());
    assert_eq!(oracle.tally().unknown, 0);
    let mut claim = oracle.claim(&key).unwrap();
    assert!(oracle.claim(&key).is_none(), "one writer at a time");
    claim.begin(stock(&key.id, 1), Side::Old);
    drop(claim);
    assert_eq!(oracle.tally().unknown, 1);
}

#[test]
fn deletes_are_absence_and_deleted_books_come_back() {
    let data = data();
    let oracle = Oracle::new(&data);
    let key = data.records[0].key();
    write(&oracle, Write::Delete(key.clone()), Side::Old, Outcome::Acknowledged);
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, shelf(&data, Kind::Book)).extra.len(), 1);
    assert_eq!(oracle.live(Kind::Book), 11);
    let (mut claim, book) = oracle.claim_deleted().unwrap();
    assert_eq!(book.id, key.id);
    claim.begin(Write::Put(Record::Book(book)), Side::Old);
    claim.settle(Outcome::Acknowledged);
    assert!(oracle.compare_with(Side::Old, Kind::Book, shelf(&data, Kind::Book)).clean());
    assert_eq!(oracle.live(Kind::Book), 12);
}

#[test]
fn writes_of_the_new_side_that_a_rollback_dropped_are_counted_by_key() {
    let data = data();
    let oracle = Oracle::new(&data);
    let (a, b) = (data.records[0].key(), data.records[1].key());
    write(&oracle, stock(&a.id, 1), Side::New, Outcome::Acknowledged);
    write(&oracle, stock(&a.id, 2), Side::New, Outcome::Acknowledged);
    write(&oracle, stock(&b.id, 3), Side::Old, Outcome::Acknowledged);
    let mut books = shelf(&data, Kind::Book);
    books[1] = stock(&b.id, 3).apply(Some(books[1].clone())).unwrap();
    let found = oracle.compare_with(Side::Old, Kind::Book, books);
    assert_eq!(found.new_side_writes_lost(), 2);
    assert_eq!(found.differing.len(), 1);
    assert_eq!(found.differing[0].last.map(|l| l.side), Some(Side::New));
    assert!(found.differing[0].to_string().contains(&a.id));
}

#[test]
fn a_write_of_the_value_that_stood_there_cannot_be_told_from_none() {
    let data = data();
    let oracle = Oracle::new(&data);
    let mut books = shelf(&data, Kind::Book);
    let Record::Book(first) = books[0].clone() else { panic!("a book") };
    let later = |n: i64| Write::Stock { id: first.id.clone(), stock: n, at: Moment::now() };
    let (there, back) = (later(first.stock + 2), later(first.stock));
    write(&oracle, there.clone(), Side::New, Outcome::Acknowledged);
    write(&oracle, back.clone(), Side::Old, Outcome::Acknowledged);
    let record = books[0].clone();
    books[0] = back.apply(Some(record.clone())).unwrap();
    let found = oracle.compare_with(Side::Old, Kind::Book, books.clone());
    assert_eq!((found.wrong(), found.untold), (0, 0), "{found:?}");
    // The new side's stock with the old side's time: both were carried, and the stock was never changed there.
    let Some(Record::Book(mut merged)) = back.apply(Some(record.clone())) else { panic!("a book") };
    merged.stock = first.stock + 2;
    books[0] = Record::Book(merged.clone());
    let found = oracle.compare_with(Side::Old, Kind::Book, books.clone());
    assert_eq!((found.wrong(), found.untold), (0, 1), "{found:?}");
    // A third value is wrong, and so is the new side's over a value the old side really changed.
    merged.stock = first.stock + 3;
    books[0] = Record::Book(merged.clone());
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, books.clone()).wrong(), 1);
    write(&oracle, later(first.stock + 1), Side::Old, Outcome::Acknowledged);
    merged.stock = first.stock + 2;
    books[0] = Record::Book(merged);
    assert!(oracle.compare_with(Side::Old, Kind::Book, books).differing[0].fields.contains(&"stockQuantity"));
}
