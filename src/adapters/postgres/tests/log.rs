//! Changes of PostgreSQL tables, followed on a real server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::neighbours::{connect_once_up, own_server, until};
use super::{TestDatabase, column, key};
use crate::adapters::postgres::source::{PgChanges, PgSource};
use crate::adapters::postgres::{PgSettings, SslMode};
use crate::domain::plan::{ColumnType, Table};
use crate::domain::value::{Cell, Record, Value};
use crate::ports::{Batch, Change, ChangeKind, Changes as _, ErrorKind, ReadFrom, Source as _};
use crate::private::postgres::PrivatePostgres;

const TABLES: [&str; 3] = ["authors", "books", "orders"];

fn table(id: &str) -> Table {
    let columns = vec![key("id", ColumnType::Bigint), column("v", ColumnType::Text), column("big", ColumnType::Text)];
    Table {
        marker_prefix: "marker-".into(),
        key: vec!["id".into()],
        columns,
        ..Table::watched(id, &format!("public.{id}"))
    }
}

fn changes(db: &TestDatabase) -> Arc<PgChanges> {
    changes_at(&db.settings)
}

fn changes_at(settings: &PgSettings) -> Arc<PgChanges> {
    let source = Arc::new(PgSource::new(settings, super::PLAN).unwrap());
    Arc::new(PgChanges::new(source, settings.clone(), TABLES.map(table).into()))
}

pub(super) fn settings_of(server: &PrivatePostgres) -> PgSettings {
    PgSettings {
        host: server.host.clone(),
        port: server.port,
        database: "postgres".into(),
        user: server.user.clone(),
        password: Some(server.password.clone()),
        sslmode: SslMode::Disable,
        password_source: None,
        ca_file: None,
        pool: 4,
    }
}

const BIG: &str = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) n)";

async fn create(sql: &tokio_postgres::Client) {
    for id in TABLES {
        sql.batch_execute(&format!("CREATE TABLE {id} (id bigint PRIMARY KEY, v text, big text)")).await.unwrap();
    }
}

async fn database() -> TestDatabase {
    let db = TestDatabase::bare().await;
    create(&db.sql).await;
    db
}

/// A follower of one table.
struct Follower {
    changes: Arc<PgChanges>,
    id: &'static str,
    stream: String,
    iterator: Option<String>,
    /// What the target holds, and how far.
    rows: BTreeMap<i64, String>,
    at: ReadFrom,
    markers: Vec<String>,
}

fn id_of(record: &Record<'_>) -> Option<i64> {
    match record.get("id") {
        Some(Value::Cell(Cell::Int(id))) => Some(*id),
        _ => None,
    }
}

impl Follower {
    async fn new(changes: &Arc<PgChanges>, id: &'static str) -> Self {
        let stream = changes.enable(&table(id)).await.unwrap();
        assert_eq!(stream.shards[0].id, id);
        let (rows, markers) = Default::default();
        Self {
            changes: Arc::clone(changes),
            id,
            stream: stream.id,
            iterator: None,
            rows,
            at: ReadFrom::Oldest,
            markers,
        }
    }

    async fn try_read(&mut self) -> crate::ports::PortResult<Batch> {
        let iterator = match self.iterator.take() {
            Some(iterator) => iterator,
            None => self.changes.iterator(&self.stream, self.id, &self.at).await?,
        };
        let batch = self.changes.read(&iterator).await?;
        self.iterator.clone_from(&batch.next);
        Ok(batch)
    }

    fn apply(&mut self, batch: &Batch) {
        for change in &batch.changes {
            match (id_of(&change.key), &change.image) {
                (None, _) => {
                    let Some(Value::Text(text)) = change.key.get("id") else { panic!("{change:?}") };
                    self.markers.push(text.to_string());
                }
                (Some(id), None) => drop(self.rows.remove(&id)),
                (Some(id), Some(image)) => {
                    let text = |name| match image.get(name) {
                        Some(Value::Text(text)) => text.to_string(),
                        Some(Value::Null) => "NULL".to_owned(),
                        other => panic!("{name}: {other:?}"),
                    };
                    self.rows.insert(id, format!("{} {}", text("v"), text("big").len()));
                }
            }
        }
        let reached = batch.reached.as_ref().or(batch.changes.last().map(|change| &change.position));
        if let Some(position) = reached {
            self.at = ReadFrom::After(position.clone());
            self.changes.durable(&self.stream, self.id, position);
        }
    }

