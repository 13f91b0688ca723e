//! The virtual clock. It has no timer: its caller says how much real time has passed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::recording::Recording;
use crate::domain::at::{At, brief};
use crate::domain::gauge::{Measured, Series};
use crate::domain::run::signal_value;
use crate::domain::run::{RunState, apply};
use crate::journal::Sample;
use crate::snapshot::{Context, Mode, Snapshot, build};

/// A pause between two facts longer than this is played faster.
const IDLE_MS: i64 = 60_000;
/// It then takes no longer than this in real time.
const IDLE_PLAYS_MS: f64 = 5_000.0;
/// Slowest and fastest speed.
const SPEEDS: (f64, f64) = (0.125, 4096.0);
/// Histories as the live console keeps them: slots of two seconds, four minutes of them.
const SLOT_MS: i64 = 2_000;
const SLOTS: usize = 120;
/// Facts kept for the log pane.
const LOG: usize = 400;

/// Plays a recording.
pub struct Player {
    recording: Recording,
    speed: f64,
    paused: bool,
    now: At,
    /// Part of a millisecond of the recording that has not been played yet.
    rest: f64,
    /// Facts folded so far.
    pub(super) folded: usize,
    pub(super) state: RunState,
    /// The sample in force and the one after it.
    sample: Option<(usize, Sample)>,
    next_sample: Option<Sample>,
    series: BTreeMap<String, Series>,
    version: u64,
    changed: bool,
    /// Said on screen when a fact did not fold.
    broken: Option<String>,
}

impl Player {
    /// A player standing at the first fact.
    pub fn new(recording: Recording, speed: f64) -> Self {
        let speed = if speed.is_finite() { speed.clamp(SPEEDS.0, SPEEDS.1) } else { 1.0 };
        let now = recording.start();
        let mut player = Self {
            recording,
            speed,
            paused: false,
            now,
            rest: 0.0,
            folded: 0,
            state: RunState::default(),
            sample: None,
            next_sample: None,
            series: BTreeMap::new(),
            version: 0,
            changed: true,
            broken: None,
        };
        player.go_to(now);
        player
    }

    /// Who drove the recorded run.
    pub fn operator(&self) -> &str {
        &self.recording.operator
    }

    /// Lets real time pass.
    pub fn advance(&mut self, real: Duration) {
        if self.paused || self.now >= self.recording.end() {
            return;
        }
        let mut real_ms = real.as_secs_f64() * 1000.0;
        // Fact by fact, because each pause between two facts has its own pace.
        while real_ms > 0.0 && self.now < self.recording.end() {
            let pace = self.pace();
            let ahead = self.next_fact().map_or(0, |at| at.since(self.now));
            let step = (real_ms * pace + self.rest).min(ahead as f64);
            real_ms -= ((step - self.rest) / pace).max(0.001);
            self.rest = step.fract();
            let target = self.now.plus(step as i64);
            self.go_to(target);
        }
    }

    /// Stops or goes on.
    pub fn toggle(&mut self) {
        self.paused = !self.paused;
        self.changed = true;
    }

    /// Multiplies the speed.
    pub fn scale(&mut self, by: f64) {
        self.speed = (self.speed * by).clamp(SPEEDS.0, SPEEDS.1);
        self.changed = true;
    }

    /// Jumps by this many milliseconds of the recording, not beyond its ends.
    pub fn seek(&mut self, ms: i64) {
        let target = self.now.plus(ms).clamp(self.recording.start(), self.recording.end());
        self.rest = 0.0;
        if target < self.now {
            self.folded = 0;
            self.state = RunState::default();
            self.broken = None;
        }
        self.series.clear();
        self.sample = None;
        self.next_sample = None;
        self.go_to(target);
        self.changed = true;
    }

    /// Whether there is anything new since the last call of [`Player::snapshot`].
    pub const fn changed(&self) -> bool {
        self.changed
    }

