//! A few books in both stores, loaded by the real binary and then tampered with: for what compares and repairs.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use cutover::domain::run::Fact;
use cutover::journal::{RunFolder, read_run};
use cutover::rehearsal::clients::session;
use cutover::rehearsal::dynamo::EmbeddedDynamo;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::Slot;
use super::console::Console;
use super::stage::{database, pg_client};

/// Books with tags, reviews that refer to authors, and carts that expire.
const CONFIG: &str = r#"
name = "shelf"
production = false

[aws]
region = "us-east-1"
credentials = "emulator"
endpoint = "@ENDPOINT@"

[postgres]
host = "@HOST@"
port = @PORT@
database = "@DATABASE@"
user = "@USER@"
password = { file = "password" }
sslmode = "disable"

[load]
segments = 2

[follow]
poll = "20ms"

[verify]
floor = 0.9999
settle = "50ms"
segments = 2
@VERIFY@

[[tables]]
id = "authors"
source = "Shelf-Authors"
target = "authors"
key = ["authorId"]
ddl_sql = "CREATE TABLE authors (id text PRIMARY KEY, name varchar(20) NOT NULL)"
[tables.columns]
id = { from = "authorId", type = "text", key = true }
name = { type = "varchar(20)", required = true }

[[tables]]
id = "books"
source = "Shelf-Books"
target = "books"
key = ["bookId"]
ddl_sql = """
CREATE TABLE books (
    id uuid PRIMARY KEY, title varchar(@TITLE@) NOT NULL, price numeric(12,4), added timestamptz, note text,
    old_id text, pages integer, author text, extra jsonb, words text[]);
CREATE TABLE book_tags (book_id uuid NOT NULL, place integer NOT NULL, tag text NOT NULL, PRIMARY KEY (book_id, place));
"""
[tables.columns]
id = { from = "bookId", type = "uuid", key = true }
title = { type = "varchar(@TITLE@)", required = true }
price = { type = "numeric(12,4)" }
added = { type = "timestamptz" }
note = { type = "text" }
old_id = { from = "oldId", type = "text", sparse = true }
pages = { type = "integer" }
author = { type = "text" }
extra = { type = "jsonb", sparse = true }
words = { type = "text[]" }
[[tables.foreign_keys]]
columns = ["author"]
references = "authors"
[[tables.children]]
target = "book_tags"
list = "tags"
parent_key = ["book_id"]
[tables.children.columns]
book_id = { parent = "bookId", type = "uuid", key = true }
place = { ordinal = true, type = "integer", key = true }
tag = { element = true, type = "text" }

[[tables]]
id = "reviews"
source = "Shelf-Reviews"
target = "reviews"
key = ["reviewId"]
ddl_sql = "CREATE TABLE reviews (id text PRIMARY KEY, author text NOT NULL REFERENCES authors (id), stars integer)"
[tables.columns]
id = { from = "reviewId", type = "text", key = true }
author = { type = "text", required = true }
stars = { type = "integer", sparse = true }
[[tables.foreign_keys]]
columns = ["author"]
references = "authors"

[[tables]]
id = "carts"
source = "Shelf-Carts"
target = "carts"
key = ["userId", "itemNo"]
ttl = "expiresAt"
ddl_sql = "CREATE TABLE carts (user_id text, item_no bigint, expires_at bigint, PRIMARY KEY (user_id, item_no))"
[tables.columns]
user_id = { from = "userId", type = "text", key = true }
item_no = { from = "itemNo", type = "bigint", key = true }
expires_at = { from = "expiresAt", type = "bigint", sparse = true }

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
title = "record stream positions"
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
id = "stay"
title = "stay"
at = "T-00:30"
takes = "1m"
kind = "manual"
what = "Stay here."
confirm = "key"
"#;

/// Both stores and a folder. Dropping it removes everything.
pub struct StorePair {
    runtime: Runtime,
    _dynamo: EmbeddedDynamo,
    client: Client,
    pg: tokio_postgres::Client,
    dir: tempfile::TempDir,
    started: AtomicU32,
    _slot: Slot,
}

