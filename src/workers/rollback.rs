//! The rollback: captured values restored, wave by wave, each read back (FEATURES C7).
//!
//! Runs on the engine's rollback thread, or in another process. It never waits for a fact to be durable.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::context::{CapturedValue, CapturedValues};
use super::trouble::evidence;
use super::undo_jobs::{TellJob, UndoJobs};
use crate::domain::at::At;
use crate::domain::plan::{Plan, Probe, Purpose, Switch};
use crate::domain::run::{
    Action, Attributes, Event, Evidence, Level, OutcomeResult, RestoreAction, RollbackPlan, UndoJob,
};
use crate::domain::secret::Secret;
use crate::ports::{Clock, ErrorKind, Jobs, PortError, PortResult, ProbeOutcome, Probes, SwitchValue, Switches};

/// Attempts at one action before a person is needed.
const ATTEMPTS: u32 = 5;
/// Longest one call may take. A store that hangs costs one attempt, not the rollback.
const CALL: Duration = Duration::from_secs(4);
/// No attempt at an action begins later than this: the thaw behind it must not wait for a place that hangs.
const ACTION: Duration = Duration::from_secs(12);
/// Looks at a place that cannot be written, and the pause before each.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(100);
/// How long the write probe is watched after the thaw; its result is reported, and nothing waits for it.
const WATCH: Duration = Duration::from_secs(10);

/// Where the rollback records what it does. Must not block.
pub trait FactSink: Send + Sync {
    /// States a fact without waiting for it.
    fn send(&self, event: Event);
}

/// What a rollback did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RollbackReport {
    /// From the start to the last read-back, in milliseconds.
    pub took_ms: i64,
    /// What was read back.
    pub evidence: Vec<Evidence>,
    /// What could not be restored, with what to do by hand. Empty when all is well.
    pub stuck: Vec<String>,
    /// The same of jobs, which are undone once: another pass over the switches says nothing of them.
    pub jobs: JobsUndone,
}

/// What became of the jobs that a rollback undid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobsUndone {
    /// By job: what was read back, or what to do by hand.
    pub all: BTreeMap<String, Result<Evidence, String>>,
}

impl JobsUndone {
    /// Both; of a job that was undone twice the later word counts.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.all.extend(later.all);
        self
    }

    /// What was read back, and what to do by hand.
    #[must_use]
    pub fn parted(self) -> (Vec<Evidence>, Vec<String>) {
        let (mut evidence, mut stuck) = (Vec::new(), Vec::new());
        for result in self.all.into_values() {
            match result {
                Ok(line) => evidence.push(line),
                Err(by_hand) => stuck.push(by_hand),
            }
        }
        (evidence, stuck)
    }
}

impl RollbackReport {
    fn take(&mut self, results: Vec<Result<Evidence, String>>) {
        for result in results {
            match result {
                Ok(found) => self.evidence.push(found),
                Err(by_hand) => self.stuck.push(by_hand),
            }
        }
    }

    /// With what became of jobs among the rest.
    #[must_use]
    pub fn whole(mut self) -> Self {
        let (evidence, stuck) = std::mem::take(&mut self.jobs).parted();
        self.evidence.extend(evidence);
        self.stuck.extend(stuck);
        self
    }
}

/// What stands at a place that is back.
struct Stands {
    version: Option<i64>,
    /// The store calls it a secret.
    secret: bool,
    /// Why what the place keeps beside the value could not be read.
    unread: Option<String>,
}

/// Judges a place whose value is restored: with another key or type it is not, but what cannot be read delays nothing.
fn stands(now: &SwitchValue, wanted: &Attributes, found: PortResult<Attributes>) -> Result<Stands, String> {
    let stands = Stands { version: now.version, secret: now.secret, unread: None };
    match found {
        Err(e) => Ok(Stands { unread: Some(e.came_back), ..stands }),
        Ok(found) => match wanted.differences(&found) {
            wrong if wrong.is_empty() => Ok(stands),
            wrong => Err(format!("its value is back, but {}", wrong.join(", "))),
        },
    }
}

