//! Opening a run: the lease, the journal's first fact, the rollback thread, then the loop.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::alerts::{AlertDesk, AlertSetup};
use super::best_effort::BestEffortWriter;
use super::clock::RunClock;
use super::dispatch::{Dispatch, Inputs};
use super::elsewhere::{self, KnownSides};
use super::facts::FactChannel;
use super::handle::Handle;
use super::journal_thread::JournalThread;
use super::lease::DriverLease;
use super::orders::Orders;
use super::outcome::Ending;
use super::publish::Publisher;
use super::retention::Retention;
use super::rollback::{self, RollbackPortsFactory};
use crate::domain::gauge::Measured;
use crate::domain::plan::Plan;
use crate::domain::run::{Event, Fact, Policy, RunState, StepSeen};
use crate::journal::{JournalWriter, RunFolder, SampleReader, SampleWriter};
use crate::ports::PortError;
use crate::snapshot::Mode;
use crate::workers::{Ports, WorkerContext};

/// Called with the id of each step as it starts.
pub type StepBegan = Arc<dyn Fn(&str) + Send + Sync>;

/// Why an engine could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal could not be written.
    #[error("the journal in {0} cannot be written: {1}; free space or fix permissions, then start again")]
    Journal(String, String),
    /// The target did not give the lease.
    #[error("the run cannot be driven from here: {0}")]
    Lease(PortError),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// A new run, or one that is resumed.
pub enum Opening {
    /// Open a run with this first fact.
    New(Box<Event>),
    /// Resume a run at this folded state, with the journal's last facts for the log pane.
    Resume {
        /// The fold of the journal.
        state: Box<RunState>,
        /// Its facts.
        facts: Vec<Fact>,
        /// The side journals they were read from besides, each with how many facts.
        sides: KnownSides,
    },
}

/// How long a slow disk is waited for.
#[derive(Clone, Copy, Debug)]
pub struct DiskPatience {
    /// For one write, before a run rolls back that nobody sits at, and that a full disk would roll back.
    pub one_write: Duration,
    /// By a process that ends: what it did is not on record before.
    pub closing: Duration,
}

impl Default for DiskPatience {
    fn default() -> Self {
        Self { one_write: Duration::from_secs(10), closing: Duration::from_secs(5) }
    }
}

/// Everything an engine is made of.
pub struct Setup {
    /// The plan.
    pub plan: Arc<Plan>,
    /// How to drive.
    pub policy: Policy,
    /// The world.
    pub ports: Ports,
    /// The rollback's own view of the world, made on its own runtime: connected and independent.
    pub rollback_ports: RollbackPortsFactory,
    /// The run's clock.
    pub clock: Arc<RunClock>,
    /// The journal, open for appending.
    pub journal: JournalWriter,
    /// How long its disk is waited for.
    pub disk: DiskPatience,
    /// Where samples go.
    pub samples: Option<SampleWriter>,
    /// How the run is shown.
    pub mode: Mode,
    /// By how much the wall clock was stepped since the last fact of a run that is resumed.
    pub stepped: Option<(i64, StepSeen)>,
    /// Whether tables of the plan that are there may be dropped and made again.
    pub make_anew: bool,
    /// Who drives.
    pub operator: String,
    /// On which host.
    pub host: String,
    /// Called with the id of each step as it starts; the rehearsal injects faults by it.
    pub step_began: Option<StepBegan>,
    /// Who is told of what.
    pub alerts: AlertSetup,
}

/// A running engine.
pub struct Engine {
    task: tokio::task::JoinHandle<Closed>,
    stop: CancellationToken,
    handle: Handle,
    ending: watch::Receiver<Option<Ending>>,
    told: broadcast::Receiver<Fact>,
}

