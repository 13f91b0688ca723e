//! Types that only the database knows, between two databases: every type people have, with values that are easily spoilt.

use super::day::{Day, plan_of};
use super::{TestDatabase, column, key};
use crate::domain::plan::{ColumnType, Table, TypeName};
use crate::ports::Target as _;
use crate::workers::tests::world::World;

/// What people made, on either side. Numbers of types in the catalogue are others in each database.
pub(super) const MADE: &str = r#"
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE SCHEMA odd;
CREATE TYPE mood AS ENUM ('sad', 'it''s "so so"', 'happy, {very}', '');
CREATE DOMAIN isbn AS text CHECK (VALUE ~ '^[0-9X-]+$') NOT NULL;
CREATE DOMAIN odd.cents AS numeric(12,2) CHECK (VALUE >= 0);
CREATE DOMAIN short AS varchar(5);
CREATE DOMAIN code AS character(4);
CREATE DOMAIN feeling AS mood;
CREATE TYPE address AS (street text, "Post code" char(5), how mood, seen timestamp, more integer[]);
CREATE TYPE span AS RANGE (subtype = timestamp);
"#;

/// Every column but the key: its name, its type, and values of it as SQL.
pub(super) const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("enum_", "mood", &["'sad'", "'it''s \"so so\"'", "'happy, {very}'", "''"]),
    ("enums", "mood[]", &["'{}'", "ARRAY['sad', NULL, 'happy, {very}', '']::mood[]", "'{{sad,\"\"},{sad,sad}}'"]),
    ("isbn", "isbn", &["'0-306'", "'X'"]),
    ("cents", "odd.cents", &["0", "1234567890.10"]),
    ("short", "short", &["''", "'a b  '"]),
    ("code", "code", &["'ab'", "''", "'abcd'"]),
    ("feeling", "feeling", &["'sad'"]),
    ("char5", "character(5)", &["'ab'", "''", "'  a'", "'äöüß'"]),
    ("char_", "\"char\"", &["'a'", "''"]),
    ("name_", "name", &["'a name'", "repeat('x', 63)"]),
    ("citext_", "citext", &["'Ab'", "'aB'", "''"]),
    ("hstore_", "hstore", &["'\"a\"=>\"1\", b=>NULL, \"c \\\"q\"=>\"\\\\ =>\"'", "''"]),
    (
        "composite",
        "address",
        &[
            "ROW(NULL, NULL, NULL, NULL, NULL)",
            "ROW('a \"b\" \\ (c), {d}', 'ab', 'it''s \"so so\"', '0044-03-15 12:00:00 BC', '{1,NULL,3}')",
            "ROW('', NULL, '', 'infinity', '{}')",
        ],
    ),
    ("composites", "address[]", &["ARRAY[ROW('a,b', NULL, 'sad', NULL, '{{1,2},{3,4}}'), NULL]::address[]", "'{}'"]),
    ("time_", "time", &["'24:00'", "'00:00:00.000001'", "'23:59:59.999999'"]),
    ("time0", "time(0)", &["'10:00'", "'24:00'"]),
    ("timetz_", "timetz", &["'24:00:00-15:59'", "'10:00:00.5+05:30'"]),
    (
        "interval_",
        "interval",
        &[
            "'-1 year -2 mons +3 days -04:05:06.789'",
            "'0'",
            "'178000000 years'",
            "'1 day'",
            "'24:00'",
            "'-00:00:00.000001'",
        ],
    ),
    ("interval_days", "interval day to second(3)", &["'1 12:00:00.123'"]),
    (
        "timestamp_",
        "timestamp",
        &["'infinity'", "'-infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'"],
    ),
    ("timestamp3", "timestamp(3)", &["'2026-11-22 14:47:16.123'"]),
    ("stamp_tz3", "timestamp(3) with time zone", &["'2026-11-22 14:47:16.123+05:30'", "'infinity'"]),
    ("inet_", "inet", &["'10.0.0.1'", "'10.0.0.1/8'", "'::1'", "'fe80::/10'"]),
    ("cidr_", "cidr", &["'10.0.0.0/8'", "'::/0'"]),
    ("mac", "macaddr", &["'08:00:2b:01:02:03'"]),
    ("mac8", "macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("bit5", "bit(5)", &["'10101'", "'00000'"]),
    ("varbit_", "bit varying", &["''", "'1'", "repeat('10', 40)::varbit"]),
    ("money_", "money", &["'-92233720368547758.08'::numeric::money", "1234.5::money", "0::money"]),
    (
        "json_",
        "json",
        &["'{\"b\": 1,  \"a\" : [ ],\"b\":1.0}'", "' \"x\" '", "'null'", "E'\\n[1,\\t2]\\n'", "'{\"u\":\"\\u0000\"}'"],
    ),
    ("jsons", "json[]", &["ARRAY['{\"a\": 1}', NULL, '[\"x\"]']::json[]"]),
    ("xml_", "xml", &["'<a b=\"1\">x &amp; y</a>'", "'text only'", "'<a/><b/>'"]),
    ("ints", "integer[]", &["'{}'", "'{1,NULL,-3}'", "'{{1,2},{3,NULL}}'", "'[0:1]={7,8}'"]),
    ("rounded", "numeric(5,-2)", &["12300", "-9999900", "0"]),
    ("tiny", "numeric(2,5)", &["0.00012", "-0.00099", "0"]),
    ("rounds", "numeric(5,-2)[]", &["'{12300,NULL}'"]),
    ("numbers", "numeric[]", &["'{1.00,NaN,-0.1,1e20}'"]),
    ("floats", "float8[]", &["'{0.1,-0,NaN,-Infinity,1e-300}'"]),
    ("real_", "real", &["0.1", "'-Infinity'", "3.4e38"]),
    ("uuids", "uuid[]", &["'{00000000-0000-0000-0000-000000000007,NULL}'"]),
    ("moments", "timestamptz[]", &["'{2026-11-22 14:47:16+05:30,infinity,NULL,0044-03-15 12:00:00+00 BC}'"]),
    ("days", "date[]", &["'{2026-11-22,-infinity}'"]),
    ("raws", "bytea[]", &["ARRAY['\\x00ff'::bytea, '', NULL]"]),
    ("words", "varchar(3)[]", &["ARRAY['a b', '', 'NULL', '\"\\,']"]),
    ("docs", "jsonb[]", &["ARRAY['{\"a\": 1.0}', 'null']::jsonb[]"]),
    ("range_", "int4range", &["'empty'", "'[1,5]'", "'(,)'", "'(,7)'"]),
    ("number_range", "numrange", &["'[1.0,2.00)'", "'(,0.5]'"]),
    ("moment_range", "tstzrange", &["'[2026-11-22 14:47:16+05:30,infinity)'", "'(,2026-01-01 00:00+00]'"]),
    ("own_range", "span", &["'[\"2026-01-01 00:00:00\",)'"]),
    ("ranges", "int4multirange", &["'{}'", "'{[1,3),[7,)}'"]),
    ("vector", "tsvector", &["'a:1A ''it''''s'':2 b'", "''"]),
    ("query", "tsquery", &["'a & !(b | c:*)'"]),
    ("point_", "point", &["'(0.1,-0)'", "'(Infinity,NaN)'"]),
    ("box_", "box", &["'(1,2),(0.5,0)'"]),
    ("path_", "path", &["'[(0,0),(1,1)]'", "'((0,0),(1,1))'"]),
    ("polygon_", "polygon", &["'((0,0),(1,0),(1,1))'"]),
    ("circle_", "circle", &["'<(1,2),3>'"]),
    ("line_", "line", &["'{1,-1,0}'"]),
    ("lseg_", "lseg", &["'[(0,0),(1,1)]'"]),
    ("lsn", "pg_lsn", &["'16/B374D848'"]),
    ("long", "citext", &["(SELECT string_agg(md5(n::text), E'\\t') FROM generate_series(1, 32000) n)"]),
];

