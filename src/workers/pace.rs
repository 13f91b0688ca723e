//! Speed limits: the read budget, and pauses between attempts.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// A budget of read capacity units a second, shared by every load worker (FEATURES A12).
///
/// Costs are known only after a page came, so the bucket goes into debt and the next reader waits it off.
#[derive(Debug)]
pub struct ReadBudget {
    per_second: Option<f64>,
    level: Mutex<(f64, Instant)>,
}

impl ReadBudget {
    /// A budget; `None` never waits.
    #[must_use]
    pub fn new(per_second: Option<f64>) -> Self {
        Self { per_second, level: Mutex::new((0.0, Instant::now())) }
    }

    /// Waits until the budget is out of debt.
    pub async fn wait(&self) {
        let Some(rate) = self.per_second else { return };
        let debt = {
            let mut level = self.level.lock().await;
            refill(&mut level, rate, Instant::now());
            level.0
        };
        if debt < 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(-debt / rate)).await;
        }
    }

    /// Books what a page cost.
    pub async fn spend(&self, units: f64) {
        let Some(rate) = self.per_second else { return };
        let mut level = self.level.lock().await;
        refill(&mut level, rate, Instant::now());
        level.0 -= units;
    }
}

fn refill(level: &mut (f64, Instant), rate: f64, now: Instant) {
    // At most one second's worth is saved up.
    level.0 = (level.0 + now.duration_since(level.1).as_secs_f64() * rate).min(rate);
    level.1 = now;
}

/// Pause before attempt `n` (from 1): doubling from 100 ms to 10 s, with jitter over its upper half.
#[must_use]
pub fn pause(attempt: u32) -> Duration {
    let full = 100u64.saturating_mul(1 << attempt.saturating_sub(1).min(7)).min(10_000);
    Duration::from_millis(full / 2 + fastrand::u64(0..=full / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_capped() {
        for attempt in 1..40 {
            let most = 100 * (1u64 << (attempt - 1).min(7));
            let p = u64::try_from(pause(attempt).as_millis()).unwrap();
            assert!(p <= most.min(10_000) && p >= most.min(10_000) / 2, "{attempt}: {p}");
        }
    }

    #[tokio::test]
    async fn readers_wait_off_the_debt_they_made() {
        let budget = ReadBudget::new(Some(2_000.0));
        let began = Instant::now();
        for _ in 0..6 {
            budget.wait().await;
            budget.spend(100.0).await;
        }
        // Nothing is saved up at the start, so five of the six pages are paid for by now. Only the lower bound says
        // something about the budget; the upper one would say something about the machine.
        assert!(began.elapsed() >= Duration::from_millis(249), "{:?}", began.elapsed());
    }

    #[test]
    fn at_most_a_second_is_saved_up() {
        let began = Instant::now();
        let mut level = (-50.0, began);
        refill(&mut level, 100.0, began + Duration::from_secs(60));
        assert_eq!(level.0, 100.0);
    }
}
