//! What is written is what is read: every column type, by COPY, by merge, by scan and by key.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::{TestDatabase, checkpoint, column, key, owned, table};
use crate::domain::mapping::{Mapped, RowErrorReason as R};
use crate::domain::plan::{ColumnType as T, Table};
use crate::domain::value::{Cell, Key, OwnedRow};
use crate::ports::{ChangeBatch, Partition, RowChange, Target as _};

fn every_type() -> Table {
    table(
        "every",
        vec![
            key("k", T::Bigint),
            column("text", T::Text),
            column("varchar", T::Varchar(5)),
            column("uuid", T::Uuid),
            column("numeric", T::Numeric(None)),
            column("money", T::Numeric(Some((10, 2)))),
            column("small", T::Smallint),
            column("int", T::Integer),
            column("big", T::Bigint),
            column("float", T::Double),
            column("bool", T::Boolean),
            column("at", T::Timestamptz),
            column("day", T::Date),
            column("json", T::Jsonb),
            column("list", T::TextArray),
            column("bytes", T::Bytea),
        ],
        r#"CREATE TABLE every (k bigint PRIMARY KEY, text text, varchar varchar(5), uuid uuid, numeric numeric,
           money numeric(10,2), small smallint, int integer, big bigint, float double precision, bool boolean,
           at timestamptz, day date, json jsonb, list text[], bytes bytea)"#,
    )
}

fn rows() -> Vec<OwnedRow> {
    let text = |s: &str| Cell::Text(s.to_owned().into());
    let number = |s: &str| Cell::Numeric(s.to_owned().into());
    let json = |s: &str| Cell::Json(s.to_owned().into());
    vec![
        vec![
            Cell::Int(1),
            text("tab\t newline\n \\N \"quoted\" | é 漢字 🚀"),
            text("漢字éab"),
            Cell::Uuid(*b"0123456789abcdef"),
            number("-12345678901234567890123456789012345678.000000000000000000000000000001"),
            number("19.9"),
            Cell::Int(-32768),
            Cell::Int(2_147_483_647),
            Cell::Int(i64::MIN),
            Cell::Float(-0.1),
            Cell::Bool(true),
            Cell::Timestamp(1_795_312_800_123_456),
            Cell::Date(20_779),
            json(
                r#"{"a":[1,2.5,-3,1234567890123456789012345678901234567890],"b":{"z":null,"é":"\"\\\n\u0001"},"bb":true}"#,
            ),
            Cell::TextArray(vec!["a,b".into(), "".into(), "NULL".into(), "{\"}".into()]),
            Cell::Bytes(vec![0, 255, 10].into()),
        ],
        vec![
            Cell::Int(2),
            text(""),
            text(""),
            Cell::Uuid([0; 16]),
            number("0"),
            number("-99999999.99"),
            Cell::Int(0),
            Cell::Int(-1),
            Cell::Int(i64::MAX),
            Cell::Float(f64::MAX),
            Cell::Bool(false),
            Cell::Timestamp(-1),
            Cell::Date(-719_162),
            json("[]"),
            Cell::TextArray(vec![]),
            Cell::Bytes(vec![].into()),
        ],
        std::iter::once(Cell::Int(3)).chain(std::iter::repeat_n(Cell::Null, 15)).collect(),
    ]
}

