//! Rollback by two presses: the first changes nothing, the second within the time fires.

use std::time::{Duration, Instant};

/// How long rollback stays armed.
pub const ARMED_FOR: Duration = Duration::from_secs(4);

/// What a press of the rollback key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    /// First press: now armed.
    Armed,
    /// Second press in time: roll back now.
    Fire,
}

/// Two presses within a time. Also used for leaving with Ctrl-C.
#[derive(Clone, Copy, Debug)]
pub struct Arming {
    lasts: Duration,
    until: Option<Instant>,
}

impl Default for Arming {
    fn default() -> Self {
        Self::new(ARMED_FOR)
    }
}

impl Arming {
    /// Disarmed; once armed it stays so for `lasts`.
    #[must_use]
    pub const fn new(lasts: Duration) -> Self {
        Self { lasts, until: None }
    }

    /// A press of the key.
    ///
    /// There is no least gap between the two: a slow link delivers both in one packet, and an order to go back
    /// must not be lost.
    pub fn press(&mut self, now: Instant) -> Press {
        if self.is_armed(now) {
            self.until = None;
            return Press::Fire;
        }
        self.until = Some(now + self.lasts);
        Press::Armed
    }

    /// Disarms; `true` when it was armed.
    pub fn disarm(&mut self, now: Instant) -> bool {
        let armed = self.is_armed(now);
        self.until = None;
        armed
    }

    /// Forgets an arming whose time is over; `true` when it just ended.
    pub fn expire(&mut self, now: Instant) -> bool {
        let over = self.until.is_some_and(|t| t <= now);
        if over {
            self.until = None;
        }
        over
    }

    /// Whether the next press fires.
    #[must_use]
    pub fn is_armed(&self, now: Instant) -> bool {
        self.until.is_some_and(|t| now < t)
    }

    /// When it disarms by itself.
    #[must_use]
    pub const fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_press_only_arms() {
        let (mut a, t) = (Arming::default(), Instant::now());
        assert_eq!(a.press(t), Press::Armed);
        assert_eq!(a.press(t + ARMED_FOR - Duration::from_millis(1)), Press::Fire);
        assert_eq!(a.until(), None);
    }

    #[test]
    fn a_late_second_press_arms_anew() {
        let (mut a, t) = (Arming::default(), Instant::now());
        a.press(t);
        assert_eq!(a.press(t + ARMED_FOR), Press::Armed);
        assert_eq!(a.press(t + ARMED_FOR), Press::Fire);
    }

    #[test]
    fn escape_disarms_once() {
        let (mut a, t) = (Arming::default(), Instant::now());
        assert!(!a.disarm(t));
        a.press(t);
        assert!(a.disarm(t));
        assert!(!a.disarm(t));
        assert_eq!(a.press(t), Press::Armed);
    }

    proptest! {
        /// Fires exactly when the press before it armed and is younger than the time.
        #[test]
        fn fires_only_after_an_arming_press_in_time(gaps in proptest::collection::vec(0u64..6000, 1..40)) {
            let mut a = Arming::default();
            let (mut now, mut armed_at) = (Instant::now(), None::<Instant>);
            for gap in gaps {
                now += Duration::from_millis(gap);
                let expected = match armed_at {
                    Some(t) if now < t + ARMED_FOR => { armed_at = None; Press::Fire }
                    _ => { armed_at = Some(now); Press::Armed }
                };
                prop_assert_eq!(a.press(now), expected);
            }
        }
    }
}
