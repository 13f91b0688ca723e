//! Capacity units a second that a store is asked to give, for everybody who spends from them together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A budget of capacity units a second, shared by everything that spends from it (FEATURES A12).
///
/// What a call costs is known only after its answer, so the level goes into debt and whoever comes next waits it off, in
/// the order in which they came.
#[derive(Debug)]
pub struct Budget {
    per_second: Option<f64>,
    level: Mutex<(f64, Instant)>,
    /// Held by the first of those who wait.
    queue: tokio::sync::Mutex<()>,
}

impl Budget {
    /// A budget; `None`, and what is no positive number, never waits.
    #[must_use]
    pub fn new(per_second: Option<f64>) -> Self {
        let per_second = per_second.filter(|rate| rate.is_finite() && *rate > 0.0);
        Self { per_second, level: Mutex::new((0.0, Instant::now())), queue: tokio::sync::Mutex::new(()) }
    }

    /// Units a second; `None` for a budget that never waits.
    #[must_use]
    pub const fn per_second(&self) -> Option<f64> {
        self.per_second
    }

    /// Whether somebody waits at this moment.
    #[must_use]
    pub fn is_waited_for(&self) -> bool {
        self.per_second.is_some() && self.queue.try_lock().is_err()
    }

    /// Waits until the budget is out of debt.
    pub async fn wait(&self) {
        self.take(0.0).await;
    }

    /// Waits until the budget is out of debt, and books what a call may cost, in units. Its real cost is settled by
    /// [`Self::spend`] with what it differs by. Many who wait go one by one, not all at the same moment.
    pub async fn take(&self, units: f64) {
        let Some(rate) = self.per_second else { return };
        let _first = self.queue.lock().await;
        loop {
            let debt = {
                let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
                refill(&mut level, rate, Instant::now());
                if level.0 >= 0.0 {
                    level.0 -= units;
                    return;
                }
                -level.0
            };
            tokio::time::sleep(Duration::try_from_secs_f64(debt / rate).unwrap_or(Duration::MAX)).await;
        }
    }

    /// Books what a call cost, in units; less than nothing gives back what was booked before.
    pub fn spend(&self, units: f64) {
        let Some(rate) = self.per_second else { return };
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        refill(&mut level, rate, Instant::now());
        level.0 = (level.0 - units).min(rate);
    }
}

fn refill(level: &mut (f64, Instant), rate: f64, now: Instant) {
    // At most one second's worth is saved up.
    level.0 = (level.0 + now.duration_since(level.1).as_secs_f64() * rate).min(rate);
    level.1 = now;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_next_waits_off_the_debt() {
        let began = Instant::now();
        let budget = Budget::new(Some(2_000.0));
        for _ in 0..6 {
            budget.wait().await;
            budget.spend(100.0);
        }
        // Nothing is saved up at the start, so five of the six pages are paid for by now. Only the lower bound says
        // something about the budget; the upper one would say something about the machine.
        assert!(began.elapsed() >= Duration::from_millis(249), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn those_who_wait_together_do_not_spend_together() {
        let began = Instant::now();
        let budget = Budget::new(Some(1_000.0));
        futures::future::join_all((0..6).map(|_| budget.take(50.0))).await;
        assert!(began.elapsed() >= Duration::from_millis(199), "{:?}", began.elapsed());
        // What was booked and did not come to pass is given back.
        budget.spend(-300.0);
        assert!(budget.level.lock().unwrap().0 >= 0.0);
    }

    #[tokio::test]
    async fn a_budget_of_nothing_limits_nothing() {
        for none in [None, Some(0.0), Some(-1.0), Some(f64::NAN)] {
            let budget = Budget::new(none);
            budget.take(1e12).await;
            budget.spend(1e12);
            budget.wait().await;
            assert!(!budget.is_waited_for());
        }
    }

    #[test]
    fn at_most_a_second_is_saved_up() {
        let began = Instant::now();
        let mut level = (-50.0, began);
        refill(&mut level, 100.0, began + Duration::from_secs(60));
        assert_eq!(level.0, 100.0);
    }
}
