//! How many workers read at once, how much they may read, and when.

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::domain::plan::Plan;
use crate::workers::continuous::Turn;
use crate::workers::pace::ReadBudget;

/// What bounds the reading of stores.
#[derive(Debug)]
pub struct ReadLimits {
    /// One permit per load worker.
    pub permits: Arc<Semaphore>,
    /// Read capacity, shared by the load and every comparison.
    pub budget: Arc<ReadBudget>,
    /// Whose turn it is to read both sides whole.
    pub turn: Turn,
    /// Whether workers rest at their next safe point.
    pub paused: watch::Sender<bool>,
}

impl ReadLimits {
    /// As the plan wants it.
    pub fn new(plan: &Plan) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(plan.load.workers.max(1) as usize)),
            budget: Arc::new(ReadBudget::new(plan.load.read_budget_rcu)),
            turn: Turn::default(),
            paused: watch::channel(false).0,
        }
    }
}
