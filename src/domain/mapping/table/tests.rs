use super::*;
use crate::domain::mapping::read_key;
use crate::domain::plan::{ChildTable, ColumnType, Declared, NEW, OLD};

fn column(name: &str, ty: ColumnType, path: &[&str], absent: Fallback, key: bool) -> Column {
    let path = path.iter().map(|s| (*s).to_owned()).collect();
    Column { name: name.into(), ty, from: ColumnSource::Attribute(path), absent, key, declared: Declared::default() }
}

fn child(name: &str, ty: ColumnType, from: ColumnSource) -> Column {
    Column { name: name.into(), ty, from, absent: Fallback::Required, key: false, declared: Declared::default() }
}

fn orders() -> Table {
    use ColumnType::*;
    Table {
        id: "orders".into(),
        from: OLD.to_owned(),
        source: "CloudShelf-Orders".into(),
        to: NEW.to_owned(),
        target: "orders".into(),
        key: vec!["userId".into(), "orderNo".into()],
        columns: vec![
            column("user_id", Text, &["userId"], Fallback::Required, true),
            column("order_no", Bigint, &["orderNo"], Fallback::Required, true),
            column("city", Varchar(10), &["address", "city"], Fallback::Null, false),
            column("status", Varchar(10), &["status"], Fallback::Literal("new".into()), false),
            Column {
                name: "origin".into(),
                ty: Text,
                from: ColumnSource::Constant("v1".into()),
                absent: Fallback::Null,
                key: false,
                declared: Declared::default(),
            },
        ],
        children: vec![
            ChildTable {
                target: "order_items".into(),
                list: vec!["items".into()],
                columns: vec![
                    child("user_id", Text, ColumnSource::Parent("userId".into())),
                    child("place", Integer, ColumnSource::Ordinal),
                    child("book", Text, ColumnSource::Attribute(vec!["book".into(), "id".into()])),
                ],
                parent_key: vec!["user_id".into()],
                sparse: false,
            },
            ChildTable {
                target: "order_tags".into(),
                list: vec!["meta".into(), "tags".into()],
                columns: vec![
                    child("place", Text, ColumnSource::Ordinal),
                    child("tag", Varchar(4), ColumnSource::Element),
                ],
                parent_key: vec![],
                sparse: false,
            },
        ],
        foreign_keys: vec![],
        ttl: None,
        marker_prefix: "~cutover~".into(),
        ddl: None,
        triggers: vec![],
        leave_out: vec![],
        after_load: vec![],
        mover: None,
    }
}

fn map(entries: &[(&'static str, Value<'static>)]) -> Value<'static> {
    Value::Map(entries.iter().map(|(k, v)| (Cow::Borrowed(*k), v.clone())).collect())
}

fn s(text: &'static str) -> Value<'static> {
    Value::Text(text.into())
}

fn item(extra: &[(&'static str, Value<'static>)]) -> Record<'static> {
    let mut fields = vec![("userId".into(), s("ann")), ("orderNo".into(), Value::Decimal("7.0".into()))];
    fields.extend(extra.iter().map(|(k, v)| (Cow::Borrowed(*k), v.clone())));
    Record { fields }
}

fn refused(item: &Record<'static>) -> (String, RowErrorReason) {
    let mapping = TableMapping::new(&orders());
    let row_error = mapping.map(item, &mut Mapped::default()).unwrap_err();
    (row_error.column, row_error.reason)
}

