//! What can go wrong with a bench.

use std::fmt::Display;

/// A result of a bench.
pub type BenchResult<T> = Result<T, BenchError>;

/// What was tried, on what, and the answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot {tried} {on}: {why}")]
pub struct BenchError {
    /// What was tried: `start`, `measure`.
    pub tried: &'static str,
    /// On what.
    pub on: String,
    /// The answer.
    pub why: String,
}

impl BenchError {
    /// An error.
    pub fn new(tried: &'static str, on: impl Into<String>, why: impl Display) -> Self {
        Self { tried, on: on.into(), why: format!("{why:#}") }
    }
}

/// Any error as one of ours: what was tried, and on what.
pub(super) trait Tried<T> {
    /// `.tried("measure", "the load")`.
    fn tried(self, tried: &'static str, on: &str) -> BenchResult<T>;
}

impl<T, E: Display> Tried<T> for Result<T, E> {
    fn tried(self, tried: &'static str, on: &str) -> BenchResult<T> {
        self.map_err(|e| BenchError::new(tried, on, e))
    }
}
