//! The workers: ports, what is kept of each table, captured values, and what is at work.

mod captured;
mod customers;
mod limits;
mod standing;
mod table;
mod tasks;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::watch;

pub use self::captured::{CapturedValue, CapturedValues};
pub(super) use self::customers::AtThaw;
use self::customers::Customers;
use self::limits::ReadLimits;
use self::standing::Standing;
pub(super) use self::table::TableWork;
use self::tasks::Tasks;
use super::latest::LatestSamples;
use super::progress::FollowProgress;
use super::trouble::cancelled;
use super::{
    arm, baseline, capture, catch_up, continuous, drain, end_capture, follow, freeze, jobs, load, marker, movers,
    parked, preflight, reverse, set_up, smoke, switch, verify, watch as watching,
};
use crate::domain::at::At;
use crate::domain::gauge::{JobGauge, Measured, Phase, Reading, ReverseState};
use crate::domain::mapping::TableMapping;
use crate::domain::plan::{Plan, Step, StepKind, Table};
use crate::domain::run::{Event, Evidence, MoverOrder, RunState, StepError};
use crate::domain::secret::Secret;
use crate::domain::verify::Finding;
use crate::ports::{
    ByStore, Changes, Clock, Facts, Identity, Jobs, Metrics, Mover, Probes, ReversePorts, Source, Switches, Target,
};

/// Keeps the differences one pass over a table found.
pub type KeepFindings = Box<dyn Fn(&str, &[Finding]) + Send + Sync>;

/// The world, as the workers see it.
#[derive(Clone)]
pub struct Ports {
    /// Rows of the old side, by store.
    pub sources: ByStore<dyn Source>,
    /// Changes of the old side, by store.
    pub changes: ByStore<dyn Changes>,
    /// What moves tables in place of the console, by its name.
    pub movers: ByStore<dyn Mover>,
    /// The new side.
    pub target: Arc<dyn Target>,
    /// Switches.
    pub switches: Arc<dyn Switches>,
    /// Probes.
    pub probes: Arc<dyn Probes>,
    /// Work that others do.
    pub jobs: Arc<dyn Jobs>,
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

/// Everything that works on one run in this process.
pub struct WorkerContext {
    pub(super) plan: Arc<Plan>,
    pub(super) ports: Ports,
    pub(super) facts: Arc<dyn Facts>,
    pub(super) latest: Arc<LatestSamples>,
    pub(super) captured: CapturedValues,
    /// What is kept of each table of the plan, by id.
    tables: BTreeMap<String, TableWork>,
    standing: standing::Current,
    pub(super) customers: Customers,
    /// What bounds reading: how many at once, how much, and when.
    pub(super) limits: ReadLimits,
    /// Grows when traffic may have moved: earlier results of probes say nothing about the side that serves now.
    pub(super) sides: watch::Sender<u64>,
    /// Changes of switches that are on the wire; a cancelled step does not call them back.
    pub(super) in_flight: AtomicUsize,
    /// Set while tables that are there may be dropped and made again: somebody typed the plan's name for it.
    pub(super) make_anew: AtomicBool,
    /// Where differences are kept in full.
    findings: OnceLock<KeepFindings>,
    pub(super) tasks: Tasks,
}

impl WorkerContext {
    /// Workers that do nothing yet.
    #[must_use]
    pub fn new(plan: Arc<Plan>, ports: Ports, facts: Arc<dyn Facts>) -> Arc<Self> {
        let tables = plan.tables.iter().map(|t| (t.id.clone(), TableWork::new(t))).collect();
        let latest = Arc::new(LatestSamples::default());
        for stays in &plan.stays {
            latest.table(&stays.id, |g| g.phase = Phase::Stays);
        }
        for table in &plan.tables {
            latest.table(&table.id, |_| {});
        }
        latest.put(|m| m.workers = (0, plan.load.workers.max(1)));
        Arc::new(Self {
            limits: ReadLimits::new(&plan),
            plan,
            ports,
            facts,
            latest,
            captured: CapturedValues::default(),
            tables,
            standing: standing::Current::default(),
            customers: Customers::default(),
            sides: watch::channel(0).0,
            in_flight: AtomicUsize::new(0),
            make_anew: AtomicBool::new(false),
            findings: OnceLock::new(),
            tasks: Tasks::default(),
        })
    }

    /// Where the run stands now.
    pub(super) fn standing(&self) -> Standing {
        self.standing.now()
    }