    /// The moment that is being played.
    pub fn snapshot(&mut self) -> Snapshot {
        self.version += 1;
        self.changed = false;
        let measured = self.measured();
        let told = &self.recording.facts[..self.folded];
        build(&Context {
            plan: self.recording.plans.at(self.state.last_seq),
            state: &self.state,
            measured: &measured,
            series: &self.series,
            facts: &told[told.len().saturating_sub(LOG)..],
            now: self.now,
            mode: Mode::Replay { speed: self.speed, paused: self.paused },
            waiting: self.waiting(),
            version: self.version,
        })
    }

    pub(super) fn waiting(&self) -> Option<(String, At)> {
        if let Some(broken) = &self.broken {
            return Some((broken.clone(), self.now));
        }
        let next = self.next_fact()?;
        let gap = self.gap();
        let faster = !self.paused && self.pace() > self.speed;
        faster.then(|| (format!("next fact (idle {}, shortened)", brief(gap)), next))
    }

    fn next_fact(&self) -> Option<At> {
        self.recording.times.get(self.folded).copied()
    }

    /// Length of the pause between the last fact and the next one.
    fn gap(&self) -> i64 {
        let before = self.folded.checked_sub(1).and_then(|i| self.recording.times.get(i).copied());
        self.next_fact().zip(before).map_or(0, |(next, before)| next.since(before))
    }

    /// How fast the recording runs right now.
    fn pace(&self) -> f64 {
        let gap = self.gap();
        if gap > IDLE_MS { self.speed.max(gap as f64 / IDLE_PLAYS_MS) } else { self.speed }
    }

    /// Moves forward to `target`, folding facts and taking samples in on the way.
    fn go_to(&mut self, target: At) {
        self.changed |= target != self.now;
        self.now = target;
        while let Some(fact) = self.recording.facts.get(self.folded) {
            if self.recording.times.get(self.folded).is_none_or(|at| *at > target) {
                break;
            }
            if let Err(e) = apply(&mut self.state, fact) {
                // The recording was folded once when it was opened, so this cannot be reached on a whole disk.
                self.broken = Some(e.to_string());
            }
            self.folded += 1;
            self.changed = true;
        }
        self.take_samples();
    }

    fn take_samples(&mut self) {
        let Some(samples) = &mut self.recording.samples else { return };
        let Some(last) = samples.last_before(self.now) else { return };
        let from = match &self.sample {
            Some((i, _)) if *i >= last => return,
            Some((i, _)) => i + 1,
            None => 0,
        };
        // Only the end of a long stretch is still in a history.
        for i in from.max(last.saturating_sub(2 * SLOTS))..=last {
            let Some(sample) = samples.get(i) else { continue };
            let plan = self.recording.plans.at(self.state.last_seq);
            for signal in &plan.signals {
                let reading = signal_value(plan, &self.state, &sample.measured, signal);
                let value = reading.fresh(sample.measured.at, signal.stale_ms);
                let series = self.series.entry(signal.id.clone()).or_insert_with(|| Series::new(SLOT_MS, SLOTS));
                series.push(sample.measured.at, value);
            }
            self.sample = Some((i, sample));
        }
        self.next_sample = samples.get(last + 1);
        self.changed = true;
    }

    /// The sample in force, grown older with the recording's clock: between two samples ages grow, and a gap in the
    /// recording shows as old numbers.
    pub(super) fn measured(&self) -> Measured {
        let Some((_, sample)) = &self.sample else { return Measured { at: self.now, ..Measured::default() } };
        let since = self.now.since(sample.at);
        let passed = match &self.next_sample {
            // On a rehearsal the run's clock leaps; the wall clock between two samples is shared out evenly.
            Some(next) if next.at > sample.at => {
                let share = since as f64 / next.at.since(sample.at) as f64;
                (next.measured.at.since(sample.measured.at) as f64 * share) as i64
            }
            _ => since,
        };
        Measured { at: sample.measured.at.plus(passed.max(0)), ..sample.measured.clone() }
    }
}
