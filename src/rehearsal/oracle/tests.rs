//! The account against shelves made by hand.

use super::*;
use crate::rehearsal::records::{Book, Decimal, Moment};
use crate::rehearsal::seed::Sizes;

fn data() -> Dataset {
    Dataset::generate(Sizes { books: 12, users: 4, orders: 6, carts: 2 }, 3, true)
}

fn records_of(data: &Dataset, kind: Kind) -> Vec<Record> {
    data.records.iter().filter(|r| r.key().kind == kind).cloned().collect()
}

fn carried(data: &Dataset) -> Vec<Record> {
    let books = records_of(data, Kind::Book).into_iter().filter(|r| !data.parked.contains_key(&r.key()));
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
    for kind in Kind::SHOP {
        let found = oracle.compare_with(Side::Old, kind, records_of(&data, kind));
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
    let books = records_of(&data, Kind::Book);

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
    let stale = oracle.compare_with(Side::Old, Kind::Book, records_of(&data, Kind::Book));
    assert_eq!(stale.differing[0].fields, ["stockQuantity", "updatedAt"]);
    let mut books = records_of(&data, Kind::Book);
    books[0] = stock(&id, 71).apply(Some(books[0].clone())).unwrap();
    assert!(oracle.compare_with(Side::Old, Kind::Book, books.clone()).clean());
    books[0] = stock(&id, 72).apply(Some(books[0].clone())).unwrap();
    assert!(!oracle.compare_with(Side::Old, Kind::Book, books).clean());
    assert_eq!(oracle.tally(), WriteCounts { old: 1, refused: 1, ..WriteCounts::default() });
}

#[test]
fn an_unknown_outcome_allows_both_values_and_no_third() {
    let data = data();
    let oracle = Oracle::new(&data);
    let id = data.records[0].key().id;
    write(&oracle, stock(&id, 71), Side::Old, Outcome::Unknown);
    let mut books = records_of(&data, Kind::Book);
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
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, records_of(&data, Kind::Book)).extra.len(), 1);
    assert_eq!(oracle.live(Kind::Book), 11);
    let (mut claim, book) = oracle.claim_deleted().unwrap();
    assert_eq!(book.key(), key);
    claim.begin(Write::Put(book), Side::Old);
    claim.settle(Outcome::Acknowledged);
    assert!(oracle.compare_with(Side::Old, Kind::Book, records_of(&data, Kind::Book)).clean());
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
    let mut books = records_of(&data, Kind::Book);
    books[1] = stock(&b.id, 3).apply(Some(books[1].clone())).unwrap();
    let found = oracle.compare_with(Side::Old, Kind::Book, books);
    assert_eq!(found.new_side_writes_lost(), 2);
    assert_eq!(found.differing.len(), 1);
    assert_eq!(found.differing[0].last.map(|l| l.side), Some(Side::New));
    assert!(found.differing[0].to_string().contains(&a.id));
}

/// An acknowledged write of the old side, and DynamoDB's own answer about what stood there.
fn over(oracle: &Oracle, write: &Write, stood: &Book) -> Book {
    let mut claim = oracle.claim(&write.key()).unwrap();
    claim.begin(write.clone(), Side::Old);
    claim.over(Stood(Some(Record::Book(stood.clone()))));
    claim.settle(Outcome::Acknowledged);
    match write.apply(Some(Record::Book(stood.clone()))) {
        Some(Record::Book(left)) => left,
        _ => panic!("a book"),
    }
}

/// The account, the first book, and the stored books with that book replaced.
fn first_book(data: &Dataset) -> (Oracle, Book, impl Fn(&Book) -> Vec<Record>) {
    let books = records_of(data, Kind::Book);
    let Record::Book(first) = books[0].clone() else { panic!("a book") };
    let with = move |book: &Book| {
        let mut books = books.clone();
        books[0] = Record::Book(book.clone());
        books
    };
    (Oracle::new(data), first, with)
}

fn stock_at(book: &Book, more: i64, at: i64) -> Write {
    Write::Stock { id: book.id.clone(), stock: book.stock + more, at: Moment(at) }
}

#[test]
fn a_write_that_left_no_trace_is_excused_by_the_stores_answer_alone() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    let left = over(&oracle, &stock_at(&first, 0, 20), &first);
    assert!(oracle.compare_with(Side::Old, Kind::Book, with(&left)).clean());
    // The reverse applier merged: the new side's stock, which nobody had changed here, with the old side's time.
    let merged = Book { stock: first.stock + 2, ..left.clone() };
    let found = oracle.compare_with(Side::Old, Kind::Book, with(&merged));
    assert_eq!((found.wrong(), found.untold, found.set_back), (0, 1, 0), "{found:?}");
    // A third value is nobody's.
    let third = Book { stock: first.stock + 3, ..left };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&third)).wrong(), 1);
}