#[test]
fn a_row_and_its_children_come_out_in_plan_order() {
    let mapping = TableMapping::new(&orders());
    let mut out = Mapped::default();
    let full = item(&[
        ("address", map(&[("city", s("Köln"))])),
        ("status", s("paid")),
        (
            "items",
            Value::List(vec![map(&[("book", map(&[("id", s("b1"))]))]), map(&[("book", map(&[("id", s("b2"))]))])]),
        ),
        ("meta", map(&[("tags", Value::TextSet(vec!["z".into(), "a".into()]))])),
    ]);
    mapping.map(&full, &mut out).unwrap();
    assert_eq!(out.key, "ann|7");
    assert_eq!(out.key_json, r#"{"userId":{"S":"ann"},"orderNo":{"N":"7.0"}}"#);
    let t = |text: &'static str| Cell::Text(text.into());
    assert_eq!(out.row, vec![t("ann"), Cell::Int(7), t("Köln"), t("paid"), t("v1")]);
    assert_eq!(
        out.children,
        vec![
            vec![vec![t("ann"), Cell::Int(0), t("b1")], vec![t("ann"), Cell::Int(1), t("b2")]],
            vec![vec![t("0"), t("a")], vec![t("1"), t("z")]],
        ]
    );
    // The same buffer takes the next item and keeps nothing of the last one.
    mapping.map(&item(&[("status", Value::Null)]), &mut out).unwrap();
    assert_eq!(out.row[2..4], [Cell::Null, t("new")]);
    assert_eq!(out.children, vec![Vec::<Vec<Cell<'_>>>::new(), vec![]]);
    assert_eq!(out.key, "ann|7");
}

#[test]
fn rows_that_do_not_fit_name_the_column() {
    use RowErrorReason::*;
    let tags = |attr| item(&[("meta", map(&[("tags", attr)]))]);
    for (item, column, reason) in [
        (Record { fields: vec![("userId".into(), s("ann"))] }, "orderNo", Missing),
        (Record { fields: vec![("userId".into(), Value::List(vec![]))] }, "userId", WrongType),
        (Record { fields: vec![("userId".into(), Value::Null)] }, "userId", Missing),
        (item(&[("address", s("Köln"))]), "city", WrongType),
        (item(&[("status", s("a\0"))]), "status", Nul),
        (item(&[("status", s("far too long"))]), "status", TooLong),
        (item(&[("items", s("x"))]), "order_items.-", WrongType),
        (item(&[("items", Value::List(vec![s("x")]))]), "order_items.book", WrongType),
        (item(&[("items", Value::List(vec![map(&[])]))]), "order_items.book", Missing),
        (item(&[("items", Value::List(vec![Value::Null]))]), "order_items.book", Missing),
        (tags(Value::List(vec![s("abcde")])), "order_tags.tag", TooLong),
        (tags(Value::List(vec![Value::Null])), "order_tags.tag", Missing),
        (item(&[("meta", s("x"))]), "order_tags.-", WrongType),
    ] {
        assert_eq!(refused(&item), (column.to_owned(), reason), "{item:?}");
    }
}

#[test]
fn a_misfit_leaves_the_key_to_park_it_by() {
    let mapping = TableMapping::new(&orders());
    let mut out = Mapped::default();
    mapping.map(&item(&[("status", s("a\0"))]), &mut out).unwrap_err();
    assert_eq!(out.key, "ann|7");
    assert_eq!(out.key_json, r#"{"userId":{"S":"ann"},"orderNo":{"N":"7.0"}}"#);
}

#[test]
fn different_keys_never_read_the_same() {
    let mapping = TableMapping::new(&Table { key: vec!["a".into(), "b".into()], ..orders() });
    let key = |a: &'static str, b: &'static str| {
        mapping.key(&Record { fields: vec![("b".into(), s(b)), ("a".into(), s(a))] }).unwrap().0.0
    };
    assert_eq!(key("x", "y"), "x|y");
    assert_eq!(key("x|", "y"), "x\\||y");
    assert_ne!(key("x|", "y"), key("x", "|y"));
    assert_ne!(key("x\\|", "y"), key("x\\", "|y"));
    assert_eq!(key("x\0", "y"), "x\\0|y");
    let single = TableMapping::new(&Table { key: vec!["a".into()], ..orders() });
    let item = Record { fields: vec![("a".into(), s("x|y"))] };
    assert_eq!(single.key(&item).unwrap().0.0, "x|y");
    let item = Record { fields: vec![("a".into(), Value::Bytes(vec![255u8, 0].into()))] };
    assert_eq!(single.key(&item).unwrap(), (Key("/wA=".into()), r#"{"a":{"B":"/wA="}}"#.into()));
}

#[test]
fn a_delete_finds_its_row_by_key_alone() {
    let mapping = TableMapping::new(&orders());
    assert_eq!(mapping.row_key(&item(&[])).unwrap(), vec![Cell::Text("ann".into()), Cell::Int(7)]);
    let mut table = orders();
    table.columns[3].key = true;
    let mapping = TableMapping::new(&table);
    assert_eq!(mapping.row_key(&item(&[])).unwrap_err().reason, RowErrorReason::Missing);
    assert_eq!(mapping.row_key(&item(&[("status", s("paid"))])).unwrap().len(), 3);
}

#[test]
fn markers_are_told_by_their_prefix() {
    let mapping = TableMapping::new(&orders());
    let with = |key: &'static str| Record { fields: vec![("userId".into(), s(key))] };
    assert_eq!(mapping.marker(&with("~cutover~n-1")), Some("n-1"));
    assert_eq!(mapping.marker(&with("ann")), None);
    assert_eq!(mapping.marker(&Record::default()), None);
    let none = TableMapping::new(&Table { marker_prefix: String::new(), ..orders() });
    assert_eq!(none.marker(&with("ann")), None);
}

#[test]
fn rows_borrow_from_the_page_not_from_the_item() {
    let page = String::from("ann");
    let mapping = TableMapping::new(&orders());
    let mut out = Mapped::default();
    let mut item = Record::default();
    for _ in 0..2 {
        item.fields.clear();
        item.fields.push(("userId".into(), Value::Text(Cow::Borrowed(&page))));
        item.fields.push(("orderNo".into(), Value::Decimal(Cow::Borrowed("1"))));
        mapping.map(&item, &mut out).unwrap();
    }
    assert!(matches!(&out.row[0], Cell::Text(Cow::Borrowed("ann"))));
}

#[test]
fn keys_of_booleans_are_told_apart_and_read_again() {
    let table = TableMapping::new(&Table { key: vec!["uid".into(), "main".into()], ..Table::watched("t", "T") });
    let mut texts = std::collections::BTreeSet::new();
    for main in [true, false] {
        let fields = vec![("uid".into(), Value::Decimal("1".into())), ("main".into(), Value::Bool(main))];
        let key = Record { fields };
        let (text, json) = table.key(&key).unwrap();
        let read = read_key(&json).unwrap();
        assert_eq!((read.get("uid"), read.get("main")), (key.get("uid"), key.get("main")), "{json}");
        texts.insert(text.0);
    }
    assert_eq!(texts.into_iter().collect::<Vec<_>>(), ["1|false", "1|true"]);
}
