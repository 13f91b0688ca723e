//! Log rows from facts: each event in words, routine ones folded.

use super::LogRow;
use super::alerts::acknowledged_words;
use super::words::{brief_list, grouped, minutes, step_words, with_unit};
use crate::domain::alert::Told;
use crate::domain::at::brief;
use crate::domain::run::{Action, Cause, Event, Evidence, Fact, Level, MoverOrder, OutcomeResult, Vote};

/// Most rows a snapshot holds.
const MOST: usize = 300;

pub(super) fn log_rows(facts: &[Fact]) -> Vec<LogRow> {
    let mut rows: Vec<LogRow> = Vec::new();
    let mut repeats = 1_u32;
    let mut last_intent: Option<(&str, &Action)> = None;
    // Folding needs some slack: several facts can become one row.
    let from = facts.len().saturating_sub(MOST * 4);
    for fact in &facts[from..] {
        let mut row = row(fact, last_intent);
        if let (Event::Outcome { id, result: OutcomeResult::Done { .. } }, Some((intent, _))) =
            (&fact.event, last_intent)
            && id == intent
        {
            // The outcome says all that the intent said.
            rows.pop();
        }
        last_intent = match &fact.event {
            Event::Intent { id, action, .. } => Some((id, action)),
            _ => None,
        };
        match rows.last_mut() {
            Some(last) if same(last, &row, repeats) => {
                repeats += 1;
                row.text = format!("{}  x{repeats}", row.text);
                *last = row;
            }
            _ => {
                repeats = 1;
                rows.push(row);
            }
        }
    }
    rows.drain(..rows.len().saturating_sub(MOST));
    rows
}

fn same(last: &LogRow, row: &LogRow, repeats: u32) -> bool {
    let text = if repeats > 1 { last.text.strip_suffix(&format!("  x{repeats}")) } else { Some(last.text.as_str()) };
    last.level == row.level && last.source == row.source && text == Some(row.text.as_str())
}

fn row(fact: &Fact, intent: Option<(&str, &Action)>) -> LogRow {
    let (level, source, text) = words(&fact.event, intent);
    LogRow { at: fact.at, level, source, text, seq: fact.seq }
}

/// What a mover is told, in words.
const fn mover_words(order: MoverOrder) -> &'static str {
    match order {
        MoverOrder::Prepare => "be ready",
        MoverOrder::Start => "work",
        MoverOrder::Pause => "rest",
        MoverOrder::Stop => "stop writing",
        MoverOrder::Remove => "go from both sides",
    }
}

fn action_words(action: &Action) -> String {
    match action {
        Action::SetSwitch { switch, position: Some(position), .. } => format!("set {switch} to position {position}"),
        Action::SetSwitch { switch, to, position: None } => format!("set {switch} to {to}"),
        Action::RestoreSwitch { switch, version: Some(v) } => format!("restore {switch} to version {v}"),
        Action::RestoreSwitch { switch, version: None } => format!("restore {switch}"),
        Action::ExerciseSwitch { switch, .. } => format!("write {switch} over itself"),
        Action::CreateTable { table } => format!("create table {table}"),
        Action::MakeAnew { tables } => format!("drop and make again {}", tables.join(", ")),
        Action::TurnOnExpiry { table } => format!("turn on the expiry of {table}"),
        Action::EnableStream { table } => format!("turn on the change log of {table}"),
        Action::EndCapture { store } => format!("end capture at the store {store}"),
        Action::TellMover { mover, order } => format!("tell {mover} to {}", mover_words(*order)),
        Action::Repair { table, rows, .. } => format!("write {rows} rows of {table} again from the source"),
        Action::AdvanceSequences => "move the target's sequences past the rows".to_owned(),
        Action::BeginJob { job, undo: false, .. } => format!("begin {job}"),
        Action::BeginJob { job, undo: true, .. } => format!("begin {job} on the way back"),
        Action::CancelJob { job } => format!("end {job} before its time"),
        Action::WriteMarker { table, .. } => format!("write a marker to {table}"),
    }
}

fn step(id: &str, text: impl Into<String>) -> (Level, String, String) {
    (Level::Info, "step".to_owned(), format!("{id}: {}", text.into()))
}

