//! A fact in words: one short sentence or two, for people who read lines or listen to them.

use std::collections::BTreeMap;

use crate::domain::alert::Told;
use crate::domain::at::brief;
use crate::domain::plan::Plan;
use crate::domain::run::{Action, Cause, Event, Evidence, Level, MoverOrder, OutcomeResult, Vote};
use crate::snapshot::acknowledged_words;
use crate::snapshot::words::step_words;

/// A fact in words, and how serious it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// How serious.
    pub level: Level,
    /// What it says, without time; no line break.
    pub text: String,
}

/// Puts an event into words. `None` for facts that only matter to the machine.
#[must_use]
pub fn words(plan: &Plan, event: &Event) -> Option<Words> {
    let text = match event {
        Event::RunOpened { run, plan: name, plan_hash, environment, operator, host, t0, steps, callers, .. } => {
            let signed: String = callers.iter().map(|(store, caller)| format!(" {store}: {caller}.")).collect();
            format!(
                "run {run} opened. plan {name} {}, environment {environment}, {} steps, T-0 {}. {operator} on \
                 {host}.{signed}",
                plan_hash.get(..12).unwrap_or(plan_hash),
                steps.len(),
                t0.date_clock()
            )
        }
        Event::RunResumed { operator, host } => format!("run resumed. {operator} on {host}."),
        Event::RunPaused { by, reason } => format!("paused by {}. {reason}", by.words()),
        Event::RunContinued { by } => format!("going on, asked by {}.", by.words()),
        Event::StepHeld { step, reason } => format!("{} waits. {reason}", named(plan, step)),
        Event::Confirmed { step, by } => format!("{} confirmed by {}.", named(plan, step), by.words()),
        Event::Approved { step, by, origin, note, .. } => {
            let note = note.as_ref().map(|n| format!(" {}", closed(n))).unwrap_or_default();
            format!("{} approved by {}, from {}.{note}", named(plan, step), by.name(), origin.words())
        }
        Event::Voted { step, by, vote, origin, note, .. } => {
            let level = if *vote == Vote::NoGo { Level::Warn } else { Level::Info };
            let note = note.as_ref().map(|n| format!(" {}", closed(n))).unwrap_or_default();
            let votes = format!("{} votes {}, from {}.{note}", by.name(), vote.name(), origin.words());
            return words_at(level, &format!("{} {votes}", named(plan, step)));
        }
        Event::StepStarted { step, attempt: 1 } => format!("{} started.", named(plan, step)),
        Event::StepStarted { step, attempt } => format!("{} started again, attempt {attempt}.", named(plan, step)),
        Event::StepDone { step, evidence } => format!("{} done.{}", named(plan, step), shown(evidence)),
        Event::StepFailed { step, error } => {
            let text = format!("{} failed. {} {}", named(plan, step), closed(&error.message), error.advice);
            return words_at(Level::Error, &text);
        }
        Event::StepSkipped { step, by } => {
            return words_at(Level::Warn, &format!("{} left out by {}.", named(plan, step), by.words()));
        }
        Event::Captured { switch, version, value, .. } => {
            let value = value.as_deref().unwrap_or("***");
            let version = version.map(|v| format!(", version {v}")).unwrap_or_default();
            format!("switch {switch} captured: {value}{version}.")
        }
        // Markers go out again and again; their round trip is measured, but no line is printed for it.
        Event::Intent { action: Action::WriteMarker { .. }, .. } => return None,
        Event::Intent { action, .. } => action_words(action),
        Event::Outcome { id, result } => match result {
            OutcomeResult::Done { .. } if id.starts_with("marker") => return None,
            OutcomeResult::Done { read_back, .. } => format!("{id} read back: {read_back}."),
            OutcomeResult::Failed { error } => return words_at(Level::Error, &format!("{id} failed. {error}")),
            OutcomeResult::Unknown { error } => {
                return words_at(Level::Warn, &format!("{id}: nobody knows. {error}"));
            }
        },
        Event::StepBackOrdered { step, by } => format!("step {step}: taken back by {}.", by.words()),
        Event::SteppedBack { step, .. } => {
            format!("step {step} is taken back: what it moved stands where it stood before.")
        }
        Event::Decided { by } => format!("decided by {}. from here only finish or roll back.", by.words()),
        Event::CaptureStarted { table, positions, .. } => {
            let s = if positions.len() == 1 { "" } else { "s" };
            format!("capture of {table} started, from {} position{s}.", positions.len())
        }
        Event::TableLoaded { table, rows, parked, took_ms } => {
            format!("{table} loaded. {rows} rows in {}, {}.", brief(*took_ms), parked_words(parked))
        }
        Event::Verified { table, summary } => {
            let level = if summary.differing() == 0 { Level::Info } else { Level::Warn };
            let text = format!(
                "{table} compared. {} equal, {} missing, {} extra, {} mismatched, {} parked, {} expired, in {}.",
                summary.equal,
                summary.missing,
                summary.extra,
                summary.mismatched,
                summary.parked,
                summary.expired,
                brief(summary.took_ms)
            );
            return words_at(level, &text);
        }
        Event::BaselineTaken { signal, baseline } => format!("baseline of {signal}: {}.", baseline.words("")),
        Event::GateMet { gate, evidence } => format!("gate {gate} criteria hold.{}", shown(evidence)),
        // Written for a restart; the line report says where things stand every thirty seconds.
        Event::GateHeld { .. } => return None,
        Event::GateBroken { gate, evidence } => {
            return words_at(Level::Warn, &format!("gate {gate} broken.{}", shown(evidence)));
        }
        Event::WritesRefused { .. } => "writes are refused. the downtime clock runs.".to_owned(),
        Event::WritesAccepted { downtime_ms, .. } => {
            let length = downtime_ms.map_or_else(String::new, |ms| format!(" downtime {}.", brief(ms)));
            format!("writes are accepted again.{length}")
        }
        Event::RollbackOrdered { by, cause } => {
            return words_at(Level::Warn, &format!("rollback ordered by {}. {}", by.words(), cause_words(cause)));
        }
        Event::RolledBack { took_ms, evidence } => {
            format!("rolled back in {}.{}", brief(*took_ms), shown(evidence))
        }
        Event::RollbackStuck { what } => {
            return words_at(Level::Error, &format!("rollback is stuck. {}", what.join(" ")));
        }
        Event::CarriedBack { table, carried, merged, conflicts, left, keys } => {
            let also = format!("{merged} merged, {conflicts} changed by both sides");
            match left {
                Some(0) => format!("{table} carried back {carried} keys, {also}, none left."),
                left => {
                    let left = left.map_or_else(|| "?".to_owned(), |n| n.to_string());
                    let keys =
                        if keys.is_empty() { String::new() } else { format!(" first keys {}.", keys.join(", ")) };
                    let text = format!("{table} carried back {carried} keys, {also}, {left} writes NOT carried.{keys}");
                    return words_at(Level::Error, &text);
                }
            }
        }
        Event::ReverseConflicts { table, count, keys, kept } => {
            let text = format!(
                "{table} {count} keys changed by both sides, the {kept} side's value stays. keys {}.",
                keys.join(", ")
            );
            return words_at(Level::Warn, &text);
        }
        Event::StrayWrites { table, count, keys } => {
            let text = format!(
                "{table} on the old side was written {count} times by somebody else. keys {}.",
                keys.join(", ")
            );
            return words_at(Level::Error, &text);
        }
        Event::ClockStepped { by_ms, seen } => {
            return words_at(Level::Warn, &format!("{}.", step_words(*by_ms, *seen)));
        }
        Event::PlanAmended(amended) => return words_at(Level::Warn, &format!("plan amended, {}.", amended.words())),
        Event::AlertFired { alert, about, text, .. } => {
            let level = if about.is_bad() { Level::Error } else { Level::Warn };
            return words_at(level, &format!("ALERT {alert}: {text}"));
        }
        Event::AlertTold { alert, place, result, .. } => {
            let level = if matches!(result, Told::Failed { .. }) { Level::Warn } else { Level::Info };
            return words_at(level, &format!("alert {alert}, {place}: {}", closed(&result.words())));
        }
        Event::AlertCleared { alert, about } => format!("alert {alert} is over: {}", closed(&about.words())),
        Event::AlertAcknowledged { alert, about, by, origin, note } => {
            let text = acknowledged_words(alert, about, by, origin.as_ref(), note.as_deref());
            format!("alert {}", closed(&text))
        }
        Event::RunFinished => "run finished.".to_owned(),
        Event::Note { level, source, text } => return words_at(*level, &format!("{source} {text}")),
    };
    words_at(Level::Info, &text)
}

