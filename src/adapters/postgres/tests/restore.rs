//! An export written back: every value of every type, all of it or nothing, and never over anybody's rows.

use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;

use super::TestDatabase;
use super::point_in_time::every;
use crate::adapters::postgres::PgRestore;
use crate::adapters::postgres::source::PgSource;
use crate::domain::plan::{AfterLoad, Fires, Table};
use crate::ports::{HeldTable, Source as _, Target as _};
use crate::workers::{Before, RestoreEnd, RestoreError, restore};

/// What an export of these tables holds, each under its own name.
async fn exported(db: &TestDatabase, names: &[&str]) -> (Vec<HeldTable>, Vec<Vec<u8>>) {
    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    let tables: Vec<Table> = names.iter().map(|name| Table::watched(name, name)).collect();
    let mut moment = source.point_in_time(&tables).await.unwrap().unwrap();
    let (mut held, mut lines) = (Vec::new(), Vec::new());
    for table in &tables {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = moment.page(table, cursor.as_ref()).await.unwrap();
            all.extend(page.lines);
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let key = source.describe(table).await.map(|found| found.key).unwrap_or_default();
        let columns = moment.columns(table);
        held.push(HeldTable { id: table.id.clone(), name: table.source.clone(), key, columns, ..HeldTable::default() });
        lines.push(all);
    }
    (held, lines)
}

async fn restored(db: &TestDatabase, held: &[HeldTable], lines: &[Vec<u8>]) -> Result<RestoreEnd, RestoreError> {
    let into = PgRestore::new(&db.settings).unwrap();
    let source = |table: &HeldTable| {
        let at = held.iter().position(|one| one.id == table.id).unwrap();
        // In pieces of whole lines.
        let pieces: Vec<Vec<u8>> = lines[at].split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let (sink, lines) = mpsc::channel(pieces.len().max(1));
        pieces.into_iter().for_each(|piece| sink.try_send(Ok(piece)).unwrap());
        lines
    };
    restore(&into, held, &source, &AtomicU64::new(0)).await
}

async fn number(db: &TestDatabase, sql: &str) -> i64 {
    db.number(sql).await
}

#[tokio::test]
async fn every_value_of_every_type_is_written_back_and_known_again() {
    let db = TestDatabase::bare().await;
    let most = every(&db).await;
    let (mut held, lines) = exported(&db, &["public.every"]).await;
    held[0].name = "public.restored".to_owned();
    let end = restored(&db, &held, &lines).await.unwrap();
    assert_eq!((end.tables[0].digest.records, end.tables[0].before), (most as u64 + 1, Before::Empty), "{end:?}");
    let differing =
        "SELECT count(*) FROM before b FULL JOIN restored r USING (id) WHERE b::text IS DISTINCT FROM r::text";
    assert_eq!(number(&db, differing).await, 0);

    // Once more it writes nothing; with a row that is somebody else's it is refused.
    let again = restored(&db, &held, &lines).await.unwrap();
    assert_eq!((again.tables[0].before, again.tables[0].digest), (Before::All, end.tables[0].digest));
    db.sql.batch_execute("UPDATE restored SET text_ = 'secret of a customer' WHERE id = 1").await.unwrap();
    let refused = restored(&db, &held, &lines).await.unwrap_err();
    assert!(matches!(&refused, RestoreError::Refused(why) if why.len() == 1), "{refused}");
    assert!(refused.to_string().contains("not those of this export") && !refused.to_string().contains("secret"));
    db.sql.batch_execute("DELETE FROM restored WHERE id = 1").await.unwrap();
    assert!(matches!(restored(&db, &held, &lines).await, Err(RestoreError::Refused(_))), "some of it proves nothing");

    // A table that is not there is made of what the export says of its columns.
    held[0].name = "made.\"anew.twice\"".to_owned();
    let end = restored(&db, &held, &lines).await.unwrap();
    assert_eq!(end.tables[0].before, Before::Nothing);
    assert!(end.notices.iter().any(|notice| notice.contains("its columns and its key alone")), "{end:?}");
    let sql = "SELECT count(*) FROM before b JOIN made.\"anew.twice\" r USING (id) WHERE b.text_ IS NOT DISTINCT FROM r.text_";
    assert_eq!(number(&db, sql).await, most as i64 + 1);
}

