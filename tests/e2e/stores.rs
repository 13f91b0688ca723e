//! Stores by name: between two PostgreSQL databases, and from two kinds of store in one plan.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use cutover::domain::run::RunStatus;
use cutover::journal::{RunFolder, fold, read_run};
use cutover::rehearsal::PgAddress;
use cutover::rehearsal::clients::session;
use cutover::rehearsal::dynamo::EmbeddedDynamo;
use tokio::runtime::Runtime;

use super::Slot;
use super::console::Console;
use super::stage::{database, pg_client};

pub(super) const STEPS: &str = r#"
[[steps]]
id = "preflight"
title = "check both stores"
at = "T-01:05"
takes = "1m"
kind = "preflight"
[[steps]]
id = "set-up"
title = "create target tables"
at = "T-01:00"
takes = "1m"
kind = "set_up"
[[steps]]
id = "capture"
title = "begin to capture"
at = "T-00:55"
takes = "1m"
kind = "capture"
[[steps]]
id = "load"
title = "bulk load"
at = "T-00:50"
takes = "1m"
kind = "load"
[[steps]]
id = "catch-up"
title = "catch up with changes"
at = "T-00:40"
takes = "1m"
kind = "catch_up"
max_lag = "10s"
[[steps]]
id = "verify"
title = "compare"
at = "T-00:30"
takes = "1m"
kind = "verify"
"#;

const TABLES: &str = r#"
[[tables]]
id = "people"
from = "old.public.people"
to = "new.public.people"
key = ["id"]
ddl_sql = "CREATE TABLE people (id bigint PRIMARY KEY, name text, born date)"
[tables.columns]
id = { type = "bigint", key = true }
name = { type = "text" }
born = { type = "date" }

[[tables]]
id = "visits"
from = "old.public.visits"
to = "new.public.visits"
key = ["person", "place", "at"]
ddl_sql = "CREATE TABLE visits (person bigint REFERENCES people, place text, at timestamptz, note text, PRIMARY KEY (person, place, at))"
[tables.columns]
person = { type = "bigint", key = true }
place = { type = "text", key = true }
at = { type = "timestamptz", key = true }
note = { type = "text" }
[[tables.foreign_keys]]
columns = ["person"]
references = "people"
"#;

const OLD: &str = "
CREATE TABLE people (id bigint PRIMARY KEY, name text, born date);
CREATE TABLE visits (person bigint REFERENCES people, place text, at timestamptz, note text, PRIMARY KEY (person, place, at));
INSERT INTO people SELECT n, 'person ' || n, '1970-01-01'::date + n FROM generate_series(1, 500) n;
INSERT INTO visits SELECT n % 500 + 1, 'place ' || n % 7, now() - n * interval '1 minute', repeat('x', n % 90)
  FROM generate_series(1, 2997) n;
INSERT INTO visits VALUES (1, 'ever', 'infinity', ''), (1, 'ever', '-infinity', ''), (2, 'rome', '0044-03-15 BC', '');";

/// Two databases, a config and a folder.
pub(super) struct Databases {
    pub(super) runtime: Runtime,
    old: tokio_postgres::Client,
    new: tokio_postgres::Client,
    archive: tokio_postgres::Client,
    pub(super) dir: tempfile::TempDir,
    started: AtomicU32,
    _slot: Slot,
}

impl Databases {
    fn new() -> Self {
        Self::with("", "")
    }

    /// With more stores, and more tables before those of the old database.
    pub(super) fn with(more: &str, tables: &str) -> Self {
        Self::of_a_day(more, tables, STEPS)
    }

    /// The same, by these steps.
    pub(super) fn of_a_day(more: &str, tables: &str, steps: &str) -> Self {
        let slot = Slot::take();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (old, new, archive) = (database(&runtime), database(&runtime), database(&runtime));
        let dir = tempfile::Builder::new().prefix("cutover-stores-").tempdir().unwrap();
        fs::write(dir.path().join("password"), old.password.as_ref().unwrap().reveal()).unwrap();
        let store = |name: &str, at: &PgAddress| {
            format!(
                "[stores.{name}]\nkind = \"postgresql\"\nhost = \"{}\"\nport = {}\ndatabase = \"{}\"\nuser = \"{}\"\n\
                 password = {{ file = \"password\" }}\nsslmode = \"disable\"\n",
                at.host, at.port, at.database, at.user
            )
        };
        let third = if tables.contains("archive.") { store("archive", &archive) } else { String::new() };
        let text = format!(
            "name = \"people\"\nproduction = false\n{}{}{third}{more}\n[follow]\npoll = \"20ms\"\n[verify]\nfloor = 1.0\nsettle = \"5s\"\n{tables}{TABLES}{steps}",
            store("old", &old),
            store("new", &new)
        );
        fs::write(dir.path().join("config.toml"), text).unwrap();
        let clients = async { (pg_client(&old).await, pg_client(&new).await, pg_client(&archive).await) };
        let (old, new, archive) = runtime.block_on(clients);
        runtime.block_on(old.batch_execute(OLD)).unwrap();
        Self { runtime, old, new, archive, dir, started: AtomicU32::new(0), _slot: slot }
    }

