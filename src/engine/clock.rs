//! The run's clock, and this machine's.

use std::sync::{Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::at::At;
use crate::domain::run::StepSeen;
use crate::journal::{LastTime, since_boot_ms};
use crate::ports::Clock;

/// Wall and monotonic time of this machine. The one place that asks the operating system.
///
/// Its wall clock is the operating system's as this process first saw it, advanced by the clock that counts since the
/// machine started: a step of the wall clock changes nothing that is being measured.
#[derive(Clone, Copy, Debug)]
pub struct MachineClock {
    /// Where the wall clock stood, against the time since the machine started; one for the process.
    anchor: i64,
    /// The operating system's time.
    system: fn() -> At,
}

impl Default for MachineClock {
    fn default() -> Self {
        static ANCHOR: OnceLock<i64> = OnceLock::new();
        Self { anchor: *ANCHOR.get_or_init(|| system_wall().0 - since_boot_ms()), system: system_wall }
    }
}

impl Clock for MachineClock {
    fn wall(&self) -> At {
        At(self.anchor + since_boot_ms())
    }

    fn mono_ms(&self) -> i64 {
        since_boot_ms()
    }

    fn witness(&self) -> At {
        (self.system)()
    }
}

fn system_wall() -> At {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    At(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// By how much a wall clock may differ from what was expected before that is called a step, in milliseconds.
pub const STEP_MS: i64 = 2_000;

/// How the wall clock went since the last fact of a run that is resumed. `None` when nothing is wrong with it.
///
/// On the same boot the time since then is known without the wall clock. After a reboot it is not: only a wall clock
/// that stands before the last fact is known to be wrong.
#[must_use]
pub fn stepped_since(last: &LastTime, machine: &dyn Clock, boot: Option<&str>) -> Option<(i64, StepSeen)> {
    let wall = machine.wall();
    if boot == Some(last.boot.as_str()) {
        let by_ms = wall.since(last.at.plus(machine.mono_ms() - last.since_boot_ms));
        return (by_ms.abs() >= STEP_MS).then_some((by_ms, StepSeen::AtStart));
    }
    let by_ms = wall.since(last.at);
    (by_ms <= -STEP_MS).then_some((by_ms, StepSeen::AfterReboot))
}

/// The clock facts and planned times are on.
///
/// A real run's clock stands where the wall clock stood when this process began, and runs on the monotonic one: a step
/// of the wall clock is noticed ([`RunClock::step`]), not followed. A rehearsal's runs `speed` times faster while the
/// console only waits for a planned time or a gate's hold, and at wall speed while there is work: work is never
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
    last_mono: i64,
    /// What the wall clock witnesses, against the monotonic one.
    witness: i64,
    /// A step of the wall clock that was not recorded yet, in milliseconds.
    step: i64,
    /// The wait under way and how fast it runs, fixed when it began.
    wait: Option<(At, f64)>,
}

impl RunClock {
    /// A clock that stands at `start` (or at the wall clock). `speed` 1 is real time.
    #[must_use]
    pub fn new(machine: &dyn Clock, start: Option<At>, speed: f64, longest_wait_ms: Option<i64>) -> Self {
        let (wall, mono) = (machine.wall(), machine.mono_ms());
        Self {
            speed: speed.max(1.0),
            longest_wait_ms: longest_wait_ms.map_or(f64::INFINITY, |ms| ms as f64),
            inner: Mutex::new(Inner {
                now: start.unwrap_or(wall),
                last_mono: mono,
                witness: machine.witness().0 - mono,
                step: 0,
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
        let witness = machine.witness().0 - mono;
        if (witness - c.witness).abs() >= STEP_MS {
            c.step += witness - c.witness;
            c.witness = witness;
        }
        if self.speed <= 1.0 {
            c.now = c.now.plus(passed);
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

    /// By how much the wall clock was stepped since this was last asked, in milliseconds: forward, or (negative) back.
    pub fn step(&self) -> Option<i64> {
        let step = self.inner.lock().map_or(0, |mut c| std::mem::take(&mut c.step));
        (step != 0).then_some(step)
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

    #[test]
    fn the_machines_clock_does_not_follow_a_step_of_the_systems() {
        let before = MachineClock::default();
        let stepped = MachineClock { system: || At(7), ..before };
        let (from, now) = (before.wall(), stepped.wall());
        assert!((0..60_000).contains(&now.since(from)), "{now:?} follows the system");
        assert_eq!(stepped.witness(), At(7));
        assert!(before.witness().since(from).abs() < 60_000);
    }

    /// A monotonic clock by hand, and how far the wall clock was stepped.
    #[derive(Default)]
    struct Hand(AtomicI64, AtomicI64);
    impl Clock for Hand {
        fn wall(&self) -> At {
            At(1_000_000 + self.mono_ms())
        }
        fn mono_ms(&self) -> i64 {
            self.0.load(Ordering::Relaxed)
        }
        fn witness(&self) -> At {
            self.wall().plus(self.1.load(Ordering::Relaxed))
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
    fn a_step_of_the_wall_clock_is_told_once_and_moves_nothing() {
        for by in [3_600_000, -3_600_000] {
            let hand = Hand::default();
            let clock = RunClock::new(&hand, None, 1.0, None);
            hand.0.store(5_000, Ordering::Relaxed);
            assert_eq!((clock.tick(&hand, None), clock.step()), (At(1_005_000), None));
            hand.1.store(by, Ordering::Relaxed);
            hand.0.store(6_000, Ordering::Relaxed);
            assert_eq!((clock.tick(&hand, None), clock.step()), (At(1_006_000), Some(by)));
            hand.0.store(7_000, Ordering::Relaxed);
            assert_eq!((clock.tick(&hand, None), clock.step()), (At(1_007_000), None));
            // A correction too small to be a step, and one that together with it is.
            hand.1.store(by + 1_500, Ordering::Relaxed);
            clock.tick(&hand, None);
            assert_eq!(clock.step(), None);
            hand.1.store(by + 2_500, Ordering::Relaxed);
            clock.tick(&hand, None);
            assert_eq!(clock.step(), Some(2_500));
        }
    }

    #[test]
    fn a_step_between_two_processes_is_found_where_anything_can_tell() {
        let last = LastTime { at: At(1_000_000), boot: "a".to_owned(), since_boot_ms: 500 };
        let hand = Hand::default();
        let since = |mono: i64, boot: &str| {
            hand.0.store(mono, Ordering::Relaxed);
            stepped_since(&last, &hand, Some(boot))
        };
        // The wall stands at 1,000,000 + mono: half a second more than the journal expects.
        assert_eq!(since(60_000, "a"), None);
        let shifted = LastTime { at: At(1_000_000 - 3_600_000), ..last.clone() };
        assert_eq!(stepped_since(&shifted, &hand, Some("a")), Some((3_600_500, StepSeen::AtStart)));
        // After a reboot a gap may have any length, but time never goes backwards.
        assert_eq!(since(60_000, "b"), None);
        let later = LastTime { at: At(5_000_000), ..last.clone() };
        hand.0.store(0, Ordering::Relaxed);
        assert_eq!(stepped_since(&later, &hand, Some("b")), Some((-4_000_000, StepSeen::AfterReboot)));
        assert_eq!(stepped_since(&last, &hand, None), None);
    }
}