    /// Reads until nothing is left.
    async fn whole(&mut self) -> Vec<Change> {
        let mut all = Vec::new();
        loop {
            let batch = self.try_read().await.unwrap();
            self.apply(&batch);
            if batch.changes.is_empty() {
                return all;
            }
            all.extend(batch.changes);
        }
    }
}

async fn confirmed(db: &TestDatabase) -> Option<String> {
    db.text("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()").await
}

#[tokio::test]
async fn every_kind_of_change_comes_in_order_and_whole() {
    let db = database().await;
    let changes = changes(&db);
    let mut books = Follower::new(&changes, "books").await;
    db.sql
        .batch_execute(&format!(
            "INSERT INTO books VALUES (1, 'one', {BIG}), (2, NULL, NULL); INSERT INTO authors VALUES (1, 'x', NULL);
             UPDATE books SET v = 'uno' WHERE id = 1; UPDATE books SET id = 3 WHERE id = 2; DELETE FROM books WHERE id = 3"
        ))
        .await
        .unwrap();
    let source = PgSource::new(&db.settings, super::PLAN).unwrap();
    source.put_marker(&table("books"), "n-1").await.unwrap();
    let all = books.whole().await;
    let kinds: Vec<ChangeKind> = all.iter().map(|change| change.kind).collect();
    let remove = ChangeKind::Remove { expired: false };
    use ChangeKind::{Insert, Modify};
    assert_eq!(kinds, [Insert, Insert, Modify, remove, Insert, remove, Insert]);
    let ids: Vec<Option<i64>> = all.iter().map(|change| id_of(&change.key)).collect();
    assert_eq!(ids, [Some(1), Some(2), Some(1), Some(2), Some(3), Some(3), None]);
    // What was not sent, because it had not changed, is there all the same.
    assert_eq!(books.rows, BTreeMap::from([(1, "uno 12800".to_owned())]));
    assert_eq!(books.markers, ["marker-n-1"]);
    let order = |two: &[Change]| two[0].position.order(&two[1].position);
    assert!(all.windows(2).all(|two| order(two) == Some(std::cmp::Ordering::Less)));
    let age = jiff::Timestamp::now().as_millisecond() - all[0].at.0;
    assert!((0..60_000).contains(&age), "committed {age} ms ago");
    assert_eq!(Follower::new(&changes, "authors").await.whole().await.len(), 1);
    changes.close().await.unwrap();
    assert_eq!(confirmed(&db).await, None, "the server keeps nothing for it any more");
}

#[tokio::test]
async fn a_transaction_that_was_open_when_capture_began_is_read_or_followed() {
    let db = database().await;
    let changes = changes(&db);
    let writer = db.connect().await;
    writer.batch_execute("BEGIN; INSERT INTO books VALUES (1, 'one', '')").await.unwrap();
    let books = table("books");
    let enabling = changes.enable(&books);
    tokio::pin!(enabling);
    let early = tokio::time::timeout(Duration::from_millis(500), &mut enabling).await;
    assert!(early.is_err(), "it would be in no page and in no change");
    writer.batch_execute("COMMIT").await.unwrap();
    enabling.await.unwrap();
    assert_eq!(db.number("SELECT count(*) FROM books").await, 1);
    changes.close().await.unwrap();
}

