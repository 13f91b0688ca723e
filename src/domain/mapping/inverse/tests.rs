use std::borrow::Cow;

use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::domain::mapping::{Mapped, TableMapping, item_digest};
use crate::domain::plan::{ChildTable, ColumnType, Declared, NEW, OLD, StoreKind};

fn column(name: &str, ty: ColumnType, path: &[&str], absent: Fallback) -> Column {
    let path = path.iter().map(|s| (*s).to_owned()).collect();
    Column {
        name: name.into(),
        ty,
        from: ColumnSource::Attribute(path),
        absent,
        key: false,
        declared: Declared::default(),
    }
}

fn of(name: &str, ty: ColumnType, from: ColumnSource) -> Column {
    Column { name: name.into(), ty, from, absent: Fallback::Null, key: false, declared: Declared::default() }
}

/// Every kind of column, a nested one beside its whole, a list of maps and a list of plain values.
fn table() -> Table {
    use ColumnType::*;
    let key = |name: &str, ty, path: &str| Column { key: true, ..column(name, ty, &[path], Fallback::Required) };
    Table {
        id: "things".into(),
        from: OLD.to_owned(),
        source: "Things".into(),
        to: NEW.to_owned(),
        target: "things".into(),
        key: vec!["id".into(), "no".into()],
        columns: vec![
            key("id", Uuid, "id"),
            key("no", Bigint, "no"),
            column("name", Varchar(20), &["name"], Fallback::Null),
            column("category", Text, &["category"], Fallback::Literal("General".into())),
            column("price", Numeric(Some((10, 2))), &["price"], Fallback::Null),
            column("stock", Integer, &["stock"], Fallback::Literal("0".into())),
            column("open", Boolean, &["open"], Fallback::Null),
            column("at", Timestamptz, &["at"], Fallback::Null),
            column("day", Date, &["day"], Fallback::Null),
            column("city", Text, &["address", "city"], Fallback::Null),
            column("address", Jsonb, &["address"], Fallback::Null),
            column("tags", TextArray, &["tags"], Fallback::Null),
            column("raw", Bytea, &["raw"], Fallback::Null),
            of("origin", Text, ColumnSource::Constant("old".into())),
        ],
        children: vec![
            ChildTable {
                target: "lines".into(),
                list: vec!["lines".into()],
                columns: vec![
                    of("id", Uuid, ColumnSource::Parent("id".into())),
                    of("place", Integer, ColumnSource::Ordinal),
                    of("book", Text, ColumnSource::Attribute(vec!["book".into(), "id".into()])),
                    of("n", Integer, ColumnSource::Attribute(vec!["n".into()])),
                ],
                parent_key: vec!["id".into()],
                sparse: false,
            },
            ChildTable {
                target: "marks".into(),
                list: vec!["meta".into(), "marks".into()],
                columns: vec![of("place", Integer, ColumnSource::Ordinal), of("mark", Integer, ColumnSource::Element)],
                parent_key: vec![],
                sparse: false,
            },
        ],
        foreign_keys: vec![],
        ttl: None,
        marker_prefix: "~".into(),
        ddl: None,
        triggers: vec![],
        leave_out: vec![],
        after_load: vec![],
        mover: None,
    }
}

fn s(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

fn n(text: impl ToString) -> Value<'static> {
    Value::Decimal(text.to_string().into())
}

fn map(entries: Vec<(&'static str, Value<'static>)>) -> Value<'static> {
    Value::Map(entries.into_iter().map(|(k, v)| (Cow::Borrowed(k), v)).collect())
}

fn item(extra: Vec<(&'static str, Value<'static>)>) -> Record<'static> {
    let mut fields = vec![("id".into(), s("01934f5a-7c11-7abc-9def-0123456789ab")), ("no".into(), n(7))];
    fields.extend(extra.into_iter().map(|(k, v)| (Cow::Borrowed(k), v)));
    Record { fields }
}

fn row_tree(item: &Record<'static>) -> RowTree {
    let mapping = TableMapping::new(&table());
    let mut out = Mapped::default();
    mapping.map(item, &mut out).unwrap();
    let own = |row: Vec<Cell<'_>>| row.into_iter().map(Cell::into_owned).collect::<Vec<_>>();
    let children = out.children.into_iter().map(|rows| rows.into_iter().map(own).collect()).collect();
    RowTree { row: own(out.row), children }
}