/// One source attribute.
pub fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

/// One source number.
pub fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// The key of book `n`.
pub fn book_id(n: u32) -> String {
    uuid::Uuid::from_u128(0x5e1f_0000_0000_4000_8000_0000_0000_0000 + u128::from(n)).to_string()
}

impl StorePair {
    /// Stores with empty source tables, and a config. `verify` is added to its section of that name.
    pub fn new(verify: &str) -> Self {
        let slot = Slot::take();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dynamo = EmbeddedDynamo::start(&EmbeddedDynamo::place()).unwrap();
        let at = database(&runtime);
        let dir = tempfile::Builder::new().prefix("cutover-shelf-").tempdir().unwrap();
        fs::write(dir.path().join("password"), at.password.as_ref().unwrap().reveal()).unwrap();
        let text = CONFIG
            .replace("@ENDPOINT@", dynamo.endpoint())
            .replace("@HOST@", &at.host)
            .replace("@PORT@", &at.port.to_string())
            .replace("@DATABASE@", &at.database)
            .replace("@USER@", &at.user)
            .replace("@TITLE@", "20")
            .replace("@VERIFY@", verify);
        fs::write(dir.path().join("config.toml"), text).unwrap();
        let client = runtime.block_on(async { Client::new(&session(dynamo.endpoint(), 3)) });
        let pg = runtime.block_on(pg_client(&at));
        let pair = Self { runtime, _dynamo: dynamo, client, pg, dir, started: AtomicU32::new(0), _slot: slot };
        for (table, key) in [
            ("Shelf-Authors", &[("authorId", ScalarAttributeType::S)][..]),
            ("Shelf-Books", &[("bookId", ScalarAttributeType::S)]),
            ("Shelf-Reviews", &[("reviewId", ScalarAttributeType::S)]),
            ("Shelf-Carts", &[("userId", ScalarAttributeType::S), ("itemNo", ScalarAttributeType::N)]),
        ] {
            pair.create(table, key);
        }
        pair
    }

    fn create(&self, table: &str, key: &[(&str, ScalarAttributeType)]) {
        let mut request = self.client.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
        for (i, (name, ty)) in key.iter().enumerate() {
            let role = if i == 0 { KeyType::Hash } else { KeyType::Range };
            request = request
                .key_schema(KeySchemaElement::builder().attribute_name(*name).key_type(role).build().unwrap())
                .attribute_definitions(
                    AttributeDefinition::builder().attribute_name(*name).attribute_type(ty.clone()).build().unwrap(),
                );
        }
        self.runtime.block_on(request.send()).unwrap();
    }

    /// Puts an item.
    pub fn put(&self, table: &str, attributes: &[(&str, AttributeValue)]) {
        let item: HashMap<_, _> = attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        self.runtime.block_on(self.client.put_item().table_name(table).set_item(Some(item)).send()).unwrap();
    }

    /// Deletes an item.
    pub fn delete(&self, table: &str, key: &[(&str, AttributeValue)]) {
        let key: HashMap<_, _> = key.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        self.runtime.block_on(self.client.delete_item().table_name(table).set_key(Some(key)).send()).unwrap();
    }

    /// Book `n` with three tags, by author `ann`.
    pub fn book(&self, n_: u32, more: &[(&str, AttributeValue)]) {
        let tags = ["new", "red", "sold"].into_iter().map(s).collect();
        let mut item = vec![
            ("bookId", s(&book_id(n_))),
            ("title", s(&format!("Book {n_}"))),
            ("price", n("19.999")),
            ("added", s("2026-11-21T10:20:30.123456Z")),
            ("note", s("a note")),
            ("pages", n(n_)),
            ("author", s("ann")),
            ("words", AttributeValue::Ss(vec!["b".into(), "a".into()])),
            ("tags", AttributeValue::L(tags)),
        ];
        item.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
        item.extend(more.iter().cloned());
        self.put("Shelf-Books", &item);
    }