/// What the rollback works with.
pub struct Rollback<'u> {
    /// The plan.
    pub plan: &'u Plan,
    /// Reads and writes switches.
    pub switches: &'u dyn Switches,
    /// Sends the write probe after the thaw.
    pub probes: &'u dyn Probes,
    /// This machine's time.
    pub clock: Arc<dyn Clock>,
    /// Values in memory, if this process captured them.
    pub captured: &'u CapturedValues,
    /// Where facts go.
    pub facts: &'u dyn FactSink,
    /// Makes intent ids unique: the pass, from 1, and who makes it.
    pub pass: String,
    /// The run's id.
    pub run: &'u str,
    /// Begins jobs once more, or undoes them.
    pub jobs: &'u dyn Jobs,
    /// Where it is told how far those are.
    pub tell: TellJob<'u>,
}

impl Rollback<'_> {
    /// Rolls back. Actions of a wave run at the same time; a failing one never keeps another from running, and the thaw
    /// runs whatever happened: customers must not stay locked out because one switch is stuck.
    pub async fn go(&self, way: &RollbackPlan) -> RollbackReport {
        let began = Instant::now();
        let mut report = RollbackReport::default();
        for refused in join_all(way.freeze.iter().map(|id| self.freeze(id))).await {
            report.evidence.extend(refused);
        }
        let (thaw, traffic): (Vec<_>, Vec<_>) = way.waves.iter().partition(|wave| wave.iter().any(|a| a.thaw));
        for wave in traffic {
            report.take(join_all(wave.iter().map(|action| self.one(action))).await);
        }
        let restarts = |undo: &&UndoJob| self.plan.job(&undo.job).is_none_or(|j| j.purpose() == Purpose::Restart);
        let (restarts, commands): (Vec<_>, Vec<_>) = way.jobs.iter().partition(restarts);
        // Applications that read a value when they start go on with the new side's until they are started once more: writes
        // are not allowed again before they have been, or cannot be. No customer waits for a command.
        let back = async {
            let jobs = self.undo_jobs(&restarts).await;
            let mut all = Vec::new();
            for wave in &thaw {
                all.extend(join_all(wave.iter().map(|action| self.one(action))).await);
            }
            if !thaw.is_empty() {
                self.watch_thaw().await;
            }
            (jobs, all)
        };
        let ((jobs, thawed), commands) = futures::future::join(back, self.undo_jobs(&commands)).await;
        report.take(thawed);
        report.jobs = jobs.and(commands);
        report.took_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        report
    }

    /// Refuses writes again; where it cannot be had the rollback goes on, and both sides may take writes for a while: keys that are
    /// written on both are conflicts, which are counted and named.
    async fn freeze(&self, id: &str) -> Option<Evidence> {
        let switch = self.plan.switch(id)?;
        let intent = format!("undo/{}/freeze-{id}", self.pass);
        let to = switch.to_label();
        let action = Action::SetSwitch { switch: id.to_owned(), to: to.clone(), position: None };
        self.facts.send(Event::Intent { id: intent.clone(), step: None, action });
        let set = self.frozen(switch).await;
        let result = match &set {
            Ok(version) => OutcomeResult::Done { read_back: to.clone(), version: *version },
            Err(e) => OutcomeResult::Unknown { error: e.to_string() },
        };
        self.facts.send(Event::Outcome { id: intent, result });
        if let Err(e) = set {
            let text = format!("writes are not refused while applications are restarted: {e}");
            self.facts.send(Event::Note { level: Level::Error, source: "rollback".to_owned(), text });
            return None;
        }
        Some(evidence(format!("writes refused by {id}"), to, self.clock.wall(), switch.place()))
    }

    async fn frozen(&self, switch: &Switch) -> PortResult<Option<i64>> {
        let value = limited("resolve", switch, self.switches.resolve(&switch.to, &switch.control)).await?.value;
        let attributes = match self.captured.get(&switch.id) {
            Some(kept) => kept.attributes,
            None => limited("read type and key of", switch, self.switches.attributes(switch, None)).await?,
        };
        limited("set", switch, self.switches.set(switch, &value, &attributes)).await?;
        let now = limited("read back", switch, self.switches.read(switch)).await?;
        if now.value == value {
            return Ok(now.version);
        }
        Err(PortError::new(ErrorKind::Conflict, "set", switch.place(), "it does not read back as set"))
    }

    async fn undo_jobs(&self, jobs: &[&UndoJob]) -> JobsUndone {
        let undo = UndoJobs {
            plan: self.plan,
            run: self.run,
            jobs: self.jobs,
            clock: Arc::clone(&self.clock),
            facts: self.facts,
            tell: self.tell,
            pass: self.pass.clone(),
        };
        JobsUndone { all: undo.go(jobs).await }
    }

    async fn one(&self, action: &RestoreAction) -> Result<Evidence, String> {
        let Some(switch) = self.plan.switch(&action.switch) else {
            return Err(format!("{}: the plan does not name this switch; restore it by hand", action.switch));
        };
        let id = format!("undo/{}/{}", self.pass, switch.id);
        let what = Action::RestoreSwitch { switch: switch.id.clone(), version: action.version };
        self.facts.send(Event::Intent { id: id.clone(), step: None, action: what });
        let result = self.restore(switch, action).await;
        let outcome = match &result {
            Ok((shown, version)) => OutcomeResult::Done { read_back: shown.clone(), version: *version },
            Err(error) => OutcomeResult::Unknown { error: error.clone() },
        };
        self.facts.send(Event::Outcome { id, result: outcome });
        match result {
            Ok((shown, _)) => {
                Ok(evidence(format!("read-back {}", switch.id), shown, self.clock.wall(), switch.place()))
            }
            Err(error) => Err(by_hand(switch, action, &error)),
        }
    }

    /// Restores the captured value; gives what may be shown of it, and the version now.
    async fn restore(&self, switch: &Switch, action: &RestoreAction) -> Result<(String, Option<i64>), String> {
        let mut last = String::new();
        let began = Instant::now();
        for attempt in 1..=ATTEMPTS {
            if began.elapsed() > ACTION {
                break;
            }
            match self.attempt(switch, action).await {
                Ok(Stands { version, secret, unread }) => {
                    let mut shown = match (&action.value, version, action.version) {
                        (Some(value), ..) if !switch.secret() && !secret => value.clone(),
                        (_, Some(now), Some(captured)) => format!("version {now}, same as version {captured}"),
                        (_, Some(now), None) => format!("version {now}"),
                        _ => "***".to_owned(),
                    };
                    if let Some(why) = unread {
                        shown.push_str(&format!("; type and key were not read back: {why}"));
                    }
                    return Ok((shown, version));
                }
                Err((text, again)) => {
                    last = text;
                    if !again {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50 << attempt)).await;
                }
            }
        }
        Err(last)
    }

    async fn attempt(&self, switch: &Switch, action: &RestoreAction) -> Result<Stands, (String, bool)> {
        let port = |e: PortError| (e.to_string(), e.kind.transient());
        let value = self.value(switch, action).await.map_err(port)?;
        let Some(CapturedValue { value, attributes }) = value else {
            return Err(("nothing was captured for it".to_owned(), false));
        };
        // What stands there already is not written again; reading costs a round trip, a lost race would cost more.
        if let Ok(now) = limited("read", switch, self.switches.read(switch)).await
            && now.value == value
            && is_newer(&now, action)
            && let Ok(stands) = stands(&now, &attributes, self.beside(switch, &attributes).await)
        {
            return Ok(stands);
        }
        if let Err(refused) = limited("set", switch, self.switches.set(switch, &value, &attributes)).await {
            if refused.kind.transient() {
                return Err(port(refused));
            }
            // Perhaps it never left that value, and the right to write was what was missing from the beginning.
            return self.never_left(switch, action, &value, &attributes).await.ok_or_else(|| port(refused));
        }
        let read = limited("read back", switch, self.switches.read(switch));
        let (now, beside) = futures::future::join(read, self.beside(switch, &attributes)).await;
        let now = now.map_err(port)?;
        if now.value != value {
            return Err(("it does not read back as set".to_owned(), true));
        }
        stands(&now, &attributes, beside).map_err(|wrong| (wrong, true))
    }

    /// What stands at a place that cannot be written, if it is the captured value at every one of some looks: one alone may
    /// be answered from an older copy.
    async fn never_left(
        &self,
        switch: &Switch,
        action: &RestoreAction,
        value: &Secret,
        attributes: &Attributes,
    ) -> Option<Stands> {
        let mut last = None;
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK).await;
            let now = limited("read", switch, self.switches.read(switch)).await.ok()?;
            let older = now.version.zip(action.seen).is_some_and(|(now, seen)| now < seen);
            if now.value != *value || older {
                return None;
            }
            last = Some(now);
        }
        stands(&last?, attributes, self.beside(switch, attributes).await).ok()
    }

    /// What the place keeps beside its value now, if anything was captured of it.
    async fn beside(&self, switch: &Switch, wanted: &Attributes) -> PortResult<Attributes> {
        if wanted.is_empty() {
            return Ok(Attributes::default());
        }
        limited("read type and key of", switch, self.switches.attributes(switch, None)).await
    }

    /// From memory, from the journal when it is no secret, or from the place's history.
    async fn value(&self, switch: &Switch, action: &RestoreAction) -> Result<Option<CapturedValue>, PortError> {
        let kept = match (self.captured.get(&switch.id), &action.value, action.version) {
            (Some(kept), ..) => kept,
            (None, Some(value), _) => {
                CapturedValue { value: Secret::new(value), attributes: action.attributes.clone() }
            }
            (None, None, Some(version)) => {
                let read = self.switches.read_version(switch, version);
                let value = limited("read the history of", switch, read).await?.value;
                CapturedValue { value, attributes: action.attributes.clone() }
            }
            (None, None, None) => return Ok(None),
        };
        if !kept.attributes.is_empty() || action.version.is_none() {
            return Ok(Some(kept));
        }
        // A run that an older version of this program opened: the history may still have it.
        let asked = self.switches.attributes(switch, action.version);
        let attributes = limited("read the history of", switch, asked).await.unwrap_or_default();
        Ok(Some(CapturedValue { attributes, ..kept }))
    }

    /// Records when writes are accepted again.
    async fn watch_thaw(&self) {
        let mut refused: Vec<&Probe> = self.plan.freeze_probes().collect();
        if refused.is_empty() {
            return;
        }
        let began = Instant::now();
        while began.elapsed() < WATCH {
            let asked = join_all(refused.iter().map(|probe| self.probes.probe(probe))).await;
            let mut answers = asked.into_iter();
            refused.retain(|_| answers.next().is_none_or(|answer| answer.outcome != ProbeOutcome::Served));
            if refused.is_empty() {
                let at: At = self.clock.wall();
                self.facts.send(Event::WritesAccepted { at, downtime_ms: None });
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether an answer can be later than everything the record knows of the place. Places without versions answer as they
/// are.
fn is_newer(now: &SwitchValue, action: &RestoreAction) -> bool {
    now.version.is_none_or(|now| action.seen.is_some_and(|seen| now > seen))
}

/// A call with a time limit.
async fn limited<T>(tried: &str, switch: &Switch, call: impl Future<Output = PortResult<T>>) -> PortResult<T> {
    match tokio::time::timeout(CALL, call).await {
        Ok(answer) => answer,
        Err(_) => Err(PortError::new(
            ErrorKind::TimedOut,
            tried,
            switch.place(),
            format!("no answer in {} s", CALL.as_secs()),
        )),
    }
}

fn by_hand(switch: &Switch, action: &RestoreAction, error: &str) -> String {
    let mut to = match (&action.value, action.version) {
        (Some(value), _) if !switch.secret() => format!("to {value}"),
        (_, Some(version)) => format!("to the value of version {version}"),
        _ => "to what it was before the freeze".to_owned(),
    };
    if !action.attributes.is_empty() {
        to.push_str(&format!(" ({})", action.attributes.words()));
    }
    format!("{} was not restored ({error}); set {} {to} by hand, then run rollback again", switch.id, switch.place())
}