impl Engine {
    /// Opens or resumes a run: takes the lease, journals the first fact, starts watching, starts the loop.
    ///
    /// Facts before the first subscription to [`Engine::facts`] are kept for it.
    pub async fn open(setup: Setup, opening: Opening, run: &str, folder: &Path) -> Result<Self, EngineError> {
        let Setup {
            plan,
            policy,
            ports,
            rollback_ports,
            clock,
            journal,
            disk,
            samples,
            mode,
            stepped,
            make_anew,
            operator,
            host,
            step_began,
            alerts,
        } = setup;
        let journal_error = |e: String| EngineError::Journal(folder.display().to_string(), e);
        let journal = JournalThread::start(journal).map_err(|e| journal_error(e.to_string()))?;
        ports.target.prepare().await.map_err(EngineError::Lease)?;
        // A run that was never opened may have had its lease too: its process died between the two.
        let lease = DriverLease::take(Arc::clone(&ports.target), run, &host, true).await.map_err(EngineError::Lease)?;

        let (fact_tx, stated) = mpsc::channel(1024);
        let machine = Arc::clone(&ports.clock);
        let ctx = WorkerContext::new(Arc::clone(&plan), ports, Arc::new(FactChannel(fact_tx)));
        if make_anew {
            ctx.allow_make_anew();
        }
        let best_effort =
            BestEffortWriter::start(samples, RunFolder::at(folder)).map_err(|e| journal_error(e.to_string()))?;
        let findings = best_effort.clone();
        ctx.keep_findings_with(Box::new(move |table, found| findings.findings(table, found)));
        let (publisher, screens) = Publisher::new(Arc::clone(&plan), mode, best_effort.clone().samples());
        let facts_told = publisher.told().subscribe();
        let (requests_tx, requests) = mpsc::channel(32);
        let (order_tx, orders) = watch::channel(None);
        let order_tx = Arc::new(order_tx);
        let (state_tx, state_rx) = watch::channel(Arc::new(RunState::default()));
        let (facts_tx, told) = mpsc::unbounded_channel();
        let (performed_tx, performed) = mpsc::channel(8);
        let (ending_tx, ending_rx) = watch::channel(None);
        let stop = CancellationToken::new();
        let performing = Arc::new(watch::channel(false).0);
        rollback::start(
            rollback_ports,
            rollback::Wires {
                plan: Arc::clone(&plan),
                orders: orders.clone(),
                state: state_rx,
                ctx: Arc::clone(&ctx),
                clock: Arc::clone(&machine),
                performing: performing.subscribe(),
                facts: facts_tx,
                stop: stop.clone(),
            },
        )
        .map_err(EngineError::Thread)?;

        let handle = Handle::new(screens, requests_tx, Arc::clone(&order_tx), None, operator.clone());
        let mut dispatch = Dispatch {
            plan,
            policy,
            state: RunState::default(),
            state_tx,
            ctx,
            journal,
            disk,
            lease: Arc::new(lease),
            clock,
            machine,
            publisher,
            best_effort,
            retention: Retention::default(),
            alerts: AlertDesk::start(alerts, mode),
            orders: orders.clone(),
            order_tx,
            performed_tx,
            performing,
            under_way: 0,
            work: None,
            ending_tx,
            waiting: None,
            journal_broken: None,
            last_durable_mono: None,
            last_durable_seq: None,
            unrecorded: Vec::new(),
            tried_mono: 0,
            step_began,
        };
        let mut known = KnownSides::new();
        let first = match opening {
            Opening::New(event) => *event,
            Opening::Resume { state, facts, sides } => {
                known = sides;
                dispatch.state = *state;
                if let Some(before) = last_measured(&RunFolder::at(folder)) {
                    let (plan, state) = (&dispatch.plan, &dispatch.state);
                    dispatch.alerts.measured_before(plan, state, &before);
                }
                for fact in facts {
                    dispatch.publisher.fact(fact);
                }
                Event::RunResumed { operator, host }
            }
        };
        let stepped = stepped.map(|(by_ms, seen)| Event::ClockStepped { by_ms, seen });
        dispatch.keep([first].into_iter().chain(stepped).collect()).await.map_err(journal_error)?;
        dispatch.resume_run().await;
        dispatch.ctx.watch();
        // From here on orders are heard, and the rollback knows where the run stands.
        let (states, order) = (dispatch.state_tx.subscribe(), Arc::clone(&dispatch.order_tx));
        elsewhere::watch(RunFolder::at(folder), known, states, order, stop.clone()).map_err(EngineError::Thread)?;
        let inputs = Inputs { back: Orders { given: orders, facts: told }, stated, requests, performed };
        let task = tokio::spawn(dispatch.run(inputs, stop.clone()));
        Ok(Self { task, stop, handle, ending: ending_rx, told: facts_told })
    }

    /// A screen's side of the run.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Every fact since the engine was opened.
    #[must_use]
    pub fn facts(&mut self) -> broadcast::Receiver<Fact> {
        let later = self.told.resubscribe();
        std::mem::replace(&mut self.told, later)
    }

    /// Changes when the run reaches a state it will not leave by itself.
    #[must_use]
    pub fn ending(&self) -> watch::Receiver<Option<Ending>> {
        self.ending.clone()
    }

    /// Stops workers at safe points, gives the lease back and returns the last state. The run stays resumable.
    pub async fn close(self) -> Closed {
        self.stop.cancel();
        self.task.await.unwrap_or_default()
    }
}

/// What an earlier process of this run measured last. Samples may be lost: then nothing is known of it.
fn last_measured(folder: &RunFolder) -> Option<Measured> {
    let mut samples = SampleReader::open(&folder.samples()).ok()?;
    let last = samples.len().checked_sub(1)?;
    samples.get(last).map(|sample| sample.measured)
}

/// What an engine leaves behind.
#[derive(Default)]
pub struct Closed {
    /// The last state.
    pub state: RunState,
    /// Facts of a rollback that are in the state and not on disk.
    pub unsaved: usize,
}
