//! Where workers store what they measured. Samples: the latest wins.

use std::sync::Mutex;

use crate::domain::gauge::{Measured, TableGauge};

/// The shared measurements. Locks are held for a few assignments, never across an await.
#[derive(Debug, Default)]
pub struct LatestSamples(Mutex<Measured>);

impl LatestSamples {
    /// Changes what was last measured.
    pub fn put<R>(&self, change: impl FnOnce(&mut Measured) -> R) -> R {
        let mut latest = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut latest)
    }

    /// Changes one table's gauges.
    pub fn table<R>(&self, id: &str, change: impl FnOnce(&mut TableGauge) -> R) -> R {
        self.put(|m| change(m.tables.entry(id.to_owned()).or_default()))
    }

    /// A copy of everything.
    #[must_use]
    pub fn copy(&self) -> Measured {
        self.put(|m| m.clone())
    }
}
