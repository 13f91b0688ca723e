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

/// A total at several moments of the last seconds.
#[derive(Debug, Default)]
struct Window(VecDeque<(i64, u64)>);

impl Window {
    /// Takes the total at a moment of the monotonic clock; gives rows a second since the oldest one kept.
    fn note(&mut self, mono: i64, total: u64) -> f64 {
        self.0.push_back((mono, total));
        // The oldest one is just outside of the window: the rate is over the whole of it.
        while self.0.get(1).is_some_and(|(then, _)| mono - then >= WINDOW_MS) {
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
            let rate = window.note(ctx.mono(), rows.load(Ordering::Relaxed));
            let held_back = ctx.ports.target.held_back(&table);
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
        assert_eq!(w.note(0, 0), 0.0, "nothing is known of one moment");
        assert_eq!(w.note(500, 50), 100.0);
        assert_eq!(w.note(5_000, 500), 100.0);
        assert_eq!(w.note(10_000, 1_500), 200.0, "what was before is forgotten");
        assert_eq!(w.note(15_000, 1_500), 0.0, "it stands still");
        assert_eq!(w.note(15_500, 0), 0.0);
    }
}
