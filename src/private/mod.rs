//! Stores of our own, made for one purpose and gone afterwards: what a rehearsal and the tests of the adapters run on.
//!
//! They are reached through the official SDK and driver, as by anybody else.

#[cfg(feature = "embedded-dynamodb")]
pub mod clients;
#[cfg(feature = "embedded-dynamodb")]
pub mod dynamo;
mod error;
pub mod postgres;

pub use error::{RehearsalError, RehearsalResult};
