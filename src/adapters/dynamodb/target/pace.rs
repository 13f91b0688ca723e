//! How many batches of one table are under way at a time: fewer as soon as the table throttles them, and one more with
//! each second in which it does not.
//!
//! Batches have no permit of the table's capacity: customers may use it meanwhile, and its partitions throttle each by
//! itself. So the number is found out, as TCP finds out how much a line takes: halved by a throttle, once for all
//! batches that were under way then, and raised by one a second (AIMD). It is never less than one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::call::{Tried, pause, throttled};
use crate::ports::{PortError, PortResult};

/// Batches of one table under way at a time when nothing throttles them: eight of each segment of its load.
const MOST: usize = 128;
/// How long nothing may be throttled for one batch more.
const UNDISTURBED: Duration = Duration::from_secs(1);
/// For how long after a throttle it is told.
const TOLD: Duration = Duration::from_secs(5);
/// Tries in a row in which nothing of the whole table was processed before a batch is given up.
const IDLE: u32 = 14;

/// The paces of all tables.
#[derive(Debug, Default)]
pub(super) struct Paces(Mutex<HashMap<String, Arc<Pace>>>);

impl Paces {
    /// A table's.
    pub(super) fn of(&self, table: &str) -> Arc<Pace> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(table.to_owned()).or_default())
    }
}

/// The pace of one table, for everybody who writes batches to it.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    free: Notify,
}

#[derive(Debug)]
struct State {
    /// How many may be under way.
    most: usize,
    under_way: usize,
    waiting: usize,
    /// How often the number was lowered.
    cuts: u64,
    /// Writes that were processed.
    landed: u64,
    /// Since when nothing was throttled, or the number was last raised.
    since: Instant,
    throttled: Option<Instant>,
}

impl State {
    const fn new(now: Instant) -> Self {
        Self { most: MOST, under_way: 0, waiting: 0, cuts: 0, landed: 0, since: now, throttled: None }
    }

    /// One more for each second without a throttle.
    fn grow(&mut self, now: Instant) {
        while self.most < MOST && now.duration_since(self.since) >= UNDISTURBED {
            self.most += 1;
            self.since += UNDISTURBED;
        }
    }

    /// Half of those under way, once for all that were sent before the number was last lowered.
    fn shrink(&mut self, sent: u64, now: Instant) {
        (self.since, self.throttled) = (now, Some(now));
        if sent == self.cuts {
            self.most = (self.under_way.min(self.most) / 2).max(1);
            self.cuts += 1;
        }
    }

    fn enter(&mut self, now: Instant) -> bool {
        self.grow(now);
        let free = self.under_way < self.most;
        self.under_way += usize::from(free);
        free
    }

    fn words(&self, now: Instant) -> Option<String> {
        let lately = self.throttled.is_some_and(|at| now.duration_since(at) < TOLD);
        let held = self.most < MOST && (lately || self.waiting > 0);
        held.then(|| match self.most {
            1 => "throttled by the target: one batch at a time".to_owned(),
            most => format!("throttled by the target: {most} batches at a time"),
        })
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { state: Mutex::new(State::new(Instant::now())), free: Notify::new() }
    }
}

impl Pace {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In words, while the table throttles: `throttled by the target: 3 batches at a time`.
    pub(super) fn words(&self) -> Option<String> {
        let mut state = self.locked();
        let now = Instant::now();
        state.grow(now);
        state.words(now)
    }

    /// Waits until one more batch may be under way.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.enter().await;
        let landed = self.locked().landed;
        Turn { pace: self, inside: true, sent: 0, own: 0, idle: 0, landed }
    }

    async fn enter(&self) {
        let waits = Waits::new(self);
        loop {
            let (entered, more) = {
                let mut state = self.locked();
                let entered = state.enter(Instant::now());
                (entered, state.under_way < state.most)
            };
            if entered {
                drop(waits);
                // Whoever ends wakes one; where the number has grown meanwhile, there is room for another one.
                if more {
                    self.free.notify_one();
                }
                return;
            }
            self.free.notified().await;
        }
    }
}

/// That somebody waits, as long as he does.
struct Waits<'p>(&'p Pace);

impl<'p> Waits<'p> {
    fn new(pace: &'p Pace) -> Self {
        pace.locked().waiting += 1;
        Self(pace)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.locked().waiting -= 1;
    }
}

/// A batch's place among those under way, through all its tries.
pub(super) struct Turn<'p> {
    pace: &'p Pace,
    inside: bool,
    /// How often the number had been lowered when the batch was sent.
    sent: u64,
    /// Tries in a row of which nothing was processed.
    own: u32,
    /// The same, while nothing of the table was processed either.
    idle: u32,
    /// What the table had processed then.
    landed: u64,
}

