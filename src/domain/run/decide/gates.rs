//! Gates and go/no-go steps while they run.

use super::Draft;
use crate::domain::at::{At, brief};
use crate::domain::gauge::{Measured, ReverseState};
use crate::domain::plan::{Gate, OnFail, Step, StepKind};
use crate::domain::run::approval::{tally, vote_evidence};
use crate::domain::run::event::{Actor, Cause, ErrorClass, Event, Evidence, Level, StepError};
use crate::domain::run::gate;
use crate::domain::run::state::{RunStatus, StepStatus};
use crate::domain::run::step_back::step_back;

/// A reverse flow that was not seen to work for this long counts as down, in milliseconds.
const REVERSE_STALE_MS: i64 = 15_000;

/// Held time is written down at least this often, so that a restart costs no more of it.
const KEEP_EVERY_MS: i64 = 300_000;

impl Draft<'_> {
    /// Judges the current step if it is a running gate or go/no-go.
    pub(super) fn judge_gates(&mut self, measured: &Measured) {
        if self.state.status != RunStatus::Running {
            return;
        }
        let Some(step) = self.current().cloned() else { return };
        if self.state.step(&step.id).is_none_or(|s| s.status != StepStatus::Running) {
            return;
        }
        if !matches!(step.kind, StepKind::Gate { .. } | StepKind::GoNoGo { .. }) {
            return;
        }
        let ids = step.kind.gates();
        let gates: Vec<Gate> = ids.iter().filter_map(|id| self.plan.gate(id)).cloned().collect();
        // A name the plan does not know is a gate that cannot be met.
        let mut met = gates.len() == ids.len();
        let (mut evidence, mut until) = (Vec::new(), None::<(String, At)>);
        for gate in &gates {
            let left = self.judge_gate(gate, measured, &mut evidence);
            met &= left == Some(0);
            if let Some(left) = left.filter(|left| *left > 0) {
                let at = self.now.plus(left);
                if until.as_ref().is_none_or(|(_, until)| at > *until) {
                    until = Some((format!("{} to hold", gate.title), at));
                }
            }
        }
        if matches!(step.kind, StepKind::GoNoGo { .. }) {
            let tally = tally(self.plan, &self.state, &step.id);
            let go = tally.is_go();
            evidence.extend(vote_evidence(&tally, measured.at));
            if met && !go {
                let missing: Vec<String> = tally.missing.iter().map(|v| (*v).to_owned()).collect();
                self.vote_as_answered(&step.id, &missing);
                // Waiting for people is waiting on the wall clock.
                return;
            }
        }
        if met {
            self.done(&step.id, evidence);
            return;
        }
        let holding = gates.iter().all(|g| self.state.gates.get(&g.id).is_some_and(|g| g.met_since.is_some()));
        match until.filter(|_| holding) {
            Some(waiting) => self.out.waiting = Some(waiting),
            None if !holding => self.give_up(&step, &gates, &evidence, measured),
            None => {}
        }
    }

    /// States what changed about a gate. Gives the milliseconds it still has to hold; `None` when it is not met.
    fn judge_gate(&mut self, gate: &Gate, measured: &Measured, evidence: &mut Vec<Evidence>) -> Option<i64> {
        let judged = gate::judge(self.plan, &self.state, measured, gate);
        let before = self.state.gates.get(&gate.id).cloned().unwrap_or_default();
        let id = || gate.id.clone();
        match (judged.met, before.met_since) {
            (true, None) => self.emit(Event::GateMet { gate: id(), evidence: judged.evidence.clone() }),
            (true, Some(since)) if gate.hold_ms > 0 => {
                let every = (gate.hold_ms / 10).clamp(1_000, KEEP_EVERY_MS);
                let held_ms = before.held(self.now);
                if self.now.since(since) >= every && held_ms < gate.hold_ms {
                    self.emit(Event::GateHeld { gate: id(), held_ms });
                }
            }
            (false, Some(_)) => self.emit(Event::GateBroken { gate: id(), evidence: judged.evidence.clone() }),
            // After a restart nothing is measured yet: that neither counts nor breaks. A bad value breaks.
            (false, None) if before.held_ms > 0 && judged.contradicted => {
                self.emit(Event::GateBroken { gate: id(), evidence: judged.evidence.clone() });
            }
            _ => {}
        }
        evidence.extend(judged.evidence);
        let now = self.state.gates.get(&gate.id).filter(|g| g.met_since.is_some())?;
        let held = now.held(self.now);
        if gate.hold_ms > 0 {
            let gap = match now.unwatched_ms {
                0 => String::new(),
                ms => format!(", not counting {} unwatched", brief(ms)),
            };
            evidence.push(Evidence {
                name: format!("{} held", gate.id),
                value: format!("{} of {}{gap}", brief(held.min(gate.hold_ms)), brief(gate.hold_ms)),
                at: measured.at,
                source: "time watched without a break".to_owned(),
                good: held >= gate.hold_ms,
            });
        }
        Some((gate.hold_ms - held).max(0))
    }

    fn give_up(&mut self, step: &Step, gates: &[Gate], evidence: &[Evidence], measured: &Measured) {
        let started = self.state.step(&step.id).and_then(|s| s.attempt_started).unwrap_or(self.now);
        let over = |gate: &&Gate| {
            let unmet = self.state.gates.get(&gate.id).is_none_or(|g| g.met_since.is_none());
            unmet && gate.give_up_ms.is_some_and(|ms| self.now.since(started) >= ms)
        };
        let Some(gate) = gates.iter().find(over) else { return };
        let broken: Vec<&str> = evidence.iter().filter(|e| !e.good).map(|e| e.name.as_str()).collect();
        let error = StepError {
            class: ErrorClass::Gate,
            message: format!("gate {} was not met in time: {}", gate.id, broken.join(", ")),
            advice: "look at the evidence, then try again or roll back".to_owned(),
        };
        self.emit(Event::StepFailed { step: step.id.clone(), error });
        match gate.on_fail {
            OnFail::Hold => return,
            OnFail::StepBack => return self.step_back_by_itself(&gate.id),
            OnFail::RollBack => {}
        }
        // Once customers write on the new side, an automatic rollback must lose nothing.
        let carried = match measured.reverse.state {
            ReverseState::Off | ReverseState::NotReady { .. } => measured.at_risk == Some(0),
            _ => measured.reverse.healthy(measured.at, REVERSE_STALE_MS),
        };
        let free = self.state.frozen(self.plan) || self.state.decided.is_none() || carried;
        if free {
            self.roll_back(Actor::Auto, Cause::Automatic { step: step.id.clone() });
        } else {
            let risk = measured.at_risk.map_or_else(|| "?".to_owned(), |n| n.to_string());
            self.emit(Event::Note {
                level: Level::Error,
                source: "gate".to_owned(),
                text: format!(
                    "{} failed; not rolling back by itself: {risk} writes on the new side would stay behind",
                    gate.id
                ),
            });
        }
    }

    /// Takes back what switched last. Somebody lets it go forward again.
    fn step_back_by_itself(&mut self, gate: &str) {
        let (level, text, step) = match step_back(self.plan, &self.state) {
            Ok(last) => {
                (Level::Warn, format!("{gate} was not met: {} is taken back by itself", last.id), Some(last.id.clone()))
            }
            Err(why) => (Level::Error, format!("{gate} failed; nothing is taken back by itself: {why}"), None),
        };
        self.emit(Event::Note { level, source: "gate".to_owned(), text });
        if let Some(step) = step {
            self.emit(Event::StepBackOrdered { step, by: Actor::Auto });
            self.advance();
        }
    }

    /// A hold counts from the step's own start: not from another step's use of the same gate, and not from an attempt
    /// that ended. Only a step that was cut off by the end of its process keeps what was held.
    pub(super) fn start_gates(&mut self, gates: &[String], cut_off: bool) {
        for id in gates {
            let begun = self.state.gates.get(id).is_some_and(|g| g.met_since.is_some() || g.held_ms > 0);
            if begun && !cut_off {
                self.emit(Event::GateBroken { gate: id.clone(), evidence: Vec::new() });
            }
        }
    }
}
