//! Folding facts into state. The one list of legal transitions, used live, on recovery and in replay.

use super::action::{Action, MoverOrder};
use super::alerts;
use super::amend;
use super::approval::{Approval, Ballot};
use super::clock_step;
use super::event::{Event, Fact, OutcomeResult};
use super::jobs;
use super::state::{
    GateState, RollbackState, RunState, RunStatus, StepBackState, StepState, StepStatus, SwitchState, SwitchStatus,
};
use crate::domain::at::At;

/// A fact that cannot follow the state it met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fact #{seq} ({what}) cannot follow: {why}")]
pub struct IllegalTransition {
    /// The fact's position.
    pub seq: u64,
    /// Its type.
    pub what: String,
    /// Why it is illegal.
    pub why: String,
}

/// Folds one fact into the state. An illegal fact leaves the state as it was.
pub fn apply(state: &mut RunState, fact: &Fact) -> Result<(), IllegalTransition> {
    let illegal = |why: String| IllegalTransition { seq: fact.seq, what: fact.event.name().to_owned(), why };
    if fact.seq != state.last_seq + 1 {
        return Err(illegal(format!("position {} was expected", state.last_seq + 1)));
    }
    legal(state, &fact.event).map_err(illegal)?;
    fold(state, &fact.event, fact.at, fact.seq);
    state.last_seq = fact.seq;
    Ok(())
}

