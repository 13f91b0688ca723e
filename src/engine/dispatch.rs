//! The loop: one input at a time, decided, journaled, then acted on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::alerts::AlertDesk;
use super::best_effort::BestEffortWriter;
use super::clock::RunClock;
use super::facts::Stated;
use super::handle::{Request, RollbackOrder};
use super::journal_thread::{Durability, JournalThread};
use super::lease::DriverLease;
use super::open::{Closed, DiskPatience, StepBegan};
use super::orders::{Heard, Orders};
use super::outcome::{Ending, ending};
use super::publish::Publisher;
use super::retention::Retention;
use crate::domain::at::At;
use crate::domain::gauge::Measured;
use crate::domain::plan::Plan;
use crate::domain::run::{
    Actor, Command, Decision, Effect, ErrorClass, Event, Evidence, Fact, Input, Level, Policy, RunState, RunStatus,
    StepError, StepSeen, StepStatus, Unrecorded, apply, decide, no_way_back, unrecorded,
};
use crate::ports::NotRecorded;
use crate::workers::{WorkerContext, end_capture, movers};

/// How often measurements are read, gates judged and snapshots published.
const TICK: Duration = Duration::from_millis(100);
/// How often a journal that cannot be written is tried again, in milliseconds.
const TRY_AGAIN_MS: i64 = 1_000;

const fn rolling_back(status: RunStatus) -> bool {
    matches!(status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck)
}

/// What is said of a disk that neither takes a write nor refuses it.
const DISK_HANGS: &str = "the disk does not answer";
/// Resolves when an order is there that the loop has not taken.
async fn ordered(mut orders: watch::Receiver<Option<RollbackOrder>>) {
    if orders.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(super) struct Inputs {
    pub(super) back: Orders,
    pub(super) stated: mpsc::Receiver<Stated>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) performed: mpsc::Receiver<Performed>,
}

#[derive(Clone)]
pub(super) struct Performed {
    pub(super) step: String,
    pub(super) attempt: u32,
    pub(super) result: Result<Vec<Evidence>, StepError>,
}

pub(super) struct Dispatch {
    pub(super) plan: Arc<Plan>,
    pub(super) policy: Policy,
    pub(super) state: RunState,
    pub(super) state_tx: watch::Sender<Arc<RunState>>,
    pub(super) ctx: Arc<WorkerContext>,
    pub(super) journal: JournalThread,
    pub(super) disk: DiskPatience,
    pub(super) lease: Arc<DriverLease>,
    pub(super) clock: Arc<RunClock>,
    pub(super) machine: Arc<dyn crate::ports::Clock>,
    pub(super) publisher: Publisher,
    pub(super) best_effort: BestEffortWriter,
    pub(super) retention: Retention,
    pub(super) alerts: AlertDesk,
    /// Orders this loop has not taken yet: they end its waiting for the disk.
    pub(super) orders: watch::Receiver<Option<RollbackOrder>>,
    pub(super) order_tx: Arc<watch::Sender<Option<RollbackOrder>>>,
    pub(super) performed_tx: mpsc::Sender<Performed>,
    pub(super) performing: Arc<watch::Sender<bool>>,
    /// Attempts that are being performed: a cancelled one ends a moment after the next has begun.
    pub(super) under_way: usize,
    /// The attempt that was begun last.
    pub(super) work: Option<tokio::task::JoinHandle<()>>,
    pub(super) ending_tx: watch::Sender<Option<Ending>>,
    pub(super) waiting: Option<(String, At)>,
    pub(super) journal_broken: Option<String>,
    pub(super) last_durable_mono: Option<i64>,
    /// Position of the last fact that was waited for until it was on disk.
    pub(super) last_durable_seq: Option<u64>,
    /// Ends of steps that the journal did not take: offered again once it can be written.
    pub(super) unrecorded: Vec<Performed>,
    /// When the journal was last tried while it could not be written.
    pub(super) tried_mono: i64,
    pub(super) step_began: Option<StepBegan>,
}

