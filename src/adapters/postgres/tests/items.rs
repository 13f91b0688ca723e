//! Single rows of a source, each written only over what was read.

use super::TestDatabase;
use crate::adapters::postgres::source::PgSource;
use crate::domain::mapping::{ItemChange, ItemWrite};
use crate::domain::plan::{Column, ColumnSource, ColumnType, Table};
use crate::domain::value::{Cell, Record, Value};
use crate::ports::{Beyond, ErrorKind, GivenFor, ItemOutcome, Items, SequenceScan};

pub(super) fn things() -> Table {
    Table::watched("things", "things")
}

pub(super) type Fields = Vec<(&'static str, Cell<'static>)>;

pub(super) fn record(fields: Fields) -> Record<'static> {
    Record { fields: fields.into_iter().map(|(name, cell)| (name.into(), Value::from(cell))).collect() }
}

pub(super) fn named(fields: Fields) -> Vec<(String, Value<'static>)> {
    fields.into_iter().map(|(name, cell)| (name.to_owned(), Value::from(cell))).collect()
}

pub(super) fn write(id: i64, exists: bool, set: Fields, expect: Fields) -> ItemChange {
    let expect = named(expect).into_iter().map(|(name, value)| (name, Some(value))).collect();
    let (key, after) = (record(vec![("id", Cell::Int(id))]), Record { fields: vec![] });
    ItemChange::Write(ItemWrite { key, exists, set: named(set), remove: vec![], expect, after })
}

/// A value of every type.
pub(super) fn every() -> Fields {
    vec![
        ("t", Cell::Text("é".into())),
        ("v", Cell::Text("v".into())),
        ("u", Cell::Uuid(7_u128.to_be_bytes())),
        ("n", Cell::Numeric("1.5".into())),
        ("m", Cell::Numeric("NaN".into())),
        ("s", Cell::Int(-1)),
        ("b", Cell::Int(i64::MAX)),
        ("d", Cell::Float(f64::INFINITY)),
        ("f", Cell::Bool(true)),
        ("at", Cell::Timestamp(1_795_358_836_220_001)),
        ("day", Cell::Date(-1)),
        ("j", Cell::Json("{\"a\":[],\"b\":1}".into())),
        ("ts", Cell::TextArray(vec!["x".into(), "y\"".into()])),
        ("raw", Cell::Bytes(vec![0, 255].into())),
        ("Odd \"Name", Cell::Null),
    ]
}