/// What is about to be done, for every action: an audit leaves none out.
pub(super) fn action_words(action: &Action) -> String {
    match action {
        Action::SetSwitch { switch, position: Some(position), .. } => {
            format!("setting switch {switch} to position {position}.")
        }
        Action::SetSwitch { switch, to, position: None } => format!("setting switch {switch} to {to}."),
        Action::RestoreSwitch { switch, .. } => format!("putting switch {switch} back."),
        Action::ExerciseSwitch { switch, .. } => format!("writing the value of switch {switch} over itself."),
        Action::CreateTable { table } => format!("creating what table {table} needs in the target."),
        Action::MakeAnew { tables } => format!("dropping and making again {}, with all they held.", tables.join(", ")),
        Action::TurnOnExpiry { table } => format!("turning on the expiry of {table} in the target."),
        Action::EnableStream { table } => format!("turning the change log of {table} on."),
        Action::EndCapture { store } => format!("ending capture at the store {store}."),
        Action::TellMover { mover, order: MoverOrder::Prepare } => format!("making the mover {mover}."),
        Action::TellMover { mover, order: MoverOrder::Start } => format!("letting the mover {mover} work."),
        Action::TellMover { mover, order: MoverOrder::Pause } => format!("letting the mover {mover} rest."),
        Action::TellMover { mover, order: MoverOrder::Stop } => format!("stopping the mover {mover}."),
        Action::TellMover { mover, order: MoverOrder::Remove } => {
            format!("removing the mover {mover} from both sides.")
        }
        Action::Repair { table, rows, .. } => format!("writing {rows} rows of {table} again from the source."),
        Action::AdvanceSequences => "moving the target's sequences past the rows.".to_owned(),
        Action::BeginJob { job, undo: false, .. } => format!("beginning job {job}."),
        Action::BeginJob { job, undo: true, .. } => format!("beginning job {job} on the way back."),
        Action::CancelJob { job } => format!("ending job {job} before its time."),
        Action::WriteMarker { table, .. } => format!("writing a marker to {table} at the source."),
    }
}

