//! Which alerts fire and which are over: what is judged on each tick, against what has fired already.
//!
//! An alert fires when something comes to be so, once; again only after it was over, and not sooner than its `every`. What
//! fired already is read from the fold, so a restart repeats nothing. Only how long a threshold has been crossed so far is
//! kept here, and begins anew with a process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::approval::tally;
use super::dials::covers_ms;
use super::event::{ErrorClass, Event, Evidence};
use super::gate;
use super::state::{RunState, RunStatus, StepStatus};
use crate::domain::alert::{About, Alert, On, Threshold};
use crate::domain::at::{At, brief};
use crate::domain::gauge::Measured;
use crate::domain::plan::{Gate, OnFail, Plan, Step, StepKind};
use crate::domain::run::signal_value;

/// A signal that was measured counts as not measured any more once it has been missing for so long beyond its own staleness,
/// in milliseconds: a window that begins anew with a switch is no news.
const MISSING_MS: i64 = 60_000;

/// Judges the alerts of a config.
#[derive(Debug, Default)]
pub struct AlertWatch {
    alerts: Arc<[Alert]>,
    /// Since when something is so that has not fired for it.
    pending: BTreeMap<(String, About), At>,
    /// Signals that have been measured. One that never was is missing because it is not its time yet.
    measured: BTreeSet<String>,
}

/// Something that is so now.
struct Standing {
    alert: usize,
    about: About,
    text: String,
    /// How long it must have been so, in milliseconds.
    for_ms: i64,
}

/// What is known of a threshold.
enum Crossed {
    Yes,
    No,
    Unknown,
}

impl AlertWatch {
    /// Watches for these alerts.
    #[must_use]
    pub fn new(alerts: Arc<[Alert]>) -> Self {
        Self { alerts, ..Self::default() }
    }

    /// What an earlier process measured last: a signal of it that is missing from now on is news.
    pub fn measured_before(&mut self, plan: &Plan, state: &RunState, measured: &Measured) {
        let known = plan.signals.iter().filter(|s| signal_value(plan, state, measured, s).value.is_some());
        self.measured.extend(known.map(|signal| signal.id.clone()));
    }

    /// Which alerts fire now, and which are over. While a rollback is under way none does: nothing is put in its way.
    pub fn judge(&mut self, plan: &Plan, state: &RunState, measured: &Measured, now: At) -> Vec<Event> {
        if state.status == RunStatus::RollingBack || self.alerts.is_empty() && state.alerts.is_empty() {
            return Vec::new();
        }
        let alerts = Arc::clone(&self.alerts);
        let (mut standing, mut kept) = (Vec::new(), BTreeSet::new());
        for (n, alert) in alerts.iter().enumerate() {
            let mut add = |about, text, for_ms| standing.push(Standing { alert: n, about, text, for_ms });
            for (about, text) in of_the_run(plan, state, alert) {
                add(about, text, 0);
            }
            for threshold in &alert.thresholds {
                let of = |about: fn(String) -> About| about(threshold.text.clone());
                let (crossed, missing) = (of(crossed), of(missing));
                // Once nobody measures any more, nothing is known to be over either.
                if state.is_final() || state.status == RunStatus::Stuck {
                    kept.extend([(alert.id.clone(), crossed), (alert.id.clone(), missing)]);
                    continue;
                }
                match self.judge_threshold(plan, state, measured, threshold) {
                    (Crossed::Yes, value) => add(crossed, format!("{}: it is {value}.", threshold.text), alert.for_ms),
                    (Crossed::No, _) => {}
                    (Crossed::Unknown, value) => {
                        kept.insert((alert.id.clone(), crossed));
                        if let Some(grace) = self.missing_after(plan, threshold) {
                            let text = format!("{}: nobody knows any more, it is {value}.", threshold.text);
                            add(missing, text, alert.for_ms + grace);
                        }
                    }
                }
            }
        }
        let mut events = Vec::new();
        for firing in state.alerts.iter().filter(|firing| firing.is_open()) {
            let key = (firing.alert.clone(), firing.about.clone());
            let stands = standing.iter().any(|s| alerts[s.alert].id == key.0 && s.about == key.1);
            if !stands && !kept.contains(&key) {
                events.push(Event::AlertCleared { alert: key.0, about: key.1 });
            }
        }
        let mut pending = BTreeMap::new();
        for Standing { alert, about, text, for_ms } in standing {
            let alert = &alerts[alert];
            let last = state.firing(&alert.id, &about);
            if last.is_some_and(|firing| firing.is_open()) {
                continue;
            }
            let key = (alert.id.clone(), about);
            let since = self.pending.get(&key).copied().unwrap_or(now);
            let soon = last.is_some_and(|firing| now.since(firing.fired) < alert.every_ms);
            if now.since(since) < for_ms || soon {
                pending.insert(key, since);
                continue;
            }
            let places = alert.places.iter().map(|place| place.name.clone()).collect();
            events.push(Event::AlertFired { alert: key.0, about: key.1, text, places });
        }
        self.pending = pending;
        events
    }

