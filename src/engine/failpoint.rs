//! Places where a test kills the process: right after a named fact is durable, before its effect.
//!
//! `CUTOVER_FAILPOINT=step_started:load`, `intent:switch/reads/1`, `outcome:…`, `rollback_ordered`, ... A star at
//! the end stands for any rest: `intent:undo/*`. The process ends as `kill -9` ends it: nothing is flushed, dropped
//! or said. Places around calls of the ports have names of their own: `before:target.apply` (`cli::failing`), and so
//! have places between files that are written one after the other: `amend:kept`.

use crate::domain::run::{Event, Fact};

/// Dies if one of these facts is the one the environment names.
pub fn after(facts: &[Fact]) {
    let Ok(wanted) = std::env::var("CUTOVER_FAILPOINT") else { return };
    if facts.iter().any(|fact| matches(&wanted, &name(&fact.event))) {
        die();
    }
}

/// Dies if this is the place the environment names.
pub fn at(place: &str) {
    if std::env::var("CUTOVER_FAILPOINT").is_ok_and(|wanted| wanted == place) {
        die();
    }
}

/// Never returns if this is the place the environment names in `CUTOVER_HANG`, as a write to a disk that hangs.
pub fn hang(place: &str) {
    while std::env::var("CUTOVER_HANG").is_ok_and(|wanted| wanted == place) {
        std::thread::park();
    }
}

/// Ends this process as `kill -9` does.
pub fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

fn matches(wanted: &str, name: &str) -> bool {
    wanted.strip_suffix('*').map_or(name == wanted, |beginning| name.starts_with(beginning))
}

/// The fact's name with what distinguishes it from others of its type.
#[must_use]
pub fn name(event: &Event) -> String {
    let detail = match event {
        Event::StepStarted { step, .. }
        | Event::StepDone { step, .. }
        | Event::StepFailed { step, .. }
        | Event::StepHeld { step, .. }
        | Event::Confirmed { step, .. } => step,
        Event::Intent { id, .. } | Event::Outcome { id, .. } => id,
        Event::CarriedBack { table, .. }
        | Event::TableLoaded { table, .. }
        | Event::CaptureStarted { table, .. }
        | Event::Verified { table, .. } => table,
        Event::Captured { switch, .. } => switch,
        Event::BaselineTaken { signal, .. } => signal,
        Event::GateMet { gate, .. } | Event::GateBroken { gate, .. } => gate,
        other => return other.name().to_owned(),
    };
    format!("{}:{detail}", event.name())
}