fn mapped(row: &OwnedRow) -> Mapped<'static> {
    let Cell::Int(n) = row[0] else { unreachable!() };
    Mapped { key: n.to_string(), key_json: format!(r#"{{"k":{{"N":"{n}"}}}}"#), row: row.clone(), children: vec![] }
}

#[tokio::test]
async fn rows_put_as_arrays_are_the_same_and_what_a_column_refuses_is_not_cut() {
    let db = TestDatabase::new().await;
    let whole = every_type();
    let list = whole.columns.iter().position(|c| c.name == "list").unwrap();
    // A list column cannot be sent as one array of its values; without such a column the table is applied by arrays.
    let table = Table { columns: whole.columns.iter().filter(|c| c.name != "list").cloned().collect(), ..whole };
    db.create(&table).await.unwrap();
    let without = |row: &OwnedRow| row.iter().enumerate().filter(|(n, _)| *n != list).map(|(_, c)| c.clone()).collect();
    let rows: Vec<OwnedRow> = rows().iter().map(without).collect();
    let change = |row: &OwnedRow| {
        let m = mapped(row);
        RowChange::Upsert { key: Key(m.key), key_json: m.key_json, row: m.row, children: vec![] }
    };
    let batch = |rows: &[OwnedRow]| ChangeBatch { rows: rows.iter().map(change).collect(), ..ChangeBatch::default() };
    for turn in ["inserted", "updated"] {
        assert_eq!(db.target.apply(&table, batch(&rows)).await.unwrap().upserted, 3, "{turn}");
        assert_eq!(db.all(&table).await, rows, "{turn}");
    }
    let mut long = rows[0].clone();
    long[2] = Cell::Text("sixsix".into());
    let mut wide = rows[1].clone();
    wide[5] = Cell::Numeric("123456789.00".into());
    let applied = db.target.apply(&table, batch(&[long, wide, rows[2].clone()])).await.unwrap();
    let reasons: Vec<_> = applied.parked.iter().map(|p| (p.key.0.as_str(), p.row_error.reason)).collect();
    assert_eq!(reasons, [("1", R::TooLong), ("2", R::NumberRange)]);
    assert_eq!(db.all(&table).await, rows[2..]);
}

#[tokio::test]
async fn every_type_comes_back_as_it_was_written() {
    let db = TestDatabase::new().await;
    let table = every_type();
    db.create(&table).await.unwrap();
    assert_eq!(db.target.describe(&table).await.unwrap().problems, Vec::<String>::new());
    let rows = rows();

    let loaded = db.load(&table, &rows.iter().map(mapped).collect::<Vec<_>>()).await;
    assert_eq!((loaded.upserted, loaded.parked.len()), (3, 0));
    assert_eq!(db.all(&table).await, rows);
    // Compared with the server's own text form, so that an error made both in writing and in reading does not cancel
    // out.
    let said = db
        .text(
            "SELECT concat_ws(' ', numeric, money, small, int, big, float, bool, at, day, json->'b'->>'z', json->'a'->3,
             list[1], cardinality(list), encode(bytes, 'hex'), uuid) FROM every WHERE k = 1",
        )
        .await;
    assert_eq!(
        said.unwrap(),
        "-12345678901234567890123456789012345678.000000000000000000000000000001 19.90 -32768 2147483647 \
         -9223372036854775808 -0.1 t 2026-11-22 02:00:00.123456+00 2026-11-22 \
         1234567890123456789012345678901234567890 a,b 4 00ff0a 30313233-3435-3637-3839-616263646566"
    );

    let keys: Vec<OwnedRow> = vec![vec![Cell::Int(3)], vec![Cell::Int(99)], vec![Cell::Int(1)]];
    let fetched = db.target.fetch(&table, &keys).await.unwrap();
    assert_eq!(fetched[0].as_ref().unwrap().0, rows[2]);
    assert_eq!(fetched[1], None);
    assert_eq!(fetched[2].as_ref().unwrap().0, rows[0]);

    // Applied like changes: through the staging table, over rows that are there.
    let moved: Vec<OwnedRow> = rows
        .iter()
        .enumerate()
        .map(|(i, r)| std::iter::once(r[0].clone()).chain(rows[(i + 1) % 3][1..].iter().cloned()).collect())
        .collect();
    let changes = moved
        .iter()
        .map(|r| {
            let m = mapped(r);
            RowChange::Upsert { key: Key(m.key), key_json: m.key_json, row: m.row, children: vec![] }
        })
        .collect();
    let applied = db.target.apply(&table, ChangeBatch { rows: changes, ..ChangeBatch::default() }).await.unwrap();
    assert_eq!((applied.upserted, applied.parked.len()), (3, 0));
    let mut found = db.all(&table).await;
    found.sort_by_key(|r| format!("{:?}", r[0]));
    assert_eq!(found, moved);
}