#[test]
fn the_same_values_without_the_stores_answer_are_a_loss() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    // Writes before and after it that left no trace say nothing of the one without an answer.
    over(&oracle, &stock_at(&first, 0, 15), &first);
    write(&oracle, stock_at(&first, 0, 20), Side::Old, Outcome::Acknowledged);
    let merged = Book { stock: first.stock + 2, updated_at: Moment(20), ..first.clone() };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&merged)).differing[0].fields, ["stockQuantity"]);
    let left = over(&oracle, &stock_at(&first, 0, 30), &first);
    let merged = Book { stock: first.stock + 2, ..left };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&merged)).differing[0].fields, ["stockQuantity"]);
}

#[test]
fn a_write_that_changed_the_item_and_was_gone_over_is_a_loss() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    let left = over(&oracle, &stock_at(&first, 1, 20), &first);
    let gone_over = Book { stock: first.stock + 2, ..left };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&gone_over)).differing[0].fields, ["stockQuantity"]);
    // A later write of another field does not turn it into one: it met what had been written over it.
    let price = Write::Price { id: first.id.clone(), price: Decimal::cents(77), at: Moment(30) };
    let left = over(&oracle, &price, &gone_over);
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&left)).differing[0].fields, ["stockQuantity"]);
}

#[test]
fn a_later_write_of_another_field_is_no_excuse_for_a_change_that_was_made() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    let left = over(&oracle, &stock_at(&first, 1, 20), &first);
    let price = Write::Price { id: first.id.clone(), price: Decimal::cents(77), at: Moment(30) };
    // The price's write found the stock as wanted: that says nothing about who had set it.
    let left = over(&oracle, &price, &left);
    let gone_over = Book { stock: first.stock + 2, ..left };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&gone_over)).differing[0].fields, ["stockQuantity"]);
}

#[test]
fn writes_that_together_change_nothing_leave_no_trace_either() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    let left = over(&oracle, &stock_at(&first, 1, 20), &first);
    let left = over(&oracle, &stock_at(&first, 0, 30), &left);
    let merged = Book { stock: first.stock + 2, ..left };
    let found = oracle.compare_with(Side::Old, Kind::Book, with(&merged));
    assert_eq!((found.wrong(), found.untold), (0, 1), "{found:?}");
}

#[test]
fn a_value_set_back_after_it_was_carried_is_counted_apart() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    let carried = stock_at(&first, 2, 10);
    write(&oracle, carried.clone(), Side::New, Outcome::Acknowledged);
    let Some(Record::Book(there)) = carried.apply(Some(Record::Book(first.clone()))) else { panic!("a book") };
    let left = over(&oracle, &stock_at(&first, 0, 20), &there);
    let again = Book { stock: first.stock + 2, ..left };
    let found = oracle.compare_with(Side::Old, Kind::Book, with(&again));
    assert_eq!((found.wrong(), found.untold, found.set_back), (0, 0, 1), "{found:?}");
    // Set to any other value than the one before the applied change, it was seen: its loss is a loss.
    let left = over(&oracle, &stock_at(&first, 1, 30), &again);
    let gone_over = Book { stock: first.stock + 2, ..left };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&gone_over)).wrong(), 1);
}

#[test]
fn a_record_of_the_new_side_that_was_removed_and_made_again_is_counted_apart() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    let books = records_of(&data, Kind::Book);
    let key = books[0].key();
    write(&oracle, Write::Delete(key.clone()), Side::New, Outcome::Acknowledged);
    let made = Book { stock: 7, updated_at: Moment(10), ..first.clone() };
    write(&oracle, Write::Put(Record::Book(made.clone())), Side::New, Outcome::Acknowledged);
    let removed = |stood: &Book| {
        let mut claim = oracle.claim(&key).unwrap();
        claim.begin(Write::Delete(key.clone()), Side::Old);
        claim.over(Stood(Some(Record::Book(stood.clone()))));
        claim.settle(Outcome::Acknowledged);
    };
    removed(&made);
    let found = oracle.compare_with(Side::Old, Kind::Book, with(&made));
    assert_eq!((found.wrong(), found.set_back), (0, 1), "{found:?}");
    // As it was before the new side's writes: only a faulty reverse applier can have made it so.
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&first)).extra.len(), 1);
}

