//! A column stores what the mapping says it stores. The server itself is asked what becomes of a value when it is put
//! into a column of the type.

use super::{TestDatabase, column, key, owned, table};
use crate::domain::mapping::{Mapped, RowErrorReason as R, TableMapping, canonical_numeric};
use crate::domain::plan::{Between, ColumnType as T, Declared, Table, Unit};
use crate::domain::value::{Key, Record, Value};
use crate::ports::{ChangeBatch, RowChange, Target as _};

/// Values of one type on both sides of what it holds.
struct Case {
    ty: T,
    unit: Option<Unit>,
    values: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        ty: T::Double,
        unit: None,
        values: &[
            "0.1",
            "0.30000000000000004",
            "0.300000000000000041",
            "123456789012345",
            "1234567890123456789012345",
            "9007199254740991",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994",
            "1E22",
            "-1.5E-7",
            "1.7976931348623157E308",
            "1.79769313486231570001E308",
            "1.797693134862316E308",
            "5E-324",
            "4.9E-324",
            "1E-330",
            "99999999999999999999999999999999999999",
            "9.9999999999999999999999999999999999999E+125",
            "1E-130",
        ],
    },
    Case {
        ty: T::Numeric(Some((10, 2))),
        unit: None,
        values: &[
            "19.99",
            "19.990",
            "19.994",
            "19.995",
            "-19.995",
            "0.004",
            "0.005",
            "1E-130",
            "99999999.99",
            "99999999.994",
            "99999999.995",
            "-99999999.99",
            "-99999999.995",
            "100000000",
            "1E125",
        ],
    },
    Case {
        ty: T::Numeric(Some((38, 0))),
        unit: None,
        values: &[
            "99999999999999999999999999999999999999",
            "9999999999999999999999999999999999999.4",
            "1E38",
            "0.5",
            "-0.5",
            "-0.4",
        ],
    },
    Case { ty: T::Numeric(Some((3, 5))), unit: None, values: &["0.00123", "0.001234", "0.009995", "0.01", "0.0123"] },
    Case {
        ty: T::Numeric(None),
        unit: None,
        values: &["12345678901234567890123456789012345678", "1E-130", "9.9999999999999999999999999999999999999E+125"],
    },
    Case {
        ty: T::Smallint,
        unit: None,
        values: &["32767", "32767.4", "32767.5", "32768", "-32768", "-32768.4", "-32768.5", "1.5", "2.5", "-0.4"],
    },
    Case {
        ty: T::Integer,
        unit: None,
        values: &["2147483647", "2147483647.4", "2147483647.5", "-2147483648.5", "1.0"],
    },
    Case {
        ty: T::Bigint,
        unit: None,
        values: &[
            "9223372036854775807",
            "9223372036854775807.5",
            "9223372036854775808",
            "-9223372036854775808.4",
            "0.5",
        ],
    },
    Case {
        ty: T::Timestamptz,
        unit: None,
        values: &[
            "2026-11-22T14:47:16.123456Z",
            "2026-11-22T14:47:16.1234560Z",
            "2026-11-22T14:47:16.1234567Z",
            "2026-11-22T14:47:16.1234561+01:30",
            "2026-12-31T23:59:59.9999999Z",
            "0001-01-01T00:00:00Z",
            "9999-12-30T21:59:59.999999Z",
        ],
    },
    Case {
        ty: T::Timestamptz,
        unit: Some(Unit::Seconds),
        values: &["1795358836.220001", "1795358836.2200014", "-0.000001", "-62135596800", "253402300799.999999"],
    },
    Case {
        ty: T::Timestamptz,
        unit: Some(Unit::Millis),
        values: &["1795358836220.001", "1795358836220.0014", "1795358836220.0016", "-1", "253402300799999.999"],
    },
    Case {
        ty: T::Timestamptz,
        unit: Some(Unit::Micros),
        values: &["1795358836220001", "1795358836220001.4", "1795358836220001.6", "-1.6"],
    },
    Case { ty: T::Varchar(3), unit: None, values: &["abc", "abcd", "äöüß", "a 🚀x", "ab  c", "abc ", ""] },
];