impl Turn<'_> {
    /// Before each try.
    pub(super) fn sends(&mut self) {
        self.sent = self.pace.locked().cuts;
    }

    /// So many of its writes were processed.
    pub(super) fn landed(&mut self, writes: usize) {
        if writes > 0 {
            self.own = 0;
            self.pace.locked().landed += writes as u64;
        }
    }

    /// Some or all of it was not processed: the table goes slower, and after a pause it is this batch's turn again.
    ///
    /// # Errors
    /// `Throttled` when nothing of the whole table was processed for many tries. As long as anything is, nobody gives up.
    pub(super) async fn throttled(&mut self, at: Tried<'_>) -> PortResult<()> {
        {
            let mut state = self.pace.locked();
            state.shrink(self.sent, Instant::now());
            self.own = self.own.saturating_add(1);
            self.idle = if state.landed == self.landed { self.idle + 1 } else { 0 };
            self.landed = state.landed;
        }
        if self.idle > IDLE {
            return Err(self.given_up(at));
        }
        pause(self.own + 1).await;
        // The pause belongs to the turn, or all who wait would try at once. After it the number may be exceeded.
        if self.leave(true) {
            self.pace.enter().await;
            self.inside = true;
        }
        Ok(())
    }

    fn given_up(&self, at: Tried<'_>) -> PortError {
        throttled("nothing of many batches in a row was processed", at)
    }

    /// Gives the place up; with `exceeded`, only where more are under way than may be.
    fn leave(&mut self, exceeded: bool) -> bool {
        {
            let mut state = self.pace.locked();
            state.grow(Instant::now());
            if !self.inside || (exceeded && state.under_way <= state.most) {
                return false;
            }
            state.under_way -= 1;
            self.inside = false;
        }
        self.pace.free.notify_one();
        true
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.leave(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_throttle_halves_the_batches_under_way_once_and_each_quiet_second_adds_one() {
        let began = Instant::now();
        let mut state = State::new(began);
        assert!((0..40).all(|_| state.enter(began)), "nothing throttles, so all may go");
        assert_eq!(state.words(began), None);
        state.shrink(0, began);
        assert_eq!(state.most, 20, "half of those that were under way, not of what might be");
        (0..39).for_each(|_| state.shrink(0, began));
        assert_eq!(state.most, 20, "the others were sent with it");
        state.shrink(1, began);
        assert_eq!(state.most, 10, "one that was sent after it is a throttle of its own");
        for _ in 0..9 {
            state.shrink(state.cuts, began);
        }
        assert_eq!(state.most, 1, "one is always under way");
        assert!(state.words(began).unwrap().ends_with("one batch at a time"));
        state.under_way = 0;
        state.grow(began + seconds(3));
        assert_eq!((state.most, state.enter(began + seconds(3))), (4, true));
        assert!(state.words(began + seconds(4)).unwrap().ends_with("4 batches at a time"));
        assert_eq!(state.words(began + seconds(5)), None, "nobody waits, and it was some time ago");
        state.waiting = 1;
        assert!(state.words(began + seconds(60)).is_some(), "somebody does");
        state.grow(began + seconds(600));
        assert_eq!((state.most, state.words(began + seconds(600))), (MOST, None));
    }

    #[tokio::test]
    async fn no_more_are_under_way_than_may_be_and_who_waits_is_woken() {
        let pace = Pace::default();
        pace.locked().most = 2;
        let (under_way, most) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
        let one = || async {
            let mut turn = pace.turn().await;
            turn.sends();
            let now = under_way.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            most.fetch_max(now, std::sync::atomic::Ordering::SeqCst);
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            under_way.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            turn.landed(1);
        };
        // Somebody who gives up waiting takes nobody's turn away.
        let held = (pace.turn().await, pace.turn().await);
        let mut gone = Box::pin(pace.turn());
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        drop(held);
        pace.locked().since = Instant::now() + seconds(3600);
        futures::future::join_all((0..50).map(|_| one())).await;
        let state = pace.locked();
        assert_eq!((state.landed, state.under_way, state.waiting), (50, 0, 0));
        assert_eq!(most.load(std::sync::atomic::Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_batch_is_given_up_only_when_nothing_of_the_table_is_processed() {
        let pace = Pace::default();
        let at = ("load rows into", "t");
        let (mut stuck, mut other) = (pace.turn().await, pace.turn().await);
        stuck.idle = IDLE;
        other.landed(1);
        drop(other);
        stuck.throttled(at).await.unwrap();
        assert_eq!(stuck.idle, 0, "others got something through");
        stuck.idle = IDLE;
        assert_eq!(stuck.throttled(at).await.unwrap_err().kind, crate::ports::ErrorKind::Throttled);
        drop(stuck);
        assert_eq!(pace.locked().under_way, 0);
    }
}