#[test]
fn a_record_that_was_removed_as_it_had_always_stood_there_is_not_made_again() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    let key = records_of(&data, Kind::Book)[0].key();
    let removed = |stood: &Book| {
        let mut claim = oracle.claim(&key).unwrap();
        claim.begin(Write::Delete(key.clone()), Side::Old);
        claim.over(Stood(Some(Record::Book(stood.clone()))));
        claim.settle(Outcome::Acknowledged);
    };
    // It was never absent on the new side, so the old side's removal could be seen.
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    let there = Book { stock: first.stock + 2, updated_at: Moment(10), ..first.clone() };
    removed(&there);
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&there)).extra.len(), 1);
}

#[test]
fn a_change_of_what_may_never_have_been_carried_is_no_set_back() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    // Changed and changed back on the new side; nothing shows that either change was applied.
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    write(&oracle, stock_at(&first, 0, 20), Side::New, Outcome::Acknowledged);
    let left = over(&oracle, &stock_at(&first, 2, 30), &first);
    let gone_over = Book { stock: first.stock, ..left };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&gone_over)).differing[0].fields, ["stockQuantity"]);
}

#[test]
fn a_value_set_back_after_the_first_of_two_changes_was_carried_is_counted_apart_too() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    write(&oracle, stock_at(&first, 3, 20), Side::New, Outcome::Acknowledged);
    let there = Book { stock: first.stock + 2, updated_at: Moment(10), ..first.clone() };
    let left = over(&oracle, &stock_at(&first, 0, 30), &there);
    let again = Book { stock: first.stock + 3, ..left };
    let found = oracle.compare_with(Side::Old, Kind::Book, with(&again));
    assert_eq!((found.wrong(), found.set_back), (0, 1), "{found:?}");
}

#[test]
fn what_was_excused_before_the_new_side_wrote_again_excuses_nothing_after() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    write(&oracle, stock_at(&first, 2, 10), Side::New, Outcome::Acknowledged);
    over(&oracle, &stock_at(&first, 0, 20), &first);
    let price = Write::Price { id: first.id.clone(), price: Decimal::cents(77), at: Moment(30) };
    write(&oracle, price, Side::New, Outcome::Acknowledged);
    let merged = Book { stock: first.stock + 2, price: Decimal::cents(77), updated_at: Moment(30), ..first };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&merged)).differing[0].fields, ["stockQuantity"]);
}

#[test]
fn a_deleted_book_that_nobody_began_to_make_again_can_still_be_made_again() {
    let data = data();
    let (oracle, _, _) = first_book(&data);
    write(&oracle, Write::Delete(data.records[0].key()), Side::Old, Outcome::Acknowledged);
    // Writes were frozen when it came to it.
    drop(oracle.claim_deleted().unwrap());
    assert!(oracle.claim_deleted().is_some());
}

#[test]
fn a_category_is_filled_in_only_where_the_new_side_wrote_the_whole_record() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    let plain = Book { category: None, ..first.clone() };
    let put = |side| write(&oracle, Write::Put(Record::Book(plain.clone())), side, Outcome::Acknowledged);
    let filled = Book { category: Some(DEFAULT_CATEGORY.to_owned()), ..plain.clone() };
    put(Side::Old);
    write(&oracle, stock_at(&plain, 0, 10), Side::New, Outcome::Acknowledged);
    let filled_in = Book { updated_at: Moment(10), ..filled.clone() };
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&filled_in)).differing[0].fields, ["category"]);
    put(Side::New);
    assert!(oracle.compare_with(Side::Old, Kind::Book, with(&filled)).clean());
    // Written whole by the old side, it is as the old side wrote it.
    put(Side::Old);
    assert_eq!(oracle.compare_with(Side::Old, Kind::Book, with(&filled)).differing[0].fields, ["category"]);
}

#[test]
fn a_category_may_be_filled_in_by_a_write_whose_outcome_nobody_knows() {
    let data = data();
    let (oracle, first, with) = first_book(&data);
    let plain = Book { category: None, stock: first.stock + 1, ..first };
    write(&oracle, Write::Put(Record::Book(plain.clone())), Side::New, Outcome::Unknown);
    let filled = Book { category: Some(DEFAULT_CATEGORY.to_owned()), ..plain };
    let before = records_of(&data, Kind::Book);
    assert!(oracle.compare_with(Side::Old, Kind::Book, before).clean());
    // Its fields are judged one by one from what stood before, so the new side's own default is distinguished from a
    // change.
    assert!(oracle.compare_with(Side::Old, Kind::Book, with(&filled)).clean());
}
