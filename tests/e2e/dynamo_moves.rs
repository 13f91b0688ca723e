//! DynamoDB tables by rule, through the real binary: made as the source has them, and again where somebody names the plan.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Region;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue as A, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableDescription, Tag, TimeToLiveSpecification,
};
use cutover::rehearsal::clients::session;
use tokio::runtime::Runtime;

use super::Slot;
use super::console::Console;
use super::stage::independent;
use super::stores::STEPS;

/// Tables in one region of an emulator that others wrote, a config that moves them to another one, and a folder.
struct Regions {
    runtime: Runtime,
    old: Client,
    new: Client,
    /// Its tables begin so: the emulator is not asked by this test alone.
    prefix: String,
    dir: tempfile::TempDir,
    started: AtomicU32,
    _slot: Slot,
}

impl Regions {
    fn new(endpoint: &str) -> Self {
        let slot = Slot::take();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::Builder::new().prefix("cutover-regions-").tempdir().unwrap();
        let prefix = format!("r{:08x}", fastrand::u32(..));
        let store = |name: &str, region: &str| format!("[stores.{name}]\nkind = \"dynamodb\"\nregion = \"{region}\"\n");
        let text = format!(
            "name = \"{prefix}\"\nproduction = false\n[aws]\nregion = \"us-east-1\"\ncredentials = \"emulator\"\n\
             endpoint = \"{endpoint}\"\n{}{}[follow]\npoll = \"20ms\"\n[verify]\nfloor = 1.0\nsettle = \"5s\"\n\
             [[moves]]\ninclude = [\"{prefix}-*\"]\nlike = \"same\"\n{STEPS}",
            store("old", "us-east-1"),
            store("new", "eu-west-1")
        );
        fs::write(dir.path().join("config.toml"), text).unwrap();
        let client = |region: &'static str| {
            let sdk = session(endpoint, 1);
            let config = aws_sdk_dynamodb::config::Builder::from(&sdk).region(Region::from_static(region));
            Client::from_conf(config.build())
        };
        let (old, new) = (client("us-east-1"), client("eu-west-1"));
        Self { runtime, old, new, prefix, dir, started: AtomicU32::new(0), _slot: slot }
    }

    fn carts(&self) -> String {
        format!("{}-Carts", self.prefix)
    }

    fn cutover(&self, args: &[&str], code: i32) -> String {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let all = [&["--state-dir", "state"], args].concat();
        let mut console = Console::start(self.dir.path(), &format!("{number}-{}", args[0]), &all, None);
        console.expect_code(code);
        format!("{}{}", console.out(), console.words())
    }

    async fn create(&self, client: &Client, key: ScalarAttributeType, index: bool) {
        let define =
            |name: &str, ty| AttributeDefinition::builder().attribute_name(name).attribute_type(ty).build().unwrap();
        let hash =
            |name: &str| KeySchemaElement::builder().attribute_name(name).key_type(KeyType::Hash).build().unwrap();
        let mut made = client.create_table().table_name(self.carts()).billing_mode(BillingMode::PayPerRequest);
        made = made.attribute_definitions(define("id", key)).key_schema(hash("id"));
        made = made.tags(Tag::builder().key("team").value("shop").build().unwrap());
        if index {
            let all = Projection::builder().projection_type(ProjectionType::All).build();
            let by = GlobalSecondaryIndex::builder().index_name("by-user").key_schema(hash("user")).projection(all);
            made = made.attribute_definitions(define("user", ScalarAttributeType::S));
            made = made.global_secondary_indexes(by.build().unwrap());
        }
        made.send().await.unwrap();
    }

    async fn put(&self, client: &Client, id: A) {
        let put = client.put_item().table_name(self.carts()).item("id", id).item("user", A::S("u".to_owned()));
        put.item("until", A::N("4102444800".to_owned())).send().await.unwrap();
    }

    /// What the service says of the new table.
    fn described(&self) -> TableDescription {
        let asked = self.new.describe_table().table_name(self.carts()).send();
        self.runtime.block_on(asked).unwrap().table.unwrap()
    }

    fn expires(&self) -> String {
        let asked = self.new.describe_time_to_live().table_name(self.carts()).send();
        let said = self.runtime.block_on(asked).unwrap().time_to_live_description.unwrap();
        said.time_to_live_status.unwrap().as_str().to_owned()
    }

    fn rows(&self, client: &Client) -> usize {
        let scan = client.scan().table_name(self.carts()).into_paginator().items().send();
        let items = self.runtime.block_on(scan.collect::<Result<Vec<_>, _>>()).unwrap();
        items.iter().filter(|item| !item["id"].as_s().is_ok_and(|id| id.starts_with("cutover-marker-"))).count()
    }
}

#[test]
fn a_rule_makes_dynamodb_tables_and_drops_others_only_where_the_plan_is_named() {
    let (endpoint, _one) = independent();
    let all = Regions::new(&endpoint);
    all.runtime.block_on(async {
        all.create(&all.old, ScalarAttributeType::S, true).await;
        let ttl = TimeToLiveSpecification::builder().attribute_name("until").enabled(true).build().unwrap();
        let on = all.old.update_time_to_live().table_name(all.carts()).time_to_live_specification(ttl);
        on.send().await.unwrap();
        for n in 0..120 {
            all.put(&all.old, A::S(format!("c{n}"))).await;
        }
        // Somebody made another one of that name, and has something in it.
        all.create(&all.new, ScalarAttributeType::N, false).await;
        all.put(&all.new, A::N("7".to_owned())).await;
    });
    let said = all.cutover(&["plan", "--json"], 0);
    assert!(said.contains("by-user") && said.contains("TimeToLiveSpecification"), "{said}");
    let said = all.cutover(&["check"], 1);
    assert!(said.contains("its key is (id N) and the plan's is (id S)"), "{said}");

    let plan = format!("{}/test", all.prefix);
    let said = all.cutover(&["run", "--headless", "--force"], 8);
    assert!(said.contains(&format!("Type {plan} to go on")) && said.contains("nothing was changed"), "{said}");
    all.cutover(&["run", "--headless", "--force=another/test"], 8);
    assert_eq!(all.rows(&all.new), 1, "nothing was changed");
    let said = all.cutover(&["run", "--headless", &format!("--force={plan}"), "--until", "load"], 75);
    assert!(said.contains("is dropped and made again"), "{said}");
    // Its tables are set up: there is nothing to force any more.
    let said = all.cutover(&["run", "--headless", &format!("--force={plan}")], 2);
    assert!(said.contains("has set up its tables already"), "{said}");
    let said = all.cutover(&["run", "--headless"], 0);
    assert!(said.contains("RESULT      finished"), "{said}");

    let described = all.described();
    let index = &described.global_secondary_indexes()[0];
    assert_eq!((index.index_name(), described.attribute_definitions().len()), (Some("by-user"), 2));
    assert_eq!((all.rows(&all.old), all.rows(&all.new)), (120, 120));
    assert_eq!(all.expires(), "DISABLED", "this plan lets nobody in");
    let said = all.cutover(&["plan"], 0);
    assert!(said.contains("no `thaw` step, which turns expiry on"), "{said}");

    // Production is dropped by nobody who does not name it.
    let path = all.dir.path().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("production = false", "production = true")).unwrap();
    let said = all.cutover(&["run", "--headless", "--new", &format!("--force={}/production", all.prefix)], 2);
    assert!(said.contains("say so with --env production"), "{said}");
}
