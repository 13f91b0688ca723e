//! Folding facts into state. The one list of legal transitions.

use super::event::Fact;
use super::state::RunState;

/// A fact that cannot follow the state it met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fact #{seq} ({what}) cannot follow: {why}")]
pub struct IllegalTransition {
    /// The fact's position.
    pub seq: u64,
    /// Its type.
    pub what: String,
    /// Why it is illegal.
    pub why: String,
}

/// Folds one fact into the state. Used live, on recovery and in replay.
pub fn apply(state: &mut RunState, fact: &Fact) -> Result<(), IllegalTransition> {
    state.last_seq = fact.seq;
    Ok(())
}