#[tokio::test]
async fn what_stands_in_the_log_before_anybody_sees_it_is_waited_for() {
    let server = own_server().await;
    let sql = connect_once_up(&server.url()).await;
    create(&sql).await;
    let changes = changes_at(&settings_of(&server));
    let mut books = Follower::new(&changes, "books").await;
    // Commits wait for a standby that is not there: they are in the log, and nobody sees them.
    sql.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let writer = connect_once_up(&server.url()).await;
    until(&writer, "current_setting('synchronous_standby_names') = 'nobody'").await;
    let both =
        format!("BEGIN; INSERT INTO books VALUES (1, 'one', {BIG}); UPDATE books SET v = 'uno' WHERE id = 1; COMMIT");
    let writing = tokio::spawn(async move { writer.batch_execute(&both).await });
    until(&sql, "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')").await;
    let reading = tokio::spawn(async move {
        let batch = books.try_read().await.unwrap();
        books.apply(&batch);
        books
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!reading.is_finished(), "the row was read before it could be seen");
    sql.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(reading.await.unwrap().rows, BTreeMap::from([(1, "uno 12800".to_owned())]));
}

#[tokio::test]
async fn another_process_goes_on_within_a_transaction_and_the_server_keeps_what_is_not_durable() {
    let db = database().await;
    let first = changes(&db);
    let (mut books, mut authors) = (Follower::new(&first, "books").await, Follower::new(&first, "authors").await);
    let mut orders = Follower::new(&first, "orders").await;
    let begun = confirmed(&db).await;
    db.sql
        .batch_execute("BEGIN; INSERT INTO books SELECT n, 'b', '' FROM generate_series(1, 9) n; INSERT INTO authors VALUES (1, 'a', ''); COMMIT")
        .await
        .unwrap();
    // Four of nine are durable, and the other tables have not read anything.
    let batch = books.try_read().await.unwrap();
    books.apply(&Batch { changes: batch.changes[..4].to_vec(), ..Batch::default() });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(confirmed(&db).await, begun, "a table has confirmed nothing");
    let (stands, stream) = (books.at.clone(), books.stream.clone());
    let second = changes(&db);
    for follower in [&mut books, &mut authors, &mut orders] {
        follower.changes = Arc::clone(&second);
    }
    drop(first);
    let iterator = second.iterator(&stream, "books", &stands).await.unwrap();
    let batch = second.read(&iterator).await.unwrap();
    assert_eq!(batch.changes.iter().map(|c| id_of(&c.key).unwrap()).collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    books.iterator = None;
    // All three are read to the end; those that are given nothing move on too, and the server forgets.
    let asked = std::time::Instant::now();
    while confirmed(&db).await == begun {
        assert!(asked.elapsed() < Duration::from_secs(300), "the server forgets nothing");
        for follower in [&mut books, &mut authors, &mut orders] {
            follower.whole().await;
        }
    }
    assert_eq!((books.rows.len(), authors.rows.len(), orders.rows.len()), (9, 1, 0));
    // A target that lost what it had confirmed is told so, also by a process that never saw it.
    let third = changes(&db);
    let refused = third.iterator(&stream, "books", &stands).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Trimmed, "{refused}");
    third.close().await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_emptied_at_once_ends_and_the_others_go_on() {
    let db = database().await;
    let changes = changes(&db);
    let (mut books, mut authors) = (Follower::new(&changes, "books").await, Follower::new(&changes, "authors").await);
    db.sql
        .batch_execute("INSERT INTO books VALUES (1, 'b', ''); TRUNCATE books; INSERT INTO authors VALUES (1, 'a', '')")
        .await
        .unwrap();
    assert_eq!(books.try_read().await.unwrap().changes.len(), 1);
    let ended = books.try_read().await.unwrap_err();
    assert!(ended.kind == ErrorKind::Invalid && ended.came_back.contains("TRUNCATE"), "{ended}");
    assert_eq!(authors.whole().await.len(), 1);
    // It holds back neither the others nor the disk of the source.
    let mut orders = Follower::new(&changes, "orders").await;
    let before = confirmed(&db).await;
    db.sql
        .batch_execute("INSERT INTO books VALUES (2, 'b', ''); INSERT INTO authors VALUES (2, 'a', '')")
        .await
        .unwrap();
    let asked = std::time::Instant::now();
    while confirmed(&db).await == before {
        assert!(asked.elapsed() < Duration::from_secs(300), "the server forgets nothing");
        authors.whole().await;
        orders.whole().await;
    }
    // Loaded anew, it is followed again, from where that load began.
    let mut again = Follower::new(&changes, "books").await;
    again.at = ReadFrom::Newest;
    let iterator = changes.iterator(&again.stream, "books", &again.at).await.unwrap();
    again.iterator = Some(iterator);
    db.sql.batch_execute("INSERT INTO books VALUES (3, 'b', '')").await.unwrap();
    again.whole().await;
    assert_eq!(again.rows.keys().collect::<Vec<_>>(), [&3]);
    changes.close().await.unwrap();
}

#[tokio::test]
async fn a_column_that_is_renamed_ends_its_table_and_no_other() {
    let db = database().await;
    let changes = changes(&db);
    let mut books = Follower::new(&changes, "books").await;
    let mut authors = Follower::new(&changes, "authors").await;
    assert_eq!(books.whole().await.len() + authors.whole().await.len(), 0);
    for sql in [
        "INSERT INTO books VALUES (1, 'b', '')",
        "ALTER TABLE books ADD more int; INSERT INTO books VALUES (2, 'b', '', 7)",
        "ALTER TABLE books RENAME v TO w; INSERT INTO books VALUES (3, 'b', '')",
        "INSERT INTO authors VALUES (1, 'a', '')",
    ] {
        db.sql.batch_execute(sql).await.unwrap();
    }
    let mut read = 0;
    let ended = loop {
        match books.try_read().await {
            Ok(batch) => {
                read += batch.changes.len();
                books.apply(&batch);
            }
            Err(e) => break e,
        }
    };
    assert_eq!(read, 2, "a column more is no harm");
    assert!(ended.came_back.contains("column v is not there any more"), "{ended}");
    assert_eq!(authors.whole().await.len(), 1);
    // Another process finds it so at once.
    let second = self::changes(&db);
    let iterator = second.iterator(&books.stream, "books", &books.at).await.unwrap();
    let refused = second.read(&iterator).await.unwrap_err();
    assert!(refused.came_back.contains("no column v"), "{refused}");
    authors.changes = Arc::clone(&second);
    authors.iterator = None;
    db.sql.batch_execute("INSERT INTO authors VALUES (2, 'a', '')").await.unwrap();
    assert_eq!(authors.whole().await.len(), 1);
    second.close().await.unwrap();
}

#[tokio::test]
async fn a_table_whose_customers_a_publication_would_stop_is_refused_and_stops_no_other() {
    let db = database().await;
    let changes = changes(&db);
    for (how, said) in [
        ("ALTER TABLE books REPLICA IDENTITY NOTHING", "NOTHING"),
        (
            "ALTER TABLE books REPLICA IDENTITY DEFAULT, DROP CONSTRAINT books_pkey, ADD PRIMARY KEY (id) DEFERRABLE",
            "DEFERRABLE",
        ),
        (
            "ALTER TABLE books DROP CONSTRAINT books_pkey, ADD PRIMARY KEY (id), ALTER v SET NOT NULL;
             CREATE UNIQUE INDEX by_v ON books (v); ALTER TABLE books REPLICA IDENTITY USING INDEX by_v",
            "lacks columns of the primary key",
        ),
        ("ALTER TABLE books REPLICA IDENTITY DEFAULT, SET UNLOGGED", "UNLOGGED"),
        (
            "DROP TABLE books; CREATE TABLE shelf (id bigint PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE books PARTITION OF shelf DEFAULT",
            "is a partition",
        ),
        ("DROP TABLE books; CREATE VIEW books AS SELECT 1::bigint AS id", "no ordinary table"),
        (
            "DROP VIEW books; CREATE TABLE books (id bigint PRIMARY KEY, v text, big text); CREATE TABLE more () INHERITS (books)",
            "inherited from",
        ),
        (
            "DROP TABLE more, books; CREATE TABLE books (id bigint PRIMARY KEY, v text NOT NULL, big text);
             CREATE UNIQUE INDEX by_v ON books (v) INCLUDE (id); ALTER TABLE books REPLICA IDENTITY USING INDEX by_v",
            "lacks columns of the primary key",
        ),
        ("DROP TABLE books; CREATE TABLE books (id bigint, v text, big text)", "no primary key"),
    ] {
        db.sql.batch_execute(how).await.unwrap();
        let refused = changes.enable(&table("books")).await.unwrap_err();
        assert!(refused.kind == ErrorKind::Invalid && refused.came_back.contains(said), "{how}: {refused}");
        assert!(!refused.advice.is_empty(), "{refused}");
        let mut authors = Follower::new(&changes, "authors").await;
        authors.at = ReadFrom::Newest;
        authors.whole().await;
    }
    db.sql.batch_execute("ALTER TABLE books ADD PRIMARY KEY (id)").await.unwrap();
    changes.enable(&table("books")).await.unwrap();
    // The role that reads is not the owner, and rows are hidden from it.
    let role = format!("hidden_{}", db.settings.database);
    db.sql
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'pw' REPLICATION; GRANT SELECT ON books TO {role};
             ALTER TABLE books ENABLE ROW LEVEL SECURITY; INSERT INTO books VALUES (1, 'x', '')"
        ))
        .await
        .unwrap();
    let mut settings = db.settings.clone();
    (settings.user, settings.password) = (role, Some(crate::domain::secret::Secret::new("pw")));
    let refused = changes_at(&settings).enable(&table("books")).await.unwrap_err();
    assert!(refused.came_back.contains("row level security"), "{refused}");
    let source = PgSource::new(&settings, super::PLAN).unwrap();
    let whole = crate::ports::Partition { index: 0, of: 1 };
    let hidden = source.page(&table("books"), whole, None).await.unwrap_err();
    assert!(hidden.came_back.contains("row-level security"), "{hidden}");
    assert!(source.count(&table("books")).await.is_err());
    changes.close().await.unwrap();
}

