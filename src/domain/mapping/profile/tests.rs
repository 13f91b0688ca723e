use super::*;
use crate::domain::mapping::TableMapping;
use crate::domain::plan::Declared;
use crate::domain::value::Cell;

fn column(name: &str, ty: ColumnType, absent: Fallback) -> Column {
    let from = ColumnSource::Attribute(name.split('.').map(str::to_owned).collect());
    let name = name.replace('.', "_");
    Column { key: name == "id", name, ty, from, absent, declared: Declared::default() }
}

fn table() -> Table {
    let lossy = |column: Column| Column { declared: Declared { lossy: true, ..Declared::default() }, ..column };
    let columns = vec![
        column("id", ColumnType::Text, Fallback::Required),
        column("price", ColumnType::Numeric(Some((6, 2))), Fallback::Null),
        lossy(column("weight", ColumnType::Numeric(Some((6, 1))), Fallback::Null)),
        lossy(column("title", ColumnType::Varchar(3), Fallback::Literal("General".to_owned()))),
        column("address.city", ColumnType::Text, Fallback::Null),
    ];
    let element = Column { from: ColumnSource::Element, ..column("tag", ColumnType::Integer, Fallback::Required) };
    let tags = ChildTable {
        target: "book_tags".to_owned(),
        list: vec!["tags".to_owned()],
        columns: vec![element],
        parent_key: Vec::new(),
        sparse: false,
    };
    Table { columns, children: vec![tags], key: vec!["id".to_owned()], ..Table::watched("books", "Books") }
}

fn profiled(items: Vec<Vec<(&'static str, Value<'static>)>>) -> TableProfile {
    let table = table();
    let (mapping, mut profile) = (TableMapping::new(&table), TableProfile::new(&table));
    for fields in items {
        let item = Record { fields: fields.into_iter().map(|(name, value)| (name.into(), value)).collect() };
        let mut mapped = Mapped::default();
        let size = RowSize { sent: 10, stored: 20 };
        let judged = mapping.map(&item, &mut mapped).map(|()| size);
        profile.look(&item, &mapped, judged);
    }
    profile
}

fn s(text: &'static str) -> Value<'static> {
    Value::Text(text.into())
}

fn n(number: &'static str) -> Value<'static> {
    Value::Decimal(number.into())
}

#[test]
fn each_column_says_what_fits_what_is_changed_and_what_would_be_parked() {
    let profile = profiled(vec![
        vec![("id", s("b1")), ("price", n("1.50")), ("weight", n("1.25")), ("title", s("abcd"))],
        vec![("id", s("b2")), ("price", n("1.555")), ("title", s("abc")), ("address", s("no map"))],
        vec![("id", s("b3")), ("price", s("free")), ("weight", n("2")), ("tags", Value::List(vec![n("1"), s("x")]))],
    ]);
    let of = |name: &str| profile.columns().find(|c| c.column == name).unwrap().clone();
    let found = |times, keys: &[&str]| Found { times, keys: keys.iter().map(|k| (*k).to_owned()).collect() };

    let price = of("price");
    assert_eq!((price.of, price.present, price.fit), (3, 3, 1));
    assert_eq!(price.types, [("N", 2), ("S", 1)].into_iter().collect());
    assert_eq!(price.refused[&RowErrorReason::Lossy], found(1, &["b2"]));
    assert_eq!(price.refused[&RowErrorReason::WrongType], found(1, &["b3"]));
    let weight = of("weight");
    assert_eq!((weight.present, weight.fit), (2, 3), "an absent value that may be absent fits");
    assert_eq!(weight.altered, [(Alteration::Rounded, found(1, &["b1"]))].into_iter().collect());
    let title = of("title");
    let altered = [(Alteration::Default, found(1, &["b3"])), (Alteration::Cut, found(1, &["b1"]))];
    assert_eq!(title.altered, altered.into_iter().collect(), "the default and what is cut are told apart");
    assert_eq!(of("address_city").refused[&RowErrorReason::WrongType], found(1, &["b2"]));
    let tags = of("book_tags.tag");
    assert_eq!((tags.of, tags.fit, tags.refused[&RowErrorReason::WrongType].times), (2, 1, 1));

    // A row is parked once, for the first thing that does not fit.
    assert_eq!((profile.records(), profile.would_park(), profile.sizes().rows), (3, 2, 1));
    let parked: Vec<_> = profile.parked().into_iter().map(|p| (p.column, p.reason)).collect();
    assert_eq!(parked.len(), 2);
    assert!(parked.contains(&("price".to_owned(), RowErrorReason::Lossy)), "{parked:?}");
    assert!(profile.has_findings());
}

#[test]
fn attributes_that_nothing_reads_are_named_with_their_types_and_those_that_are_read_are_not() {
    let profile = profiled(vec![
        vec![
            ("id", s("b1")),
            ("note", s("x")),
            ("address", Value::Map(vec![("city".into(), s("here")), ("zip".into(), n("1"))])),
            ("tags", Value::List(vec![n("1")])),
        ],
        vec![("id", s("b2")), ("note", n("1")), ("more", Value::Map(vec![("a".into(), s("x"))]))],
        vec![("id", s("b3")), ("when", Value::Cell(Cell::Timestamp(1)))],
    ]);
    let unread: Vec<_> = profile.unread().attributes().collect();
    let paths: Vec<&str> = unread.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["address.zip", "more", "note", "when"], "a typed column that nothing reads is one too");
    let note = unread.iter().find(|a| a.path == "note").unwrap();
    assert_eq!((note.types.clone(), note.records), ([("N", 1), ("S", 1)].into_iter().collect(), Some(2)));
    assert!(!profile.unread().more() && !profile.has_findings());
}

#[test]
fn rows_are_measured_and_two_records_of_one_key_are_found() {
    let mut table = table();
    // The key of the target is no key of the source: two books may have one title.
    table.columns[3].key = true;
    table.columns[0].key = false;
    let (mapping, mut profile) = (TableMapping::new(&table), TableProfile::new(&table));
    for (id, title, stored) in [("b1", "abc", 20), ("b2", "abd", 50), ("b3", "abcx", 30)] {
        let item = Record { fields: vec![("id".into(), s(id)), ("title".into(), s(title))] };
        let mut mapped = Mapped::default();
        let judged = mapping.map(&item, &mut mapped).map(|()| RowSize { sent: 1, stored });
        profile.look(&item, &mapped, judged);
    }
    let sizes = profile.sizes();
    assert_eq!((sizes.rows, sizes.total.stored, sizes.largest, sizes.largest_key.as_str()), (3, 100, 50, "b2"));
    assert_eq!(profile.duplicates().found().keys, ["b3"], "cut, it is the title of the first");
    assert!(profile.has_findings() && profile.would_park() == 0);
}

#[test]
fn a_key_that_would_not_come_back_does_not_fit_its_column_either() {
    let mut table = table();
    table.columns[0].ty = ColumnType::Uuid;
    let (mapping, mut profile) = (TableMapping::new(&table), TableProfile::new(&table));
    for id in ["5e1f0000-0000-4000-8000-00000000000a", "5E1F0000-0000-4000-8000-00000000000A"] {
        let item = Record { fields: vec![("id".into(), s(id))] };
        let mut mapped = Mapped::default();
        let judged = mapping.map(&item, &mut mapped).map(|()| RowSize::default());
        profile.look(&item, &mapped, judged);
    }
    let id = profile.columns().next().unwrap();
    assert_eq!((id.fit, id.refused[&RowErrorReason::KeyForm].times, profile.would_park()), (1, 1, 1));
}
