//! The run's clock, and this machine's.

use std::sync::Mutex;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::domain::at::At;
use crate::ports::Clock;

/// Wall and monotonic time of this machine. The one place that asks the operating system.
#[derive(Debug)]
pub struct MachineClock {
    started: Instant,
}

impl Default for MachineClock {
    fn default() -> Self {
        Self { started: Instant::now() }
    }
}

impl Clock for MachineClock {
    fn wall(&self) -> At {
        let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        At(i64::try_from(ms).unwrap_or(i64::MAX))
    }

    fn mono_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The clock facts and planned times are on.
///
/// A real run's clock is the wall clock. A rehearsal's runs `speed` times faster while the console only
/// waits for a planned time or a gate's hold, and at wall speed while there is work: work is never
/// compressed, waits are. It never runs backwards.
#[derive(Debug)]
pub struct RunClock {
    speed: f64,
    /// No planned wait lasts longer than this many real milliseconds.
    longest_wait_ms: f64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    now: At,
    last_wall: At,
    last_mono: i64,
    /// The wait under way and how fast it runs, fixed when it began.
    wait: Option<(At, f64)>,
}

impl RunClock {
    /// A clock that stands at `start` (or at the wall clock). `speed` 1 is real time.
    #[must_use]
    pub fn new(machine: &dyn Clock, start: Option<At>, speed: f64, longest_wait_ms: Option<i64>) -> Self {
        let wall = machine.wall();
        Self {
            speed: speed.max(1.0),
            longest_wait_ms: longest_wait_ms.map_or(f64::INFINITY, |ms| ms as f64),
            inner: Mutex::new(Inner {
                now: start.unwrap_or(wall),
                last_wall: wall,
                last_mono: machine.mono_ms(),
                wait: None,
            }),
        }
    }

    /// How much faster planned waits run.
    #[must_use]
    pub const fn speed(&self) -> f64 {
        self.speed
    }

    /// Moves the clock by what has passed on the machine, faster while `waiting` for a later moment, and
    /// gives the time.
    pub fn tick(&self, machine: &dyn Clock, waiting: Option<At>) -> At {
        let Ok(mut c) = self.inner.lock() else { return machine.wall() };
        let mono = machine.mono_ms();
        let passed = (mono - c.last_mono).max(0);
        c.last_mono = mono;
        c.last_wall = machine.wall();
        if self.speed <= 1.0 {
            // A real run follows the wall, whatever a correction of it does, but never runs backwards.
            c.now = c.now.max(c.last_wall);
            return c.now;
        }
        let plain = c.now.plus(passed);
        c.now = match waiting {
            Some(until) if until > plain => {
                let factor = match c.wait {
                    Some((target, factor)) if target == until => factor,
                    _ => self.speed.max(until.since(c.now) as f64 / self.longest_wait_ms),
                };
                c.wait = Some((until, factor));
                let fast = c.now.plus((passed as f64 * factor) as i64);
                fast.clamp(plain, until)
            }
            _ => {
                c.wait = None;
                plain
            }
        };
        c.now
    }

    /// The time as of the last tick.
    #[must_use]
    pub fn now(&self) -> At {
        self.inner.lock().map_or(At(0), |c| c.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Default)]
    struct Hand(AtomicI64);
    impl Clock for Hand {
        fn wall(&self) -> At {
            At(1_000_000 + self.0.load(Ordering::Relaxed))
        }
        fn mono_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn waits_run_faster_work_does_not() {
        let hand = Hand::default();
        let clock = RunClock::new(&hand, None, 60.0, None);
        hand.0.store(100, Ordering::Relaxed);
        assert_eq!(clock.tick(&hand, None), At(1_000_100));
        hand.0.store(200, Ordering::Relaxed);
        assert_eq!(clock.tick(&hand, Some(At(9_000_000))), At(1_006_100));
        hand.0.store(300, Ordering::Relaxed);
        assert_eq!(clock.tick(&hand, Some(At(1_006_500))), At(1_006_500), "a wait ends where it should");
    }

    #[test]
    fn a_long_wait_is_cut_to_its_longest() {
        let hand = Hand::default();
        let clock = RunClock::new(&hand, None, 2.0, Some(1_000));
        let mut until = At(1_000_000 + 3_600_000);
        for t in 1..=12 {
            hand.0.store(t * 100, Ordering::Relaxed);
            if clock.tick(&hand, Some(until)) >= until {
                until = At(0);
                break;
            }
        }
        assert_eq!(until, At(0), "an hour passed in about a second");
    }

    #[test]
    fn a_real_run_never_runs_backwards() {
        let hand = Hand::default();
        hand.0.store(500, Ordering::Relaxed);
        let clock = RunClock::new(&hand, None, 1.0, None);
        hand.0.store(100, Ordering::Relaxed);
        assert_eq!(clock.tick(&hand, None), At(1_000_500));
    }
}