#[tokio::test]
async fn a_target_that_is_ahead_of_the_log_or_stands_before_it_is_told_so() {
    let db = database().await;
    let changes = changes(&db);
    let mut all = Vec::new();
    for id in TABLES {
        all.push(Follower::new(&changes, id).await);
    }
    let begun = confirmed(&db).await;
    let stream = all[0].stream.clone();
    // The source lost its last transactions: a standby that lacked them was promoted.
    let ahead = ReadFrom::After(crate::ports::Position((u128::from(u64::MAX - 1) << 32).to_string()));
    let refused = changes.iterator(&stream, "authors", &ahead).await.unwrap_err();
    assert!(refused.kind == ErrorKind::Trimmed && refused.came_back.contains("lost its last"), "{refused}");
    // A target that was set back to its beginning, where the server has forgotten what followed.
    let asked = std::time::Instant::now();
    while confirmed(&db).await == begun {
        assert!(asked.elapsed() < Duration::from_secs(300), "the server forgets nothing");
        db.sql
            .batch_execute(
                "INSERT INTO books SELECT max(id) + 1, '', '' FROM books HAVING max(id) < 9 OR max(id) IS NULL",
            )
            .await
            .ok();
        for follower in &mut all {
            follower.whole().await;
        }
    }
    for process in [changes, self::changes(&db)] {
        let refused = process.iterator(&stream, "authors", &ReadFrom::Oldest).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Trimmed, "{refused}");
    }
    self::changes(&db).close().await.unwrap();
}

