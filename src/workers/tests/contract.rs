//! The stores in memory keep what every target and every source promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::world::{FakeTarget, HandClock, NewStore, OldStore};
use crate::domain::plan::{NEW, Table};
use crate::domain::value::Cell;
use crate::ports::tests::items::ItemsStore;
use crate::ports::tests::outbox::OutboxStore;
use crate::ports::tests::source::SourceStore;
use crate::ports::tests::{Abilities, TargetStore, items_cases, outbox_cases, source_cases, tables, target_cases};
use crate::ports::{Changes, Items, Outbox, SeveralTargets, Source, Target};

struct InMemory {
    store: NewStore,
    target: Arc<FakeTarget>,
}

impl InMemory {
    async fn new() -> Self {
        let store = NewStore::new(&tables::all(), Arc::new(HandClock::default()));
        Self { target: Arc::new(FakeTarget::new(store.clone())), store }
    }
}

impl TargetStore for InMemory {
    fn abilities(&self) -> Abilities {
        Abilities::RELATIONAL
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.target) as _
    }

    fn another(&self) -> Arc<dyn Target> {
        Arc::new(FakeTarget::new(self.store.clone()))
    }
}

mod as_a_target {
    use super::*;

    target_cases!(InMemory::new());
}

#[async_trait]
impl OutboxStore for InMemory {
    fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::new(self.store.clone())
    }

    fn outbox_elsewhere(&self) -> Arc<dyn Outbox> {
        self.outbox()
    }

    async fn put(&self, id: &str, price: u32) {
        let row = vec![
            Cell::Text(id.to_owned().into()),
            Cell::Text(format!("isbn-{id}").into()),
            Cell::Numeric(price.to_string().into()),
            Cell::Null,
        ];
        self.store.foreign_put(&tables::books(), row);
    }

    async fn delete(&self, id: &str) {
        assert!(self.store.foreign_delete(&tables::books(), id));
    }
}

mod as_an_outbox {
    use super::*;

    outbox_cases!(InMemory::new());
}

/// The same behind the port of several targets, of which it is not home.
struct BesideHome {
    home: NewStore,
    store: NewStore,
    target: Arc<dyn Target>,
}

impl BesideHome {
    async fn new() -> Self {
        let clock = Arc::new(HandClock::default());
        let home = NewStore::new(&[], Arc::clone(&clock));
        let store = NewStore::new(&tables::all(), clock);
        Self { target: Self::both(&home, &store), home, store }
    }

    fn both(home: &NewStore, store: &NewStore) -> Arc<dyn Target> {
        let target = |store: &NewStore| Arc::new(FakeTarget::new(store.clone())) as Arc<dyn Target>;
        SeveralTargets::as_one(("home".to_owned(), target(home)), BTreeMap::from([(NEW.to_owned(), target(store))]))
    }
}

impl TargetStore for BesideHome {
    fn abilities(&self) -> Abilities {
        Abilities::RELATIONAL
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.target)
    }

    fn another(&self) -> Arc<dyn Target> {
        Self::both(&self.home, &self.store)
    }
}

mod as_one_of_several_targets {
    use super::*;

    target_cases!(BesideHome::new());
}

#[async_trait]
impl SourceStore for OldStore {
    fn authors(&self) -> Table {
        Table { marker_prefix: "marker-".into(), ..tables::authors() }
    }

    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.clone())
    }

    fn changes(&self) -> Arc<dyn Changes> {
        Arc::new(self.clone())
    }

    fn changes_elsewhere(&self) -> Arc<dyn Changes> {
        Arc::new(self.clone())
    }

    async fn put(&self, id: &str, name: &str) {
        Self::put(self, &tables::authors(), tables::item(&[("id", id), ("name", name)]));
    }

    async fn delete(&self, id: &str) {
        Self::delete(self, &tables::authors(), id, false);
    }
}

async fn old_store() -> OldStore {
    OldStore::new(&tables::all(), Arc::new(HandClock::default()))
}

mod as_a_source {
    use super::*;

    source_cases!(old_store());
}

/// The old side in memory, whose items are written back: single items, or rows of typed columns.
struct WrittenBack(OldStore);

impl WrittenBack {
    async fn items() -> Self {
        Self(old_store().await)
    }

    async fn rows(batch: usize) -> Self {
        let store = old_store().await;
        store.becomes_rows(&tables::all());
        store.back().batch = batch;
        Self(store)
    }
}

impl ItemsStore for WrittenBack {
    fn table(&self) -> Table {
        self.0.authors()
    }

    fn items(&self) -> Arc<dyn Items> {
        Arc::new(self.0.clone())
    }
}

mod as_items {
    use super::*;

    items_cases!(WrittenBack::items());
}

mod as_rows {
    use super::*;

    items_cases!(WrittenBack::rows(1));
}

mod as_rows_in_batches {
    use super::*;

    items_cases!(WrittenBack::rows(3));
}