    /// Takes what the fold says of where the run stands; after each fact.
    pub fn learn(&self, state: &RunState) {
        self.standing.learn(&self.plan, state);
    }

    /// What is kept of a table; `None` for one that is not the plan's.
    pub(super) fn table(&self, id: &str) -> Option<&TableWork> {
        self.tables.get(id)
    }

    /// Why following ended for good, for the first table of which it did.
    pub(super) fn any_ended(&self) -> Option<String> {
        self.tables.values().find_map(TableWork::ended).map(str::to_owned)
    }

    /// Lets the set_up step drop tables of the plan that are there, and make them again.
    pub fn allow_make_anew(&self) {
        self.make_anew.store(true, Ordering::Release);
    }

    /// Starts watching: probes, metrics, counts, rollback. Idempotent.
    pub fn watch(self: &Arc<Self>) {
        if self.tasks.first_watch() {
            watching::start(self);
            for table in &self.plan.tables {
                self.tasks.spawn(parked::watch(Arc::clone(self), table.clone()));
            }
        }
    }

    /// The reverse flow, unless the plan wants none.
    pub(super) fn reverse_ports(&self) -> Option<ReversePorts> {
        self.ports.reverse.clone().filter(|_| self.plan.reverse.enabled)
    }

    /// Starts the reverse flow. Idempotent. Only once customers may write on the new side.
    pub fn ensure_reverse(self: &Arc<Self>) {
        if self.tasks.first_reverse() {
            let ctx = Arc::clone(self);
            self.tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = ctx.tasks.until_unfollowed() => {}
                    () = reverse::apply_reverse(Arc::clone(&ctx)) => {}
                }
            });
        }
    }

    /// The old side is about to be deleted: nothing of it is read or written any more, and nothing leads back to it.
    pub(super) fn end_the_way_back(&self) {
        self.tasks.unfollow();
        self.latest.put(|m| m.reverse.state = ReverseState::Off);
    }

    /// Keeps how far a job is that a rollback has begun.
    pub fn job_is(&self, job: &str, gauge: JobGauge) {
        self.latest.put(|m| drop(m.jobs.insert(job.to_owned(), gauge)));
    }

    /// A rollback was ordered: from now on the old side's customers win, and their writes are no strays.
    pub fn begin_rollback(&self) {
        self.standing.begin_rollback();
    }

    /// Starts following every table. Idempotent. Only after the load has ended.
    pub fn ensure_following(self: &Arc<Self>) {
        if self.standing().open_to_customers {
            self.ensure_reverse();
        }
        if !self.tasks.first_follow() {
            return;
        }
        for table in &self.plan.tables {
            if table.mover.is_none() {
                self.spawn_following(follow::follow(Arc::clone(self), table.clone()));
            }
            self.tasks.spawn(marker::markers(Arc::clone(self), table.clone()));
        }
        for mover in self.plan.movers() {
            let ctx = Arc::clone(self);
            self.spawn_following(async move { movers::follow(ctx, mover).await });
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
        self.learn(state);
        let cancel = self.tasks.begin_step();
        let work = async {
            match &step.kind {
                StepKind::Preflight => preflight::perform(self).await,
                StepKind::SetUp => set_up::perform(self, step, attempt, &state.run).await,
                StepKind::Capture => capture::perform(self, step, attempt, state).await,
                StepKind::Load => load::perform(self, step, attempt, &cancel).await,
                StepKind::CatchUp { max_lag_ms } => catch_up::catch_up(self, *max_lag_ms).await,
                StepKind::Baseline { signals, samples, warm_up } => {
                    baseline::perform(self, signals, *samples, *warm_up).await
                }
                StepKind::Verify => verify::perform(self).await,
                StepKind::Arm => arm::perform(self, step, attempt).await,
                StepKind::Freeze => freeze::freeze(self, step, attempt, state).await,
                StepKind::Drain => drain::perform(self, step, attempt, state).await,
                StepKind::Switch { .. } => switch::perform(self, step, attempt, state).await,
                StepKind::Smoke { probes } => smoke::perform(self, probes).await,
                StepKind::Jobs { purpose, .. } => jobs::perform(self, step, attempt, state, *purpose).await,
                StepKind::Thaw => freeze::thaw(self, step, attempt, state).await,
                StepKind::Gate { .. } | StepKind::GoNoGo { .. } | StepKind::Manual { .. } => Ok(Vec::new()),
            }
        };
        tokio::select! {
            // A step that has its result keeps it, whatever was ordered meanwhile.
            biased;
            result = work => result,
            () = cancel.cancelled() => Err(cancelled()),
            () = self.tasks.stopping() => Err(cancelled()),
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

    /// A copy of what was last measured.
    #[must_use]
    pub fn measured(&self) -> Measured {
        let mut m = self.latest.copy();
        m.at = self.wall();
        let mono = self.mono();
        for (id, table) in &self.tables {
            let lags = table.progress.lags(mono);
            let lag = &mut m.tables.entry(id.clone()).or_default().lag;
            lag.apply = Reading { value: lags.apply.map(|ms| ms as f64), at: m.at };
            lag.capture = Reading { value: lags.capture.map(|ms| ms as f64), at: m.at };
        }
        if self.standing().locked_out {
            m.downtime_ms = self.customers.refused_mono().map(|refused| mono - refused);
        }
        m
    }

    /// Workers rest at their next safe point.
    pub fn pause(&self) {
        self.limits.paused.send_replace(true);
        watching::resting(self, true);
    }

    /// Workers go on.
    pub fn resume(&self) {
        self.limits.paused.send_replace(false);
        watching::resting(self, false);
    }

    /// More (or fewer) load workers; never under one, nor more than there are segments under way.
    pub fn workers(&self, by: i32) {
        let now = self.latest.put(|m| m.workers.1);
        let most = self.plan.load.workers.max(super::load::UNDER_WAY as u32);
        let wanted = now.saturating_add_signed(by).clamp(1, most);
        if wanted > now {
            self.limits.permits.add_permits((wanted - now) as usize);
        } else {
            let permits = Arc::clone(&self.limits.permits);
            let fewer = now - wanted;
            // Permits in use are removed when they are returned, at page boundaries.
            self.tasks.spawn(async move {
                if let Ok(taken) = permits.acquire_many(fewer).await {
                    taken.forget();
                }
            });
        }
        self.latest.put(|m| m.workers.1 = wanted);
    }

    /// Stops the step that is being performed, at its next await.
    pub fn cancel_step(&self) {
        self.tasks.cancel_step();
    }

    /// Ends capture at a store: see [`end_capture::end`].
    pub async fn end_capture(&self, store: &str, id: String) -> (Event, Option<String>) {
        end_capture::end(&self.ports.changes, store, id).await
    }

    /// Stops everything and waits for it.
    pub async fn stop(&self) {
        self.tasks.stop().await;
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
        self.learn(state);
        if let (Some(refused), None) = (state.downtime.refused, state.downtime.accepted) {
            // The monotonic clock of the last process is gone; the wall clock is the best that is left.
            self.customers.refused_since(self.mono() - self.wall().since(refused));
        }
    }

    /// Whether a change of a switch is on the wire.
    pub fn in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) > 0
    }

    /// A rollback has ended: what stays behind is counted once more, and that count stays. The new side is followed no
    /// more, so that it stands as it did then.
    pub fn rolled_back(self: &Arc<Self>) {
        self.standing.end_rollback();
        self.tasks.unfollow();
        // What moves rows in our place stops too; it is removed when this process ends.
        for of in self.plan.movers() {
            let ctx = Arc::clone(self);
            self.tasks.spawn(async move {
                if let Err(e) = movers::tell(&ctx, &of, None, MoverOrder::Stop).await {
                    tracing::warn!(mover = %of.name(), error = %e.message, "it was not stopped");
                }
            });
        }
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
        self.table(table).map(|t| Arc::clone(&t.progress)).unwrap_or_default()
    }

    /// The table's mapping.
    pub(super) fn mapping(&self, table: &Table) -> Arc<TableMapping> {
        match self.table(&table.id) {
            Some(known) => Arc::clone(&known.mapping),
            None => Arc::new(TableMapping::new(table)),
        }
    }

    /// Waits while paused.
    pub(super) async fn unpaused(&self) {
        let mut paused = self.limits.paused.subscribe();
        let _ = paused.wait_for(|p| !p).await;
    }

    /// Runs a background task that ends with a rollback, or with the workers.
    fn spawn_following(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let ctx = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = ctx.tasks.until_unfollowed() => {
                    for table in &ctx.plan.tables {
                        ctx.progress(&table.id).end();
                        ctx.latest.table(&table.id, |g| g.phase = Phase::Ended);
                    }
                }
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
