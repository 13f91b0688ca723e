//! A whole migration day without anything outside the binary but PostgreSQL: private servers, an embedded DynamoDB, a
//! stand-in for the AWS control plane, a simulated application that obeys the parameters, and an oracle of every
//! acknowledged write. Which day it is says [`Scenario`].
//!
//! This is deliberately the *other side* of the console: it talks to the stores through the official SDK and
//! driver and shares no mapping, reader or writer with the adapters it helps to test.

pub mod control;
pub mod fault;
mod gradual;
pub mod oracle;
pub mod payments;
pub mod records;
pub mod scenario;
pub mod seed;
pub mod servers;
pub mod shop;
pub mod short_plan;
mod subscribed;
#[cfg(test)]
mod test_postgres;
pub mod world;

pub use crate::private::{RehearsalError, RehearsalResult, clients, dynamo, postgres};
pub use scenario::Scenario;
pub use servers::{Amounts, Servers};
pub use subscribed::subscribed;
pub use world::{OracleReport, PgAddress, World, WorldOptions};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks even when a thread died holding the lock: every critical section here leaves the value whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
