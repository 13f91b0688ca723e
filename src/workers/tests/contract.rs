//! The stores in memory keep what every target and every source promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::world::{FakeTarget, HandClock, NewStore, OldStore};
use crate::domain::plan::{NEW, Table};
use crate::ports::tests::source::SourceStore;
use crate::ports::tests::{Abilities, TargetStore, source_cases, tables, target_cases};
use crate::ports::{Changes, SeveralTargets, Source, Target};

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
