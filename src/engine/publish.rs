//! Snapshots for screens and samples for replay: latest wins, loss is only a warning.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::domain::at::At;
use crate::domain::gauge::{Measured, Series, signal_value};
use crate::domain::plan::Plan;
use crate::domain::run::{Fact, RunState};
use crate::journal::{Offered, SampleWriter};
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
    samples: Option<SampleWriter>,
    version: u64,
}

impl Publisher {
    /// A publisher and the receiving end screens clone.
    #[must_use]
    pub fn new(plan: Arc<Plan>, mode: Mode, samples: Option<SampleWriter>) -> (Self, watch::Receiver<Arc<Snapshot>>) {
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

    /// Where every fact from now on is told, for line reports.
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
        if let Some(samples) = &mut self.samples
            && let Offered::Lost(why) = samples.offer(now, measured)
        {
            tracing::warn!(%why, "a sample was lost");
        }
    }
}
