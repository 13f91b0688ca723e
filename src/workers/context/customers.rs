//! What is measured of customers while they are kept out, and once they write on the new side.

use std::sync::{Mutex, PoisonError};

/// Row changes in the target at the moment it was opened to customers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtThaw {
    /// All of them.
    pub writes: u64,
    /// Our own among them.
    pub own: u64,
}

/// Since when customers were refused, and what they found when they came back. Known to this process only.
#[derive(Debug, Default)]
pub struct Customers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    refused_mono: Option<i64>,
    at_thaw: Option<AtThaw>,
}

impl Customers {
    /// Their writes are refused since this moment of the monotonic clock, in milliseconds.
    pub fn refused_since(&self, mono: i64) {
        self.with(|known| known.refused_mono = Some(mono));
    }

    /// Since when their writes are refused.
    pub fn refused_mono(&self) -> Option<i64> {
        self.with(|known| known.refused_mono)
    }

    /// Their writes are accepted again.
    pub fn accepted(&self) {
        self.with(|known| known.refused_mono = None);
    }

    /// The target is about to be opened to them; the first count stays.
    pub fn thaw_at(&self, at: AtThaw) {
        self.with(|known| {
            known.at_thaw.get_or_insert(at);
        });
    }

    /// What stood in the target then.
    pub fn at_thaw(&self) -> Option<AtThaw> {
        self.with(|known| known.at_thaw)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Known) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
