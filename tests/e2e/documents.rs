//! From one DynamoDB table to another: items move as they are.

use std::collections::HashMap;
use std::fs;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use cutover::domain::run::RunStatus;
use cutover::journal::{RunFolder, fold, read_run};
use cutover::rehearsal::clients::session;
use cutover::rehearsal::dynamo::EmbeddedDynamo;
use tokio::runtime::Runtime;

use super::Slot;
use super::console::Console;
use super::stores::STEPS;

type Item = HashMap<String, AttributeValue>;

struct Tables {
    runtime: Runtime,
    client: Client,
    dir: tempfile::TempDir,
    started: u32,
    _dynamo: EmbeddedDynamo,
    _slot: Slot,
}

impl Tables {
    fn new() -> Self {
        let slot = Slot::take();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dynamo = EmbeddedDynamo::start(&EmbeddedDynamo::place()).unwrap();
        let client = Client::new(&session(dynamo.endpoint(), 3));
        for table in ["Payments", "Payments-v2"] {
            let key =
                |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
            let of = |name: &str, ty| {
                AttributeDefinition::builder().attribute_name(name).attribute_type(ty).build().unwrap()
            };
            let create = client
                .create_table()
                .table_name(table)
                .billing_mode(BillingMode::PayPerRequest)
                .key_schema(key("account", KeyType::Hash))
                .key_schema(key("number", KeyType::Range))
                .attribute_definitions(of("account", ScalarAttributeType::S))
                .attribute_definitions(of("number", ScalarAttributeType::N));
            runtime.block_on(create.send()).unwrap();
        }
        let dir = tempfile::Builder::new().prefix("cutover-documents-").tempdir().unwrap();
        let text = format!(
            "name = \"payments\"\nproduction = false\n[stores.v1]\nkind = \"dynamodb\"\nregion = \"us-east-1\"\n\
             credentials = \"emulator\"\nendpoint = \"{0}\"\n[stores.v2]\nkind = \"dynamodb\"\nregion = \"us-east-1\"\n\
             credentials = \"emulator\"\nendpoint = \"{0}\"\n[reverse]\nenabled = false\n[follow]\npoll = \"20ms\"\n\
             [verify]\nfloor = 1.0\nsettle = \"5s\"\n[[tables]]\nid = \"payments\"\nfrom = \"v1.Payments\"\n\
             to = \"v2.Payments-v2\"\nkey = [\"account\", \"number\"]\nlike = \"same\"\n[tables.columns]\n\
             number = {{ type = \"numeric\", key = true }}\n{STEPS}",
            dynamo.endpoint()
        );
        fs::write(dir.path().join("config.toml"), text).unwrap();
        Self { runtime, client, dir, started: 0, _dynamo: dynamo, _slot: slot }
    }

    fn cutover(&mut self, args: &[&str], code: i32) -> String {
        self.started += 1;
        let all = [&["--state-dir", "state"], args].concat();
        let mut console = Console::start(self.dir.path(), &format!("{}-{}", self.started, args[0]), &all, None);
        console.expect_code(code);
        console.out()
    }

    fn put(&self, account: &str, number: u32, more: &[(&str, AttributeValue)]) {
        let mut put = self.client.put_item().table_name("Payments");
        put = put.item("account", AttributeValue::S(account.to_owned()));
        put = put.item("number", AttributeValue::N(number.to_string()));
        for (name, value) in more {
            put = put.item(*name, value.clone());
        }
        self.runtime.block_on(put.send()).unwrap();
    }

    fn delete(&self, account: &str, number: u32) {
        let delete = self.client.delete_item().table_name("Payments");
        let delete = delete.key("account", AttributeValue::S(account.to_owned()));
        self.runtime.block_on(delete.key("number", AttributeValue::N(number.to_string())).send()).unwrap();
    }

    /// Every item of a table, in an order that stays the same.
    fn items(&self, table: &str) -> Vec<Item> {
        let scan = self.client.scan().table_name(table).consistent_read(true).into_paginator().items();
        let found = self.runtime.block_on(scan.send().collect::<Result<Vec<Item>, _>>()).unwrap();
        let mut found: Vec<Item> = found
            .into_iter()
            .filter(|item| item["account"].as_s().is_ok_and(|account| !account.starts_with("cutover-marker")))
            .collect();
        found.sort_by_key(|item| format!("{:?} {:?}", item["account"], item["number"]));
        found
    }

    fn status(&self) -> RunStatus {
        let folder = RunFolder::list(&self.dir.path().join("state")).unwrap().remove(0);
        fold(&read_run(&folder).unwrap().facts).unwrap().status
    }
}

/// Attributes of every type.
fn every() -> Vec<(&'static str, AttributeValue)> {
    use AttributeValue as A;
    let map = HashMap::from([
        ("inner".to_owned(), A::L(vec![A::N("1.50".into()), A::Null(true), A::Bool(false)])),
        ("empty".to_owned(), A::M(HashMap::new())),
    ]);
    vec![
        ("text", A::S("ü \u{1F600} \"quoted\" \\".into())),
        ("none", A::S(String::new())),
        ("amount", A::N("12345678901234567890.123456789".into())),
        ("small", A::N("1e-120".into())),
        ("raw", A::B(Blob::new([0_u8, 255, 128]))),
        ("tags", A::Ss(vec!["b".into(), "a".into()])),
        ("numbers", A::Ns(vec!["2".into(), "1".into()])),
        ("blobs", A::Bs(vec![Blob::new([1_u8])])),
        ("nested", A::M(map)),
        ("item", A::S("an attribute that is called like the column".into())),
    ]
}

#[test]
fn a_table_moves_to_another_one_item_by_item() {
    let mut tables = Tables::new();
    for number in 0..120 {
        tables.put(&format!("acct-{}", number % 7), number, &every());
    }
    let said = tables.cutover(&["check"], 0);
    assert!(said.contains(" 0 failed"), "{said}");
    tables.cutover(&["run", "--headless", "--until", "catch-up"], 75);
    for number in 100..160 {
        tables.put(&format!("acct-{}", number % 7), number, &[("changed", AttributeValue::Bool(true))]);
    }
    (0..20).for_each(|number| tables.delete(&format!("acct-{}", number % 7), number));
    let said = tables.cutover(&["run", "--headless"], 0);
    assert!(said.contains("RESULT      finished"), "{said}");
    let (old, new) = (tables.items("Payments"), tables.items("Payments-v2"));
    assert_eq!((old.len(), new.len()), (140, 140));
    // The order in a set means nothing.
    let sorted = |items: Vec<Item>| {
        let each = items.into_iter().map(|mut item| {
            for value in item.values_mut() {
                match value {
                    AttributeValue::Ss(set) | AttributeValue::Ns(set) => set.sort(),
                    _ => {}
                }
            }
            item
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(sorted(new), sorted(old));
    assert_eq!(tables.status(), RunStatus::Finished);

    // What somebody changes there behind our back is found.
    let update = tables.client.update_item().table_name("Payments-v2");
    let update =
        update.key("account", AttributeValue::S("acct-1".into())).key("number", AttributeValue::N("50".into()));
    let update =
        update.update_expression("SET amount = :a").expression_attribute_values(":a", AttributeValue::N("1".into()));
    tables.runtime.block_on(update.send()).unwrap();
    let said = tables.cutover(&["verify", "--table", "payments", "--full", "--json"], 5);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["tables"][0]["summary"]["mismatched"], 1, "{said:#}");
}
