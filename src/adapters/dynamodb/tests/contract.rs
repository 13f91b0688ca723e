//! DynamoDB keeps what every source promises.

use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::ports::tests::items::ItemsStore;
use crate::ports::tests::source::SourceStore;
use crate::ports::tests::{items_cases, source_cases, tables};
use crate::ports::{Changes, Items, Source};

struct Tables {
    server: Server,
    name: String,
}

impl Tables {
    async fn new() -> Self {
        let (server, name) = (server().await, fresh("authors"));
        create(&raw(&server), &name, &[("id", ScalarAttributeType::S)], None).await;
        Self { server, name }
    }

    fn connected(&self) -> (DynamoSource, DynamoChanges) {
        connect(&sdk_config(), &settings(&self.server)).unwrap()
    }
}

#[async_trait]
impl SourceStore for Tables {
    fn authors(&self) -> Table {
        Table { source: self.name.clone(), marker_prefix: "marker-".into(), ..tables::authors() }
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.connected().0)
    }

    fn changes(&self) -> Arc<dyn Changes> {
        Arc::new(self.connected().1)
    }

    fn changes_elsewhere(&self) -> Arc<dyn Changes> {
        self.changes()
    }

    async fn put(&self, id: &str, name: &str) {
        let put = raw(&self.server).put_item().table_name(&self.name).item("id", s(id)).item("name", s(name));
        put.send().await.unwrap();
    }

    async fn delete(&self, id: &str) {
        raw(&self.server).delete_item().table_name(&self.name).key("id", s(id)).send().await.unwrap();
    }
}

impl ItemsStore for Tables {
    fn table(&self) -> Table {
        self.authors()
    }

    fn items(&self) -> Arc<dyn Items> {
        Arc::new(self.connected().0)
    }
}

source_cases!(Tables::new());

mod as_items {
    use super::*;

    items_cases!(Tables::new());
}