#[tokio::test]
async fn customers_that_would_wait_for_us_are_a_reason_to_refuse() {
    let server = own_server().await;
    let sql = connect_once_up(&server.url()).await;
    create(&sql).await;
    let changes = changes_at(&settings_of(&server));
    for names in ["*", "ANY 1 (standby, cutover)"] {
        sql.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'")).await.unwrap();
        sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let reader = connect_once_up(&server.url()).await;
        until(&reader, &format!("current_setting('synchronous_standby_names') = '{names}'")).await;
        let refused = changes.enable(&table("books")).await.unwrap_err();
        assert!(refused.came_back.contains("synchronous_standby_names"), "{refused}");
    }
    sql.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    sql.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let reader = connect_once_up(&server.url()).await;
    until(&reader, "current_setting('synchronous_standby_names') = ''").await;
    changes.enable(&table("books")).await.unwrap();
}

#[tokio::test]
async fn a_table_that_is_not_published_for_a_while_is_another_stream() {
    let db = database().await;
    let changes = changes(&db);
    let before = changes.enable(&table("books")).await.unwrap();
    assert_eq!(changes.enable(&table("books")).await.unwrap(), before);
    let publication = db.text("SELECT pubname::text FROM pg_publication").await.unwrap();
    let alter = async |how: &str| {
        db.sql.batch_execute(&format!("ALTER PUBLICATION {publication} {how}")).await.unwrap();
        changes.stream(&table("books")).await.unwrap()
    };
    assert_eq!(alter("DROP TABLE books").await, None);
    let again = alter("ADD TABLE books").await.unwrap();
    assert_ne!(again.id, before.id, "changes may be missing");
    assert_eq!(alter("SET (publish = 'insert')").await, None);
    let once_more = alter("SET (publish = 'insert, update, delete, truncate')").await.unwrap();
    assert_ne!(once_more.id, again.id, "what was only updated meanwhile is missing");
    // Captured anew, with another slot, since the publication was no longer whole.
    alter("DROP TABLE books").await;
    let anew = changes.enable(&table("books")).await.unwrap();
    assert_ne!(anew.id.split('/').nth(1), before.id.split('/').nth(1));
    changes.close().await.unwrap();
}