/// Columns of types that are known here too: the log sends all of them as text then.
const KNOWN: &str = r#"t text, n numeric, b bigint, d double precision, f boolean, at timestamptz, day date, j jsonb,
    ts text[], raw bytea, u uuid"#;
const KNOWN_VALUES: [&str; 2] = [
    r#"'é "\', 1.5, -9, 'NaN', true, '0044-03-15 12:00:00.000001+00 BC', '0044-03-15 BC', '{"b": 1}', ARRAY['a,b', NULL, '', '"\'], '\x00ff', '00000000-0000-0000-0000-000000000007'"#,
    "'', 'NaN', 0, '-Infinity', false, 'infinity', '-infinity', '{}', '{{a,b},{c,NULL}}', '', NULL",
];

fn native(name: &str) -> ColumnType {
    ColumnType::Native(TypeName::new(name))
}

fn everything() -> Table {
    use ColumnType as T;
    let known = [
        ("t", T::Text),
        ("n", T::Numeric(None)),
        ("b", T::Bigint),
        ("d", T::Double),
        ("f", T::Boolean),
        ("at", T::Timestamptz),
        ("day", T::Date),
        ("j", T::Jsonb),
        ("ts", T::TextArray),
        ("raw", T::Bytea),
        ("u", T::Uuid),
    ];
    let columns = std::iter::once(key("id", T::Integer))
        .chain(COLUMNS.iter().map(|(name, ty, _)| column(name, native(ty))))
        .chain(known.map(|(name, ty)| column(name, ty)));
    of("everything", columns.collect())
}

