//! Rollback by two presses: the first changes nothing, the second within the time fires.

use std::time::{Duration, Instant};

/// How long rollback stays armed.
pub const ARMED_FOR: Duration = Duration::from_secs(4);

/// After this long the second press counts although the screen never showed that the first one armed: a screen that
/// hangs must not delay a rollback.
pub const UNSEEN: Duration = Duration::from_secs(1);

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
    armed: Option<Instant>,
    /// When the screen first showed it.
    shown: Option<Instant>,
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
        Self { lasts, armed: None, shown: None }
    }

    /// A press of the key, read from the terminal at `read`.
    ///
    /// Two in one read are one press: text that is pasted where nobody brackets it may hold the key twice, and a person
    /// presses it again because the screen asks for it.
    pub fn press(&mut self, read: Instant) -> Press {
        match self.armed.filter(|_| self.is_armed(read)) {
            None => {
                (self.armed, self.shown) = (Some(read), None);
                Press::Armed
            }
            Some(armed) if self.shown.is_some_and(|shown| read > shown) || read >= armed + UNSEEN => {
                self.armed = None;
                Press::Fire
            }
            Some(_) => Press::Armed,
        }
    }

    /// The screen showed at `at` that it is armed.
    pub fn shown(&mut self, at: Instant) {
        if self.armed.is_some() {
            self.shown.get_or_insert(at);
        }
    }

    /// Disarms; `true` when it was armed.
    pub fn disarm(&mut self, now: Instant) -> bool {
        let armed = self.is_armed(now);
        self.armed = None;
        armed
    }

    /// Forgets an arming whose time is over; `true` when it just ended.
    pub fn expire(&mut self, now: Instant) -> bool {
        let over = self.until().is_some_and(|t| t <= now);
        if over {
            self.armed = None;
        }
        over
    }

    /// Whether the next press fires.
    #[must_use]
    pub fn is_armed(&self, now: Instant) -> bool {
        self.until().is_some_and(|t| now < t)
    }

    /// When it disarms by itself.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        self.armed.map(|armed| armed + self.lasts)
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
        assert_eq!(a.press(t + ARMED_FOR + UNSEEN), Press::Fire);
    }

    #[test]
    fn presses_of_one_read_are_one_press_and_the_screen_has_to_ask_for_the_second() {
        let (mut a, t) = (Arming::default(), Instant::now());
        let ms = Duration::from_millis;
        assert_eq!((a.press(t), a.press(t), a.press(t + ms(30))), (Press::Armed, Press::Armed, Press::Armed));
        a.shown(t + ms(40));
        assert_eq!(a.press(t + ms(40)), Press::Armed, "read before it stood there");
        assert_eq!(a.until(), Some(t + ARMED_FOR), "no longer than the first press made it");
        assert_eq!(a.press(t + ms(41)), Press::Fire);
        a.shown(t + ms(50));
        assert_eq!(a.press(t + ms(60)), Press::Armed, "shown while it was not armed");
        assert_eq!(a.press(t + ms(60) + UNSEEN), Press::Fire, "a screen that hangs");
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
        /// Unseen, fires exactly when an armed press is old enough and younger than the time.
        #[test]
        fn fires_only_after_an_arming_press_in_time(gaps in proptest::collection::vec(0u64..6000, 1..40)) {
            let mut a = Arming::default();
            let (mut now, mut armed_at) = (Instant::now(), None::<Instant>);
            for gap in gaps {
                now += Duration::from_millis(gap);
                let expected = match armed_at {
                    Some(t) if now < t + UNSEEN => Press::Armed,
                    Some(t) if now < t + ARMED_FOR => { armed_at = None; Press::Fire }
                    _ => { armed_at = Some(now); Press::Armed }
                };
                prop_assert_eq!(a.press(now), expected);
            }
        }
    }
}
