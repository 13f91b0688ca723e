//! PostgreSQL as a source, read on a real server.

use std::collections::BTreeMap;

use super::TestDatabase;
use crate::adapters::postgres::PgSettings;
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::domain::plan::{ColumnType, Table};
use crate::domain::value::{Cell, Record, Value};
use crate::ports::{Changes as _, Cursor, ErrorKind, PageEnd, Partition, Source as _};

fn things() -> Table {
    Table::watched("things", "public.things")
}

fn source(settings: &PgSettings) -> PgSource {
    PgSource::new(settings, super::PLAN).unwrap()
}

const WHOLE: Partition = Partition { index: 0, of: 1 };

async fn page(
    source: &PgSource,
    table: &Table,
    part: Partition,
    cursor: Option<&Cursor>,
) -> (Vec<Record<'static>>, PageEnd) {
    let (page, mut found) = (source.page(table, part, cursor).await.unwrap(), Vec::new());
    let end = source.read(&page, &mut |record| found.push(record.clone().into_owned())).unwrap();
    assert_eq!(end.items as usize, found.len());
    (found, end)
}

/// How often each id is read by all partitions of a reading.
async fn read_whole(source: &PgSource, table: &Table, of: u32) -> BTreeMap<i64, u32> {
    let mut times = BTreeMap::new();
    for index in 0..of {
        let mut cursor = None;
        loop {
            let (found, end) = page(source, table, Partition { index, of }, cursor.as_ref()).await;
            for record in found {
                let Some(Value::Cell(Cell::Int(id))) = record.get("id") else { panic!("{record:?}") };
                *times.entry(*id).or_default() += 1;
            }
            cursor = end.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    times
}

fn once(ids: std::ops::RangeInclusive<i64>) -> BTreeMap<i64, u32> {
    ids.map(|id| (id, 1)).collect()
}

#[tokio::test]
async fn a_row_of_every_type_is_read_as_its_cells() {
    let db = TestDatabase::bare().await;
    db.sql
        .batch_execute(
            "CREATE TABLE things (id int PRIMARY KEY, t text, v varchar(9), u uuid, n numeric(10,2), m numeric, s smallint,
                 b bigint, d double precision, f boolean, at timestamptz, day date, j jsonb, ts text[], raw bytea,
                 twice int GENERATED ALWAYS AS (id * 2) STORED, \"Odd Name\" text);
             INSERT INTO things VALUES (-7, 'é', 'v', '00000000-0000-0000-0000-000000000007', 1.50, 'NaN', -1, 9, 0.1, true,
                 '2026-11-22T14:47:16.220001Z', '1969-12-31', '{\"b\":1.0,\"a\":[]}', '{x,y}', '\\x00ff', DEFAULT, 'odd');
             INSERT INTO things (id) VALUES (1)",
        )
        .await
        .unwrap();
    let source = source(&db.settings);
    let (found, end) = page(&source, &things(), WHOLE, None).await;
    assert_eq!((found.len(), end.next), (2, None));
    let cell = |name: &str| found[0].get(name).cloned().unwrap();
    for (name, wanted) in [
        ("id", Cell::Int(-7)),
        ("t", Cell::Text("é".into())),
        ("v", Cell::Text("v".into())),
        ("u", Cell::Uuid(7_u128.to_be_bytes())),
        ("n", Cell::Numeric("1.5".into())),
        ("m", Cell::Numeric("NaN".into())),
        ("s", Cell::Int(-1)),
        ("b", Cell::Int(9)),
        ("d", Cell::Float(0.1)),
        ("f", Cell::Bool(true)),
        ("at", Cell::Timestamp(1_795_358_836_220_001)),
        ("day", Cell::Date(-1)),
        ("j", Cell::Json("{\"a\":[],\"b\":1}".into())),
        ("ts", Cell::TextArray(vec!["x".into(), "y".into()])),
        ("raw", Cell::Bytes(vec![0, 255].into())),
        ("Odd Name", Cell::Text("odd".into())),
    ] {
        assert_eq!(cell(name), Value::from(wanted), "{name}");
    }
    assert_eq!(found[0].get("twice"), None, "the target makes it itself");
    // Values that have no ordinary form are what they are, and no other value.
    db.sql
        .batch_execute(
            "INSERT INTO things (id, at, day, ts, d) VALUES (2, 'infinity', '-infinity', ARRAY['a', NULL], 'NaN'),
                 (3, '-infinity', 'infinity', '{{a,b},{c,d}}', '-infinity'), (4, NULL, NULL, '[0:1]={a,b}', NULL)",
        )
        .await
        .unwrap();
    let (odd, _) = page(&source, &things(), WHOLE, None).await;
    let of = |id: i64, name: &str| {
        let row = odd.iter().find(|r| r.get("id") == Some(&Value::from(Cell::Int(id)))).unwrap();
        row.get(name).cloned().unwrap()
    };
    assert_eq!(of(2, "at"), Value::from(Cell::Timestamp(i64::MAX)));
    assert_eq!(of(3, "at"), Value::from(Cell::Timestamp(i64::MIN)));
    assert_eq!((of(2, "day"), of(3, "day")), (Value::from(Cell::Date(i32::MIN)), Value::from(Cell::Date(i32::MAX))));
    assert_eq!(of(2, "d"), Value::from(Cell::Float(f64::NAN)));
    let arrays: Vec<Value<'_>> = (2..=4).map(|id| of(id, "ts")).collect();
    assert!(arrays.iter().all(|array| matches!(array, Value::Cell(Cell::Other(_)))), "{arrays:?}");
    assert!(arrays[0] != arrays[1] && arrays[1] != arrays[2]);
    db.sql.batch_execute("DELETE FROM things WHERE id > 1").await.unwrap();
    assert_eq!(found[1].get("t"), Some(&Value::Null));
    // By key, in the order of the keys, in either way of saying one.
    let key = |value: Value<'static>| Record { fields: vec![("id".into(), value)] };
    let keys = [key(Value::from(Cell::Int(1))), key(Value::Decimal("99".into())), key(Value::Decimal("-7".into()))];
    let got = source.get(&things(), &keys).await.unwrap();
    assert_eq!(got, [Some(found[1].clone()), None, Some(found[0].clone())]);
    let refused = source.get(&things(), &[key(Value::Text("x".into()))]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn partitions_of_a_reading_together_are_the_table_and_share_nothing() {
    let db = TestDatabase::bare().await;
    // Some three stripes of blocks.
    db.sql
        .batch_execute(
            "CREATE TABLE things (id bigint PRIMARY KEY, t text); ALTER TABLE things ALTER t SET STORAGE PLAIN;
             INSERT INTO things SELECT n, repeat('x', 3000) FROM generate_series(1, 6000) n",
        )
        .await
        .unwrap();
    let source = source(&db.settings);
    for of in [1, 2, 5] {
        assert_eq!(read_whole(&source, &things(), of).await, once(1..=6_000), "{of}");
    }
    assert_eq!(source.count(&things()).await.unwrap().rows, Some(6_000));
    assert_eq!(source.describe(&things()).await.unwrap().count.rows, None, "never analysed");
    db.sql.batch_execute("ANALYZE things").await.unwrap();
    let found = source.describe(&things()).await.unwrap();
    assert_eq!((found.count.rows, &found.key[..]), (Some(6_000), &[("id".to_owned(), "N".to_owned())][..]));
    assert!(found.bytes.is_some_and(|bytes| bytes > 18_000_000), "{found:?}");
    // It grows while it is read, and it is rewritten while it is read.
    let (_, end) = page(&source, &things(), WHOLE, None).await;
    db.sql.batch_execute("INSERT INTO things VALUES (6001, 'late')").await.unwrap();
    page(&source, &things(), WHOLE, end.next.as_ref()).await;
    db.sql.batch_execute("VACUUM FULL things").await.unwrap();
    let moved = source.page(&things(), WHOLE, end.next.as_ref()).await.unwrap_err();
    assert_eq!(moved.kind, ErrorKind::Expired, "{moved}");
    let wrong = source.page(&things(), WHOLE, Some(&Cursor("here".into()))).await.unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::Invalid, "{wrong}");
}

#[tokio::test]
async fn a_table_that_is_rewritten_between_two_segments_of_its_load_is_told() {
    let db = TestDatabase::bare().await;
    db.sql
        .batch_execute(
            "CREATE TABLE things (id bigint PRIMARY KEY, t text); ALTER TABLE things ALTER t SET STORAGE PLAIN;
             INSERT INTO things SELECT n, repeat('x', 3000) FROM generate_series(1, 4000) n;
             CREATE TABLE parted (id bigint PRIMARY KEY, t text) PARTITION BY RANGE (id);
             CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
             CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20)",
        )
        .await
        .unwrap();
    let source = source(&db.settings);
    let parted = Table { columns: things().columns, key: things().key, ..Table::watched("parted", "public.parted") };
    // Where no changes are captured there is no load to guard.
    source.begin_load(&things()).await.unwrap();
    source.end_load(&things()).await.unwrap();
    let changes = PgChanges::new(
        std::sync::Arc::new(PgSource::new(&db.settings, super::PLAN).unwrap()),
        db.settings.clone(),
        vec![things(), parted.clone()],
    );
    changes.enable(&things()).await.unwrap();

    source.begin_load(&things()).await.unwrap();
    source.begin_load(&parted).await.unwrap();
    let segment = |index| Partition { index, of: 2 };
    let mut seen = BTreeMap::new();
    let mut read = async |index| {
        let mut cursor = None;
        loop {
            let (rows, end) = page(&source, &things(), segment(index), cursor.as_ref()).await;
            for row in &rows {
                let Some(Value::Cell(Cell::Int(id))) = row.get("id") else { panic!("{row:?}") };
                *seen.entry(*id).or_insert(0) += 1;
            }
            cursor = end.next;
            if cursor.is_none() {
                return;
            }
        }
    };
    // The second segment has the later half. Before it is begun, its rows move to where the first one was read.
    read(0).await;
    db.sql.batch_execute("DELETE FROM things WHERE id <= 2000").await.unwrap();
    // Rows that a snapshot of another test's new slot may still see are kept, so it is done until they are gone.
    let pages =
        async || -> i64 { db.sql.query_one("SELECT pg_relation_size('things') / 8192", &[]).await.unwrap().get(0) };
    let before = pages().await;
    while pages().await > before * 3 / 4 {
        db.sql.batch_execute("VACUUM FULL things").await.unwrap();
    }
    read(1).await;
    assert!((2_001..=4_000).any(|id| !seen.contains_key(&id)), "no row was missed, so nothing is shown");
    // Another process is told too, each time it asks.
    for source in [&source, &self::source(&db.settings)] {
        let moved = source.end_load(&things()).await.unwrap_err();
        assert_eq!(moved.kind, ErrorKind::Expired, "{moved}");
        assert!(moved.came_back.contains("things was rewritten"), "{moved}");
    }
    // It is loaded anew; a rewrite after the load does no harm.
    source.begin_load(&things()).await.unwrap();
    source.end_load(&things()).await.unwrap();
    db.sql.batch_execute("VACUUM FULL things").await.unwrap();
    source.end_load(&things()).await.unwrap();

    // A partition that comes meanwhile is no rewrite, one that is rewritten is.
    db.sql.batch_execute("CREATE TABLE parted_3 PARTITION OF parted FOR VALUES FROM (20) TO (30)").await.unwrap();
    source.end_load(&parted).await.unwrap();
    source.begin_load(&parted).await.unwrap();
    db.sql.batch_execute("CLUSTER parted_2 USING parted_2_pkey").await.unwrap();
    let moved = source.end_load(&parted).await.unwrap_err();
    assert!(moved.came_back.contains("parted_2"), "{moved}");
    changes.close().await.unwrap();
}

#[tokio::test]
async fn a_partitioned_table_is_read_partition_by_partition() {
    let db = TestDatabase::bare().await;
    db.sql
        .batch_execute(
            "CREATE TABLE things (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);
             CREATE TABLE things_1 PARTITION OF things FOR VALUES FROM (0) TO (10);
             CREATE TABLE things_2 PARTITION OF things FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
             CREATE TABLE things_2a PARTITION OF things_2 FOR VALUES IN (11);
             CREATE TABLE things_2b PARTITION OF things_2 DEFAULT;
             CREATE TABLE things_3 PARTITION OF things FOR VALUES FROM (20) TO (30);
             INSERT INTO things SELECT n FROM generate_series(1, 19) n",
        )
        .await
        .unwrap();
    let source = source(&db.settings);
    for of in [1, 3] {
        assert_eq!(read_whole(&source, &things(), of).await, once(1..=19), "{of}");
    }
    // Two of them of some 600 blocks, more than one page and less than a stripe; one shrinks between two pages.
    db.sql
        .batch_execute(
            "ALTER TABLE things ALTER t SET STORAGE PLAIN;
             CREATE TABLE things_4 PARTITION OF things FOR VALUES FROM (100) TO (2000);
             CREATE TABLE things_5 PARTITION OF things FOR VALUES FROM (2000) TO (4000);
             INSERT INTO things SELECT n, repeat('x', 3000) FROM generate_series(800, 3199) n",
        )
        .await
        .unwrap();
    let all: BTreeMap<i64, u32> = once(1..=19).into_iter().chain(once(800..=3_199)).collect();
    for of in [1, 3] {
        assert_eq!(read_whole(&source, &things(), of).await, all, "{of}");
    }
    let (mut cursor, mut seen) = (None, BTreeMap::new());
    loop {
        let (rows, end) = page(&source, &things(), WHOLE, cursor.as_ref()).await;
        for row in &rows {
            let Some(Value::Cell(Cell::Int(id))) = row.get("id") else { panic!("{row:?}") };
            *seen.entry(*id).or_insert(0) += 1;
        }
        if seen.contains_key(&2_000) && seen.len() < all.len() {
            for sql in ["DELETE FROM things WHERE id >= 2100", "VACUUM things_5"] {
                db.sql.batch_execute(sql).await.unwrap();
            }
        }
        cursor = end.next;
        if cursor.is_none() {
            break;
        }
    }
    assert!((1..=19).chain(800..2_100).all(|id| seen.get(&id) == Some(&1)), "{}", seen.len());
    db.sql.batch_execute("DROP TABLE things_1, things_2, things_3, things_4, things_5").await.unwrap();
    assert_eq!(read_whole(&source, &things(), 2).await, BTreeMap::new());
}

#[tokio::test]
async fn what_cannot_be_carried_is_named() {
    let db = TestDatabase::bare().await;
    let refused = source(&db.settings).describe(&things()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound, "{refused}");
    db.sql.batch_execute("CREATE TABLE things (id int, net inet, at timestamp)").await.unwrap();
    let taken = ["net", "at"].map(|name| super::column(name, ColumnType::Text));
    let table = Table { columns: taken.into(), ..things() };
    let refused = source(&db.settings).describe(&table).await.unwrap_err();
    let said = "net inet, which the plan takes as text; at timestamp without time zone, which the plan takes as text";
    assert!(refused.came_back.ends_with(said) && refused.advice.contains("type ="), "{refused}");
    db.sql.batch_execute("ALTER TABLE things DROP net, DROP at").await.unwrap();
    let refused = source(&db.settings).describe(&things()).await.unwrap_err();
    assert!(refused.came_back.contains("no primary key"), "{refused}");
}

#[tokio::test]
async fn a_page_that_is_torn_is_an_error_and_never_an_end() {
    let db = TestDatabase::bare().await;
    db.sql.batch_execute("CREATE TABLE things (id int PRIMARY KEY); INSERT INTO things VALUES (1), (2)").await.unwrap();
    let source = source(&db.settings);
    let mut page = source.page(&things(), WHOLE, None).await.unwrap();
    let (whole, mut lengths) = (page.body.clone(), Vec::new());
    for len in 0..whole.len() {
        page.body = whole.slice(..len);
        lengths.extend(source.read(&page, &mut |_| {}).is_ok().then_some(len));
    }
    assert_eq!(lengths, [0; 0]);
}
