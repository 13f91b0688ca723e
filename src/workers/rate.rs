//! Rows a second over the last seconds, and what is done to a whole table right now.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::context::WorkerContext;
use crate::domain::plan::Table;

/// How often the rate is worked out.
const EVERY: Duration = Duration::from_millis(500);
/// Over how long, in milliseconds: a large buffer lands seconds after the one before.
const WINDOW_MS: i64 = 5_000;

/// Over how long at most, in milliseconds, where somebody holds the table back: then a buffer may take longer to land than
/// the rate is worked out over, and nothing would move in between.
const HELD_MS: i64 = 120_000;

/// A total at several moments of the last seconds.
#[derive(Debug, Default)]
struct Window(VecDeque<(i64, u64)>);

impl Window {
    /// Takes the total at a moment of the monotonic clock; gives rows a second since the oldest one kept. While the table is
    /// held back, that is one from before it last moved.
    fn note(&mut self, mono: i64, total: u64, held_back: bool) -> f64 {
        self.0.push_back((mono, total));
        let still = |then: i64, before: u64| held_back && before == total && mono - then < HELD_MS;
        // The oldest one is just outside of the window: the rate is over the whole of it.
        while self.0.get(1).is_some_and(|(then, before)| mono - then >= WINDOW_MS && !still(*then, *before)) {
            self.0.pop_front();
        }
        let (then, before) = self.0.front().copied().unwrap_or((mono, total));
        if mono > then { total.saturating_sub(before) as f64 * 1000.0 / (mono - then) as f64 } else { 0.0 }
    }
}

/// Keeps a table's rate, and what holds it back, in the measurements while the handle lives. `rows` is how many were read so far.
pub(super) fn watch(ctx: &Arc<WorkerContext>, table: &Table, rows: Arc<AtomicU64>) -> AbortOnDropHandle<()> {
    let (ctx, table) = (Arc::clone(ctx), table.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut window = Window::default();
        loop {
            let held_back = ctx.ports.target.held_back(&table);
            let rate = window.note(ctx.mono(), rows.load(Ordering::Relaxed), held_back.is_some());
            ctx.latest.table(&table.id, |g| (g.rate, g.held_back) = (rate, held_back));
            tokio::time::sleep(EVERY).await;
        }
    }))
}

/// Shows in the measurements what is done to a whole table while it lives.
pub(super) struct Doing<'c>(&'c WorkerContext, &'c str);

impl<'c> Doing<'c> {
    /// Says `what` from now on.
    pub(super) fn start(ctx: &'c WorkerContext, table: &'c Table, what: String) -> Self {
        let now = ctx.wall();
        ctx.latest.table(&table.id, |g| g.doing = Some((what, now)));
        Self(ctx, &table.id)
    }
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.0.latest.table(self.1, |g| g.doing = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut w = Window::default();
        assert_eq!(w.note(0, 0, false), 0.0, "nothing is known of one moment");
        assert_eq!(w.note(500, 50, false), 100.0);
        assert_eq!(w.note(5_000, 500, false), 100.0);
        assert_eq!(w.note(10_000, 1_500, false), 200.0, "what was before is forgotten");
        assert_eq!(w.note(15_000, 1_500, false), 0.0, "it stands still");
        assert_eq!(w.note(15_500, 0, false), 0.0);
    }

    #[test]
    fn what_a_budget_holds_back_moves_between_two_buffers_that_land() {
        let mut w = Window::default();
        w.note(0, 0, false);
        for at in [1_000, 9_000, 20_000] {
            // A thousand rows landed at the first second, and wait for the budget since.
            assert_eq!(w.note(at, 1_000, true), 1_000.0 * 1_000.0 / at as f64, "at {at}");
        }
        assert_eq!(w.note(21_000, 2_000, true), 1_000.0 * 1_000.0 / 12_000.0, "since it last stood elsewhere");
        assert_eq!(w.note(29_000, 2_000, false), 0.0, "nobody holds it back, and it stands still");
        let mut w = Window::default();
        w.note(0, 0, true);
        w.note(1_000, 1_000, true);
        assert_eq!(w.note(121_000, 1_000, true), 0.0, "two minutes are no pace");
    }
}