    pub(super) fn start(&self, args: &[&str]) -> Console {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let all = [&["--state-dir", "state"], args].concat();
        Console::start(self.dir.path(), &format!("{number}-{}", args[0]), &all, None)
    }

    pub(super) fn cutover(&self, args: &[&str], code: i32) -> String {
        let mut console = self.start(args);
        console.expect_code(code);
        console.out()
    }

    /// Types the plan's name, which `cutover release` asks for.
    pub(super) fn release(&self, plan: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
        command.args(["--state-dir", "state", "release", plan, "-c", "config.toml"]).current_dir(self.dir.path());
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{plan}\n").as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    pub(super) fn old(&self, sql: &str) {
        self.runtime.block_on(self.old.batch_execute(sql)).unwrap();
    }

    pub(super) fn new_sql(&self, sql: &str) {
        self.runtime.block_on(self.new.batch_execute(sql)).unwrap();
    }

    pub(super) fn new_number(&self, sql: &str) -> i64 {
        self.runtime.block_on(self.new.query_one(&format!("SELECT ({sql})::bigint"), &[])).unwrap().get(0)
    }

    /// Everything the old side has.
    pub(super) fn old_rows(&self) -> Vec<String> {
        self.held(&self.old)
    }

    /// Everything the new side has.
    pub(super) fn new_rows(&self) -> Vec<String> {
        self.held(&self.new)
    }

    fn held(&self, client: &tokio_postgres::Client) -> Vec<String> {
        let sql = "SELECT p::text FROM people p UNION ALL SELECT v::text FROM visits v ORDER BY 1";
        let rows = self.runtime.block_on(client.query(sql, &[])).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Slots and publications of the old side.
    pub(super) fn kept(&self) -> Vec<String> {
        let sql = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()
                   UNION ALL SELECT pubname::text FROM pg_publication";
        let rows = self.runtime.block_on(self.old.query(sql, &[])).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(super) fn status(&self) -> RunStatus {
        let folder = RunFolder::list(&self.dir.path().join("state")).unwrap().remove(0);
        fold(&read_run(&folder).unwrap().facts).unwrap().status
    }
}

#[test]
fn a_database_moves_to_another_one_and_the_source_keeps_nothing_at_the_end() {
    let both = Databases::new();
    let said = both.cutover(&["check"], 0);
    assert!(said.contains(" 0 failed"), "{said}");
    // Nothing is bought there, nothing is forgotten by time, and nobody is asked for credentials of AWS.
    assert!(!said.contains("read units") && !said.contains("AWS"), "{said}");
    both.cutover(&["run", "--headless", "--until", "catch-up"], 75);
    assert_eq!(both.kept().len(), 2, "a slot and a publication");
    both.old(
        "UPDATE people SET name = 'renamed' WHERE id % 3 = 0; DELETE FROM visits WHERE place = 'place 1';
         INSERT INTO people VALUES (1001, 'new', 'infinity'); INSERT INTO visits VALUES (1001, 'here', now(), '');
         UPDATE visits SET place = 'moved' WHERE place = 'place 2';
         UPDATE visits SET note = 'ides' WHERE place = 'rome'; DELETE FROM visits WHERE at = '-infinity';
         INSERT INTO visits VALUES (3, 'never', '-infinity', '')",
    );
    // Resumed by another process, which reads on in the log.
    let said = both.cutover(&["run", "--headless"], 0);
    assert!(said.contains("RESULT      finished") && said.contains("VERIFIED    visits"), "{said}");
    assert_eq!(both.held(&both.new), both.held(&both.old));
    assert_eq!((both.status(), both.kept()), (RunStatus::Finished, vec![]), "the source keeps nothing");

    let said = both.cutover(&["audit"], 0);
    assert!(!said.contains("has not ended"), "{said}");
    // A row whose key no other kind of store could say is missing all the same.
    both.old("INSERT INTO visits VALUES (4, 'never', 'infinity', '')");
    let said = both.cutover(&["verify", "--table", "visits", "--full", "--json"], 5);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["tables"][0]["summary"]["missing"], 1, "{said:#}");
    both.old("DELETE FROM visits WHERE person = 4 AND at = 'infinity'");

    // Another run begins with a capture of its own, is left alone, and is taken back from elsewhere without its config.
    both.cutover(&["release", "people/test"], 8);
    let mut again = both.start(&["run", "--headless", "--new", "--until", "catch-up"]);
    again.expect_code(75);
    assert_eq!(both.kept().len(), 2);
    fs::remove_file(both.dir.path().join("config.toml")).unwrap();
    both.cutover(&["rollback", "--yes"], 3);
    assert_eq!((both.status(), both.kept()), (RunStatus::RolledBack, vec![]), "{}", again.words());
}

const NOTES: &str = r#"
[[tables]]
id = "notes"
from = "papers.Notes"
to = "PLACE.public.notes"
key = ["noteId"]
ddl_sql = "CREATE TABLE notes (id text PRIMARY KEY, words text)"
[tables.columns]
id = { from = "noteId", type = "text", key = true }
words = { type = "text" }
"#;

#[test]
fn two_kinds_of_store_move_in_one_plan() {
    two_kinds("new");
}

#[test]
fn one_plan_moves_into_two_databases() {
    two_kinds("archive");
}

/// A DynamoDB with tables of notes.
pub(super) struct Notes {
    endpoint: String,
    client: Client,
    /// The old table.
    pub(super) table: String,
    _dynamo: Option<EmbeddedDynamo>,
}

impl Notes {
    pub(super) fn new() -> Self {
        let dynamo = EmbeddedDynamo::start(&EmbeddedDynamo::place()).unwrap();
        let (endpoint, table) = (dynamo.endpoint().to_owned(), "Notes".to_owned());
        Self { client: Client::new(&session(&endpoint, 3)), endpoint, table, _dynamo: Some(dynamo) }
    }