    /// The author `ann` and so many books of hers.
    pub fn books(&self, count: u32) {
        self.put("Shelf-Authors", &[("authorId", s("ann")), ("name", s("Ann"))]);
        (0..count).for_each(|n| self.book(n, &[]));
    }

    /// Everything the source has: each table with its stream and its items.
    pub fn source(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let mut found = Vec::new();
            for table in self.client.list_tables().send().await.unwrap().table_names() {
                let described = self.client.describe_table().table_name(table).send().await.unwrap();
                let stream = described.table().and_then(|t| t.stream_specification()).map(|s| s.stream_enabled());
                found.push(format!("{table}: stream {stream:?}"));
                let items = self.client.scan().table_name(table).into_paginator().items().send();
                let items = items.collect::<Result<Vec<_>, _>>().await.unwrap();
                found.extend(items.into_iter().map(|item| {
                    let fields: std::collections::BTreeMap<_, _> = item.into_iter().collect();
                    format!("{table}: {fields:?}")
                }));
            }
            found.sort();
            found
        })
    }

    /// Rows of every catalogue of the target's database, but for the server's own statistics.
    pub fn catalogues(&self) -> Vec<(String, i64)> {
        self.runtime.block_on(super::stage::catalogues(&self.pg))
    }

    /// Runs SQL in the target.
    pub fn sql(&self, text: &str) {
        self.runtime.block_on(self.pg.batch_execute(text)).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    }

    /// One number from the target.
    pub fn number(&self, sql: &str) -> i64 {
        self.runtime.block_on(self.pg.query_one(&format!("SELECT ({sql})::bigint"), &[])).unwrap().get(0)
    }

    /// Changes the config.
    pub fn config(&self, from: &str, to: &str) {
        let path = self.dir.path().join("config.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "the config has no {from:?}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    /// The folder everything is in.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Starts the binary.
    pub fn start(&self, args: &[&str]) -> Console {
        self.start_failing(args, None)
    }

    /// Starts the binary, to be killed at a place.
    pub fn start_failing(&self, args: &[&str], failpoint: Option<&str>) -> Console {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let all = [&["--state-dir", "state"], args].concat();
        Console::start(self.dir.path(), &format!("{number}-{}", args[0]), &all, failpoint)
    }

    /// Runs the binary to its end; what it wrote to standard output.
    pub fn cutover(&self, args: &[&str], code: i32) -> String {
        let mut console = self.start(args);
        console.expect_code(code);
        console.out()
    }

    /// The same, read as JSON.
    pub fn json(&self, args: &[&str], code: i32) -> Value {
        let text = self.cutover(&[args, &["--json"]].concat(), code);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Loads every table and catches up; the run rests then.
    pub fn load(&self) {
        self.cutover(&["run", "--headless", "--until", "catch-up"], 75);
    }

    /// The folder of the newest run.
    pub fn folder(&self) -> RunFolder {
        RunFolder::list(&self.dir.path().join("state")).unwrap().into_iter().next().expect("a run")
    }

    /// The journal of the newest run; empty while there is none.
    pub fn journal(&self) -> String {
        let folder = RunFolder::list(&self.dir.path().join("state")).unwrap_or_default().into_iter().next();
        folder.map_or_else(String::new, |f| fs::read_to_string(f.journal()).unwrap_or_default())
    }

    /// Facts of the newest run; none while there is none.
    pub fn facts(&self) -> Vec<Fact> {
        let folder = RunFolder::list(&self.dir.path().join("state")).unwrap_or_default().into_iter().next();
        folder.and_then(|f| read_run(&f).ok()).map(|r| r.facts).unwrap_or_default()
    }

    /// What `verify` says of one table.
    pub fn verify(&self, table: &str, args: &[&str], code: i32) -> Value {
        let said = self.json(&[&["verify", "--table", table], args].concat(), code);
        said["tables"][0].clone()
    }

    /// Fails unless a file can be read by its owner only.
    pub fn expect_private(path: &str) {
        let mode = fs::metadata(path).unwrap_or_else(|e| panic!("{path}: {e}")).permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{path}");
    }
}
