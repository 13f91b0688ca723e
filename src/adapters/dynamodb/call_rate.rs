//! A rate that calls of one kind keep, because an account has few of them.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Calls take turns in the order they asked: none waits for ever behind others, and a few come at once.
#[derive(Debug)]
pub struct CallRate {
    per_second: f64,
    at_once: f64,
    /// How many calls may go now, and when that was so.
    level: Mutex<(f64, Instant)>,
}

impl CallRate {
    /// So many a second for long, and `at_once` without a wait after a pause.
    pub fn new(per_second: f64, at_once: f64) -> Self {
        Self { per_second, at_once, level: Mutex::new((at_once, Instant::now())) }
    }

    /// Waits for a turn.
    pub async fn turn(&self) {
        // Held through the pause, and given on in the order it was asked for.
        let mut level = self.level.lock().await;
        let mut now = Instant::now();
        let mut free = (level.0 + (now - level.1).as_secs_f64() * self.per_second).min(self.at_once);
        if free < 1.0 {
            tokio::time::sleep(Duration::from_secs_f64((1.0 - free) / self.per_second)).await;
            let waited = now.elapsed().as_secs_f64();
            now = Instant::now();
            free = (free + waited * self.per_second).min(self.at_once);
        }
        *level = (free - 1.0, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_keep_their_rate_whoever_makes_them() {
        let rate = CallRate::new(200.0, 4.0);
        let began = Instant::now();
        futures::future::join_all((0..24).map(|_| rate.turn())).await;
        // Four at once, twenty at 200 a second. Only the lower bound says something about the rate.
        assert!(began.elapsed() >= Duration::from_millis(99), "{:?}", began.elapsed());
    }
}