    fn judge_threshold(
        &mut self,
        plan: &Plan,
        state: &RunState,
        measured: &Measured,
        threshold: &Threshold,
    ) -> (Crossed, String) {
        // A gate and an alert ask the same function: what does not count for one does not for the other.
        let alone = Gate {
            id: String::new(),
            title: String::new(),
            criteria: vec![threshold.criterion.clone()],
            hold_ms: 0,
            give_up_ms: None,
            on_fail: OnFail::Hold,
        };
        let judged = gate::judge(plan, state, measured, &alone);
        let value = judged.evidence.first().map_or_else(|| "?".to_owned(), |evidence| evidence.value.clone());
        let crossed = match (judged.met, judged.contradicted) {
            (true, _) => Crossed::Yes,
            (false, true) => Crossed::No,
            (false, false) => Crossed::Unknown,
        };
        if !matches!(crossed, Crossed::Unknown) {
            self.measured.insert(threshold.criterion.signal.clone());
        }
        (crossed, value)
    }

    /// How long a signal may be missing before that is news, in milliseconds; `None` for one that was never measured.
    fn missing_after(&self, plan: &Plan, threshold: &Threshold) -> Option<i64> {
        let signal = plan.signals.iter().find(|s| s.id == threshold.criterion.signal)?;
        let known = self.measured.contains(&signal.id);
        known.then(|| MISSING_MS + signal.stale_ms.min(MISSING_MS).max(covers_ms(&signal.source).unwrap_or(0)))
    }
}

const fn crossed(criterion: String) -> About {
    About::Threshold { criterion }
}

const fn missing(criterion: String) -> About {
    About::Unmeasured { criterion }
}

/// What of the run is so that this alert is for, each in a sentence.
fn of_the_run(plan: &Plan, state: &RunState, alert: &Alert) -> Vec<(About, String)> {
    let mut all = Vec::new();
    for on in &alert.on {
        match on {
            On::Waiting => all.extend(waiting(plan, state)),
            On::Failed => all.extend(failed(plan, state)),
            On::RolledBack if state.status == RunStatus::RolledBack => {
                let took = state.rollback.as_ref().and_then(|r| r.took_ms).map_or_else(|| "?".to_owned(), brief);
                all.push((About::RolledBack, format!("rolled back in {took}: everything stands on the old side.")));
            }
            On::Finished if state.status == RunStatus::Finished => {
                all.push((About::Finished, "finished: every step is done.".to_owned()));
            }
            On::Gate => all.extend(gates(plan, state, alert.on.contains(&On::Failed))),
            On::RolledBack | On::Finished => {}
        }
    }
    all
}

/// The current step, while the run goes forward.
fn current<'p>(plan: &'p Plan, state: &RunState) -> Option<(usize, &'p Step)> {
    let going = matches!(state.status, RunStatus::Prepared | RunStatus::Running);
    let at = state.current().filter(|_| going)?;
    Some((at, plan.steps.get(at)?))
}