/// The whole of the type's days: what is no plausible moment is not in question here.
const WHENEVER: Between = Between(-800_000, 3_000_000);

fn under(case: &Case, lossy: bool, id: &str) -> Table {
    let mut v = column("v", case.ty);
    v.declared = Declared { unit: case.unit, between: case.unit.map(|_| WHENEVER), lossy, ..Declared::default() };
    let ddl = format!("CREATE TABLE {id} (k text PRIMARY KEY, v {})", case.ty.sql());
    table(id, vec![key("k", T::Text), v], &ddl)
}

/// SQL for what a value becomes in the type, as text; `$1` is the value.
fn becomes(case: &Case) -> String {
    let micros = |of: &str| format!("(extract(epoch FROM {of}) * 1000000)::bigint::text");
    match (case.ty, case.unit) {
        (T::Double, _) => "$1::text::float8::text".to_owned(),
        (T::Varchar(n), _) => format!("$1::text::varchar({n})::text"),
        (T::Timestamptz, None) => micros("$1::text::timestamptz"),
        // A product of numerics is exact, and a bigint is rounded to as the column would be.
        (T::Timestamptz, Some(unit)) => format!("($1::text::numeric * 1e{})::bigint::text", unit.decimals()),
        (ty, _) => format!("$1::text::numeric::{}::text", ty.sql()),
    }
}

/// SQL for what stands in the column, in the same words.
fn stands(case: &Case, id: &str) -> String {
    match case.ty {
        T::Timestamptz => format!("SELECT (extract(epoch FROM v) * 1000000)::bigint::text FROM {id} WHERE k = $1"),
        _ => format!("SELECT v::text FROM {id} WHERE k = $1"),
    }
}

/// The value itself, in the words of [`becomes`].
fn itself(case: &Case, value: &str) -> String {
    match (case.ty, case.unit) {
        (T::Varchar(_), _) => value.to_owned(),
        (T::Timestamptz, None) => {
            let at: jiff::Timestamp = value.parse().unwrap();
            let whole = at.as_nanosecond() % 1_000 == 0;
            if whole { at.as_microsecond().to_string() } else { format!("{} ns", at.as_nanosecond()) }
        }
        (T::Timestamptz, Some(unit)) => canonical_numeric(&format!("{value}e{}", unit.decimals())).unwrap(),
        _ => canonical_numeric(value).unwrap(),
    }
}

fn item(case: &Case, value: &str) -> Record<'static> {
    let text = matches!(case.ty, T::Varchar(_)) || (case.ty == T::Timestamptz && case.unit.is_none());
    let attr = if text { Value::Text(value.to_owned().into()) } else { Value::Decimal(value.to_owned().into()) };
    Record { fields: vec![("k".into(), Value::Text(value.to_owned().into())), ("v".into(), attr)] }
}

