//! PostgreSQL keeps what every target promises.

use std::sync::Arc;

use super::{PLAN, TestDatabase};
use crate::adapters::postgres::{PgSettings, PgTarget};
use crate::ports::Target;
use crate::ports::tests::{TargetStore, target_cases};

struct Database {
    settings: PgSettings,
    target: Arc<PgTarget>,
}

impl Database {
    async fn new() -> Self {
        let settings = TestDatabase::bare().await.settings;
        Self { target: Arc::new(PgTarget::new(&settings, PLAN).unwrap()), settings }
    }
}

impl TargetStore for Database {
    fn target(&self) -> Arc<dyn Target> {
        Arc::clone(&self.target) as _
    }

    fn another(&self) -> Arc<dyn Target> {
        Arc::new(PgTarget::new(&self.settings, PLAN).unwrap())
    }
}

target_cases!(Database::new());
