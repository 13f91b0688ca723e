//! The workers: ports, the board, captured values, and who is at work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::continuous::{self, Turn};
use super::follow::{self, PollCycle};
use super::latest::LatestSamples;
use super::pace::ReadBudget;
use super::progress::FollowProgress;
use super::trouble::cancelled;
use super::{
    arm, capture, drain, freeze, load, parked, preflight, reverse, set_up, smoke, switch, verify, watch as watching,
};
use super::{catch_up, end_capture, marker};
use crate::domain::at::At;
use crate::domain::gauge::{Measured, Phase, Reading};
use crate::domain::mapping::TableMapping;
use crate::domain::plan::{Plan, Step, StepKind, Table};
use crate::domain::run::{Attributes, Event, Evidence, RunState, StepError};
use crate::domain::secret::Secret;
use crate::domain::value::Key;
use crate::domain::verify::Finding;
use crate::ports::{ByStore, Changes, Clock, Facts, Identity, Metrics, Probes, ReversePorts, Source, Switches, Target};

/// Keeps the differences one pass over a table found.
pub type KeepFindings = Box<dyn Fn(&str, &[Finding]) + Send + Sync>;

/// The world, as the workers see it.
#[derive(Clone)]
pub struct Ports {
    /// Rows of the old side, by store.
    pub sources: ByStore<dyn Source>,
    /// Changes of the old side, by store.
    pub changes: ByStore<dyn Changes>,
    /// The new side.
    pub target: Arc<dyn Target>,
    /// Switches.
    pub switches: Arc<dyn Switches>,
    /// Probes.
    pub probes: Arc<dyn Probes>,
    /// The reverse flow, if the plan wants one.
    pub reverse: Option<ReversePorts>,
    /// Who calls are signed as, if any store is asked for that.
    pub identity: Option<Arc<dyn Identity>>,
    /// Metrics, if any are read.
    pub metrics: Option<Arc<dyn Metrics>>,
    /// This machine's time.
    pub clock: Arc<dyn Clock>,
}

impl Ports {
    /// Where the rows of a table come from.
    #[must_use]
    pub fn source(&self, table: &Table) -> &Arc<dyn Source> {
        self.sources.of(table)
    }

    /// Where the changes of a table come from.
    #[must_use]
    pub fn changes(&self, table: &Table) -> &Arc<dyn Changes> {
        self.changes.of(table)
    }
}

/// What stood at a place before anything was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedValue {
    /// The value.
    pub value: Secret,
    /// What the place kept beside it; empty when an older version of this program captured it.
    pub attributes: Attributes,
}

/// Captured values by switch id. In memory only.
#[derive(Clone, Debug, Default)]
pub struct CapturedValues(Arc<Mutex<BTreeMap<String, CapturedValue>>>);

impl CapturedValues {
    /// Keeps a value.
    pub fn keep(&self, switch: &str, kept: CapturedValue) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(switch.to_owned(), kept);
    }

    /// A kept value.
    #[must_use]
    pub fn get(&self, switch: &str) -> Option<CapturedValue> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(switch).cloned()
    }

    /// Whether every one of these is kept.
    #[must_use]
    pub fn holds_all<'s>(&self, mut switches: impl Iterator<Item = &'s str>) -> bool {
        let kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        switches.all(|s| kept.contains_key(s))
    }
}

/// Tables whose following ended for good.
#[derive(Debug, Default)]
pub struct Dead(Mutex<BTreeMap<String, String>>);

impl Dead {
    /// Following a table has ended.
    pub fn put(&self, table: &str, why: String) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(table.to_owned(), why);
    }

    /// Why, for this one.
    #[must_use]
    pub fn of(&self, table: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(table).cloned()
    }

    /// Why, for any of them.
    #[must_use]
    pub fn any(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values().next().cloned()
    }
}