#[tokio::test]
async fn parents_come_first_triggers_do_not_fire_and_sequences_go_on() {
    let db = TestDatabase::bare().await;
    let tables = "
        CREATE TABLE parents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
        CREATE TABLE children (id serial PRIMARY KEY, parent bigint NOT NULL REFERENCES parents, next int REFERENCES children);
        CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
        CREATE TRIGGER loud BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION shout();
        CREATE TRIGGER always BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION shout();
        ALTER TABLE parents ENABLE ALWAYS TRIGGER always;
        CREATE TRIGGER never BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION shout();
        ALTER TABLE parents DISABLE TRIGGER never";
    db.sql.batch_execute(tables).await.unwrap();
    // The first refers to the last of its own table.
    let rows = "
        INSERT INTO parents (name) SELECT 'p' FROM generate_series(1, 50);
        UPDATE parents SET name = 'quiet';
        INSERT INTO children (parent, next) SELECT n, CASE WHEN n = 1 THEN 50 END FROM generate_series(1, 50) n";
    db.sql.batch_execute(rows).await.unwrap();
    let (held, lines) = exported(&db, &["public.children", "public.parents"]).await;
    let held_rows = number(&db, "SELECT count(*) FROM children").await;
    db.sql.batch_execute("DROP TABLE children, parents; DROP FUNCTION shout").await.unwrap();
    db.sql.batch_execute(tables).await.unwrap();

    let end = restored(&db, &held, &lines).await.unwrap();
    let order: Vec<&str> = end.tables.iter().map(|table| table.id.as_str()).collect();
    assert_eq!(order, ["public.parents", "public.children"]);
    assert_eq!(number(&db, "SELECT count(*) FROM children").await, held_rows);
    assert_eq!(number(&db, "SELECT count(*) FROM parents WHERE name <> 'quiet'").await, 0, "a trigger fired");
    let states =
        "SELECT count(*) FROM pg_trigger WHERE (tgname, tgenabled) IN (('loud', 'O'), ('always', 'A'), ('never', 'D'))";
    assert_eq!(number(&db, states).await, 3, "triggers are as they were");
    db.sql
        .batch_execute("INSERT INTO parents (name) VALUES ('new'); INSERT INTO children (parent) VALUES (1)")
        .await
        .unwrap();
    assert!(end.notices.iter().filter(|notice| notice.contains("gives 51 next")).count() == 2, "{end:?}");
}

#[tokio::test]
async fn what_cannot_be_taken_leaves_nothing_behind() {
    let db = TestDatabase::new().await;
    db.sql
        .batch_execute(
            "CREATE TABLE a (id int PRIMARY KEY, secret text); INSERT INTO a SELECT n, 'hush ' || n FROM generate_series(1, 100) n;
             CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1)",
        )
        .await
        .unwrap();
    let (held, lines) = exported(&db, &["public.b", "public.a"]).await;
    db.sql.batch_execute("TRUNCATE a, b").await.unwrap();
    // Narrower than what it held.
    db.sql.batch_execute("ALTER TABLE a ADD CONSTRAINT narrow CHECK (id < 90)").await.unwrap();
    let error = restored(&db, &held, &lines).await.unwrap_err().to_string();
    assert!(error.contains("narrow") && error.contains("nothing was kept") && !error.contains("hush"), "{error}");
    assert_eq!(number(&db, "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)").await, 0);
    // Of another shape, of another kind, and another plan's.
    db.sql.batch_execute("DROP TABLE a; CREATE TABLE a (id int PRIMARY KEY, hidden text)").await.unwrap();
    let error = restored(&db, &held, &lines).await.unwrap_err().to_string();
    assert!(error.contains("it has no column secret"), "{error}");
    db.sql.batch_execute("DROP TABLE a; CREATE VIEW a AS SELECT 1 AS id, ''::text AS secret").await.unwrap();
    let error = restored(&db, &held, &lines).await.unwrap_err().to_string();
    assert!(error.contains("no table that takes rows"), "{error}");
    db.sql.batch_execute("DROP VIEW a; CREATE TABLE a (id int PRIMARY KEY, secret text)").await.unwrap();
    let owned = Table { target: "a".to_owned(), ..Table::watched("a", "a") };
    db.target.claim("run", std::slice::from_ref(&owned)).await.unwrap();
    let error = restored(&db, &held, &lines).await.unwrap_err().to_string();
    assert!(error.contains("it belongs to plan trial/test"), "{error}");
    // Whoever writes meanwhile is waited for, and then it is not empty any more.
    db.target.disown().await.unwrap();
    let writer = db.connect().await;
    writer.batch_execute("BEGIN; INSERT INTO a VALUES (1, 'theirs')").await.unwrap();
    let (ended, ()) = tokio::join!(restored(&db, &held, &lines), async {
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'a'::regclass";
        while number(&db, waits).await == 0 {
            tokio::task::yield_now().await;
        }
        writer.batch_execute("COMMIT").await.unwrap();
    });
    assert!(matches!(ended, Err(RestoreError::Refused(_))), "{ended:?}");
    assert_eq!(number(&db, "SELECT count(*) FROM a").await, 1);
}