fn key(row_tree: &RowTree) -> Vec<Cell<'static>> {
    row_tree.row[..2].to_vec()
}

fn inverse(items: &[Record<'static>]) -> Inverse {
    let mut kinds = Kinds::default();
    items.iter().for_each(|i| kinds.learn(i));
    Inverse::new(&table(), kinds)
}

/// What the store holds after a change was applied.
fn after(carry: &ReverseChange, before: Option<&Record<'static>>) -> Option<Record<'static>> {
    match &carry.change {
        ItemChange::Nothing => before.cloned(),
        ItemChange::Delete { .. } => None,
        ItemChange::Write(write) => {
            // Built from what is sent, to hold the announced image against it.
            let mut built = before.cloned().unwrap_or_else(|| write.key.clone());
            built.fields.retain(|(name, _)| !write.remove.contains(&name.to_string()));
            for (name, value) in &write.set {
                built.fields.retain(|(n, _)| n != name);
                built.fields.push((name.clone().into(), value.clone()));
            }
            assert_eq!(item_digest(Some(&built)), item_digest(Some(&write.after)));
            Some(built)
        }
    }
}

fn any_item() -> impl Strategy<Value = Record<'static>> {
    let text = || "[a-zA-Z0-9é ]{0,8}".prop_map(|t| s(&t));
    let line = (option::of(text()), option::of(-5_i64..5), option::of(text())).prop_map(|(book, count, title)| {
        let mut line = Vec::new();
        line.extend(book.map(|b| ("book", map(vec![("id", b)]))));
        line.extend(count.map(|c| ("n", n(c))));
        line.extend(title.map(|t| ("title", t)));
        map(line)
    });
    let address = (option::of(text()), option::of(-999_999_i64..999_999), any::<bool>()).prop_map(|(city, zip, b)| {
        let mut all = vec![("b", Value::Bool(b)), ("l", Value::List(vec![Value::Null, n("1.5")]))];
        all.extend(city.map(|c| ("city", c)));
        all.extend(zip.map(|z| ("zip", n(z))));
        map(all)
    });
    let first = (
        option::of(text()),
        option::of(text()),
        option::of((-99_999_i64..99_999).prop_map(|c| n(format!("{}.{:02}", c, c.unsigned_abs() % 100)))),
        option::of((-9_999_i64..9_999).prop_map(n)),
        option::of(any::<bool>().prop_map(Value::Bool)),
        option::of((0_i64..4_000_000_000_000).prop_map(|ms| s(&crate::domain::at::At(ms).rfc3339()))),
        option::of((1_u8..29).prop_map(|d| s(&format!("2026-02-{d:02}")))),
    );
    let second = (
        option::of(address),
        option::of(
            btree_set("[a-z]{1,4}", 1..4).prop_map(|set| Value::TextSet(set.into_iter().map(Into::into).collect())),
        ),
        option::of(vec(any::<u8>(), 0..6).prop_map(|b| Value::Bytes(b.into()))),
        option::of(vec(line, 0..4).prop_map(Value::List)),
        option::of(btree_set(-9_i64..9, 1..4).prop_map(|set| {
            map(vec![
                ("marks", Value::DecimalSet(set.iter().map(|i| i.to_string().into()).collect())),
                ("else", s("kept")),
            ])
        })),
        option::of(text()),
    );
    (first, second).prop_map(|(a, b)| {
        let mut all = Vec::new();
        all.extend(a.0.map(|v| ("name", v)));
        all.extend(a.1.map(|v| ("category", v)));
        all.extend(a.2.map(|v| ("price", v)));
        all.extend(a.3.map(|v| ("stock", v)));
        all.extend(a.4.map(|v| ("open", v)));
        all.extend(a.5.map(|v| ("at", v)));
        all.extend(a.6.map(|v| ("day", v)));
        all.extend(b.0.map(|v| ("address", v)));
        all.extend(b.1.map(|v| ("tags", v)));
        all.extend(b.2.map(|v| ("raw", v)));
        all.extend(b.3.map(|v| ("lines", v)));
        all.extend(b.4.map(|v| ("meta", v)));
        all.extend(b.5.map(|v| ("unmapped", v)));
        item(all)
    })
}

proptest! {
    #[test]
    fn an_item_that_came_there_comes_back_with_every_attribute_that_columns_carry(original in any_item()) {
        let there = row_tree(&original);
        let inverse = inverse(std::slice::from_ref(&original));
        let carry = inverse.carry(&key(&there), &[None, Some(there.clone())], None, None, Winner::New).unwrap();
        prop_assert_eq!(carry.resolution, Resolution::None);
        let back = after(&carry, None).unwrap();
        prop_assert_eq!(row_tree(&back), there.clone());
        for name in ["name", "price", "open", "at", "day", "address", "tags", "raw"] {
            let one = |i: &Record<'static>| item_digest(Some(&Record { fields: i.fields.iter().filter(|(n, _)| n == name).cloned().collect() }));
            prop_assert_eq!(one(&back), one(&original), "{}", name);
        }
        // When it is applied once more there is nothing to do.
        let again = inverse.carry(&key(&there), &[None, Some(there.clone())], Some(&back), None, Winner::New).unwrap();
        prop_assert_eq!(again, ReverseChange { change: ItemChange::Nothing, resolution: Resolution::None });
    }

    #[test]
    fn a_changed_row_changes_its_item_and_nothing_that_no_column_carries(before in any_item(), then in any_item()) {
        let (base, now) = (row_tree(&before), row_tree(&then));
        let inverse = inverse(&[before.clone(), then]);
        let known = [Some(base), Some(now.clone())];
        let carry = inverse.carry(&key(&now), &known, Some(&before), None, Winner::New).unwrap();
        prop_assert_eq!(carry.resolution, Resolution::None);
        let back = after(&carry, Some(&before)).unwrap();
        prop_assert_eq!(back.get("unmapped"), before.get("unmapped"));
        let again = row_tree(&back);
        // A part that disagrees with its whole: the whole wins.
        let blank = |f: &RowTree| { let mut f = f.clone(); f.row[9] = Cell::Null; f };
        prop_assert_eq!(blank(&again), blank(&now));
        let again = inverse.carry(&key(&now), &known, Some(&back), None, Winner::Old).unwrap();
        prop_assert_eq!(again.resolution, Resolution::None);
        prop_assert_eq!(again.change, ItemChange::Nothing);
    }
}

#[test]
fn only_what_the_new_side_changed_is_written_and_only_over_what_was_read() {
    let before = item(vec![("name", s("a")), ("price", n("1")), ("unmapped", s("x"))]);
    let then = item(vec![("name", s("a")), ("price", n("2"))]);
    let (base, now) = (row_tree(&before), row_tree(&then));
    let carry = inverse(&[]).carry(&key(&now), &[Some(base), Some(now)], Some(&before), None, Winner::New).unwrap();
    let ItemChange::Write(write) = carry.change else { panic!("{carry:?}") };
    assert_eq!(write.set, [("price".to_owned(), n("2"))]);
    assert!(write.remove.is_empty() && write.exists);
    assert_eq!(write.expect, [("price".to_owned(), Some(n("1")))]);
}

#[test]
fn a_default_that_was_never_written_stays_unwritten() {
    let before = item(vec![("name", s("a"))]);
    let then = item(vec![("name", s("b"))]);
    let (base, now) = (row_tree(&before), row_tree(&then));
    let carry = inverse(&[]).carry(&key(&now), &[Some(base), Some(now)], Some(&before), None, Winner::New).unwrap();
    assert_eq!(after(&carry, Some(&before)).unwrap().get("category"), None);
}

#[test]
fn both_sides_keep_what_they_changed_in_different_fields() {
    let before = item(vec![("price", n("1")), ("stock", n("5"))]);
    let old = item(vec![("price", n("1")), ("stock", n("4"))]);
    let new = item(vec![("price", n("2")), ("stock", n("5"))]);
    for winner in [Winner::New, Winner::Old] {
        let known = [Some(row_tree(&before)), Some(row_tree(&new))];
        let carry = inverse(&[]).carry(&key(&row_tree(&new)), &known, Some(&old), None, winner).unwrap();
        assert_eq!(carry.resolution, Resolution::Merged);
        let back = after(&carry, Some(&old)).unwrap();
        assert_eq!((back.get("price"), back.get("stock")), (Some(&n("2")), Some(&n("4"))));
    }
}

#[test]
fn a_field_that_both_changed_goes_by_the_rule() {
    let before = item(vec![("price", n("1"))]);
    let old = item(vec![("price", n("3"))]);
    let new = item(vec![("price", n("2"))]);
    let known = [Some(row_tree(&before)), Some(row_tree(&new))];
    for (winner, resolution, price) in [(Winner::New, Resolution::NewWon, "2"), (Winner::Old, Resolution::OldWon, "3")]
    {
        let carry = inverse(&[]).carry(&key(&row_tree(&new)), &known, Some(&old), None, winner).unwrap();
        assert_eq!(carry.resolution, resolution);
        assert_eq!(after(&carry, Some(&old)).unwrap().get("price"), Some(&n(price)));
    }
}

#[test]
fn a_value_that_stays_takes_no_part_of_the_other() {
    let lives = |street: &str, city: &str| item(vec![("address", map(vec![("city", s(city)), ("street", s(street))]))]);
    let (base, new, old) =
        (lives("Elm St", "Springfield"), lives("Oak St", "Shelbyville"), lives("Ash St", "Springfield"));
    let inverse = inverse(std::slice::from_ref(&base));
    let known = [Some(row_tree(&base)), Some(row_tree(&new))];
    // The old side's customer moved within the city, the new side's customer moved to another city.
    let carry = inverse.carry(&key(&row_tree(&base)), &known, Some(&old), None, Winner::Old).unwrap();
    assert_eq!((after(&carry, Some(&old)), carry.resolution), (Some(old.clone()), Resolution::OldWon));
    let carry = inverse.carry(&key(&row_tree(&base)), &known, Some(&old), None, Winner::New).unwrap();
    assert_eq!((after(&carry, Some(&old)), carry.resolution), (Some(new), Resolution::NewWon));
}

#[test]
fn a_list_among_sets_stays_a_list_and_is_nobodys_change() {
    let list = |tags: &[&str]| Value::List(tags.iter().map(|t| s(t)).collect());
    let set = item(vec![("tags", Value::TextSet(vec!["x".into(), "y".into()]))]);
    let inverse = inverse(&[set.clone(), set]);
    for before in [list(&[]), list(&["d", "d"]), list(&["z", "a"])] {
        let before = item(vec![("tags", before)]);
        for tags in [list(&["first"]), list(&[]), list(&["b", "a", "b"])] {
            let new = item(vec![("tags", tags), ("name", s("renamed"))]);
            let known = [Some(row_tree(&before)), Some(row_tree(&new))];
            let carry = inverse.carry(&key(&row_tree(&new)), &known, Some(&before), None, Winner::Old).unwrap();
            assert_eq!(carry.resolution, Resolution::None, "{before:?}");
            assert_eq!(after(&carry, Some(&before)).unwrap().get("tags"), new.get("tags"));
        }
        let gone = [Some(row_tree(&before)), None];
        let carry = inverse.carry(&key(&row_tree(&before)), &gone, Some(&before), None, Winner::Old).unwrap();
        assert!(matches!(carry.change, ItemChange::Delete { .. }) && carry.resolution == Resolution::None, "{carry:?}");
    }
}

#[test]
fn a_state_of_our_own_in_between_is_no_conflict() {
    let states = ["1", "2", "3"].map(|p| item(vec![("price", n(p))]));
    let known: Vec<_> = states.iter().map(|i| Some(row_tree(i))).collect();
    // Killed after the second state was written and before its records were cleared.
    let carry =
        inverse(&[]).carry(&key(&row_tree(&states[0])), &known, Some(&states[1]), Some(1), Winner::Old).unwrap();
    assert_eq!(carry.resolution, Resolution::None);
    assert_eq!(after(&carry, Some(&states[1])).unwrap().get("price"), Some(&n("3")));
}

#[test]
fn a_state_in_between_that_no_carrier_wrote_is_a_customers() {
    let states = ["1", "2", "3"].map(|p| item(vec![("price", n(p))]));
    let made_anew = [Some(row_tree(&states[0])), None, Some(row_tree(&states[2]))];
    let key = key(&row_tree(&states[0]));
    // Deleted by a customer of the old side, not by us.
    let gone = inverse(&[]).carry(&key, &made_anew, None, None, Winner::Old).unwrap();
    assert_eq!(gone, ReverseChange { change: ItemChange::Nothing, resolution: Resolution::OldWon });
    let ours = inverse(&[]).carry(&key, &made_anew, None, Some(1), Winner::Old).unwrap();
    let back = after(&ours, None).unwrap();
    assert_eq!((back.get("price"), ours.resolution), (Some(&n("3")), Resolution::None));
    let known: Vec<_> = states.iter().map(|i| Some(row_tree(i))).collect();
    let kept = inverse(&[]).carry(&key, &known, Some(&states[1]), None, Winner::Old).unwrap();
    assert_eq!(kept, ReverseChange { change: ItemChange::Nothing, resolution: Resolution::OldWon });
}

#[test]
fn what_a_carrier_merged_before_it_died_is_not_taken_for_a_customers() {
    let states = [("1", "5"), ("2", "5"), ("1", "6")].map(|(p, c)| item(vec![("price", n(p)), ("stock", n(c))]));
    let known: Vec<_> = states.iter().map(|i| Some(row_tree(i))).collect();
    // A customer of the old side had named it; the reverse applier wrote the second state's price into that.
    let merged = item(vec![("name", s("theirs")), ("price", n("2")), ("stock", n("5"))]);
    let carry = inverse(&[]).carry(&key(&row_tree(&states[0])), &known, Some(&merged), Some(1), Winner::Old).unwrap();
    let back = after(&carry, Some(&merged)).unwrap();
    let fields = ["name", "price", "stock"].map(|name| back.get(name).cloned());
    assert_eq!((fields, carry.resolution), ([Some(s("theirs")), Some(n("1")), Some(n("6"))], Resolution::Merged));
}

#[test]
fn what_a_carrier_wrote_is_seen_under_what_a_customer_wrote_since() {
    let states = [("1", "5"), ("2", "6"), ("3", "7")];
    let states = states.map(|(p, c)| item(vec![("price", n(p)), ("stock", n(c)), ("name", s("x"))]));
    let known: Vec<_> = states.iter().map(|i| Some(row_tree(i))).collect();
    let shows = |price, stock, name| {
        let found = item(vec![("price", n(price)), ("stock", n(stock)), ("name", s(name))]);
        (0..3).filter(|state| inverse(&[]).shows(&known, *state, Some(&found))).collect::<Vec<_>>()
    };
    assert_eq!(shows("9", "6", "x"), [1], "a customer wrote the price since");
    assert_eq!(shows("2", "6", "theirs"), [1], "a customer wrote what nobody else had");
    assert_eq!(shows("1", "5", "x"), [0; 0], "nothing was written");
    assert_eq!(shows("1", "6", "x"), [0; 0], "the stock is a customer's: the price would be there with it");
    assert_eq!(shows("9", "8", "x"), [0; 0], "nothing is left of it");
    assert!(!inverse(&[]).shows(&known, 1, None), "the item is gone");
    let made = [None, known[1].clone(), known[2].clone()];
    let found = item(vec![("price", n("9")), ("stock", n("6"))]);
    assert!(inverse(&[]).shows(&made, 1, Some(&found)), "an item that the new side made");
}

#[test]
fn a_customers_value_that_equals_another_state_than_the_one_carried_is_a_customers() {
    let states = [("1", "5"), ("2", "5"), ("1", "6"), ("1", "7")];
    let states = states.map(|(p, c)| item(vec![("price", n(p)), ("stock", n(c))]));
    let known: Vec<_> = states.iter().map(|i| Some(row_tree(i))).collect();
    // The price is the customer's; a reverse applier merged the third state into the item and died, and a fourth came
    // since.
    let merged = item(vec![("price", n("2")), ("stock", n("6"))]);
    let carry = inverse(&[]).carry(&key(&row_tree(&states[0])), &known, Some(&merged), Some(2), Winner::Old).unwrap();
    let back = after(&carry, Some(&merged)).unwrap();
    assert_eq!(["price", "stock"].map(|name| back.get(name).cloned()), [Some(n("2")), Some(n("7"))]);
    // A state that came after what the reverse applier took is not its own either.
    let states = ["1", "2", "3", "4"].map(|p| item(vec![("price", n(p))]));
    let known: Vec<_> = states.iter().map(|i| Some(row_tree(i))).collect();
    let carry =
        inverse(&[]).carry(&key(&row_tree(&states[0])), &known, Some(&states[2]), Some(1), Winner::Old).unwrap();
    assert_eq!(carry, ReverseChange { change: ItemChange::Nothing, resolution: Resolution::OldWon });
}

#[test]
fn deletes_travel_unless_the_old_side_wrote_since() {
    let before = item(vec![("price", n("1"))]);
    let old = item(vec![("price", n("3"))]);
    let known = [Some(row_tree(&before)), None];
    let key = key(&row_tree(&before));
    let gone = inverse(&[]).carry(&key, &known, Some(&before), None, Winner::Old).unwrap();
    assert_eq!((after(&gone, Some(&before)), gone.resolution), (None, Resolution::None));
    let gone = inverse(&[]).carry(&key, &known, Some(&old), None, Winner::New).unwrap();
    assert_eq!((after(&gone, Some(&old)), gone.resolution), (None, Resolution::NewWon));
    let kept = inverse(&[]).carry(&key, &known, Some(&old), None, Winner::Old).unwrap();
    assert_eq!((after(&kept, Some(&old)), kept.resolution), (Some(old), Resolution::OldWon));
    let nothing = inverse(&[]).carry(&key, &known, None, None, Winner::Old).unwrap();
    assert_eq!(nothing, ReverseChange { change: ItemChange::Nothing, resolution: Resolution::None });
}

#[test]
fn lines_that_stay_keep_what_no_column_carries() {
    let line = |book: &'static str, count: i64, title: &'static str| {
        map(vec![("book", map(vec![("id", s(book))])), ("n", n(count)), ("title", s(title))])
    };
    let before = item(vec![("lines", Value::List(vec![line("b1", 1, "one"), line("b2", 2, "two")]))]);
    let then = item(vec![("lines", Value::List(vec![line("b2", 3, ""), line("b1", 1, ""), line("b9", 9, "")]))]);
    let (base, now) = (row_tree(&before), row_tree(&then));
    let carry = inverse(&[]).carry(&key(&now), &[Some(base), Some(now)], Some(&before), None, Winner::New).unwrap();
    let back = after(&carry, Some(&before)).unwrap();
    let Some(Value::List(lines)) = back.get("lines") else { panic!("no list") };
    let title = |i: usize| match &lines[i] {
        Value::Map(m) => m.iter().find(|(k, _)| k == "title").map(|(_, v)| v.clone()),
        _ => None,
    };
    assert_eq!((title(0), title(1), title(2)), (Some(s("two")), Some(s("one")), None));
}

#[test]
fn a_mapping_without_an_inverse_is_named() {
    assert_eq!(inverse_gaps(&table(), StoreKind::Dynamodb).blocks, Vec::<String>::new());
    assert_eq!(inverse_gaps(&table(), StoreKind::Dynamodb).notes, ["origin is a constant and has no attribute"]);
    let mut table = table();
    table.columns[1].ty = ColumnType::Timestamptz;
    table.children[0].columns.remove(1);
    let found = inverse_gaps(&table, StoreKind::Dynamodb);
    assert_eq!(found.blocks.len(), 1);
    assert_eq!(found.notes.len(), 2);
}

#[test]
fn a_value_that_no_attribute_holds_is_named_by_its_column() {
    let mut now = row_tree(&item(vec![]));
    now.row[4] = Cell::Numeric("1".repeat(40).into());
    let refused = inverse(&[]).carry(&key(&now), &[None, Some(now.clone())], None, None, Winner::New).unwrap_err();
    assert_eq!((refused.column.as_str(), refused.reason), ("price", RowErrorReason::NumberRange));
}

/// A table whose rows hold whole records.
fn whole_table() -> Table {
    let key = Column { key: true, ..column("id", ColumnType::Text, &["id"], Fallback::Required) };
    let item = of("item", ColumnType::Document, ColumnSource::Whole);
    Table { key: vec!["id".into()], columns: vec![key, item], children: vec![], ..table() }
}

/// A record with an id and these attributes.
fn whole(fields: &[(&'static str, Value<'static>)]) -> Record<'static> {
    let id = ("id".into(), Value::Text("a".into()));
    let fields = fields.iter().map(|(name, value)| ((*name).into(), value.clone()));
    Record { fields: std::iter::once(id).chain(fields).collect() }
}

