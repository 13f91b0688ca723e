//! What can go wrong with the rehearsal's own machinery.

use std::error::Error;
use std::fmt::Display;

/// A result of the rehearsal's machinery.
pub type RehearsalResult<T> = Result<T, RehearsalError>;

/// What was tried, on what, and the answer. Never holds a row value or a secret.
#[derive(Debug, thiserror::Error)]
#[error("cannot {tried} {on}: {why}{}", advice.map(|a| format!("; {a}")).unwrap_or_default())]
pub struct RehearsalError {
    /// What was tried: `start`, `seed`, `read`.
    pub tried: &'static str,
    /// On what.
    pub on: String,
    /// The answer.
    pub why: String,
    /// What to do about it, when there is something.
    pub advice: Option<&'static str>,
}

impl RehearsalError {
    /// An error without advice.
    pub fn new(tried: &'static str, on: impl Into<String>, why: impl Display) -> Self {
        Self { tried, on: on.into(), why: why.to_string(), advice: None }
    }

    /// An error whose reason is the innermost cause of `error`: SDK errors print only their outermost layer.
    pub fn caused(tried: &'static str, on: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        Self::new(tried, on, reason(error))
    }

    /// The same error, saying what to do.
    #[must_use]
    pub const fn advise(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }
}

/// An error with its causes, outermost first.
fn reason(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        at = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_everything() {
        let error = RehearsalError::new("start", "DynamoDB", "no room").advise("free some space");
        assert_eq!(error.to_string(), "cannot start DynamoDB: no room; free some space");
    }
}