#[tokio::test]
async fn what_an_export_says_of_a_table_makes_it_with_what_comes_after_its_rows() {
    let db = TestDatabase::bare().await;
    db.sql
        .batch_execute("CREATE TABLE x (id int PRIMARY KEY, up int); INSERT INTO x VALUES (1, 2), (2, NULL)")
        .await
        .unwrap();
    let (mut held, lines) = exported(&db, &["public.x"]).await;
    db.sql
        .batch_execute("DROP TABLE x; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
        .await
        .unwrap();
    let ddl = "SELECT pg_catalog.set_config('search_path', '', false);\nCREATE SCHEMA public;\n\
               CREATE TABLE public.x (id integer PRIMARY KEY, up integer);\nCREATE INDEX x_up ON public.x (up);\n";
    held[0].ddl = Some(ddl.to_owned());
    let key = "ALTER TABLE ONLY public.x\n    ADD CONSTRAINT x_fk FOREIGN KEY (up) REFERENCES public.x(id);";
    let trigger = "CREATE TRIGGER t BEFORE INSERT ON public.x FOR EACH ROW EXECUTE FUNCTION public.f();";
    held[0].after_load = vec![
        AfterLoad::ForeignKey { name: "x_fk".into(), sql: key.into(), on: None },
        AfterLoad::Trigger { name: "t".into(), sql: trigger.into(), fires: Fires::Always, on: None },
    ];
    let end = restored(&db, &held, &lines).await.unwrap();
    assert_eq!((end.tables[0].before, end.tables[0].digest.records), (Before::Nothing, 2));
    let made = "SELECT (SELECT count(*) FROM pg_indexes WHERE indexname = 'x_up')
        + (SELECT count(*) FROM pg_constraint WHERE conname = 'x_fk' AND convalidated)
        + (SELECT count(*) FROM pg_trigger WHERE tgname = 't' AND tgenabled = 'A')";
    assert_eq!(number(&db, made).await, 3);
    // Statements that fail are named by their line, and nothing of them stays.
    held[0].name = "public.y".to_owned();
    held[0].ddl = Some("CREATE TABLE public.y (id integer);\nCREATE TABLE public.z (id nothing);".to_owned());
    let error = restored(&db, &held, &lines).await.unwrap_err().to_string();
    assert!(error.contains("line 2 of its DDL"), "{error}");
    assert_eq!(number(&db, "SELECT count(*) FROM pg_tables WHERE tablename IN ('y', 'z')").await, 0);
}

#[tokio::test]
async fn sequences_of_every_kind_go_on_past_what_was_restored_and_one_that_cannot_costs_nothing() {
    let db = TestDatabase::bare().await;
    let tables = "
        CREATE TABLE snow (id serial PRIMARY KEY, v text);
        ALTER TABLE snow ALTER id TYPE bigint;
        CREATE SEQUENCE down INCREMENT -1;
        CREATE TABLE falling (id int DEFAULT nextval('down') PRIMARY KEY);
        CREATE SEQUENCE shared1;
        CREATE TABLE a (id int DEFAULT nextval('shared1') PRIMARY KEY);
        CREATE TABLE b (id int DEFAULT nextval('shared1') PRIMARY KEY);
        CREATE SEQUENCE numbers;
        CREATE TABLE prices (id numeric DEFAULT nextval('numbers') PRIMARY KEY);
        CREATE DOMAIN small AS int;
        CREATE SEQUENCE smalls;
        CREATE TABLE of_domain (id small DEFAULT nextval('smalls') PRIMARY KEY);
        CREATE TABLE ended (id serial PRIMARY KEY);
        CREATE UNLOGGED TABLE quick (id serial PRIMARY KEY);
        CREATE SEQUENCE invoices";
    db.sql.batch_execute(tables).await.unwrap();
    let rows = "
        INSERT INTO snow VALUES (5, 'x'), (7000000000, 'y'); INSERT INTO falling VALUES (-9); INSERT INTO a VALUES (3);
        INSERT INTO b VALUES (40); INSERT INTO prices VALUES (12); INSERT INTO of_domain VALUES (8);
        INSERT INTO ended VALUES (21), (2147483647); INSERT INTO quick VALUES (6)";
    db.sql.batch_execute(rows).await.unwrap();
    let names =
        ["snow", "falling", "a", "b", "prices", "of_domain", "ended", "quick"].map(|name| format!("public.{name}"));
    let (held, lines) = exported(&db, &names.each_ref().map(String::as_str)).await;
    db.sql
        .batch_execute(
            "DROP TABLE snow, falling, a, b, prices, of_domain, ended, quick;
             DROP SEQUENCE down, shared1, numbers, smalls, invoices; DROP DOMAIN small",
        )
        .await
        .unwrap();
    db.sql.batch_execute(tables).await.unwrap();

    let end = restored(&db, &held, &lines).await.unwrap();
    assert_eq!(number(&db, "SELECT count(*) FROM snow").await, 2);
    let next = [
        ("snow_id_seq", 6),
        ("down", -10),
        ("shared1", 41),
        ("numbers", 13),
        ("smalls", 9),
        ("ended_id_seq", 1),
        ("quick_id_seq", 7),
    ];
    for (sequence, next) in next {
        assert_eq!(number(&db, &format!("SELECT nextval('{sequence}')")).await, next, "{sequence}: {:#?}", end.notices);
    }
    let said = |words: &[&str]| end.notices.iter().any(|notice| words.iter().all(|word| notice.contains(word)));
    assert!(said(&["public.snow_id_seq", "2147483647", "AS bigint"]), "{:#?}", end.notices);
    assert!(said(&["public.ended_id_seq", "has no value left", "setval"]), "{:#?}", end.notices);
    assert!(said(&["public.quick_id_seq", "unlogged"]), "{:#?}", end.notices);
    assert!(said(&["public.invoices", "no column takes its values from it"]), "{:#?}", end.notices);
}