fn whole_row(record: Option<&Record<'static>>) -> Option<RowTree> {
    let table = whole_table();
    let mapping = TableMapping::new(&table);
    record.map(|record| {
        let mut mapped = Mapped::default();
        mapping.map(record, &mut mapped).unwrap();
        RowTree { row: mapped.row.into_iter().map(Cell::into_owned).collect(), children: vec![] }
    })
}

/// What is left of an item once the way back has written to it, and how it met the other side.
fn carried_whole(
    states: &[Option<Record<'static>>],
    item: Option<&Record<'static>>,
    winner: Winner,
) -> (Option<Record<'static>>, Resolution) {
    let inverse = Inverse::new(&whole_table(), Kinds::default());
    let states: Vec<Option<RowTree>> = states.iter().map(|state| whole_row(state.as_ref())).collect();
    let found = inverse.carry(&[Cell::Text("a".into())], &states, item, None, winner).unwrap();
    let left = match found.change {
        ItemChange::Nothing => item.cloned(),
        ItemChange::Write(write) => {
            assert!(write.set.iter().all(|(name, _)| name != "id"), "a key never changes");
            Some(write.after)
        }
        ItemChange::Delete { .. } => None,
    };
    (left, found.resolution)
}

#[test]
fn whole_records_come_back_attribute_by_attribute() {
    let (n, t) = (|n: &'static str| Value::Decimal(n.into()), |t: &'static str| Value::Text(t.into()));
    let set = |a: &'static str, b: &'static str| Value::TextSet(vec![a.into(), b.into()]);
    assert_eq!(inverse_gaps(&whole_table(), StoreKind::Dynamodb), InverseGaps::default());
    let is = |found: (Option<Record<'static>>, Resolution), wanted: Option<&Record<'static>>, resolution| {
        assert_eq!((item_digest(found.0.as_ref()), found.1), (item_digest(wanted), resolution), "{:?}", found.0);
    };
    let old = whole(&[("a", n("1")), ("b", set("x", "y")), ("gone", Value::Null)]);
    let new = whole(&[("a", n("2.50")), ("b", set("y", "x")), ("c", Value::Map(vec![("k".into(), Value::Null)]))]);
    let both = [Some(old.clone()), Some(new.clone())];
    // Changed on the new side alone: added, changed, removed; a null is no absence.
    is(carried_whole(&both, Some(&old), Winner::New), Some(&new), Resolution::None);
    is(carried_whole(&both, Some(&new), Winner::Old), Some(&new), Resolution::None);
    is(carried_whole(&[None, Some(new.clone())], None, Winner::Old), Some(&new), Resolution::None);
    is(carried_whole(&[Some(old.clone()), None], Some(&old), Winner::Old), None, Resolution::None);
    // The old side wrote another attribute: both stay.
    let theirs = whole(&[("a", n("1")), ("b", set("x", "y")), ("gone", Value::Null), ("d", t("theirs"))]);
    let merged = whole(&[
        ("a", n("2.5")),
        ("b", set("x", "y")),
        ("c", Value::Map(vec![("k".into(), Value::Null)])),
        ("d", t("theirs")),
    ]);
    is(carried_whole(&both, Some(&theirs), Winner::Old), Some(&merged), Resolution::Merged);
    // The same one: by the rule.
    let theirs = whole(&[("a", t("1")), ("b", set("x", "y")), ("gone", Value::Null)]);
    let kept = whole(&[("a", t("1")), ("b", set("x", "y")), ("c", Value::Map(vec![("k".into(), Value::Null)]))]);
    is(carried_whole(&both, Some(&theirs), Winner::New), Some(&new), Resolution::NewWon);
    is(carried_whole(&both, Some(&theirs), Winner::Old), Some(&kept), Resolution::OldWon);
    let inverse = Inverse::new(&whole_table(), Kinds::default());
    assert!(inverse.says(whole_row(Some(&old)).as_ref(), Some(&old)) && !inverse.says(None, Some(&old)));
    let states = both.map(|state| whole_row(state.as_ref()));
    assert!(inverse.shows(&states, 1, Some(&merged)) && !inverse.shows(&states, 1, Some(&old)));
    // What is no record is refused and nothing is guessed.
    let odd = RowTree { row: vec![Cell::Text("a".into()), Cell::Other(vec![1].into())], children: vec![] };
    let refused = inverse.carry(&[Cell::Text("a".into())], &[None, Some(odd)], None, None, Winner::New).unwrap_err();
    assert_eq!((refused.column.as_str(), refused.reason), ("item", RowErrorReason::Unparsable));
    let mut parts = whole_table();
    parts.columns.push(column("price", ColumnType::Numeric(None), &["price"], Fallback::Null));
    assert_eq!(inverse_gaps(&parts, StoreKind::Dynamodb).blocks.len(), 1);
}