#[tokio::test]
async fn values_without_an_ordinary_form_go_there_and_back() {
    let (db, source) = database().await;
    let table = things();
    db.sql
        .batch_execute(
            "CREATE TABLE odd AS SELECT 1 AS id, 'infinity'::timestamptz AS at, '-infinity'::date AS day,
                 ARRAY['a', NULL] AS ts, 'NaN'::float8 AS d;
             INSERT INTO odd VALUES (2, '-infinity', 'infinity', '{{a,b},{c,NULL}}', '-infinity'), (3, '294276-12-31 23:59:59.999999+00', NULL, '[0:1]={a,b}', NULL);
             ALTER TABLE odd ADD PRIMARY KEY (id)",
        )
        .await
        .unwrap();
    let odd = Table::watched("odd", "odd");
    for id in 1..=3 {
        let key = record(vec![("id", Cell::Int(id))]);
        let found = Items::read(&source, &odd, &key).await.unwrap().unwrap();
        let set = found.fields.iter().filter(|(name, _)| name != "id");
        let set: Vec<(String, Value<'static>)> = set.map(|(name, v)| (name.to_string(), v.clone())).collect();
        let write = ItemWrite { key, exists: false, set: set.clone(), remove: vec![], expect: vec![], after: found };
        assert_eq!(source.write(&table, &ItemChange::Write(write.clone())).await.unwrap(), ItemOutcome::Written);
        // It is recognised as what was read.
        let expect = set.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        let over = ItemWrite { exists: true, set: named(vec![("s", Cell::Int(5))]), expect, ..write };
        assert_eq!(source.write(&table, &ItemChange::Write(over)).await.unwrap(), ItemOutcome::Written, "{id}");
    }
    let same = "SELECT count(*) FROM odd JOIN things USING (id) WHERE odd.at IS NOT DISTINCT FROM things.at
                AND odd.day IS NOT DISTINCT FROM things.day AND odd.ts IS NOT DISTINCT FROM things.ts
                AND array_dims(odd.ts) = array_dims(things.ts) AND odd.d IS NOT DISTINCT FROM things.d";
    assert_eq!(db.number(same).await, 3);
}

#[tokio::test]
async fn a_write_that_waits_for_its_row_is_given_up_by_the_server_and_never_done_later() {
    let (db, source) = database().await;
    db.sql.batch_execute("INSERT INTO things (s) VALUES (1)").await.unwrap();
    let mut customer = db.connect().await;
    let holds = customer.transaction().await.unwrap();
    holds.batch_execute("UPDATE things SET b = 7 WHERE id = 1").await.unwrap();
    let late = source.write(&things(), &write(1, true, vec![("s", Cell::Int(2))], vec![("s", Cell::Int(1))])).await;
    assert!(late.as_ref().is_err_and(|e| e.kind.transient()), "{late:?}");
    holds.commit().await.unwrap();
    assert_eq!(db.number("SELECT s FROM things WHERE id = 1 AND b = 7").await, 1);
}

pub(super) async fn database() -> (TestDatabase, PgSource) {
    let db = TestDatabase::bare().await;
    db.sql
        .batch_execute(
            "CREATE TABLE things (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text, v varchar(9) UNIQUE, u uuid,
                 n numeric(10,2), m numeric, s smallint, b bigint, d double precision, f boolean, at timestamptz, day date,
                 j jsonb, ts text[], raw bytea, \"Odd \"\"Name\" text, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        )
        .await
        .unwrap();
    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    (db, source)
}

#[tokio::test]
async fn a_row_is_made_once_and_changed_only_over_what_was_read() {
    let (_db, source) = database().await;
    let table = things();
    let key = record(vec![("id", Cell::Int(1))]);
    assert_eq!(
        source.write(&table, &write(1, true, vec![("s", Cell::Int(2))], vec![])).await.unwrap(),
        ItemOutcome::Moved
    );
    assert_eq!(source.write(&table, &write(1, false, every(), vec![])).await.unwrap(), ItemOutcome::Written);
    assert_eq!(
        source.write(&table, &write(1, false, every(), vec![])).await.unwrap(),
        ItemOutcome::Moved,
        "it is there"
    );
    let found = Items::read(&source, &table, &key).await.unwrap().unwrap();
    for (name, value) in named(every()) {
        assert_eq!(found.get(&name), Some(&value), "{name}");
    }
    assert_eq!(source.sample(&table).await.unwrap(), [found]);
    // Every value is recognised, and another one is not.
    for (name, cell) in every() {
        let over = write(1, true, vec![("s", Cell::Int(-1))], vec![(name, cell)]);
        assert_eq!(source.write(&table, &over).await.unwrap(), ItemOutcome::Written, "{name}");
    }
    let other = [("t", Cell::Text("e".into())), ("d", Cell::Null), ("j", Cell::Json("{}".into())), ("s", Cell::Int(9))];
    for (name, cell) in other {
        let over = write(1, true, vec![("s", Cell::Int(5))], vec![(name, cell)]);
        assert_eq!(source.write(&table, &over).await.unwrap(), ItemOutcome::Moved, "{name}");
    }
    let removed = ItemChange::Write(ItemWrite {
        key: key.clone(),
        exists: true,
        set: vec![],
        remove: vec!["t".into()],
        expect: vec![("t".into(), Some(Value::from(Cell::Text("é".into()))))],
        after: Record { fields: vec![] },
    });
    assert_eq!(source.write(&table, &removed).await.unwrap(), ItemOutcome::Written);
    let gone = |t| ItemChange::Delete { key: key.clone(), expect: vec![("t".into(), t)] };
    let before = Some(Value::from(Cell::Text("é".into())));
    assert_eq!(source.write(&table, &gone(before)).await.unwrap(), ItemOutcome::Moved);
    assert_eq!(source.write(&table, &gone(None)).await.unwrap(), ItemOutcome::Written);
    assert_eq!(Items::read(&source, &table, &key).await.unwrap(), None);
}

#[tokio::test]
async fn what_the_table_cannot_hold_is_invalid_and_says_so_without_the_value() {
    let (_db, source) = database().await;
    let table = things();
    assert_eq!(source.write(&table, &write(1, false, every(), vec![])).await.unwrap(), ItemOutcome::Written);
    for (set, said) in [
        (vec![("s", Cell::Int(70_000))], "range"),
        (vec![("none", Cell::Int(1))], "no column none"),
        (vec![("twice", Cell::Int(1))], "no column twice"),
        (vec![("v", Cell::Text("v".into()))], "unique"),
        (vec![("v", Cell::Text("secret-and-too-long".into()))], "longer"),
    ] {
        let refused = source.write(&table, &write(2, false, set, vec![])).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
        assert!(refused.came_back.contains(said) && !refused.to_string().contains("secret-and"), "{refused}");
    }
}

#[tokio::test]
async fn a_right_that_is_missing_is_seen_before_it_is_needed_and_nothing_is_written() {
    let (db, source) = database().await;
    db.sql.batch_execute("INSERT INTO things (s) VALUES (1)").await.unwrap();
    source.exercise(&things(), "n-1").await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM things WHERE s = 1").await, 1);
    let role = format!("reader_{}", db.settings.database);
    db.sql
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw'; GRANT SELECT, INSERT, UPDATE ON things TO {role}"
        ))
        .await
        .unwrap();
    let mut settings = db.settings.clone();
    (settings.user, settings.password) = (role, Some(crate::domain::secret::Secret::new("pw")));
    let reader = PgSource::new(&settings, super::PLAN).unwrap();
    let refused = reader.exercise(&things(), "n-1").await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
}