/// Everything that works on one run in this process.
pub struct WorkerContext {
    pub(super) plan: Arc<Plan>,
    pub(super) ports: Ports,
    pub(super) facts: Arc<dyn Facts>,
    pub(super) latest: Arc<LatestSamples>,
    pub(super) captured: CapturedValues,
    pub(super) mappings: BTreeMap<String, Arc<TableMapping>>,
    pub(super) paused: watch::Sender<bool>,
    /// One permit per load worker.
    pub(super) load_permits: Arc<Semaphore>,
    pub(super) cycles: BTreeMap<String, watch::Sender<PollCycle>>,
    /// How far following has come, by table.
    progress_of: BTreeMap<String, Arc<FollowProgress>>,
    /// Grows when traffic may have moved: earlier results of probes say nothing about the side that serves now.
    pub(super) sides: watch::Sender<u64>,
    /// Monotonic time of the first refused write; the least number while there is none.
    pub(super) refused_mono: AtomicI64,
    /// Row changes in the target when it was opened to customers; negative before that.
    pub(super) writes_at_thaw: AtomicI64,
    /// Changes of our own that were applied when the new side was opened to customers.
    pub(super) applied_at_thaw: AtomicU64,
    /// Set once a rollback has ended: the price is what it was then.
    pub(super) priced: AtomicBool,
    /// Tables whose following ended for good, and why.
    pub(super) dead: Dead,
    /// Changes of switches that are on the wire; a cancelled step does not call them back.
    pub(super) in_flight: AtomicUsize,
    /// Set once customers may write on the new side.
    pub(super) open_to_customers: AtomicBool,
    /// Set when a rollback is ordered, before the first switch is restored.
    pub(super) rolling_back: AtomicBool,
    /// Set while tables that are there may be dropped and made again: somebody typed the plan's name for it.
    pub(super) make_anew: AtomicBool,
    /// Set while writes are frozen, so that the write probe is read closely.
    pub(super) frozen: AtomicBool,
    /// Read capacity, shared by the load and every comparison.
    pub(super) budget: Arc<ReadBudget>,
    /// Whose turn it is to read both sides whole.
    pub(super) turn: Turn,
    /// Where trying parked rows again goes on, by table.
    pub(super) retried: tokio::sync::Mutex<BTreeMap<String, Key>>,
    /// Rows repaired so far, by table.
    repairs: Mutex<BTreeMap<String, u64>>,
    /// Where differences are kept in full.
    findings: OnceLock<KeepFindings>,
    stop: CancellationToken,
    /// Ends what keeps the new side like the old one.
    unfollow: CancellationToken,
    step: Mutex<CancellationToken>,
    tasks: TaskTracker,
    watching: AtomicBool,
    following: AtomicBool,
    reversing: AtomicBool,
}

impl WorkerContext {
    /// Workers that do nothing yet.
    #[must_use]
    pub fn new(plan: Arc<Plan>, ports: Ports, facts: Arc<dyn Facts>) -> Arc<Self> {
        let mappings = plan.tables.iter().map(|t| (t.id.clone(), Arc::new(TableMapping::new(t)))).collect();
        let cycles = plan.tables.iter().map(|t| (t.id.clone(), watch::channel(PollCycle::default()).0)).collect();
        let progress_of = plan.tables.iter().map(|t| (t.id.clone(), Arc::new(FollowProgress::default()))).collect();
        let latest = Arc::new(LatestSamples::default());
        for stays in &plan.stays {
            latest.table(&stays.id, |g| g.phase = Phase::Stays);
        }
        for table in &plan.tables {
            latest.table(&table.id, |_| {});
        }
        let workers = plan.load.workers.max(1);
        let budget = Arc::new(ReadBudget::new(plan.load.read_budget_rcu));
        latest.put(|m| m.workers = (0, workers));
        Arc::new(Self {
            load_permits: Arc::new(Semaphore::new(workers as usize)),
            plan,
            ports,
            facts,
            latest,
            captured: CapturedValues::default(),
            mappings,
            paused: watch::channel(false).0,
            cycles,
            progress_of,
            sides: watch::channel(0).0,
            refused_mono: AtomicI64::new(i64::MIN),
            writes_at_thaw: AtomicI64::new(-1),
            applied_at_thaw: AtomicU64::new(0),
            priced: AtomicBool::new(false),
            dead: Dead::default(),
            in_flight: AtomicUsize::new(0),
            open_to_customers: AtomicBool::new(false),
            rolling_back: AtomicBool::new(false),
            make_anew: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            budget,
            turn: Turn::default(),
            retried: tokio::sync::Mutex::default(),
            repairs: Mutex::default(),
            findings: OnceLock::new(),
            stop: CancellationToken::new(),
            unfollow: CancellationToken::new(),
            step: Mutex::new(CancellationToken::new()),
            tasks: TaskTracker::new(),
            watching: AtomicBool::new(false),
            following: AtomicBool::new(false),
            reversing: AtomicBool::new(false),
        })
    }

