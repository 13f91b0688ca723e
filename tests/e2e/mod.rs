//! The product as a whole: the real binary against a world of its own, killed, hung, rolled back, started again.
//!
//! Two worlds at a time: a machine with two cores has no room for more, and time limits must mean something.

mod accounts;
mod alerts;
mod amend;
mod asked;
mod back;
mod both_pairs;
mod check;
mod compare;
mod console;
mod day;
mod documents;
mod dry_run;
mod dynamo_moves;
mod export;
mod gradual;
mod hung_disk;
mod init;
mod keys;
mod kills;
#[cfg(feature = "failpoints")]
mod matrix;
#[cfg(feature = "failpoints")]
mod matrix_calls;
#[cfg(feature = "failpoints")]
mod movers;
mod moves;
mod parked;
#[cfg(feature = "failpoints")]
mod payments;
mod people;
mod plans;
mod resolved;
mod restore;
mod samples;
mod secrets;
mod silence;
mod stage;
mod store_pair;
mod stores;
mod words;

use std::sync::{Condvar, Mutex, PoisonError};

/// Worlds that may still be opened.
static FREE: (Mutex<u32>, Condvar) = (Mutex::new(2), Condvar::new());

/// The right to have a world; given back on drop.
#[derive(Debug)]
struct Slot;

impl Slot {
    fn take() -> Self {
        let free = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = FREE.1.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREE.1.notify_one();
    }
}