#[tokio::test]
async fn sequences_of_the_old_side_stand_past_what_the_new_side_has_given() {
    let (db, source) = database().await;
    db.sql
        .batch_execute(
            "CREATE TABLE orders (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, number bigint DEFAULT 0);
             CREATE SEQUENCE numbers OWNED BY orders.number INCREMENT BY -5;
             ALTER TABLE orders ALTER number SET DEFAULT nextval('numbers');
             INSERT INTO orders DEFAULT VALUES; INSERT INTO orders DEFAULT VALUES",
        )
        .await
        .unwrap();
    let at = |name: &str, from: &str| Column {
        from: ColumnSource::Attribute(vec![from.into()]),
        ..super::column(name, ColumnType::Bigint)
    };
    let orders = Table { columns: vec![at("id", "id"), at("counted", "number")], ..Table::watched("orders", "orders") };
    let given = |column: &str, value| Beyond {
        of: GivenFor::Column { table: "orders".into(), column: column.into() },
        value,
        ahead: 0,
    };
    let beyond = [given("id", 90_000), given("counted", -70_000)];
    let advance = || source.advance_sequences(std::slice::from_ref(&orders), SequenceScan::Indexed, &[], &beyond);
    let stand = advance().await.unwrap();
    let next = |name: &str| stand.iter().find(|s| s.name.ends_with(name)).unwrap().next.unwrap();
    assert!(next("orders_id_seq") > 90_000 && next("numbers") < -70_000, "{stand:?}");
    // A column without an index is not called looked at.
    let numbers = stand.iter().find(|s| s.name.ends_with("numbers")).unwrap();
    assert_eq!((numbers.looked, numbers.beyond), (false, Some(-70_000)));
    assert_eq!(
        advance().await.unwrap().iter().map(|s| s.next).collect::<Vec<_>>(),
        stand.iter().map(|s| s.next).collect::<Vec<_>>()
    );
    db.sql.batch_execute("INSERT INTO orders DEFAULT VALUES").await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM orders WHERE id > 90000 AND number < -70000").await, 1);
    // What a sequence has given is known without a row.
    db.sql.batch_execute("DELETE FROM orders").await.unwrap();
    let found = source.sequences(std::slice::from_ref(&orders)).await.unwrap();
    assert!(found.iter().all(|s| s.given.is_some_and(|given| given.abs() > 70_000)), "{found:?}");
}

#[tokio::test]
async fn a_value_that_the_server_alone_gives_comes_with_a_new_row_and_stays_in_one_that_is_there() {
    let (db, source) = database().await;
    db.sql
        .batch_execute("CREATE TABLE notes (id bigint PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY, v text)")
        .await
        .unwrap();
    let columns = [("id", ColumnType::Bigint), ("number", ColumnType::Bigint), ("v", ColumnType::Text)];
    let columns = columns.map(|(name, ty)| super::column(name, ty)).into();
    let notes = Table { columns, ..Table::watched("notes", "notes") };
    source.exercise(&notes, "n-1").await.unwrap();
    let made = write(7, false, vec![("number", Cell::Int(500)), ("v", Cell::Text("a".into()))], vec![]);
    assert_eq!(source.write(&notes, &made).await.unwrap(), ItemOutcome::Written);
    let changed = write(7, true, vec![("v", Cell::Text("b".into()))], vec![("number", Cell::Int(500))]);
    assert_eq!(source.write(&notes, &changed).await.unwrap(), ItemOutcome::Written);
    assert_eq!(db.number("SELECT count(*) FROM notes WHERE (id, number, v) = (7, 500, 'b')").await, 1);
    // What it refuses says what to do about it.
    let refused = source.write(&notes, &write(7, true, vec![("number", Cell::Int(501))], vec![])).await.unwrap_err();
    assert!(refused.advice.contains("SET GENERATED BY DEFAULT"), "{refused}");
}

#[tokio::test]
async fn a_label_that_only_the_new_side_has_is_refused_with_its_column_and_type() {
    let db = TestDatabase::bare().await;
    let made = "CREATE TYPE mood AS ENUM ('sad', 'glad');
                CREATE TABLE things (id bigint PRIMARY KEY, m mood, size interval); INSERT INTO things VALUES (1, 'sad', '1 day')";
    db.sql.batch_execute(made).await.unwrap();
    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    let fields = |mood: &'static str| vec![("size", Cell::Text("2 days".into())), ("m", Cell::Text(mood.into()))];
    let refused = Items::write(&source, &things(), &write(1, true, fields("wild"), vec![])).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid);
    assert!(refused.came_back.contains("column m") && refused.came_back.contains("type mood"), "{refused}");
    assert!(refused.advice.contains("ALTER TYPE mood ADD VALUE") && !refused.to_string().contains("wild"), "{refused}");
    let odd = vec![("size", Cell::Text("never".into()))];
    let refused = Items::write(&source, &things(), &write(1, true, odd, vec![])).await.unwrap_err();
    assert!(refused.came_back.contains("column size") && refused.came_back.contains("type interval"), "{refused}");
    let written = Items::write(&source, &things(), &write(1, true, fields("glad"), vec![])).await.unwrap();
    assert_eq!(written, ItemOutcome::Written);
}