/// Whether an event may follow the state, and if not, why not.
pub fn legal(state: &RunState, event: &Event) -> Result<(), String> {
    let opened = state.last_seq > 0;
    match event {
        Event::RunOpened { .. } => allow(!opened, "the run is open already"),
        _ if !opened => Err("the run was never opened".to_owned()),
        Event::RunResumed { .. } | Event::Note { .. } => Ok(()),
        // Who was told what stays true whatever the run does.
        Event::AlertFired { .. }
        | Event::AlertTold { .. }
        | Event::AlertCleared { .. }
        | Event::AlertAcknowledged { .. } => Ok(()),
        // A console that was slow to answer and the terminal that would not wait for it may both roll back. Each
        // records what it did, and the two records are merged: a second order and a second end are true as well.
        Event::RollbackOrdered { .. } => Ok(()),
        Event::RolledBack { .. } | Event::RollbackStuck { .. } => rolled_back_state(state),
        // Somebody else's newer read-back of the same place may have answered it already.
        Event::Outcome { id, .. } => allow(state.used_intents.contains(id), &format!("there was no intent {id}")),
        Event::Intent { id, step, action } => {
            allow(!state.used_intents.contains(id), &format!("intent {id} was used before"))?;
            match step {
                // Asked for by a person at any time, but not against a rollback that is under way.
                None if matches!(action, Action::Repair { .. }) => {
                    allow(state.status != RunStatus::RollingBack, "a rollback is under way")
                }
                // Once everything is over.
                None if matches!(action, Action::EndCapture { .. }) => {
                    allow(state.is_final() || state.status == RunStatus::RollingBack, "the run is not over")
                }
                None if matches!(action, Action::TellMover { .. }) => mover_told(state, action),
                Some(step) => {
                    going(state)?;
                    in_status(state, step, &[StepStatus::Running])
                }
                None => rolled_back_state(state),
            }
        }
        Event::PlanAmended(amended) => amend::may_follow(state, amended),
        // What was seen stays true whatever the run does now.
        Event::Captured { .. }
        | Event::CaptureStarted { .. }
        | Event::TableLoaded { .. }
        | Event::Verified { .. }
        | Event::BaselineTaken { .. }
        | Event::WritesRefused { .. }
        | Event::WritesAccepted { .. }
        | Event::CarriedBack { .. }
        | Event::ReverseConflicts { .. }
        | Event::StrayWrites { .. }
        | Event::ClockStepped { .. }
        | Event::GateBroken { .. }
        | Event::GateHeld { .. }
        | Event::GateMet { .. } => Ok(()),
        // A performer may report while the run rolls back.
        Event::StepDone { step, .. } | Event::StepFailed { step, .. } => in_status(state, step, &[StepStatus::Running]),
        Event::StepStarted { step, attempt } => {
            going(state)?;
            let s = find(state, step)?;
            allow(*attempt == s.attempts + 1, &format!("attempt {} was expected", s.attempts + 1))?;
            in_status(
                state,
                step,
                &[StepStatus::Todo, StepStatus::Ready, StepStatus::Held, StepStatus::Failed, StepStatus::Unknown],
            )?;
            is_current(state, step)
        }
        Event::StepHeld { step, .. } => {
            going(state)?;
            let waiting = [StepStatus::Held, StepStatus::Failed, StepStatus::Unknown];
            in_status(state, step, &[&[StepStatus::Todo, StepStatus::Ready], &waiting[..]].concat())?;
            is_current(state, step)
        }
        Event::Approved { step, .. } => {
            going(state)?;
            let s = find(state, step)?;
            allow(s.status != StepStatus::Running, &format!("step {step} runs already"))?;
            is_current(state, step)
        }
        Event::Voted { step, .. } => {
            going(state)?;
            in_status(state, step, &[StepStatus::Running])?;
            is_current(state, step)
        }
        Event::Confirmed { step, .. } => {
            going(state)?;
            in_status(state, step, &[StepStatus::Todo, StepStatus::Held])?;
            is_current(state, step)
        }
        Event::StepSkipped { step, .. } => {
            going(state)?;
            is_current(state, step)
        }
        Event::StepBackOrdered { step, .. } => {
            going(state)?;
            let s = find(state, step)?;
            allow(s.attempts > 0 && s.back.is_none(), &format!("step {step} was not done"))
        }
        Event::SteppedBack { step, .. } => {
            // A worker comes to its end while the run is paused, too; over a rollback it is no news any more.
            let over = matches!(state.status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck);
            allow(!over, "a rollback leads further back")?;
            let s = find(state, step)?;
            allow(s.back.is_some(), &format!("step {step} is not being taken back"))?;
            in_status(state, step, &[StepStatus::Running])
        }
        Event::RunPaused { .. } => {
            allow(matches!(state.status, RunStatus::Prepared | RunStatus::Running), "the run is not going")
        }
        Event::RunContinued { .. } => allow(state.status == RunStatus::Paused, "the run is not paused"),
        Event::Decided { .. } => {
            going(state)?;
            allow(state.decided.is_none(), "the decision was made already")
        }
        Event::RunFinished => {
            going(state)?;
            allow(state.current().is_none(), "not every step is done")
        }
    }
}

/// Whether a mover may be told this beside the steps: to rest and to go on while the run is not over, to end once it is.
fn mover_told(state: &RunState, action: &Action) -> Result<(), String> {
    let over = state.is_final() || state.status == RunStatus::RollingBack;
    match action {
        Action::TellMover { order: MoverOrder::Start | MoverOrder::Pause, .. } => allow(!over, "the run is over"),
        Action::TellMover { order: MoverOrder::Stop | MoverOrder::Remove, .. } => allow(over, "the run is not over"),
        _ => Err("only a step makes a mover".to_owned()),
    }
}

/// Whether a rollback is under way or over.
fn rolled_back_state(state: &RunState) -> Result<(), String> {
    let back = matches!(state.status, RunStatus::RollingBack | RunStatus::RolledBack | RunStatus::Stuck);
    allow(back, "no rollback is under way")
}

fn allow(ok: bool, why: &str) -> Result<(), String> {
    if ok { Ok(()) } else { Err(why.to_owned()) }
}

fn going(state: &RunState) -> Result<(), String> {
    allow(
        matches!(state.status, RunStatus::Prepared | RunStatus::Running),
        &format!("the run does not go forward ({:?})", state.status),
    )
}

