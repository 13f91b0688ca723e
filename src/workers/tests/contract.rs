//! The target in memory keeps what every target promises.

use std::sync::Arc;

use super::world::{FakeTarget, HandClock, NewStore};
use crate::ports::Target;
use crate::ports::tests::{TargetStore, tables, target_cases};

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
    fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.target) as _
    }

    fn another(&self) -> Arc<dyn Target> {
        Arc::new(FakeTarget::new(self.store.clone()))
    }
}

target_cases!(InMemory::new());