    /// Lets the set_up step drop tables of the plan that are there, and make them again.
    pub fn allow_make_anew(&self) {
        self.make_anew.store(true, Ordering::Release);
    }

    /// Starts watching: probes, metrics, counts, rollback. Idempotent.
    pub fn watch(self: &Arc<Self>) {
        if !self.watching.swap(true, Ordering::AcqRel) {
            watching::start(self);
            for table in &self.plan.tables {
                self.spawn(parked::watch(Arc::clone(self), table.clone()));
            }
        }
    }

    /// The reverse flow, unless the plan wants none.
    pub(super) fn reverse_ports(&self) -> Option<ReversePorts> {
        self.ports.reverse.clone().filter(|_| self.plan.reverse.enabled)
    }

    /// Starts the reverse flow. Idempotent. Only once customers may write on the new side.
    pub fn ensure_reverse(self: &Arc<Self>) {
        if !self.reversing.swap(true, Ordering::AcqRel) {
            self.spawn(reverse::apply_reverse(Arc::clone(self)));
        }
    }

    /// A rollback was ordered: from now on the old side's customers win, and their writes are no strays.
    pub fn begin_rollback(&self) {
        self.rolling_back.store(true, Ordering::Release);
    }

    /// Whether this process follows, or did until it was told to end.
    pub(super) fn is_following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    /// Starts following every table. Idempotent. Only after the load has ended.
    pub fn ensure_following(self: &Arc<Self>) {
        if self.open_to_customers.load(Ordering::Acquire) {
            self.ensure_reverse();
        }
        if self.following.swap(true, Ordering::AcqRel) {
            return;
        }
        for table in &self.plan.tables {
            self.spawn_following(follow::follow(Arc::clone(self), table.clone()));
            self.spawn(marker::markers(Arc::clone(self), table.clone()));
        }
        if self.plan.verify.continuous {
            self.spawn_following(continuous::run(Arc::clone(self)));
        }
    }

    /// Performs one step of any kind but gates and manual ones. After the first attempt an earlier one may have left
    /// traces: workers check before they change anything.
    pub async fn perform(
        self: &Arc<Self>,
        step: &Step,
        attempt: u32,
        state: &RunState,
    ) -> Result<Vec<Evidence>, StepError> {
        let cancel = CancellationToken::new();
        *self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = cancel.clone();
        let work = async {
            match &step.kind {
                StepKind::Preflight => preflight::perform(self).await,
                StepKind::SetUp => set_up::perform(self, step, attempt, &state.run).await,
                StepKind::Capture => capture::perform(self, step, attempt, state).await,
                StepKind::Load => load::perform(self, &cancel).await,
                StepKind::CatchUp { max_lag_ms } => catch_up::catch_up(self, *max_lag_ms).await,
                StepKind::Verify => verify::perform(self).await,
                StepKind::Arm => arm::perform(self, step, attempt).await,
                StepKind::Freeze => freeze::freeze(self, step, attempt, state).await,
                StepKind::Drain => drain::perform(self, step, attempt, state).await,
                StepKind::Switch { switches } => switch::perform(self, step, attempt, state, switches).await,
                StepKind::Smoke { probes } => smoke::perform(self, probes).await,
                StepKind::Thaw => freeze::thaw(self, step, attempt, state).await,
                StepKind::Gate { .. } | StepKind::GoNoGo { .. } | StepKind::Manual { .. } => Ok(Vec::new()),
            }
        };
        tokio::select! {
            // A step that has its result keeps it, whatever was ordered meanwhile.
            biased;
            result = work => result,
            () = cancel.cancelled() => Err(cancelled()),
            () = self.stop.cancelled() => Err(cancelled()),
        }
    }