fn find<'s>(state: &'s RunState, step: &str) -> Result<&'s StepState, String> {
    state.step(step).ok_or_else(|| format!("there is no step {step}"))
}

fn in_status(state: &RunState, step: &str, wanted: &[StepStatus]) -> Result<(), String> {
    let s = find(state, step)?;
    allow(wanted.contains(&s.status), &format!("step {step} is {:?}", s.status))
}

fn is_current(state: &RunState, step: &str) -> Result<(), String> {
    let current = state.current().and_then(|i| state.steps.get(i));
    allow(current.is_some_and(|s| s.id == step), &format!("step {step} is not the current one"))
}

fn fold(state: &mut RunState, event: &Event, at: At, seq: u64) {
    match event {
        Event::RunOpened { run, plan, plan_hash, environment, operator, host, t0, steps, callers, version: _ } => {
            *state = RunState {
                run: run.clone(),
                plan: plan.clone(),
                plan_hash: plan_hash.clone(),
                environment: environment.clone(),
                operator: operator.clone(),
                host: host.clone(),
                callers: callers.clone(),
                t0: *t0,
                opened: at,
                steps: steps.iter().map(|id| StepState { id: id.clone(), ..StepState::default() }).collect(),
                ..RunState::default()
            };
        }
        Event::ClockStepped { by_ms, seen } => clock_step::fold(state, *by_ms, *seen, at),
        Event::RunResumed { operator, host } => {
            // This process's clock stands where the wall clock stands now.
            state.clock.stepped = None;
            state.operator.clone_from(operator);
            state.host.clone_from(host);
            state.resumes += 1;
            for step in &mut state.steps {
                if step.status == StepStatus::Running {
                    step.status = StepStatus::Unknown;
                }
            }
            // Nobody knows when its process stopped watching: what was not written down does not count.
            unwatched(state, None);
        }
        Event::RunPaused { .. } => {
            state.status = RunStatus::Paused;
            unwatched(state, Some(at));
        }
        Event::RunContinued { .. } => state.status = RunStatus::Running,
        Event::Decided { .. } => state.decided = Some(at),
        Event::RunFinished => {
            state.status = RunStatus::Finished;
            state.ended = Some(at);
        }
        Event::Note { .. } => {}
        Event::AlertFired { .. }
        | Event::AlertTold { .. }
        | Event::AlertCleared { .. }
        | Event::AlertAcknowledged { .. } => alerts::fold(state, event, at, seq),
        Event::StepHeld { .. }
        | Event::Confirmed { .. }
        | Event::Approved { .. }
        | Event::Voted { .. }
        | Event::StepStarted { .. }
        | Event::StepDone { .. }
        | Event::StepFailed { .. }
        | Event::StepSkipped { .. } => fold_step(state, event, at, seq),
        Event::StepBackOrdered { step, by } => {
            let Some(at) = state.steps.iter().position(|s| s.id == *step) else { return };
            for later in at + 1..state.steps.len() {
                again(&mut state.steps[later]);
                jobs::forgotten(state, &state.steps[later].id.clone());
            }
            let s = &mut state.steps[at];
            again(s);
            s.status = StepStatus::Ready;
            (s.confirmed, s.back) = (Some(by.clone()), Some(by.clone()));
        }
        Event::SteppedBack { step, again: judged, evidence } => {
            let ordered = state.step(step).and_then(|s| s.back.clone());
            for s in state.steps.iter_mut().filter(|s| s.id == *step || judged.contains(&s.id)) {
                let by = s.back.take();
                again(s);
                s.taken_back = by.or(s.taken_back.take());
                if s.id == *step {
                    s.evidence.clone_from(evidence);
                }
            }
            let own = format!("{step}/");
            state.open_intents.retain(|open, _| !open.starts_with(&own));
            state.steps_back.push(StepBackState { step: step.clone(), at, by: ordered });
        }
        Event::Captured { switch, version, value, attributes } => {
            let s = state.switches.entry(switch.clone()).or_default();
            s.captured = true;
            s.captured_version = *version;
            s.captured_value.clone_from(value);
            s.captured_attributes.clone_from(attributes);
            s.read_at = Some(at);
        }
        Event::Intent { id, step, action } => {
            if let Some(s) = switch_of(state, action) {
                s.standing = SwitchStatus::Unknown;
                s.changed_seq = seq;
            }
            jobs::intended(state, step.as_ref(), action);
            state.used_intents.insert(id.clone());
            state.open_intents.insert(id.clone(), action.clone());
        }
        Event::Outcome { id, result } => fold_outcome(state, id, result, at),
        Event::CaptureStarted { table, stream, positions } => {
            let t = state.tables.entry(table.clone()).or_default();
            t.stream = Some(stream.clone());
            t.positions.clone_from(positions);
        }
        Event::TableLoaded { table, rows, parked, .. } => {
            let t = state.tables.entry(table.clone()).or_default();
            t.loaded = Some(*rows);
            t.load_parked.clone_from(parked);
        }
        Event::Verified { table, summary } => {
            state.tables.entry(table.clone()).or_default().verified = Some((at, summary.clone()));
        }
        Event::BaselineTaken { signal, baseline } => drop(state.baselines.insert(signal.clone(), *baseline)),
        Event::GateMet { .. } | Event::GateHeld { .. } | Event::GateBroken { .. } => fold_gate(state, event, at, seq),
        Event::WritesRefused { at: seen } => {
            if state.downtime.refused.is_none() {
                state.downtime.refused = Some(*seen);
            }
        }
        Event::WritesAccepted { at: seen, downtime_ms } => {
            let refused = state.downtime.refused;
            if state.downtime.accepted.is_none() {
                state.downtime.accepted = Some(*seen);
                let between = refused.map(|r| seen.since(r)).filter(|_| !state.clock.gap);
                state.downtime.ms = downtime_ms.or(between);
            }
        }
        Event::CarriedBack { table, carried, merged, conflicts, left, keys } => {
            let r = state.reverse.entry(table.clone()).or_default();
            (r.carried, r.merged, r.conflicts, r.left) = (Some(*carried), *merged, *conflicts, *left);
            r.left_keys.clone_from(keys);
        }
        Event::ReverseConflicts { table, keys, .. } => {
            let r = state.reverse.entry(table.clone()).or_default();
            keep_some(&mut r.conflict_keys, keys);
        }
        Event::StrayWrites { table, count, keys } => {
            let r = state.reverse.entry(table.clone()).or_default();
            r.strays += count;
            keep_some(&mut r.stray_keys, keys);
        }
        Event::PlanAmended(amended) => amend::fold(state, amended, at, seq),
        // The first order stands while the rollback runs.
        Event::RollbackOrdered { .. } if state.status == RunStatus::RollingBack => {}
        Event::RollbackOrdered { by, cause } => {
            state.status = RunStatus::RollingBack;
            state.ended = None;
            state.rollback = Some(RollbackState {
                ordered: at,
                by: by.clone(),
                cause: cause.clone(),
                ended: None,
                took_ms: None,
                evidence: Vec::new(),
                stuck: Vec::new(),
            });
        }
        Event::RolledBack { took_ms, evidence } => {
            state.status = RunStatus::RolledBack;
            state.ended = Some(at);
            if let Some(r) = &mut state.rollback {
                r.ended = Some(at);
                r.took_ms = Some(*took_ms);
                r.evidence.clone_from(evidence);
            }
        }
        Event::RollbackStuck { what } => {
            state.status = RunStatus::Stuck;
            if let Some(r) = &mut state.rollback {
                r.stuck.clone_from(what);
            }
        }
    }
}