fn words(event: &Event, intent: Option<(&str, &Action)>) -> (Level, String, String) {
    let info = |source: &str, text: String| (Level::Info, source.to_owned(), text);
    let warn = |source: &str, text: String| (Level::Warn, source.to_owned(), text);
    let error = |source: &str, text: String| (Level::Error, source.to_owned(), text);
    match event {
        Event::RunOpened { run, plan, environment, operator, host, callers, .. } => {
            let signed: String = callers.iter().map(|(store, caller)| format!("; {store}: {caller}")).collect();
            info("run", format!("{plan} opened on {environment} by {operator}@{host}, run {run}{signed}"))
        }
        Event::RunResumed { operator, host } => warn("run", format!("resumed by {operator}@{host}")),
        Event::RunPaused { by, reason } => warn("run", format!("{} paused: {reason}", by.words())),
        Event::RunContinued { by } => info("run", format!("{} continued", by.words())),
        Event::StepHeld { step: id, reason } => {
            let (_, source, text) = step(id, format!("waits: {reason}"));
            (Level::Warn, source, text)
        }
        Event::Confirmed { step, by } => info("operator", format!("{} confirmed {step}", by.words())),
        Event::Approved { step, by, origin, note, .. } => {
            let note = note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
            info("operator", format!("{} approved {step} from {}{note}", by.name(), origin.words()))
        }
        Event::Voted { step, by, vote, origin, note, .. } => {
            let note = note.as_ref().map(|n| format!(": {n}")).unwrap_or_default();
            let text = format!("{} votes {} on {step} from {}{note}", by.name(), vote.name(), origin.words());
            if *vote == Vote::NoGo { warn("operator", text) } else { info("operator", text) }
        }
        Event::StepStarted { step: id, attempt: 1 } => step(id, "started"),
        Event::StepStarted { step: id, attempt } => step(id, format!("started, attempt {attempt}")),
        Event::StepDone { step: id, evidence } if evidence.is_empty() => step(id, "done"),
        Event::StepDone { step: id, evidence } => step(id, format!("done: {}", Evidence::line(evidence))),
        Event::StepFailed { step, error: e } => error("step", format!("{step}: {}. {}", e.message, e.advice)),
        Event::StepSkipped { step, by } => warn("operator", format!("{} skipped {step}", by.words())),
        Event::Captured { switch, version, value, .. } => {
            let value = value.as_deref().unwrap_or("***");
            let version = version.map(|v| format!(", version {v}")).unwrap_or_default();
            info("switch", format!("{switch} captured: {value}{version}"))
        }
        Event::Intent { action, .. } => info("intent", action_words(action)),
        Event::Outcome { id, result } => {
            let what = match intent {
                Some((intent, action)) if intent == id => action_words(action),
                _ => id.clone(),
            };
            match result {
                OutcomeResult::Done { read_back, version } => {
                    let version = version.map(|v| format!(", version {v}")).unwrap_or_default();
                    info("world", format!("{what}: read back {read_back}{version}"))
                }
                OutcomeResult::Failed { error: e } => error("world", format!("{what}: FAILED, {e}")),
                OutcomeResult::Unknown { error: e } => error("world", format!("{what}: UNKNOWN, {e}")),
            }
        }
        Event::StepBackOrdered { step, by } => warn("step", format!("{step} is being taken back by {}", by.words())),
        Event::SteppedBack { step, .. } => {
            warn("step", format!("{step} taken back: what it moved stands where it stood before"))
        }
        Event::Decided { by } => warn("run", format!("{} decided: from here only finish or roll back", by.words())),
        Event::CaptureStarted { table, positions, .. } => {
            info("capture", format!("{table} captured from {} positions of its change log", positions.len()))
        }
        Event::TableLoaded { table, rows, parked, took_ms } => {
            let parked: u64 = parked.values().sum();
            let text = format!("{table} loaded {} rows in {}", grouped(*rows), brief(*took_ms));
            if parked == 0 { info("load", text) } else { warn("load", format!("{text}, {} parked", grouped(parked))) }
        }
        Event::Verified { table, summary: s } => {
            let text = format!("{table} {} equal in {}", grouped(s.equal), brief(s.took_ms));
            if s.differing() == 0 {
                return info("verify", text);
            }
            let causes: Vec<String> = s.causes.iter().map(|(cause, n)| format!("{cause} {n}")).collect();
            let causes = if causes.is_empty() { String::new() } else { format!(" ({})", brief_list(&causes)) };
            warn(
                "verify",
                format!("{text}: {} missing, {} extra, {} mismatched{causes}", s.missing, s.extra, s.mismatched),
            )
        }
        Event::BaselineTaken { signal, baseline } => info("baseline", format!("{signal} was {}", baseline.words(""))),
        Event::GateMet { gate, evidence } => info("gate", format!("{gate} holds: {}", Evidence::line(evidence))),
        Event::GateHeld { gate, held_ms } => info("gate", format!("{gate} held {}", minutes(*held_ms))),
        Event::GateBroken { gate, evidence } => warn("gate", format!("{gate} reset: {}", Evidence::line(evidence))),
        Event::WritesRefused { .. } => warn("probe", "first write refused: downtime begins".to_owned()),
        Event::WritesAccepted { downtime_ms, .. } => {
            let length = downtime_ms.map_or_else(String::new, |ms| {
                let length = if ms < 60_000 { with_unit(ms as f64 / 1000.0, "s") } else { minutes(ms) };
                format!(", {length}")
            });
            info("probe", format!("first write accepted: downtime ends{length}"))
        }
        Event::RollbackOrdered { by, cause } => {
            let why = match cause {
                Cause::Asked => "asked".to_owned(),
                Cause::Cancel { step } => format!("{step} failed before the decision"),
                Cause::Automatic { step } => format!("{step} gave up"),
            };
            warn("undo", format!("ordered by {}: {why}", by.words()))
        }
        Event::RolledBack { took_ms, evidence } => {
            let read = if evidence.is_empty() { String::new() } else { format!(": {}", Evidence::line(evidence)) };
            info("undo", format!("done in {}{read}", brief(*took_ms)))
        }
        Event::RollbackStuck { what } => error("undo", format!("STUCK: {}", what.join("; "))),
        Event::CarriedBack { table, carried, merged, conflicts, left, keys } => {
            let text =
                format!("{table} {} keys carried back, {merged} merged, {conflicts} conflicts", grouped(*carried));
            match left {
                Some(0) => info("reverse", text),
                left => {
                    let left = left.map_or_else(|| "?".to_owned(), grouped);
                    error("reverse", format!("{text}, {left} NOT carried: {}", brief_list(keys)))
                }
            }
        }
        Event::ReverseConflicts { table, count, keys, kept } => {
            warn("reverse", format!("{table} keys changed by both sides: {count}, {kept} kept: {}", brief_list(keys)))
        }
        Event::StrayWrites { table, count, keys } => error(
            "stray",
            format!("{table} on the old side written {count} times by somebody else: {}", brief_list(keys)),
        ),
        Event::ClockStepped { by_ms, seen } => warn("clock", step_words(*by_ms, *seen)),
        Event::PlanAmended(amended) => warn("plan", format!("amended, {}", amended.words())),
        Event::AlertFired { alert, about, text, .. } => {
            let text = format!("{alert}: {text}");
            if about.is_bad() { error("alert", text) } else { warn("alert", text) }
        }
        Event::AlertTold { alert, place, result, .. } => {
            let text = format!("{alert}, {place}: {}", result.words());
            match result {
                Told::Delivered { .. } => info("alert", text),
                Told::Failed { .. } => warn("alert", text),
            }
        }
        Event::AlertCleared { alert, about } => info("alert", format!("{alert} is over: {}", about.words())),
        Event::AlertAcknowledged { alert, about, by, origin, note } => {
            info("operator", acknowledged_words(alert, about, by, origin.as_ref(), note.as_deref()))
        }
        Event::RunFinished => info("run", "finished".to_owned()),
        Event::Note { level, source, text } => (*level, source.clone(), text.clone()),
    }
}