fn of(id: &str, columns: Vec<crate::domain::plan::Column>) -> Table {
    Table {
        key: columns.iter().filter(|c| c.key).map(|c| c.name.clone()).collect(),
        columns,
        target: format!("public.{id}"),
        marker_prefix: "marker-".into(),
        ..Table::watched(id, &format!("public.{id}"))
    }
}

/// A table whose key has types that only the database knows.
fn keyed() -> Table {
    let columns = vec![
        key("country", native("char(2)")),
        key("how", native("enum mood")),
        key("at", native("timestamp")),
        key("net", native("inet")),
        key("code", native("domain code")),
        column("v", ColumnType::Text),
    ];
    of("keyed", columns)
}

const KEYED: &str = "CREATE TABLE keyed (country char(2), how mood, at timestamp, net inet, code code, v text,
    PRIMARY KEY (code, how, country, at, net))";

fn schema() -> String {
    let columns: Vec<String> = COLUMNS.iter().map(|(name, ty, _)| format!("{name} {ty}")).collect();
    format!("{MADE} CREATE TABLE everything (id integer PRIMARY KEY, {}, {KNOWN}); {KEYED};", columns.join(", "))
}

/// Settings under which values are written in other words, for whoever does not say how.
async fn odd_settings(db: &TestDatabase, settings: &[&str]) {
    for setting in settings {
        let sql = format!("ALTER DATABASE {} SET {setting}", db.settings.database);
        db.sql.batch_execute(&sql).await.unwrap();
    }
}

/// The row of this number: the values of each column in turn, or NULL in a column whose turn it is.
fn row(n: usize) -> String {
    let values =
        COLUMNS.iter().enumerate().map(|(place, (_, ty, values))| match values.get((n + place) % (values.len() + 1)) {
            Some(value) => format!("({value})::{ty}"),
            None if *ty == "isbn" => "'0'".to_owned(),
            None => "NULL".to_owned(),
        });
    format!("{n}, {}, {}", values.collect::<Vec<_>>().join(", "), KNOWN_VALUES[n % 2])
}

fn insert(n: usize) -> String {
    format!("INSERT INTO everything VALUES ({})", row(n))
}