/// Keys listed at most in the state; the journal has more.
const KEYS: usize = 50;

/// Adds keys that are not listed yet.
fn keep_some(kept: &mut Vec<String>, keys: &[String]) {
    for key in keys {
        if kept.len() < KEYS && !kept.contains(key) {
            kept.push(key.clone());
        }
    }
}

fn fold_gate(state: &mut RunState, event: &Event, at: At, seq: u64) {
    let (Event::GateMet { gate, .. } | Event::GateHeld { gate, .. } | Event::GateBroken { gate, .. }) = event else {
        return;
    };
    let g = state.gates.entry(gate.clone()).or_default();
    match event {
        Event::GateMet { evidence, .. } => {
            if let Some(left) = g.left.take().filter(|_| g.held_ms > 0) {
                g.unwatched_ms += at.since(left).max(0);
            }
            g.met_since = g.met_since.or(Some(at));
            g.evidence.clone_from(evidence);
        }
        Event::GateHeld { held_ms, .. } => {
            g.held_ms = *held_ms;
            g.met_since = Some(at);
        }
        Event::GateBroken { evidence, .. } => {
            *g = GateState { evidence: evidence.clone(), broken_seq: seq, ..GateState::default() };
        }
        _ => {}
    }
}

/// Nobody watches from `at` on. Time that was watched stays held, time that nobody watched does not count; without
/// `at`, what was last written down is all that is known to have been watched.
fn unwatched(state: &mut RunState, at: Option<At>) {
    for gate in state.gates.values_mut() {
        let Some(since) = gate.met_since.take() else { continue };
        gate.held_ms += at.map_or(0, |at| at.since(since).max(0));
        gate.left = Some(at.unwrap_or(since));
    }
}

