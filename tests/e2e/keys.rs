//! DynamoDB tables whose keys are numbers, bytes and moments, into PostgreSQL: what most tutorials' tables have.

use std::collections::HashMap;
use std::fs;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue as Av, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use cutover::rehearsal::clients::session;
use cutover::rehearsal::dynamo::EmbeddedDynamo;
use tokio::runtime::Runtime;

use super::Slot;
use super::console::Console;
use super::stage::{database, pg_client};
use super::stores::STEPS;

const TABLES: &str = r#"
[[tables]]
id = "products"
from = "old.ProductCatalog"
to = "new.public.products"
key = ["Id"]
ddl_sql = "CREATE TABLE products (id bigint PRIMARY KEY, title text)"
[tables.columns]
id = { from = "Id", type = "bigint", key = true }
title = { from = "Title", type = "text" }

[[tables]]
id = "readings"
from = "old.Readings"
to = "new.public.readings"
key = ["sensor", "at"]
ddl_sql = "CREATE TABLE readings (sensor numeric, at timestamptz, celsius numeric, PRIMARY KEY (sensor, at))"
[tables.columns]
sensor = { type = "numeric", key = true }
at = { type = "timestamptz", key = true, unit = "s" }
celsius = { type = "numeric" }

[[tables]]
id = "hashes"
from = "old.Hashes"
to = "new.public.hashes"
key = ["hash"]
ddl_sql = "CREATE TABLE hashes (hash bytea PRIMARY KEY, size bigint)"
[tables.columns]
hash = { type = "bytea", key = true }
size = { type = "bigint" }
"#;

/// The tables' keys.
const KEYS: [(&str, &[(&str, ScalarAttributeType)]); 3] = [
    ("ProductCatalog", &[("Id", ScalarAttributeType::N)]),
    ("Readings", &[("sensor", ScalarAttributeType::N), ("at", ScalarAttributeType::N)]),
    ("Hashes", &[("hash", ScalarAttributeType::B)]),
];

struct Place {
    runtime: Runtime,
    dynamo: Client,
    new: tokio_postgres::Client,
    dir: tempfile::TempDir,
    started: u32,
    _embedded: EmbeddedDynamo,
    _slot: Slot,
}

impl Place {
    fn new() -> Self {
        let slot = Slot::take();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let embedded = EmbeddedDynamo::start(&EmbeddedDynamo::place()).unwrap();
        let dynamo = Client::new(&session(embedded.endpoint(), 3));
        for (table, keys) in KEYS {
            let mut create = dynamo.create_table().table_name(table).billing_mode(BillingMode::PayPerRequest);
            for ((name, ty), role) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
                let key = KeySchemaElement::builder().attribute_name(*name).key_type(role).build().unwrap();
                let of = AttributeDefinition::builder().attribute_name(*name).attribute_type(ty.clone());
                create = create.key_schema(key).attribute_definitions(of.build().unwrap());
            }
            runtime.block_on(create.send()).unwrap();
        }
        let at = database(&runtime);
        let dir = tempfile::Builder::new().prefix("cutover-keys-").tempdir().unwrap();
        fs::write(dir.path().join("password"), at.password.as_ref().unwrap().reveal()).unwrap();
        let text = format!(
            "name = \"keys\"\nproduction = false\n[stores.old]\nkind = \"dynamodb\"\nregion = \"us-east-1\"\n\
             credentials = \"emulator\"\nendpoint = \"{}\"\n[stores.new]\nkind = \"postgresql\"\nhost = \"{}\"\nport = {}\n\
             database = \"{}\"\nuser = \"{}\"\npassword = {{ file = \"password\" }}\nsslmode = \"disable\"\n[follow]\n\
             poll = \"20ms\"\nmarker_every = \"300ms\"\n[verify]\nfloor = 1.0\nsettle = \"5s\"\n{TABLES}{STEPS}",
            embedded.endpoint(),
            at.host,
            at.port,
            at.database,
            at.user
        );
        fs::write(dir.path().join("config.toml"), text).unwrap();
        let new = runtime.block_on(pg_client(&at));
        Self { runtime, dynamo, new, dir, started: 0, _embedded: embedded, _slot: slot }
    }

    fn cutover(&mut self, args: &[&str], code: i32) -> String {
        self.started += 1;
        let all = [&["--state-dir", "state"], args].concat();
        let mut console = Console::start(self.dir.path(), &format!("{}-{}", self.started, args[0]), &all, None);
        console.expect_code(code);
        console.out()
    }

    fn put(&self, table: &str, item: HashMap<String, Av>) {
        let put = self.dynamo.put_item().table_name(table).set_item(Some(item));
        self.runtime.block_on(put.send()).unwrap();
    }

    /// Writes items `from..to` of each table.
    fn fill(&self, from: i64, to: i64, title: &str) {
        let named = |all: Vec<(&str, Av)>| all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let number = |n: i64| Av::N(n.to_string());
        for n in from..to {
            self.put("ProductCatalog", named(vec![("Id", number(n - 5)), ("Title", Av::S(format!("{title} {n}")))]));
            let sensor = Av::N(format!("{}.50", n % 4));
            let reading = vec![("sensor", sensor), ("at", number(1_795_358_836 + n)), ("celsius", number(n))];
            self.put("Readings", named(reading));
            let hash = Av::B(Blob::new([0, 255, u8::try_from(n % 256).unwrap(), b'|']));
            self.put("Hashes", named(vec![("hash", hash), ("size", number(n * 3))]));
        }
    }

    fn delete(&self, table: &str, key: &[(&str, Av)]) {
        let key = key.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.runtime.block_on(self.dynamo.delete_item().table_name(table).set_key(Some(key)).send()).unwrap();
    }

    fn rows(&self, sql: &str) -> i64 {
        self.runtime.block_on(self.new.query_one(sql, &[])).unwrap().get(0)
    }
}

#[test]
fn tables_whose_keys_are_no_text_move() {
    let mut place = Place::new();
    place.fill(0, 60, "before");
    // A customer's item may have a number that a marker has, and is moved like any other.
    let big = cutover::domain::mapping::marker_number("someone's");
    let item = [("Id".to_owned(), Av::N(big.clone())), ("Title".to_owned(), Av::S("no marker".into()))];
    place.put("ProductCatalog", item.into());
    let said = place.cutover(&["check"], 0);
    assert!(said.contains(" 0 failed"), "{said}");
    place.cutover(&["run", "--headless", "--until", "catch-up"], 75);
    place.fill(40, 100, "after");
    place.delete("ProductCatalog", &[("Id", Av::N("-5".into()))]);
    place.delete("Readings", &[("sensor", Av::N("1.5".into())), ("at", Av::N("1795358837".into()))]);
    place.delete("Hashes", &[("hash", Av::B(Blob::new([0, 255, 2, b'|'])))]);
    let said = place.cutover(&["run", "--headless"], 0);
    for table in ["products", "readings", "hashes"] {
        assert!(said.contains(&format!("VERIFIED    {table}")), "{said}");
    }
    assert_eq!(
        place.rows("SELECT count(*) FROM products"),
        100,
        "100 items without one, and the one with a big number"
    );
    assert_eq!(place.rows("SELECT count(*) FROM products WHERE title LIKE 'after%'"), 60);
    assert_eq!(place.rows(&format!("SELECT count(*) FROM products WHERE id = {big} AND title = 'no marker'")), 1);
    assert_eq!(place.rows("SELECT count(*) FROM readings"), 99);
    assert_eq!(place.rows("SELECT count(*) FROM hashes"), 99);
    assert_eq!(place.rows("SELECT count(*) FROM cutover.parked"), 0);
}
