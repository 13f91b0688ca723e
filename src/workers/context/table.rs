//! What the workers of this process keep of one table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Mutex, watch};

use crate::domain::mapping::TableMapping;
use crate::domain::plan::Table;
use crate::domain::value::Key;
use crate::workers::follow::PollCycle;
use crate::workers::progress::FollowProgress;

/// One table, as this process works on it.
#[derive(Debug)]
pub struct TableWork {
    /// How its rows are mapped.
    pub mapping: Arc<TableMapping>,
    /// How far following it has come.
    pub progress: Arc<FollowProgress>,
    /// The last round over all its shards.
    pub cycles: watch::Sender<PollCycle>,
    /// Where trying its parked rows again goes on; absent at the beginning.
    pub retry_after: Mutex<Option<Key>>,
    /// Why following it ended for good.
    ended: OnceLock<String>,
    /// Its rows that were written again so far.
    repaired: AtomicU64,
}

impl TableWork {
    /// A table nobody has worked on yet.
    pub fn new(table: &Table) -> Self {
        Self {
            mapping: Arc::new(TableMapping::new(table)),
            progress: Arc::default(),
            cycles: watch::channel(PollCycle::default()).0,
            retry_after: Mutex::default(),
            ended: OnceLock::new(),
            repaired: AtomicU64::new(0),
        }
    }

    /// Following it has ended for good; the first reason counts.
    pub fn end(&self, why: String) {
        let _ = self.ended.set(why);
    }

    /// Why following it ended for good, if it did.
    pub fn ended(&self) -> Option<&str> {
        self.ended.get().map(String::as_str)
    }

    /// Whether a round over all its shards has ended since this process began to follow it.
    pub fn was_followed(&self) -> bool {
        self.cycles.borrow().number > 0
    }

    /// Its rows that were written again so far.
    pub fn repaired(&self) -> u64 {
        self.repaired.load(Ordering::Acquire)
    }

    /// Counts rows that are about to be written again.
    pub fn note_repair(&self, rows: u64) {
        self.repaired.fetch_add(rows, Ordering::AcqRel);
    }
}