fn fold_step(state: &mut RunState, event: &Event, at: At, seq: u64) {
    let id = match event {
        Event::StepHeld { step, .. }
        | Event::Confirmed { step, .. }
        | Event::Approved { step, .. }
        | Event::Voted { step, .. }
        | Event::StepStarted { step, .. }
        | Event::StepDone { step, .. }
        | Event::StepFailed { step, .. }
        | Event::StepSkipped { step, .. } => step,
        _ => return,
    };
    let going = state.status == RunStatus::Prepared;
    let Some(s) = state.steps.iter_mut().find(|s| s.id == *id) else { return };
    match event {
        Event::StepHeld { reason, .. } => {
            s.status = StepStatus::Held;
            s.held = Some(reason.clone());
        }
        Event::Confirmed { by, .. } => {
            s.status = StepStatus::Ready;
            s.confirmed = Some(by.clone());
            s.held = None;
        }
        Event::Approved { by, origin, basis, note, .. } => s.approvals.push(Approval {
            by: by.clone(),
            at,
            origin: origin.clone(),
            basis: basis.clone(),
            note: note.clone(),
        }),
        Event::Voted { by, vote, origin, basis, note, .. } => s.votes.push(Ballot {
            by: by.clone(),
            vote: *vote,
            at,
            seq,
            origin: origin.clone(),
            basis: basis.clone(),
            note: note.clone(),
        }),
        Event::StepStarted { attempt, .. } => {
            s.status = StepStatus::Running;
            s.attempts = *attempt;
            s.started = s.started.or(Some(at));
            s.attempt_started = Some(at);
            s.ended = None;
            s.error = None;
            s.held = None;
            if going {
                state.status = RunStatus::Running;
            }
        }
        Event::StepDone { evidence, .. } => {
            s.status = StepStatus::Done;
            (s.taken_back, s.again) = (None, false);
            s.ended = Some(at);
            s.evidence.clone_from(evidence);
            // A step is done when all it did is read back, whatever became of an attempt whose process died.
            let own = format!("{id}/");
            state.open_intents.retain(|open, _| !open.starts_with(&own));
        }
        Event::StepFailed { error, .. } => {
            s.status = StepStatus::Failed;
            s.ended = Some(at);
            s.error = Some(error.clone());
        }
        Event::StepSkipped { .. } => {
            s.status = StepStatus::Skipped;
            s.ended = Some(at);
        }
        _ => {}
    }
}