    /// Says where differences go that a comparison found: table, and what differs. Only the first call counts.
    pub fn keep_findings_with(&self, keep: KeepFindings) {
        let _ = self.findings.set(keep);
    }

    /// Hands the differences of one pass to the thread that keeps them.
    pub(super) fn keep_findings(&self, table: &str, findings: &[Finding]) {
        if let Some(keep) = self.findings.get() {
            keep(table, findings);
        }
    }

    /// Rows of a table that were repaired so far.
    pub(super) fn repaired(&self, table: &str) -> u64 {
        self.repairs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(table).copied().unwrap_or(0)
    }

    /// Counts rows that are about to be written again.
    pub(super) fn note_repair(&self, table: &str, rows: u64) {
        *self.repairs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(table.to_owned()).or_default() +=
            rows;
    }

    /// A copy of what was last measured.
    #[must_use]
    pub fn measured(&self) -> Measured {
        let mut m = self.latest.copy();
        m.at = self.wall();
        let mono = self.mono();
        for (id, progress) in &self.progress_of {
            let lags = progress.lags(mono);
            let lag = &mut m.tables.entry(id.clone()).or_default().lag;
            lag.apply = Reading { value: lags.apply.map(|ms| ms as f64), at: m.at };
            lag.capture = Reading { value: lags.capture.map(|ms| ms as f64), at: m.at };
        }
        let refused = self.refused_mono.load(Ordering::Acquire);
        if self.frozen.load(Ordering::Acquire) && refused != i64::MIN {
            m.downtime_ms = Some(self.mono() - refused);
        }
        m
    }

    /// Workers rest at their next safe point.
    pub fn pause(&self) {
        self.paused.send_replace(true);
        watching::resting(self, true);
    }

