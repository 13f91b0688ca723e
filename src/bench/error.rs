//! What can go wrong with a bench.

use std::error::Error;
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

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Tried<T> for Result<T, E> {
    fn tried(self, tried: &'static str, on: &str) -> BenchResult<T> {
        self.map_err(|e| BenchError::new(tried, on, with_causes(&*e.into())))
    }
}

/// An error with what caused it: a driver says no more than "db error" by itself.
fn with_causes(e: &(dyn Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = e.source();
    }
    text
}
