//! When to draw: at once for keys, at a limited rate for data, and never faster than is useful.

use std::time::{Duration, Instant};

/// Least time between two frames, whatever asks for them: 60 a second.
pub const KEY_GAP: Duration = Duration::from_millis(16);

/// Says when the next frame is due. Pure: the time is an argument.
#[derive(Clone, Debug)]
pub struct FrameLimiter {
    data_gap: Duration,
    last: Option<Instant>,
    due: Option<Instant>,
}

impl FrameLimiter {
    /// At most `fps` frames a second for data (1 to 60); keys are drawn at once.
    #[must_use]
    pub fn new(fps: u32) -> Self {
        let data_gap = Duration::from_secs(1) / fps.clamp(1, 60);
        Self { data_gap: data_gap.max(KEY_GAP), last: None, due: None }
    }

    /// New data came.
    pub fn data(&mut self, now: Instant) {
        self.ask(now, self.data_gap);
    }

    /// A key was pressed, the size changed, or anything else a person waits for.
    pub fn key(&mut self, now: Instant) {
        self.ask(now, KEY_GAP);
    }

    fn ask(&mut self, now: Instant, gap: Duration) {
        let at = self.last.map_or(now, |last| (last + gap).max(now));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// When the next frame is due, if one is wanted.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to draw now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// A frame was drawn, or turned out not to differ from the one before.
    pub fn drawn(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_first_frame_is_due_at_once() {
        let (mut f, t) = (FrameLimiter::new(10), Instant::now());
        assert!(!f.is_due(t));
        f.data(t);
        assert!(f.is_due(t));
    }

    #[test]
    fn data_waits_and_a_key_does_not() {
        let (mut f, t) = (FrameLimiter::new(10), Instant::now());
        f.drawn(t);
        f.data(t + ms(20));
        assert_eq!(f.due(), Some(t + ms(100)));
        f.key(t + ms(30));
        assert!(f.is_due(t + ms(30)));
        f.drawn(t + ms(30));
        assert_eq!(f.due(), None);
    }

    #[test]
    fn keys_are_capped_at_sixty_a_second() {
        let (mut f, t) = (FrameLimiter::new(10), Instant::now());
        f.drawn(t);
        f.key(t + ms(1));
        assert!(!f.is_due(t + ms(15)));
        assert!(f.is_due(t + KEY_GAP));
    }

    #[test]
    fn the_rate_is_a_setting() {
        let t = Instant::now();
        for (fps, gap) in [(0, 1000), (2, 500), (10, 100)] {
            let mut f = FrameLimiter::new(fps);
            f.drawn(t);
            f.data(t);
            assert_eq!(f.due(), Some(t + ms(gap)));
        }
        let mut f = FrameLimiter::new(1000);
        f.drawn(t);
        f.data(t);
        assert!(f.due() >= Some(t + KEY_GAP));
    }

    proptest! {
        /// Data alone: never two frames within the gap, and no request waits longer than the gap.
        #[test]
        fn data_is_never_faster_than_asked_nor_late(gaps in proptest::collection::vec(0u64..400, 1..60)) {
            let mut f = FrameLimiter::new(10);
            let (mut now, mut frames) = (Instant::now(), Vec::new());
            for gap in gaps {
                let until = now + ms(gap);
                if let Some(due) = f.due().filter(|d| *d <= until) {
                    f.drawn(due);
                    frames.push(due);
                }
                now = until;
                f.data(now);
                prop_assert!(f.due().is_some_and(|d| d <= now + ms(100)));
            }
            for pair in frames.windows(2) {
                prop_assert!(pair[1] - pair[0] >= ms(100));
            }
        }
    }
}
