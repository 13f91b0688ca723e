//! What a command did to the data, on record: in the journal of the run it belongs to, or in one of its own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::exit::Exit;
use super::failure::Failure;
use super::opened::{Fit, fit, refusal};
use super::world::{self, Driver};
use crate::config::Config;
use crate::domain::at::At;
use crate::domain::plan::{Plan, Table};
use crate::domain::run::{Callers, Event, Fact, Level, RunState, apply};
use crate::engine::{DriverLease, MachineClock};
use crate::journal::{Header, Holder, JournalWriter, RunFolder, RunLock, fold, read_run};
use crate::ports::{Clock, Facts, NotRecorded};
use crate::workers::WorkerContext;

/// Writes facts as they are stated, each on disk before the call returns.
struct Writer {
    /// The journal, its fold, and the time of its last fact.
    journal: Mutex<(JournalWriter, RunState, At)>,
    machine: MachineClock,
}

#[async_trait]
impl Facts for Writer {
    async fn state(&self, event: Event) -> Result<(), NotRecorded> {
        let mut guard = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let (journal, state, last) = &mut *guard;
        // On a rehearsal the run's clock is ahead of the wall clock; times in a journal never go backwards.
        let at = self.machine.wall().max(*last);
        let fact = Fact { seq: state.last_seq + 1, at, event };
        let mut next = state.clone();
        apply(&mut next, &fact).map_err(|e| NotRecorded(e.to_string()))?;
        journal.append(std::slice::from_ref(&fact)).map_err(|e| NotRecorded(e.to_string()))?;
        *state = next;
        *last = at;
        Ok(())
    }
}

/// What a command needs to work on the data: the lease, the record, and workers.
pub struct CommandSession {
    /// The workers.
    pub ctx: Arc<WorkerContext>,
    /// Where it is on record.
    pub folder: RunFolder,
    lease: DriverLease,
    _lock: RunLock,
}

impl CommandSession {
    /// Takes the lease and opens the record: the unfinished run's own journal if there is one, else a new one under
    /// `verifications`.
    ///
    /// # Errors
    /// A run is driven somewhere, the disk refused, or the target did not answer.
    pub async fn open(config: &Config, state_dir: &Path, what: &str) -> Result<Self, Failure> {
        let plan = Arc::clone(&config.plan);
        let driver = Driver::here();
        let ports = world::ports(&plan, &config.connections).await?;
        let callers = world::callers(&plan, &config.connections, &ports).await?;
        let machine = MachineClock::default();
        let holder = Holder::me(&driver.operator, &driver.host);
        let (folder, taken) = match unfinished(state_dir, &plan)? {
            Some(folder) => (folder, true),
            None => {
                let made = RunFolder::create(&state_dir.join("verifications"), &plan.name, machine.wall());
                (made.map_err(|e| journal(state_dir, &e))?, false)
            }
        };
        let lock = folder.lock(&holder)?;
        super::logging::into(&folder);
        tracing::info!(%what, operator = driver.operator, "asked for");
        ports.target.prepare().await?;
        let lease = DriverLease::take(Arc::clone(&ports.target), folder.id(), &driver.host, taken).await?;
        let header = Header::new(folder.id(), &plan.hash(), &driver.operator, &driver.host, machine.wall());
        let now = machine.wall();
        let journal_of_run = if taken {
            let (writer, record) = JournalWriter::reopen(&folder)?;
            let state = fold(&record.facts).map_err(|e| Failure::new(Exit::Journal, e.to_string()))?;
            // It may have been amended between reading it and locking it.
            if let Some(failure) = refusal(&folder, &state, &plan) {
                return Err(failure);
            }
            let last = record.facts.last().map_or(now, |f| f.at);
            (writer, state, last)
        } else {
            (JournalWriter::create(&folder, &header)?, RunState::default(), now)
        };
        let facts = Arc::new(Writer { journal: Mutex::new(journal_of_run), machine });
        if !taken {
            facts.state(opened(&folder, &plan, &driver, now, callers)).await.map_err(|e| journal(folder.path(), &e))?;
        }
        let text = format!("{}@{} asked for: cutover {what}", driver.operator, driver.host);
        let note = Event::Note { level: Level::Info, source: "operator".to_owned(), text };
        facts.state(note).await.map_err(|e| journal(folder.path(), &e))?;
        Ok(Self { ctx: WorkerContext::new(plan, ports, facts), folder, lease, _lock: lock })
    }

    /// Gives everything back.
    pub async fn close(self) {
        self.ctx.stop().await;
        self.lease.release().await;
    }

    /// Writes a file of findings into the folder, for its owner's eyes.
    ///
    /// # Errors
    /// What the disk said.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        self.folder.write(name, bytes).map_err(|e| journal(self.folder.path(), &e))?;
        Ok(self.folder.path().join(name))
    }
}

fn opened(folder: &RunFolder, plan: &Plan, driver: &Driver, now: At, callers: Callers) -> Event {
    Event::RunOpened {
        run: folder.id().to_owned(),
        plan: plan.name.clone(),
        plan_hash: plan.hash(),
        environment: plan.environment.clone(),
        operator: driver.operator.clone(),
        host: driver.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        t0: plan.t0.unwrap_or(now),
        steps: Vec::new(),
        callers,
    }
}

/// The newest run of this migration, if it is not at its end and was opened with this very plan on these very stores.
fn unfinished(state_dir: &Path, plan: &Plan) -> Result<Option<RunFolder>, Failure> {
    for folder in RunFolder::list(state_dir).unwrap_or_default() {
        let state = fold(&read_run(&folder)?.facts).map_err(|e| Failure::new(Exit::Journal, e.to_string()))?;
        if state.plan == plan.name {
            if state.is_final() {
                return Ok(None);
            }
            // What is found under another mapping, or in other stores, proves nothing about the run.
            let other = match fit(&folder, &state.plan_hash, plan) {
                Fit::Same => return Ok(Some(folder)),
                Fit::OtherPlan => "was opened with another plan and goes on with it".to_owned(),
                Fit::OtherStores(changes) => format!("was opened on other stores: {}", changes.join("; ")),
            };
            super::drive::say(&format!("warning: run {} {other}; this is recorded apart from it", folder.id()));
            return Ok(None);
        }
    }
    Ok(None)
}

fn journal(place: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Journal, format!("{} cannot be written: {e}", place.display()))
}

/// The tables somebody named; all, if none.
///
/// # Errors
/// The plan has no such table.
pub fn chosen<'p>(plan: &'p Plan, named: &[String]) -> Result<Vec<&'p Table>, Failure> {
    if named.is_empty() {
        return Ok(plan.tables.iter().collect());
    }
    named
        .iter()
        .map(|id| {
            plan.table(id).ok_or_else(|| {
                let known: Vec<&str> = plan.tables.iter().map(|t| t.id.as_str()).collect();
                let text = format!("--table {id}: the plan has no such table; it has {}", known.join(", "));
                Failure::new(Exit::Usage, text)
            })
        })
        .collect()
}
