//! Where workers leave what they measured. Samples: the latest wins.

use std::sync::Mutex;

use crate::domain::gauge::{Measured, TableGauge};

/// The shared board. Locks are held for a few assignments, never across an await.
#[derive(Debug, Default)]
pub struct Board(Mutex<Measured>);

impl Board {
    /// Changes the board.
    pub fn put<R>(&self, change: impl FnOnce(&mut Measured) -> R) -> R {
        let mut board = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut board)
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
