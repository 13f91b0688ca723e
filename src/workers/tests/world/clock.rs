//! A clock driven by hand, with skew and steps of the wall clock.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::at::At;
use crate::ports::Clock;

/// Where the wall stands when the monotonic clock stands at nought: 2026-11-22 02:00 UTC.
const WALL: i64 = 1_795_312_800_000;

/// Time that passes only when it is read, and by hand.
///
/// Every read of the monotonic clock takes a little time, so that two reads never give the same moment and no
/// loop waits for ever; everything else is moved by the test.
#[derive(Debug)]
pub struct HandClock {
    mono: AtomicI64,
    look: AtomicI64,
    skew: AtomicI64,
}

impl Default for HandClock {
    fn default() -> Self {
        Self { mono: AtomicI64::new(1), look: AtomicI64::new(1), skew: AtomicI64::new(0) }
    }
}

impl HandClock {
    /// Moves both clocks forward.
    pub fn advance(&self, ms: i64) {
        self.mono.fetch_add(ms, Ordering::SeqCst);
    }

    /// Steps the wall clock alone, as an NTP correction does: negative is backwards.
    pub fn step_wall(&self, ms: i64) {
        self.skew.fetch_add(ms, Ordering::SeqCst);
    }

    /// How long each read takes, in milliseconds; 1 in the beginning.
    pub fn query_takes(&self, ms: i64) {
        self.look.store(ms, Ordering::SeqCst);
    }

    /// The monotonic clock without the cost of a read.
    pub fn peek(&self) -> i64 {
        self.mono.load(Ordering::SeqCst)
    }

    /// The stores' own wall clock, which no step of ours moves.
    pub fn true_wall(&self) -> At {
        At(WALL + self.peek())
    }
}

impl Clock for HandClock {
    fn wall(&self) -> At {
        At(self.true_wall().0 + self.skew.load(Ordering::SeqCst))
    }

    fn mono_ms(&self) -> i64 {
        let look = self.look.load(Ordering::SeqCst);
        self.mono.fetch_add(look, Ordering::SeqCst) + look
    }
}