/// `12 parked: no price 10, bad date 2`; `none parked`.
pub(super) fn parked_words(parked: &BTreeMap<String, u64>) -> String {
    let whole: u64 = parked.values().sum();
    if whole == 0 {
        return "none parked".to_owned();
    }
    let reasons: Vec<String> = parked.iter().map(|(why, n)| format!("{why} {n}")).collect();
    format!("{whole} parked: {}", reasons.join(", "))
}

/// Why a run was rolled back.
pub(super) fn cause_words(cause: &Cause) -> String {
    match cause {
        Cause::Asked => "asked for.".to_owned(),
        Cause::Cancel { step } => format!("step {step} failed before the decision."),
        Cause::Automatic { step } => format!("step {step} gave up."),
    }
}

fn words_at(level: Level, text: &str) -> Option<Words> {
    // What came from outside may hold line breaks; a line report has one line per fact.
    let text = text.split(|c: char| c.is_control()).filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ");
    Some(Words { level, text: text.trim_end().to_owned() })
}

fn named(plan: &Plan, step: &str) -> String {
    match plan.step_index(step).and_then(|i| Some((i, plan.steps.get(i)?))) {
        Some((i, s)) => format!("step {} of {}, {},", i + 1, plan.steps.len(), s.title),
        None => format!("step {step}"),
    }
}

fn shown(evidence: &[Evidence]) -> String {
    if evidence.is_empty() { String::new() } else { format!(" {}.", Evidence::line(evidence)) }
}

fn closed(sentence: &str) -> String {
    let sentence = sentence.trim_end();
    if sentence.ends_with(['.', '!', '?']) { sentence.to_owned() } else { format!("{sentence}.") }
}