#[tokio::test]
async fn keys_of_every_kind_find_their_rows() {
    let db = TestDatabase::new().await;
    let cases: Vec<(T, Cell<'static>)> = vec![
        (T::Text, Cell::Text("a|b'\"\\ é".into())),
        (T::Varchar(9), Cell::Text("x".into())),
        (T::Uuid, Cell::Uuid([7; 16])),
        (T::Numeric(None), Cell::Numeric("0.000000000000000000000000000000000001".into())),
        (T::Integer, Cell::Int(-5)),
        (T::Timestamptz, Cell::Timestamp(1_795_312_800_123_456)),
        (T::Timestamptz, Cell::Timestamp(-62_135_596_800_000_001)),
        (T::Date, Cell::Date(-1)),
        (T::Boolean, Cell::Bool(true)),
        (T::Bytea, Cell::Bytes(vec![0, 1, 254].into())),
    ];
    for (n, (ty, cell)) in cases.into_iter().enumerate() {
        let id = format!("keys_{n}");
        let ddl = format!("CREATE TABLE {id} (a {}, b text, PRIMARY KEY (a, b))", ty.sql());
        let table = table(&id, vec![key("a", ty), key("b", T::Text)], &ddl);
        db.create(&table).await.unwrap();
        let row = vec![cell.clone(), Cell::Text("second".into())];
        let m = Mapped { key: id.clone(), key_json: "{}".into(), row: row.clone(), children: vec![] };
        db.load(&table, std::slice::from_ref(&m)).await;
        let fetched = db.target.fetch(&table, std::slice::from_ref(&row)).await.unwrap();
        assert_eq!(fetched[0].as_ref().map(|f| &f.0), Some(&row), "{ty:?}");
        let gone = RowChange::Delete { key: Key(id), key_json: "{}".into(), row_key: row };
        let applied = db.target.apply(&table, ChangeBatch { rows: vec![gone], ..ChangeBatch::default() }).await;
        assert_eq!(applied.unwrap().deleted, 1, "{ty:?}");
        assert_eq!(db.all(&table).await, Vec::<OwnedRow>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_is_the_server_s_own() {
    let db = TestDatabase::new().await;
    let table = table(
        "numbers",
        vec![key("k", T::Integer), column("n", T::Numeric(None))],
        "CREATE TABLE numbers (k integer PRIMARY KEY, n numeric)",
    );
    db.create(&table).await.unwrap();
    // Many numbers in one load: one round trip instead of hundreds.
    let number = ("-?", "0|[1-9][0-9]{0,44}", "(\\.[0-9]{0,44}[1-9])?")
        .prop_map(|(sign, int, frac)| format!("{sign}{int}{frac}"))
        .prop_filter("zero has no sign", |n| n != "-0");
    let sets = prop::collection::vec(number, 150);
    let mut runner = TestRunner::default();
    for _ in 0..4 {
        let set = sets.new_tree(&mut runner).unwrap().current();
        db.target.reset(&table).await.unwrap();
        let mut bulk = db.target.bulk(&table, Partition { index: 0, of: 1 }).await.unwrap();
        for (k, n) in set.iter().enumerate() {
            let row = vec![Cell::Int(k as i64), Cell::Numeric(n.as_str().into())];
            bulk.push(&Mapped { key: k.to_string(), key_json: "{}".into(), row, children: vec![] }).unwrap();
        }
        assert_eq!(bulk.flush(vec![], &checkpoint(set.len() as u64)).await.unwrap().upserted, set.len() as u64);
        let mut read = Vec::new();
        db.target.scan(&table, &mut |row| read.push(owned(row))).await.unwrap();
        for (k, n) in set.iter().enumerate() {
            assert_eq!(read[k][1], Cell::Numeric(n.as_str().into()));
        }
        let said = db.sql.query("SELECT n::text FROM numbers ORDER BY k", &[]).await.unwrap();
        let said: Vec<String> = said.iter().map(|r| r.get(0)).collect();
        assert_eq!(said, set);
    }
}