    /// On an emulator that others use too, so its table has a name of its own.
    pub(super) fn on(endpoint: &str) -> Self {
        let table = format!("Notes-{:08x}", fastrand::u32(..));
        Self { client: Client::new(&session(endpoint, 3)), endpoint: endpoint.to_owned(), table, _dynamo: None }
    }

    /// The store as a config names it.
    pub(super) fn store(&self) -> String {
        format!(
            "[stores.papers]\nkind = \"dynamodb\"\nregion = \"us-east-1\"\ncredentials = \"emulator\"\nendpoint = \"{}\"\n",
            self.endpoint
        )
    }

    pub(super) async fn create(&self, table: &str) {
        let attribute = AttributeDefinition::builder().attribute_name("noteId").attribute_type(ScalarAttributeType::S);
        let create = self
            .client
            .create_table()
            .table_name(table)
            .billing_mode(BillingMode::PayPerRequest)
            .key_schema(KeySchemaElement::builder().attribute_name("noteId").key_type(KeyType::Hash).build().unwrap())
            .attribute_definitions(attribute.build().unwrap());
        create.send().await.unwrap();
    }

    pub(super) async fn put(&self, id: &str, words: &str) {
        self.put_into(&self.table, id, words).await;
    }

    pub(super) async fn put_into(&self, table: &str, id: &str, words: &str) {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let put = self.client.put_item().table_name(table).item("noteId", text(id)).item("words", text(words));
        put.send().await.unwrap();
    }

    pub(super) async fn delete_from(&self, table: &str, id: &str) {
        let key = AttributeValue::S(id.to_owned());
        self.client.delete_item().table_name(table).key("noteId", key).send().await.unwrap();
    }

    pub(super) async fn held(&self, table: &str) -> Vec<String> {
        let items = self.client.scan().table_name(table).into_paginator().items().send();
        let items = items.collect::<Result<Vec<_>, _>>().await.unwrap();
        let mut all: Vec<String> =
            items.iter().map(|item| format!("{:?} {:?}", item["noteId"], item.get("words"))).collect();
        all.retain(|note| !note.contains("cutover-marker"));
        all.sort_unstable();
        all
    }
}

/// A DynamoDB table moves into this store, tables of a database into the store `new`.
fn two_kinds(place: &str) {
    let papers = Notes::new();
    let both = Databases::with(&papers.store(), &NOTES.replace("PLACE", place));
    let notes = if place == "new" { &both.new } else { &both.archive };
    let put = |id: &str, words: &str| both.runtime.block_on(papers.put(id, words));
    both.runtime.block_on(papers.create("Notes"));
    (0..40).for_each(|n| put(&format!("n{n}"), "before"));

    let said = both.cutover(&["check"], 0);
    assert!(said.contains(" 0 failed"), "{said}");
    assert_eq!(said.matches("read units").count(), 1, "only one of the stores sells reads: {said}");
    both.cutover(&["run", "--headless", "--until", "catch-up"], 75);
    (20..60).for_each(|n| put(&format!("n{n}"), "after"));
    both.old("UPDATE people SET name = 'renamed'; DELETE FROM visits WHERE place = 'place 3'");
    both.cutover(&["run", "--headless"], 0);
    assert_eq!(both.held(&both.new), both.held(&both.old));
    let sql = "SELECT count(*) FILTER (WHERE words = 'before'), count(*) FILTER (WHERE words = 'after') FROM notes";
    let row = both.runtime.block_on(notes.query_one(sql, &[])).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (20, 40));
    assert_eq!((both.status(), both.kept()), (RunStatus::Finished, vec![]));

    // One release ends what the plan has in every store.
    both.release("people/test");
    for client in [&both.new, notes] {
        let owned = "SELECT count(*) FROM cutover.plan_table";
        let row = both.runtime.block_on(client.query_one(owned, &[])).unwrap();
        assert_eq!(row.get::<_, i64>(0), 0);
    }
}

pub(super) const NOTES_V2: &str = r#"
[[tables]]
id = "notes"
from = "papers.Notes"
to = "papers.Notes-v2"
key = ["noteId"]
like = "same"
"#;