/// Every column of one row takes the values of another one.
fn update(n: usize, like: usize) -> String {
    let known = ["t", "n", "b", "d", "f", "at", "day", "j", "ts", "raw", "u"];
    let names = COLUMNS.iter().map(|(name, _, _)| *name).chain(known).collect::<Vec<_>>().join(", ");
    let (_, values) = row(like).split_once(", ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    format!("UPDATE everything SET ({names}) = ROW({values}) WHERE id = {n}")
}

fn keyed_rows(year: u32) -> String {
    format!(
        "INSERT INTO keyed SELECT c, m, make_timestamp({year}, n, 1, 0, 0, 0.5), n4::inet, 'a' || n, 'v' FROM generate_series(1, 3) n,
         unnest(ARRAY['de', 'f']) c, unnest(ARRAY['sad', 'it''s \"so so\"', '']::mood[]) m,
         unnest(ARRAY['10.0.0.1', '10.0.0.1/8']) n4"
    )
}

const BOTH: [&str; 2] = ["everything", "keyed"];

/// What a side holds, in the words of a session of ours.
async fn held(db: &TestDatabase) -> Vec<String> {
    let set = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex'; \
               SET extra_float_digits = 1";
    db.sql.batch_execute(set).await.unwrap();
    let mut all = Vec::new();
    for table in BOTH {
        let sql = format!("SELECT whole::text FROM {table} whole ORDER BY 1");
        let rows = db.sql.query(&sql, &[]).await.unwrap();
        all.extend(rows.iter().map(|row| format!("{table} {}", row.get::<_, String>(0))));
    }
    all
}

/// That both sides hold the same. Where they do not, the first rows that differ are shown from where they do.
async fn same(day: &Day) {
    let (old, new) = (held(&day.old).await, held(&day.new).await);
    let Some((one, other)) = old.iter().zip(&new).find(|(one, other)| one != other) else {
        return assert_eq!(old.len(), new.len());
    };
    let at = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count().saturating_sub(40);
    let shown = |row: &str| row.chars().skip(at).take(200).collect::<String>();
    panic!("{} and {} rows; old: {}\nnew: {}", old.len(), new.len(), shown(one), shown(other));
}

#[tokio::test]
async fn every_type_there_is_goes_there_and_back_unchanged() {
    let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
    new.sql.batch_execute("CREATE TYPE first AS ENUM ('x')").await.unwrap();
    for db in [&old, &new] {
        db.sql.batch_execute(&schema()).await.unwrap();
    }
    odd_settings(&old, &["datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'", "timezone = 'Asia/Kolkata'"]).await;
    odd_settings(&new, &["datestyle = 'German'", "intervalstyle = 'sql_standard'", "timezone = 'America/New_York'"])
        .await;
    odd_settings(&new, &["bytea_output = 'escape'", "extra_float_digits = -3", "xmloption = 'document'"]).await;
    let most = COLUMNS.iter().map(|c| c.2.len()).max().unwrap() + 1;
    for n in 0..most {
        old.sql.batch_execute(&insert(n)).await.unwrap_or_else(|e| panic!("{n}: {e:?}"));
    }
    old.sql.batch_execute(&keyed_rows(2020)).await.unwrap();

    let day = Day { world: World::with(plan_of(vec![everything(), keyed()])), old, new };
    let world = &day.world;
    let mut ctx = day.process().await;
    let found = day.new.target.describe(&world.plan.tables[0]).await.unwrap();
    assert_eq!(found.problems, [""; 0]);
    world.well(&ctx, &["capture", "load"]).await;
    assert_eq!(day.new.number("SELECT count(*) FROM cutover.parked").await, 0, "{:?}", parked(&day.new).await);
    same(&day).await;

    // Followed: new rows, changed ones, rows that are gone, and changed keys.
    ctx.ensure_following();
    let customer = day.old.connect().await;
    for n in 0..most {
        customer.batch_execute(&insert(100 + n)).await.unwrap();
        customer.batch_execute(&update(n, n + 1)).await.unwrap();
    }
    customer
        .batch_execute(&format!(
            "DELETE FROM everything WHERE id IN (0, 101); UPDATE everything SET id = 900 WHERE id = 102;
             UPDATE everything SET t = 'only this' WHERE id = 103; {};
             DELETE FROM keyed WHERE how = '' AND net = '10.0.0.1/8'; UPDATE keyed SET v = 'w' WHERE country = 'f';
             UPDATE keyed SET at = 'infinity', country = 'x' WHERE how = 'sad' AND country = 'f' AND code = 'a1' AND at < '2021-01-01'",
            keyed_rows(2021)
        ))
        .await
        .unwrap();
    world.well(&ctx, &["catch-up", "verify", "arm"]).await;
    same(&day).await;
    ctx = day.dies(ctx).await;
    ctx.ensure_following();
    world.well(&ctx, &["freeze", "drain", "switch", "thaw"]).await;
    same(&day).await;
    assert_eq!(parked(&day.new).await, [""; 0]);

    // Customers are on the new side, and go back.
    let customer = day.new.connect().await;
    // Not every document there is one by the settings of its database, which are those of the customer's session too.
    customer.batch_execute("SET xmloption = content").await.unwrap();
    for n in 0..most {
        customer.batch_execute(&insert(200 + n)).await.unwrap();
        customer.batch_execute(&update(100 + n, n + 3)).await.unwrap();
    }
    customer
        .batch_execute(&format!(
            "DELETE FROM everything WHERE id IN (1, 201); UPDATE everything SET id = 901 WHERE id = 202;
             UPDATE everything SET json_ = '{{\"a\":1}}' WHERE id = 203; UPDATE everything SET json_ = '{{\"a\": 1}}' WHERE id = 203;
             UPDATE everything SET code = 'a' WHERE id = 204; UPDATE everything SET ints = '[5:6]={{1,2}}' WHERE id = 205; {};
             DELETE FROM keyed WHERE net = '10.0.0.1' AND at < '2021-01-01'; UPDATE keyed SET v = 'z' WHERE country = 'x'",
            keyed_rows(2022)
        ))
        .await
        .unwrap();
    assert_eq!(day.taken_back(&ctx).await, [""; 0]);
    same(&day).await;
    ctx.stop().await;
}

async fn parked(db: &TestDatabase) -> Vec<String> {
    let sql = "SELECT concat_ws(' ', table_id, key, \"column\", reason, detail) FROM cutover.parked ORDER BY 1";
    db.sql.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn few() -> Table {
    let columns = vec![
        key("id", ColumnType::Integer),
        column("how", native("mood")),
        column("at", native("time(0)")),
        column("doc", native("json")),
        column("code", native("char(5)")),
        column("cents", native("domain odd.cents")),
    ];
    let ddl =
        "CREATE TABLE few (id integer PRIMARY KEY, how mood, at time(0), doc json, code char(5), cents odd.cents)";
    super::table("few", columns, ddl)
}

#[tokio::test]
async fn a_value_that_would_be_written_in_another_way_or_is_none_costs_its_row_only() {
    use crate::domain::mapping::{Mapped, RowErrorReason as R};
    use crate::domain::value::{Cell, Key, OwnedRow};
    use crate::ports::{ChangeBatch, RowChange};

    let db = TestDatabase::new().await;
    db.sql.batch_execute(MADE).await.unwrap();
    let table = few();
    db.create(&table).await.unwrap();
    assert_eq!(db.target.describe(&table).await.unwrap().problems, [""; 0]);
    let row = |id: i64, texts: [&str; 5]| -> OwnedRow {
        std::iter::once(Cell::Int(id)).chain(texts.map(|t| Cell::Text(t.to_owned().into()))).collect()
    };
    let good = row(1, ["sad", "10:00:00", " {\"a\" : 1, \"a\":2} ", "ab", "5.00"]);
    let rows = [
        good.clone(),
        row(2, ["glad", "10:00:00", "{}", "ab", "5.00"]),
        row(3, ["sad", "10:00", "{}", "ab", "5.00"]),
        row(4, ["sad", "10:00:00.4", "{}", "ab", "5.00"]),
        row(5, ["sad", "10:00:00", "{", "ab", "5.00"]),
        row(6, ["sad", "10:00:00", "{}", "ab ", "5.00"]),
        row(7, ["sad", "10:00:00", "{}", "abcdef", "5.00"]),
        row(8, ["sad", "10:00:00", "{}", "ab", "5"]),
        row(9, ["sad", "10:00:00", "{}", "ab", "-5.00"]),
    ];
    let columns = ["how", "at", "at", "doc", "code", "code", "cents", "cents"];
    let mapped = |row: &OwnedRow| {
        let Cell::Int(n) = row[0] else { unreachable!() };
        Mapped {
            key: n.to_string(),
            key_json: format!(r#"{{"id":{{"N":"{n}"}}}}"#),
            row: row.clone(),
            children: vec![],
        }
    };
    let change = |row: &OwnedRow| {
        let m = mapped(row);
        RowChange::Upsert { key: Key(m.key), key_json: m.key_json, row: m.row, children: vec![] }
    };
    let loaded = db.load(&table, &rows.iter().map(mapped).collect::<Vec<_>>()).await;
    assert_eq!((loaded.upserted, loaded.parked.len()), (1, 8), "{:?}", loaded.parked);
    assert_eq!(db.all(&table).await, std::slice::from_ref(&good));
    let batch = ChangeBatch { rows: rows.iter().map(change).collect(), ..ChangeBatch::default() };
    let applied = db.target.apply(&table, batch).await.unwrap();
    assert_eq!(db.all(&table).await, [good]);
    for (parked, (n, column)) in applied.parked.iter().zip((2..).zip(columns)) {
        assert_eq!(parked.key.0, n.to_string());
        assert!(matches!(parked.row_error.reason, R::Refused | R::TooLong), "{parked:?}");
        assert!(parked.row_error.detail.contains("SQLSTATE 2"), "{parked:?}");
        let told = [column, "-"].contains(&parked.row_error.column.as_str());
        assert!(told, "{parked:?}");
    }
    assert_eq!(applied.parked.len(), 8);
    // What is said of a value that came out otherwise names its column.
    assert_eq!(applied.parked[1].row_error.column, "at");
}

#[tokio::test]
async fn a_label_that_only_the_source_has_parks_its_row_and_no_other() {
    let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
    let table = of("orders", vec![key("id", ColumnType::Integer), column("how", native("mood"))]);
    for db in [&old, &new] {
        db.sql
            .batch_execute(
                "CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE TABLE orders (id integer PRIMARY KEY, how mood);",
            )
            .await
            .unwrap();
    }
    old.sql.batch_execute("INSERT INTO orders SELECT n, 'sad' FROM generate_series(1, 20) n").await.unwrap();
    let day = Day { world: World::with(plan_of(vec![table])), old, new };
    let ctx = day.process().await;
    day.world.well(&ctx, &["capture", "load"]).await;
    ctx.ensure_following();
    day.old.sql.batch_execute("ALTER TYPE mood ADD VALUE 'glad'").await.unwrap();
    day.old
        .sql
        .batch_execute(
            "INSERT INTO orders VALUES (21, 'glad'), (22, 'happy'); UPDATE orders SET how = 'glad' WHERE id = 7",
        )
        .await
        .unwrap();
    day.world.well(&ctx, &["catch-up"]).await;
    let parked = parked(&day.new).await;
    assert!(parked.len() == 2 && parked.iter().all(|p| p.contains("refused SQLSTATE 22P02")), "{parked:?}");
    assert_eq!(day.new.number("SELECT count(*) FROM orders").await, 20);
    assert_eq!(day.new.number("SELECT count(*) FROM orders WHERE id IN (7, 21)").await, 0);
    ctx.stop().await;
}

#[tokio::test]
async fn what_does_not_fit_is_told_by_name_before_anything_is_copied() {
    use crate::ports::Source as _;

    let (old, new) = (TestDatabase::bare().await, TestDatabase::new().await);
    old.sql
        .batch_execute(
            "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'new', 'it''s'); CREATE DOMAIN isbn AS text;
             CREATE TYPE place AS (street text, how mood);
             CREATE TABLE things (id citext PRIMARY KEY, how mood, at time(3), isbn isbn, there place[], r regclass)",
        )
        .await
        .unwrap();
    new.sql
        .batch_execute(
            "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN isbn AS varchar(9);
             CREATE TYPE place AS (street text, how mood, more text);
             CREATE TABLE things (id citext PRIMARY KEY, how mood, at time(0), isbn isbn, there place[], r regclass)",
        )
        .await
        .unwrap();
    let columns = vec![
        key("id", native("citext")),
        column("how", native("domain mood")),
        column("at", native("time(3)")),
        column("isbn", native("isbm")),
        column("there", native("place[]")),
        column("r", native("regclass")),
    ];
    let table = of("things", columns);
    let target = new.target.describe(&table).await.unwrap();
    for words in [
        "public.things.id: citext holds values equal that are written differently",
        "public.things.how: mood is not what the plan says, domain mood",
        "public.things.isbn is isbn, and there is no type isbm here",
        "public.things.r is regclass: its values are numbers of this server's own catalogue",
    ] {
        assert!(target.problems.iter().any(|p| p.contains(words)), "{words}: {:#?}", target.problems);
    }
    assert_eq!(target.problems.len(), 4, "{:#?}", target.problems);
    let source = crate::adapters::postgres::source::PgSource::new(&old.settings, super::PLAN).unwrap();
    let source = source.describe(&table).await.unwrap();
    let told = |column: &str| {
        let found = source.types.differences(column, &target.types, column);
        found.into_iter().map(|(wrong, advice)| format!("{wrong}; {advice}")).collect::<Vec<_>>().join("\n")
    };
    assert!(told("at").contains("at is time(0) without time zone, and at is time(3) without time zone at the source"));
    let made = told("there");
    for words in [
        "the enum mood lacks labels of the source: 'new', 'it''s'; ALTER TYPE mood ADD VALUE 'new'; ALTER TYPE mood ADD",
        "the type isbn is a domain over character varying(9), and a domain over text at the source",
        "the type place is composed of (street text, how mood, more text), and composed of (street text, how mood) at",
    ] {
        assert!(made.contains(words), "{words}: {made}");
    }
    // A type of ours where the source has another is refused as it ever was.
    let table = of("things", vec![key("id", native("citext")), column("how", ColumnType::Text)]);
    let source = crate::adapters::postgres::source::PgSource::new(&old.settings, super::PLAN).unwrap();
    let refused = source.describe(&table).await.unwrap_err();
    assert!(refused.came_back.contains("how mood, which the plan takes as text"), "{refused}");
}

#[tokio::test]
async fn keys_of_types_with_one_spelling_are_keys_and_others_are_not() {
    let db = TestDatabase::new().await;
    db.sql.batch_execute(MADE).await.unwrap();
    for (n, (ty, fits)) in [
        ("mood", true),
        ("char(2)", true),
        ("time", true),
        ("timestamp", true),
        ("inet", true),
        ("bit(3)", true),
        ("isbn", true),
        ("code", true),
        ("bpchar", false),
        ("citext", false),
        ("interval", false),
        ("odd.cents", false),
        ("numeric[]", false),
        ("address", false),
        ("real", false),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("keyed_{n}");
        let ddl = format!("CREATE TABLE {id} (id {ty} PRIMARY KEY)");
        let table = super::table(&id, vec![key("id", native(ty))], &ddl);
        db.create(&table).await.unwrap();
        let problems = db.target.describe(&table).await.unwrap().problems;
        assert_eq!(problems.is_empty(), fits, "{ty}: {problems:?}");
    }
}