#[tokio::test]
async fn a_session_that_is_cut_is_opened_again_and_nothing_is_missing() {
    let db = database().await;
    let changes = changes(&db);
    let mut books = Follower::new(&changes, "books").await;
    for n in 1..=5 {
        db.sql.batch_execute(&format!("INSERT INTO books VALUES ({n}, 'b', '')")).await.unwrap();
        let cut = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NOT NULL";
        db.sql.batch_execute(cut).await.unwrap();
        let mut told = 0;
        while books.rows.len() < n {
            match books.try_read().await {
                Ok(batch) => books.apply(&batch),
                Err(e) => {
                    assert!(e.kind.transient(), "{e}");
                    told += 1;
                    assert!(told < 50, "{e}");
                }
            }
        }
    }
    // Another process takes the slot from one that is still there.
    let second = self::changes(&db);
    books.changes = Arc::clone(&second);
    books.iterator = None;
    db.sql.batch_execute("INSERT INTO books VALUES (6, 'b', '')").await.unwrap();
    assert_eq!(books.whole().await.len(), 1);
    second.close().await.unwrap();
}

#[tokio::test]
async fn three_followers_that_die_at_random_end_with_what_the_tables_hold() {
    let db = database().await;
    let mut processes = vec![changes(&db)];
    let stream = processes[0].enable(&table("books")).await.unwrap().id;
    let (system_and_slot, _) = stream.rsplit_once('/').unwrap();
    assert!(!system_and_slot.is_empty());
    let clients = [db.connect().await, db.connect().await, db.connect().await];
    let writers = (0..3_u64).zip(clients).map(|(writer, client)| {
        async move {
            let mut rng = fastrand::Rng::with_seed(writer);
            for n in 0..60 {
                let mut sql = String::from("BEGIN;");
                for _ in 0..rng.usize(1..12) {
                    let (of, id) = (TABLES[rng.usize(..3)], rng.u64(0..20) * 3 + writer);
                    sql += &match rng.u8(0..6) {
                        0 => format!("DELETE FROM {of} WHERE id = {id};"),
                        1 => format!("UPDATE {of} SET v = 'u{n}' WHERE id = {id};"),
                        _ => format!(
                            "INSERT INTO {of} VALUES ({id}, 'w{n}', repeat(md5('{n}'), 300)) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v;"
                        ),
                    };
                }
                sql += if rng.u8(0..8) == 0 { "ROLLBACK" } else { "COMMIT" };
                client.batch_execute(&sql).await.unwrap();
            }
        }
    });
    let writing = tokio::spawn(futures::future::join_all(writers.collect::<Vec<_>>()));
    let mut rng = fastrand::Rng::with_seed(7);
    let mut stands: BTreeMap<&str, (BTreeMap<i64, String>, ReadFrom)> =
        TABLES.map(|id| (id, (BTreeMap::new(), ReadFrom::Oldest))).into();
    loop {
        let done = writing.is_finished();
        let process = &processes[processes.len() - 1];
        let mut followers = Vec::new();
        for id in TABLES {
            let mut follower = Follower::new(process, id).await;
            (follower.rows, follower.at) = stands[id].clone();
            followers.push(follower);
        }
        let mut dies = false;
        while !dies {
            let which = rng.usize(..3);
            let Ok(batch) = followers[which].try_read().await else { continue };
            // What was read and not applied is lost with the process.
            if rng.u8(0..4) > 0 {
                followers[which].apply(&batch);
            } else {
                followers[which].iterator = None;
            }
            dies = rng.u8(0..20) == 0;
        }
        if done {
            for follower in &mut followers {
                follower.iterator = None;
                follower.whole().await;
            }
        }
        for follower in followers {
            stands.insert(follower.id, (follower.rows, follower.at));
        }
        if done {
            break;
        }
        processes.clear();
        processes.push(changes(&db));
    }
    writing.await.unwrap();
    for id in TABLES {
        let sql = format!("SELECT string_agg(id || '=' || v || ' ' || length(big), ',' ORDER BY id) FROM {id}");
        let holds = stands[id].0.iter().map(|(id, row)| format!("{id}={row}")).collect::<Vec<_>>().join(",");
        assert_eq!(Some(holds), db.text(&sql).await, "{id}");
    }
    processes[0].close().await.unwrap();
}