impl Dispatch {
    pub(super) async fn run(mut self, mut inputs: Inputs, stop: CancellationToken) -> Closed {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                // Rollback first, then the facts of the rollback thread, then everything else.
                biased;
                back = inputs.back.next() => self.back(back).await,
                () = stop.cancelled() => break,
                Some(done) = inputs.performed.recv() => {
                    self.under_way = self.under_way.saturating_sub(1);
                    self.performing.send_replace(self.under_way > 0);
                    self.performed(done).await;
                }
                Some(stated) = inputs.stated.recv() => {
                    let result = self.take(&Input::Stated(stated.event)).await;
                    let _ = stated.durable.send(result.map_err(NotRecorded));
                }
                Some(request) = inputs.requests.recv() => {
                    let result = self.take(&Input::Command(request.command, request.by)).await;
                    let _ = request.reply.send(result.map_err(crate::domain::run::Refusal));
                }
                _ = tick.tick() => self.tick().await,
            }
        }
        self.ctx.stop().await;
        if self.state.is_final() {
            self.end_capture().await;
            self.end_movers().await;
        }
        self.lease.release().await;
        self.last_alerts().await;
        if self.journal.unsaved() > 0 {
            self.journal.settle(self.disk.closing).await;
        }
        self.publish();
        self.best_effort.written().await;
        Closed { state: self.state, unsaved: self.journal.unsaved() }
    }

    /// Sources that keep their changes until they are read keep them for nobody any more. Nobody reads by now.
    async fn end_capture(&mut self) {
        let plan = Arc::clone(&self.plan);
        for store in end_capture::kept_for_us(&plan) {
            let (id, intent) = end_capture::intent(store, &self.state.last_seq.to_string());
            if let Err(why) = self.keep(vec![intent]).await {
                tracing::warn!(store, %why, "capture is not ended: it cannot be recorded");
                continue;
            }
            let (outcome, left) = self.ctx.end_capture(store, id).await;
            let note = left.map(|text| Event::Note { level: Level::Error, source: "capture".to_owned(), text });
            if let Err(why) = self.keep(std::iter::once(outcome).chain(note).collect()).await {
                tracing::warn!(store, %why, "the end of capture is not on record");
            }
        }
    }

    /// What moved tables in place of this program is removed from both sides. Nobody needs it any more.
    async fn end_movers(&mut self) {
        for of in self.plan.movers() {
            let (id, intent) = movers::intent(&of, &self.state.last_seq.to_string());
            if let Err(why) = self.keep(vec![intent]).await {
                tracing::warn!(mover = %of.name(), %why, "it is not removed: that cannot be recorded");
                continue;
            }
            let (outcome, left) = self.ctx.remove_mover(&of, id).await;
            let note = left.map(|text| Event::Note { level: Level::Error, source: "mover".to_owned(), text });
            if let Err(why) = self.keep(std::iter::once(outcome).chain(note).collect()).await {
                tracing::warn!(mover = %of.name(), %why, "its removal is not on record");
            }
        }
    }

    /// A step came to its end. What cannot be recorded has not happened yet: it is offered again.
    async fn performed(&mut self, done: Performed) {
        let Performed { step, attempt, result } = done.clone();
        let taken = self.take(&Input::Performed { step, attempt, result }).await;
        if taken.is_err() && self.journal_broken.is_some() {
            self.unrecorded.push(done);
        }
    }

    /// Tries the journal again while it cannot be written, and goes on where it stopped once it can.
    async fn mend(&mut self) {
        let now = self.machine.mono_ms();
        let broken = self.journal_broken.is_some() || self.journal.unsaved() > 0;
        if !broken || now - self.tried_mono < TRY_AGAIN_MS {
            return;
        }
        self.tried_mono = now;
        if rolling_back(self.state.status) {
            if self.journal.unsaved() > 0
                && self.journal.keep_briefly(Vec::new()).await.is_ok()
                && self.journal.unsaved() == 0
            {
                self.journal_broken = None;
            }
            return;
        }
        let Some(why) = self.journal_broken.take() else { return };
        let text = format!("it can be written again; it could not be for a time: {why}");
        let note = Event::Note { level: Level::Warn, source: "journal".to_owned(), text };
        if self.keep(vec![note]).await.is_ok() {
            for done in std::mem::take(&mut self.unrecorded) {
                self.performed(done).await;
            }
        }
    }

    /// Takes a rollback order, and the facts of the rollback thread.
    async fn back(&mut self, Heard { order, facts }: Heard) {
        if let Some(order) = order {
            let broken = self.journal_broken.clone();
            self.orders.mark_unchanged();
            let _ = self.take(&Input::Rollback(order.by, order.cause)).await;
            if let Some(why) = broken {
                let text = format!("the journal cannot be written ({why}): going back, which does not wait for it");
                let note = Event::Note { level: Level::Error, source: "journal".to_owned(), text };
                let _ = self.take(&Input::Stated(note)).await;
            }
        }
        if let Some(event) = facts
            && let Err(why) = self.take(&Input::Stated(event)).await
        {
            tracing::warn!(%why, "a fact of the way back was not taken");
        }
    }

    /// After opening: a rollback that was under way goes on, captured values are read into memory again, changes are
    /// followed again, and a pause ends because somebody started the run again.
    pub(super) async fn resume_run(&mut self) {
        if self.state.resumes == 0 {
            return;
        }
        self.ctx.recapture(&self.state).await;
        let failed =
            self.state.current().and_then(|i| self.state.steps.get(i)).filter(|s| s.status == StepStatus::Failed);
        let failed = failed.map(|s| s.id.clone());
        match self.state.status {
            RunStatus::Running if self.policy.unattended => {
                // Starting a run again is asking for another try.
                if let Some(step) = failed {
                    let by = Actor::Operator(self.state.operator.clone());
                    self.take(&Input::Command(Command::Retry { step }, by)).await.ok();
                }
            }
            RunStatus::RollingBack => {
                if let Some(r) = self.state.rollback.clone() {
                    self.order_tx.send_replace(Some(RollbackOrder { by: r.by, cause: r.cause }));
                }
            }
            RunStatus::Paused => {
                let by = Actor::Operator(self.state.operator.clone());
                self.take(&Input::Command(Command::Continue, by)).await.ok();
            }
            _ => {}
        }
        let loaded = self.plan.tables.iter().all(|t| self.state.tables.get(&t.id).is_some_and(|t| t.loaded.is_some()));
        let leads_back = no_way_back(&self.plan, &self.state).is_none();
        if loaded && leads_back && !self.state.is_final() {
            self.ctx.ensure_following();
        }
    }

    async fn tick(&mut self) {
        let until = self.waiting.as_ref().map(|(_, at)| *at);
        self.clock.tick(&*self.machine, until);
        if let Some(by_ms) = self.clock.step() {
            let _ = self.take(&Input::Stated(Event::ClockStepped { by_ms, seen: StepSeen::Live })).await;
        }
        self.mend().await;
        let measured = self.measured();
        let decision = decide(&self.plan, &self.state, &self.policy, &Input::Tick(&measured), self.clock.now());
        let waiting = decision.waiting.clone();
        let _ = self.act(decision).await;
        self.alert(&measured).await;
        self.waiting = waiting;
        self.publish();
    }

    /// Records which alerts fire and what places were told, and has places told. While a rollback is under way nothing of it
    /// is recorded: the rollback's own facts have the disk.
    async fn alert(&mut self, measured: &Measured) {
        if self.journal_broken.is_some() || self.state.status == RunStatus::RollingBack {
            return;
        }
        self.alerts.look_after(&self.plan, &self.state);
        let events = self.alerts.events(&self.plan, &self.state, measured, self.clock.now());
        if !events.is_empty() && self.keep(events.clone()).await.is_ok() {
            self.alerts.recorded(&self.plan, &self.state, &events);
        }
    }

    /// What fires as this process ends, and what places say that are being told.
    async fn last_alerts(&mut self) {
        // What a rollback leaves unfinished is not waited for.
        if self.state.status == RunStatus::RollingBack {
            return;
        }
        let measured = self.measured();
        self.alert(&measured).await;
        let told = self.alerts.farewell().await;
        if !told.is_empty()
            && let Err(why) = self.keep(told).await
        {
            tracing::warn!(%why, "who was told of alerts is not on record");
        }
    }

    fn measured(&mut self) -> Measured {
        let mut m = self.ctx.measured();
        self.retention.fill(&self.plan, &self.state, &mut m);
        let hangs = (self.journal.unsaved() > 0).then(|| DISK_HANGS.to_owned());
        m.journal_error = self.journal_broken.clone().or(hangs);
        m.journal_ok = m.journal_error.is_none();
        m.journal_seq = self.last_durable_seq;
        m.journal_age_ms = self.last_durable_mono.map(|then| self.machine.mono_ms() - then);
        m
    }

    fn publish(&mut self) {
        let measured = self.measured();
        self.publisher.publish(&self.state, &measured, self.clock.now(), self.waiting.clone());
        let now = match ending(&self.plan, &self.state) {
            // A process that reads the record later would take the run for one that goes forward.
            Some(Ending::RolledBack) if self.journal.unsaved() > 0 => Some(Ending::Journal),
            None if self.journal_broken.is_some() && !rolling_back(self.state.status) => {
                match unrecorded(&self.plan, &self.state, &self.policy) {
                    Unrecorded::Leave => Some(Ending::Journal),
                    Unrecorded::RollBack(_) | Unrecorded::Stay => None,
                }
            }
            now => now,
        };
        self.ending_tx.send_if_modified(|e| std::mem::replace(e, now) != now);
    }

    /// Decides one input and acts on the decision.
    async fn take(&mut self, input: &Input<'_>) -> Result<(), String> {
        self.clock.tick(&*self.machine, self.waiting.as_ref().map(|(_, at)| *at));
        let decision = decide(&self.plan, &self.state, &self.policy, input, self.clock.now());
        self.act(decision).await
    }

    /// Facts first, durable; effects after. A forward decision whose facts cannot be kept has no effects.
    async fn act(&mut self, decision: Decision) -> Result<(), String> {
        if let Some(refusal) = decision.refused {
            return Err(refusal.0);
        }
        if !decision.events.is_empty() {
            self.keep(decision.events).await?;
        }
        for effect in decision.effects {
            self.effect(effect);
        }
        Ok(())
    }

    /// Folds events and writes them. Going forward, nothing is folded that is not on disk; in a rollback, nothing waits
    /// for the disk.
    pub(super) async fn keep(&mut self, events: Vec<Event>) -> Result<(), String> {
        let at = self.clock.now();
        let mut next = self.state.clone();
        let mut facts = Vec::with_capacity(events.len());
        for event in events {
            let fact = Fact { seq: next.last_seq + 1, at, event };
            apply(&mut next, &fact).map_err(|e| e.to_string())?;
            facts.push(fact);
        }
        let back = rolling_back(next.status);
        let kept = match &self.journal_broken {
            _ if back => self.journal.keep_briefly(facts.clone()).await.map(|()| Durability::Durable),
            Some(why) => Err(why.clone()),
            None => self.journal.keep(facts.clone(), self.overtaken()).await,
        };
        let mut overtaken = Ok(());
        match kept {
            Ok(Durability::Overtaken) => {
                overtaken = Err(format!("{DISK_HANGS}, and going back was ordered meanwhile"));
                self.journal_broken = Some(DISK_HANGS.to_owned());
                if self.orders.borrow().is_none()
                    && let Unrecorded::RollBack(cause) = unrecorded(&self.plan, &self.state, &self.policy)
                {
                    self.order_tx.send_replace(Some(RollbackOrder { by: Actor::Auto, cause }));
                }
            }
            Ok(Durability::Durable) => {
                let all = self.journal.unsaved() == 0;
                if !back || all {
                    self.last_durable_mono = Some(self.machine.mono_ms());
                }
                if back {
                    // The space set aside for the rollback was enough.
                    if all {
                        self.journal_broken = None;
                    }
                } else {
                    self.last_durable_seq = facts.last().map(|f| f.seq).or(self.last_durable_seq);
                }
                #[cfg(feature = "failpoints")]
                super::failpoint::after(&facts);
            }
            Err(why) => {
                tracing::error!(%why, "a fact could not be journaled");
                self.journal_broken = Some(why.clone());
                if !back {
                    // Customers must not stay locked out because a disk is full.
                    if let Unrecorded::RollBack(cause) = unrecorded(&self.plan, &self.state, &self.policy) {
                        self.order_tx.send_replace(Some(RollbackOrder { by: Actor::Auto, cause }));
                    }
                    return Err(format!("the journal cannot be written: {why}"));
                }
            }
        }
        self.state = next;
        self.ctx.learn(&self.state);
        // Something happened, so the run is not only waiting: until the next check the clock is not advanced.
        self.waiting = None;
        if let Some(tell) = &self.step_began {
            facts.iter().filter_map(|f| f.event.begins(&self.plan)).for_each(|step| tell(step));
        }
        for fact in facts {
            self.publisher.fact(fact);
        }
        self.state_tx.send_replace(Arc::new(self.state.clone()));
        overtaken
    }

    /// Ends the wait for a disk: a rollback order the loop has not taken, or, where a refused write rolls the run back,
    /// a write that is not answered for long.
    fn overtaken(&self) -> impl Future<Output = ()> + use<> {
        let orders = self.orders.clone();
        let automatic = matches!(unrecorded(&self.plan, &self.state, &self.policy), Unrecorded::RollBack(_));
        let patience = self.disk.one_write;
        async move {
            tokio::select! {
                () = ordered(orders) => {}
                () = tokio::time::sleep(patience), if automatic => {}
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Perform { step, attempt } => self.perform(&step, attempt),
            Effect::Cancel => self.ctx.cancel_step(),
            Effect::Pause => self.ctx.pause(),
            Effect::Resume => self.ctx.resume(),
            Effect::Workers(by) => self.ctx.workers(by),
            Effect::RollBack(by, cause) => {
                self.order_tx.send_if_modified(|order| {
                    let fresh = order.is_none() || self.state.status != RunStatus::RollingBack;
                    if fresh {
                        *order = Some(RollbackOrder { by, cause });
                    }
                    fresh
                });
            }
        }
    }

    fn perform(&mut self, id: &str, attempt: u32) {
        let Some(step) = self.plan.step(id).cloned() else { return };
        let ctx = Arc::clone(&self.ctx);
        let lease = Arc::clone(&self.lease);
        let state = self.state.clone();
        let done = self.performed_tx.clone();
        self.performing.send_replace(true);
        self.under_way += 1;
        let before = self.work.take();
        self.work = Some(tokio::spawn(async move {
            let id = step.id.clone();
            // An attempt that was cancelled comes to its end first: what it still does would land behind this one.
            if let Some(before) = before {
                let _ = before.await;
            }
            let work = tokio::spawn(async move {
                lease.check().await?;
                ctx.perform(&step, attempt, &state).await
            });
            let result = work.await.unwrap_or_else(|e| {
                Err(StepError {
                    class: ErrorClass::Bug,
                    message: format!(
                        "the worker of {id} stopped: {}",
                        if e.is_panic() { "panic" } else { "cancelled" }
                    ),
                    advice: "see cutover.log in the run folder, then try again or roll back".to_owned(),
                })
            });
            let _ = done.send(Performed { step: id, attempt, result }).await;
        }));
    }
}