fn mapped(table: &Table, item: &Record<'static>) -> Result<Mapped<'static>, R> {
    let mut out = Mapped::default();
    let mapping = TableMapping::new(table);
    mapping.map(item, &mut out).map_err(|m| m.reason)?;
    Ok(Mapped { row: owned(&out.row), key: out.key, key_json: out.key_json, children: vec![] })
}

#[tokio::test]
async fn a_column_stores_what_the_mapping_says_and_what_it_would_change_is_parked_unless_the_column_says_lossy() {
    let db = TestDatabase::new().await;
    let (mut exact, mut changed, mut refused) = (0, 0, 0);
    for (n, case) in CASES.iter().enumerate() {
        let (strict, lossy) = (under(case, false, &format!("strict_{n}")), under(case, true, &format!("lossy_{n}")));
        for table in [&strict, &lossy] {
            db.create(table).await.unwrap();
            assert_eq!(db.target.describe(table).await.unwrap().problems, Vec::<String>::new());
        }
        let ask = format!("SELECT {}", becomes(case));
        for value in case.values {
            let what = format!("{value:?} into {} ({:?})", case.ty.sql(), case.unit);
            let item = item(case, value);
            let said = db.sql.query_one(&ask, &[value]).await.map(|row| row.get::<_, String>(0));
            let words = |text: String| match case.ty {
                T::Varchar(_) => text,
                _ => canonical_numeric(&text).unwrap(),
            };
            let Ok(kept) = said.map(words) else {
                assert_eq!(mapped(&strict, &item).unwrap_err(), R::NumberRange, "{what}: the server refuses it");
                assert_eq!(mapped(&lossy, &item).unwrap_err(), R::NumberRange, "{what}: the server refuses it");
                refused += 1;
                continue;
            };
            let tables = if kept == itself(case, value) {
                exact += 1;
                vec![&strict, &lossy]
            } else {
                changed += 1;
                let reason = if matches!(case.ty, T::Varchar(_)) { R::TooLong } else { R::Lossy };
                assert_eq!(mapped(&strict, &item).unwrap_err(), reason, "{what}: the server would make it {kept}");
                vec![&lossy]
            };
            for table in tables {
                let row = mapped(table, &item).unwrap_or_else(|why| panic!("{what}: the server keeps {kept}: {why}"));
                // Both ways into the table, one after the other.
                let stored = |id: String| {
                    let ask = stands(case, &id);
                    let db = &db;
                    async move { words(db.sql.query_one(&ask, &[value]).await.unwrap().get(0)) }
                };
                assert_eq!(db.load(table, std::slice::from_ref(&row)).await.upserted, 1, "{what}");
                assert_eq!(stored(table.target.clone()).await, kept, "{what} as it is loaded");
                db.sql.execute(&format!("DELETE FROM {}", table.target), &[]).await.unwrap();
                let change = RowChange::Upsert {
                    key: Key(row.key.clone()),
                    key_json: row.key_json.clone(),
                    row: row.row.clone(),
                    children: vec![],
                };
                let batch = ChangeBatch { rows: vec![change], ..ChangeBatch::default() };
                assert_eq!(db.target.apply(table, batch).await.unwrap().upserted, 1, "{what}");
                assert_eq!(stored(table.target.clone()).await, kept, "{what} as it is followed");
                assert!(db.all(table).await.contains(&row.row), "{what} does not compare equal with itself");
            }
        }
    }
    assert!(exact > 20 && changed > 20 && refused > 10, "{exact} kept, {changed} changed, {refused} refused");
}

#[tokio::test]
async fn a_column_that_would_round_behind_the_mappings_back_is_refused_by_name() {
    let db = TestDatabase::new().await;
    for (ty, column_type) in [
        (T::Double, "real"),
        (T::Double, "numeric(10,2)"),
        (T::Numeric(None), "double precision"),
        (T::Numeric(None), "real"),
        (T::Numeric(Some((12, 4))), "numeric(10,2)"),
        (T::Timestamptz, "timestamptz(0)"),
        (T::Timestamptz, "timestamptz(3)"),
        (T::Timestamptz, "timestamp"),
        (T::Timestamptz, "date"),
        (T::Varchar(20), "varchar(10)"),
        (T::Text, "varchar(10)"),
        (T::Text, "char(10)"),
        (T::Integer, "smallint"),
    ] {
        let ddl = format!("DROP TABLE IF EXISTS narrow; CREATE TABLE narrow (k text PRIMARY KEY, v {column_type})");
        db.sql.batch_execute(&ddl).await.unwrap();
        let table = table("narrow", vec![key("k", T::Text), column("v", ty)], "");
        let problems = db.target.describe(&table).await.unwrap().problems;
        assert!(
            problems.iter().any(|p| p.starts_with("narrow.v is ")),
            "{} into {column_type}: {problems:?}",
            ty.sql()
        );
    }
}