/// A step that is to be done again: its attempts stay counted, what was said and proven of it does not hold any more, and
/// it begins when it begins again.
fn again(s: &mut StepState) {
    *s = StepState {
        id: std::mem::take(&mut s.id),
        attempts: s.attempts,
        approvals: std::mem::take(&mut s.approvals),
        votes: std::mem::take(&mut s.votes),
        again: s.again || s.attempts > 0,
        taken_back: s.taken_back.take(),
        ..StepState::default()
    };
}

fn switch_of<'s>(state: &'s mut RunState, action: &Action) -> Option<&'s mut SwitchState> {
    match action {
        Action::SetSwitch { switch, .. }
        | Action::RestoreSwitch { switch, .. }
        | Action::ExerciseSwitch { switch, .. } => Some(state.switches.entry(switch.clone()).or_default()),
        _ => None,
    }
}

/// The switch an action is about.
fn place(action: &Action) -> Option<&str> {
    match action {
        Action::SetSwitch { switch, .. }
        | Action::RestoreSwitch { switch, .. }
        | Action::ExerciseSwitch { switch, .. } => Some(switch),
        _ => None,
    }
}

/// Keeps what could not be cleared away at the end, until it is.
fn left_behind(state: &mut RunState, what: String, result: &OutcomeResult, then: &str) {
    match result {
        OutcomeResult::Done { .. } => drop(state.left_behind.remove(&what)),
        OutcomeResult::Failed { error } | OutcomeResult::Unknown { error } => {
            state.left_behind.insert(what, format!("{error}; {then}"));
        }
    }
}

fn fold_outcome(state: &mut RunState, id: &str, result: &OutcomeResult, at: At) {
    let Some(action) = state.open_intents.remove(id) else { return };
    jobs::turned_out(state, &action, result);
    let (reached, position) = match &action {
        Action::SetSwitch { position, .. } => (SwitchStatus::New, position.clone()),
        Action::RestoreSwitch { .. } => (SwitchStatus::Restored, None),
        Action::ExerciseSwitch { .. } => (SwitchStatus::Old, None),
        Action::EndCapture { store } => {
            let what = format!("the store {store} may still keep its log for this run, and its disk fills");
            let then = "once it answers, drop the replication slot there whose name begins with cutover_";
            return left_behind(state, what, result, then);
        }
        Action::TellMover { order: MoverOrder::Remove, mover } => {
            let what = format!("{mover} is not known to be removed from both sides");
            return left_behind(state, what, result, "once they answer, see docs/movers.md");
        }
        _ => return,
    };
    let mut closes = false;
    let Some(s) = switch_of(state, &action) else { return };
    match result {
        OutcomeResult::Done { read_back, version } => {
            s.standing = reached;
            match (&position, version) {
                (Some(position), Some(version)) => drop(s.versions.insert(position.clone(), *version)),
                (Some(position), None) => drop(s.versions.remove(position)),
                (None, _) => {}
            }
            s.position = position;
            closes = true;
            s.read_back = Some(read_back.clone());
            s.version = *version;
            s.read_at = Some(at);
        }
        // A value that was to be written over itself and still stands there is what it was.
        OutcomeResult::Failed { .. } if reached == SwitchStatus::Old => {
            s.standing = reached;
            closes = true;
        }
        // The value was read and is not the one that was to be set: it may be anything, so it stays unknown.
        OutcomeResult::Failed { .. } | OutcomeResult::Unknown { .. } => s.standing = SwitchStatus::Unknown,
    }
    // What was read back settles every older intent of the same place: it belongs to a process that died.
    if closes {
        state.open_intents.retain(|_, open| place(open) != place(&action));
    }
}
