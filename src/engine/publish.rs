//! Snapshots for screens and samples for replay: latest wins, loss is only a warning.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::best_effort::Samples;
use crate::domain::at::At;
use crate::domain::gauge::{Measured, Series};
use crate::domain::plan::Plan;
use crate::domain::run::signal_value;
use crate::domain::run::{Fact, RunState};
use crate::snapshot::{Context, Mode, Snapshot, build};

/// Width of one slot of a signal's history, wall clock.
const SLOT_MS: i64 = 2_000;
/// Slots kept: four minutes.
const SLOTS: usize = 120;
/// Facts kept for the log pane.
const LOG: usize = 400;

/// Builds and publishes snapshots.
pub struct Publisher {
    plan: Arc<Plan>,
    mode: Mode,
    out: watch::Sender<Arc<Snapshot>>,
    series: BTreeMap<String, Series>,
    facts: VecDeque<Fact>,
    told: broadcast::Sender<Fact>,
    samples: Samples,
    version: u64,
}

impl Publisher {
    /// A publisher and the receiving end screens clone.
    #[must_use]
    pub fn new(plan: Arc<Plan>, mode: Mode, samples: Samples) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (out, screens) = watch::channel(Arc::new(Snapshot::default()));
        let series = BTreeMap::new();
        (
            Self {
                plan,
                mode,
                out,
                series,
                facts: VecDeque::new(),
                told: broadcast::channel(4096).0,
                samples,
                version: 0,
            },
            screens,
        )
    }

    /// A channel that receives every fact from now on, for line reports.
    #[must_use]
    pub fn told(&self) -> broadcast::Sender<Fact> {
        self.told.clone()
    }

    /// Remembers a fact for the log pane.
    pub fn fact(&mut self, fact: Fact) {
        // Nobody listening is fine.
        let _ = self.told.send(fact.clone());
        self.facts.push_back(fact);
        while self.facts.len() > LOG {
            self.facts.pop_front();
        }
    }

    /// Publishes what is known now. Never waits.
    pub fn publish(&mut self, state: &RunState, measured: &Measured, now: At, waiting: Option<(String, At)>) {
        for signal in &self.plan.signals {
            let value = signal_value(&self.plan, state, measured, signal).fresh(measured.at, signal.stale_ms);
            let series = self.series.entry(signal.id.clone()).or_insert_with(|| Series::new(SLOT_MS, SLOTS));
            series.push(measured.at, value);
        }
        self.version += 1;
        let snapshot = build(&Context {
            plan: &self.plan,
            state,
            measured,
            series: &self.series,
            facts: self.facts.make_contiguous(),
            now,
            mode: self.mode,
            waiting,
            version: self.version,
        });
        self.out.send_replace(Arc::new(snapshot));
        self.samples.offer(now, measured);
    }
}

#[cfg(test)]
mod tests {
    use super::super::best_effort::BestEffortWriter;
    use super::*;
    use crate::domain::run::{Event, Level};
    use crate::journal::RunFolder;
    use crate::snapshot::fixture;

    #[test]
    fn what_is_kept_for_screens_does_not_grow_with_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let best_effort = BestEffortWriter::start(None, RunFolder::at(dir.path())).unwrap();
        let plan = Arc::new(fixture::plan());
        let (mut publisher, screens) = Publisher::new(Arc::clone(&plan), Mode::Live, best_effort.samples());
        let state = RunState::default();
        let mut sizes = Vec::new();
        for i in 1..=6_000_u64 {
            let at = At(i.cast_signed() * SLOT_MS);
            let text = format!("line {i:06}");
            let event = Event::Note { level: Level::Info, source: "load".to_owned(), text };
            publisher.fact(Fact { seq: 1_000_000 + i, at, event });
            let measured = Measured { at, journal_ok: true, ..Measured::default() };
            publisher.publish(&state, &measured, at, None);
            if i.is_multiple_of(1_000) {
                sizes.push(serde_json::to_vec(&**screens.borrow()).unwrap().len());
            }
        }
        // Numbers get longer by a digit now and then, and that is all.
        assert!(sizes.windows(2).all(|w| w[1] < w[0] + 2_000), "{sizes:?}");
        assert!(publisher.facts.len() <= LOG && publisher.series.values().all(|s| s.values().len() <= SLOTS));
    }
}