    /// Workers go on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
        watching::resting(self, false);
    }

    /// More (or fewer) load workers; never under one, nor more than there are segments under way.
    pub fn workers(&self, by: i32) {
        let now = self.latest.put(|m| m.workers.1);
        let most = self.plan.load.workers.max(super::load::UNDER_WAY as u32);
        let wanted = now.saturating_add_signed(by).clamp(1, most);
        if wanted > now {
            self.load_permits.add_permits((wanted - now) as usize);
        } else {
            let permits = Arc::clone(&self.load_permits);
            let fewer = now - wanted;
            // Permits in use are removed when they are returned, at page boundaries.
            self.spawn(async move {
                if let Ok(taken) = permits.acquire_many(fewer).await {
                    taken.forget();
                }
            });
        }
        self.latest.put(|m| m.workers.1 = wanted);
    }

    /// Stops the step that is being performed, at its next await.
    pub fn cancel_step(&self) {
        self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner).cancel();
    }

    /// Ends capture at a store: see [`end_capture::end`].
    pub async fn end_capture(&self, store: &str, id: String) -> (Event, Option<String>) {
        end_capture::end(&self.ports.changes, store, id).await
    }

    /// Stops everything and waits for it.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// After a restart: captured values are read into memory again, by version from the place's history, or from the
    /// journal when they are no secret. A value that cannot be read leaves rollback `not ready`, and that is reported.
    pub async fn recapture(&self, state: &RunState) {
        for switch in &self.plan.switches {
            let Some(s) = state.switches.get(&switch.id).filter(|s| s.captured) else { continue };
            let value = match (s.captured_value.as_deref(), s.captured_version) {
                (Some(value), _) => Ok(Secret::new(value)),
                (None, Some(version)) => self.ports.switches.read_version(switch, version).await.map(|r| r.value),
                (None, None) => continue,
            };
            match value {
                Ok(value) => {
                    self.captured.keep(&switch.id, CapturedValue { value, attributes: s.captured_attributes.clone() });
                }
                Err(e) => tracing::error!(switch = %switch.id, error = %e, "captured value could not be read again"),
            }
        }
        let thaw = self.plan.steps.iter().find(|s| s.kind == StepKind::Thaw).and_then(|s| state.step(&s.id));
        self.open_to_customers.store(thaw.is_some_and(|s| s.attempts > 0), Ordering::Release);
        if state.rollback.is_some() {
            self.begin_rollback();
        }
        if let (Some(refused), None) = (state.downtime.refused, state.downtime.accepted) {
            // The monotonic clock of the last process is gone; the wall clock is the best that is left.
            self.refused_mono.store(self.mono() - self.wall().since(refused), Ordering::Release);
            self.frozen.store(true, Ordering::Release);
        }
    }

    /// Whether a change of a switch is on the wire.
    pub fn in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// A rollback has ended: what stays behind is counted once more, and that count stays. The new side is followed no
    /// more, so that it stands as it did then.
    pub fn rolled_back(&self) {
        self.priced.store(true, Ordering::Release);
        self.following.store(true, Ordering::Release);
        self.unfollow.cancel();
    }

    /// The captured values, shared with the rollback.
    #[must_use]
    pub fn captured(&self) -> CapturedValues {
        self.captured.clone()
    }

    /// Wall clock.
    pub(super) fn wall(&self) -> At {
        self.ports.clock.wall()
    }

    /// Monotonic clock in milliseconds.
    pub(super) fn mono(&self) -> i64 {
        self.ports.clock.mono_ms()
    }

    /// How far following a table has come.
    pub(super) fn progress(&self, table: &str) -> Arc<FollowProgress> {
        self.progress_of.get(table).cloned().unwrap_or_default()
    }

    /// The table's mapping.
    pub(super) fn mapping(&self, table: &Table) -> Arc<TableMapping> {
        self.mappings.get(&table.id).cloned().unwrap_or_else(|| Arc::new(TableMapping::new(table)))
    }

    /// Waits while paused.
    pub(super) async fn unpaused(&self) {
        let mut paused = self.paused.subscribe();
        let _ = paused.wait_for(|p| !p).await;
    }

    /// Whether the new side is followed no more, because a rollback has ended.
    pub(super) fn unfollowed(&self) -> bool {
        self.unfollow.is_cancelled()
    }

    /// Waits until the new side is followed no more.
    pub(super) async fn until_unfollowed(&self) {
        self.unfollow.cancelled().await;
    }

    /// Runs a background task that ends with a rollback, or with the workers.
    fn spawn_following(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let ctx = Arc::clone(self);
        self.spawn(async move {
            tokio::select! {
                biased;
                () = ctx.unfollow.cancelled() => {
                    for table in &ctx.plan.tables {
                        ctx.progress(&table.id).end();
                        ctx.latest.table(&table.id, |g| g.phase = Phase::Ended);
                    }
                }
                () = work => {}
            }
        });
    }

    /// Runs a background task that ends with the workers.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::tests::world::{World, until};

    #[tokio::test]
    async fn a_console_that_is_left_open_after_a_rollback_follows_no_more() {
        let world = World::new();
        let ctx = world.ctx().await;
        world.well(&ctx, &["capture", "load"]).await;
        ctx.ensure_following();
        world.book("b1", "1.00");
        until("it to be followed", || world.new.table(world.table("books")).rows.len() == 1).await;
        ctx.rolled_back();
        until("following to end", || ctx.tasks.is_empty()).await;
        let measured = ctx.measured();
        for table in &world.plan.tables {
            let gauge = &measured.tables[&table.id];
            assert_eq!((gauge.phase, gauge.lag.apply.value), (Phase::Ended, None), "{}", table.id);
        }
        ctx.ensure_following();
        assert!(ctx.tasks.is_empty(), "it does not begin again");
    }
}