fn waiting(plan: &Plan, state: &RunState) -> Option<(About, String)> {
    let (at, step) = current(plan, state)?;
    let found = state.step(&step.id)?;
    let why = match found.status {
        StepStatus::Held => found.held.clone().unwrap_or_else(|| "for a person".to_owned()),
        StepStatus::Running => {
            let StepKind::GoNoGo { gates, .. } = &step.kind else { return None };
            let met = |id: &String| state.gates.get(id).is_some_and(|gate| gate.met_since.is_some());
            let votes = tally(plan, state, &step.id);
            if votes.is_go() || !gates.iter().all(met) {
                return None;
            }
            match votes.no_go.first() {
                Some(vote) => format!("{} votes no-go", vote.by.name()),
                None => format!("the votes of {} are missing", votes.missing.join(", ")),
            }
        }
        StepStatus::Todo
        | StepStatus::Ready
        | StepStatus::Done
        | StepStatus::Skipped
        | StepStatus::Failed
        | StepStatus::Unknown => return None,
    };
    let text = format!("step {} {} waits: {why}.", at + 1, step.title);
    Some((About::Waiting { step: step.id.clone() }, text))
}

fn failed(plan: &Plan, state: &RunState) -> Vec<(About, String)> {
    let mut all = Vec::new();
    if let Some((at, step)) = current(plan, state)
        && let Some(found) = state.step(&step.id).filter(|found| found.status == StepStatus::Failed)
    {
        let why = found.error.as_ref().map_or_else(|| "?".to_owned(), |e| format!("{}. {}", e.message, e.advice));
        let text = format!("step {} {} failed: {}", at + 1, step.title, why.trim_end());
        all.push((About::Failed { step: step.id.clone() }, text));
    }
    if state.status == RunStatus::Stuck {
        let what = state.rollback.as_ref().map(|r| r.stuck.join("; ")).unwrap_or_default();
        all.push((About::Stuck, format!("the rollback is stuck, a person is needed: {what}")));
    }
    for (what, why) in &state.left_behind {
        all.push((About::LeftBehind { what: what.clone() }, format!("{what} was not cleared away: {why}")));
    }
    all
}

/// Gates of the current step that were met and are not any more; and one that gave up, unless the alert is told of every
/// step that fails anyway.
fn gates(plan: &Plan, state: &RunState, failures: bool) -> Vec<(About, String)> {
    let Some((_, step)) = current(plan, state) else { return Vec::new() };
    let Some(found) = state.step(&step.id) else { return Vec::new() };
    let ids = step.kind.gates();
    let unmet = ids.iter().filter_map(|id| Some((id, state.gates.get(id)?))).filter(|(_, g)| g.met_since.is_none());
    match found.status {
        // What was only begun anew has no evidence against it.
        StepStatus::Running => unmet
            .filter(|(_, gate)| gate.broken_seq > 0 && !gate.evidence.is_empty())
            .map(|(id, gate)| {
                let against: Vec<Evidence> = gate.evidence.iter().filter(|e| !e.good).cloned().collect();
                let text = format!("gate {id} is broken: {}.", Evidence::line(&against));
                (About::Gate { gate: id.clone() }, text)
            })
            .collect(),
        StepStatus::Failed if !failures => {
            let gave_up = found.error.as_ref().filter(|e| e.class == ErrorClass::Gate);
            let about = ids.first().map(|id| About::Gate { gate: id.clone() });
            about.zip(gave_up).map(|(about, e)| (about, format!("{}. {}", e.message, e.advice))).into_iter().collect()
        }
        StepStatus::Todo
        | StepStatus::Ready
        | StepStatus::Held
        | StepStatus::Done
        | StepStatus::Skipped
        | StepStatus::Failed
        | StepStatus::Unknown => Vec::new(),
    }
}
