//! `cutover audit`: the state of the record, and who did what when.

use std::io::{self, Write};

use super::offline::Plans;
use super::words::{action_words, words};
use crate::domain::plan::Plan;
use crate::domain::run::{Actor, Event, Fact, OutcomeResult};
use crate::journal::{Audit, AuditedFile, Damage, RunFolder};

/// One thing that was done.
struct Deed<'f> {
    fact: &'f Fact,
    who: String,
    what: String,
}

/// Writes an audit for people. `head` is a hash that was asked for, and whether it was found.
///
/// # Errors
/// What the writer said.
pub fn audit_text(
    folder: &RunFolder,
    audit: &Audit,
    head: Option<(&str, bool)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let files = if audit.files.len() == 1 { "file" } else { "files" };
    writeln!(out, "run {}, {} facts in {} {files}", folder.id(), audit.record.facts.len(), audit.files.len())?;
    for file in &audit.files {
        writeln!(out, "  {}  {}", name(folder, &file.path), file_words(file))?;
        if let Some(torn) = &file.torn {
            let text = "the mark of a crash: it was never acknowledged, so it never happened";
            writeln!(out, "    line {} is torn, {} bytes: {text}", torn.line, torn.bytes)?;
        }
    }
    writeln!(out)?;
    for deed in deeds(folder, audit) {
        writeln!(out, "#{:<5} {}  {:<24} {}", deed.fact.seq, deed.fact.at.date_clock(), deed.who, deed.what)?;
    }
    if !audit.findings.is_empty() {
        writeln!(out, "what follows the damage is not listed: nothing after it is believed")?;
    }
    writeln!(out)?;
    for finding in &audit.findings {
        writeln!(out, "FOUND  {}{}: {}", name(folder, &finding.path), place(finding), finding.what)?;
    }
    match head {
        Some((hash, true)) => writeln!(out, "head {hash} is part of the chain: nothing before it was sealed again")?,
        Some((hash, false)) => writeln!(out, "FOUND  head {hash} is in no file: the record was sealed again or cut")?,
        None => {}
    }
    writeln!(out, "{}", verdict(audit, head))
}

/// Writes an audit for programs.
///
/// # Errors
/// What the writer said.
pub fn audit_json(
    folder: &RunFolder,
    audit: &Audit,
    head: Option<(&str, bool)>,
    out: &mut impl Write,
) -> io::Result<()> {
    let files: Vec<_> = audit
        .files
        .iter()
        .map(|f| {
            serde_json::json!({
                "file": name(folder, &f.path), "facts": f.facts, "bytes": f.bytes, "head": f.head,
                "format": f.header.as_ref().map(|h| h.format), "tool": f.header.as_ref().map(|h| &h.tool),
                "operator": f.header.as_ref().map(|h| &h.operator), "host": f.header.as_ref().map(|h| &h.host),
                "holder": f.header.as_ref().and_then(|h| h.holder.as_ref()),
                "torn": f.torn.as_ref().map(|t| serde_json::json!({ "line": t.line, "bytes": t.bytes, "why": t.why })),
            })
        })
        .collect();
    let findings: Vec<_> = audit
        .findings
        .iter()
        .map(|f| {
            serde_json::json!({
                "file": name(folder, &f.path), "line": f.line, "from": f.from, "to": f.to, "byte": f.byte,
                "fact": f.fact, "what": f.what,
            })
        })
        .collect();
    let deeds: Vec<_> = deeds(folder, audit)
        .iter()
        .map(|d| {
            serde_json::json!({
                "seq": d.fact.seq, "at": d.fact.at, "type": d.fact.event.name(), "who": d.who, "what": d.what,
            })
        })
        .collect();
    let whole = audit.findings.is_empty() && head.is_none_or(|(_, held)| held);
    let text = serde_json::json!({
        "run": folder.id(), "intact": whole, "ended": audit.ended, "facts": audit.record.facts.len(),
        "head": head.map(|(hash, held)| serde_json::json!({ "hash": hash, "held": held })),
        "files": files, "findings": findings, "deeds": deeds,
    });
    serde_json::to_writer_pretty(&mut *out, &text)?;
    out.write_all(b"\n")
}

fn file_words(file: &AuditedFile) -> String {
    let made = match &file.header {
        Some(h) => {
            let kept = h.holder.as_ref().map(|h| format!(" (process {h})")).unwrap_or_default();
            format!("by {}@{}{kept}, format {}.{}", h.operator, h.host, h.format.major, h.format.minor)
        }
        None => "by ?".to_owned(),
    };
    format!("{} facts, {} bytes, {made}, head {}", file.facts, file.bytes, file.head)
}

fn name(folder: &RunFolder, path: &std::path::Path) -> String {
    path.strip_prefix(folder.path()).unwrap_or(path).display().to_string()
}

/// `, line 7, bytes 1024 to 1400`
fn place(f: &Damage) -> String {
    f.line.map_or_else(String::new, |line| format!(", line {line}, bytes {} to {}", f.from, f.to))
}

fn verdict(audit: &Audit, head: Option<(&str, bool)>) -> String {
    let found = audit.findings.len() + usize::from(head.is_some_and(|(_, held)| !held));
    let torn = audit.files.iter().filter(|f| f.torn.is_some()).count();
    match (found, audit.ended) {
        (0, _) if torn > 0 => "intact, after a crash: only a last line was not wholly written".to_owned(),
        (0, true) => "intact: every byte is as it was written, and the run has ended".to_owned(),
        (0, false) => "intact as far as it goes: the run has not ended. Whole lines missing at the end would look the \
                       same; keep the head elsewhere and ask with --head"
            .to_owned(),
        (1, _) => "NOT INTACT: 1 finding".to_owned(),
        (n, _) => format!("NOT INTACT: {n} findings"),
    }
}

/// Every fact that says that somebody did something or that something was done, with who did it.
fn deeds<'f>(folder: &RunFolder, audit: &'f Audit) -> Vec<Deed<'f>> {
    // Steps are named as the plan of their time does; without it, as the one that can be read.
    let last = std::fs::read(folder.plan()).ok().and_then(|t| serde_json::from_slice::<Plan>(&t).ok());
    let plans = Plans::read(folder, &audit.record).ok().or_else(|| last.map(Plans::one));
    let mut host = String::new();
    let mut all = Vec::new();
    for fact in &audit.record.facts {
        if let Event::RunOpened { host: h, .. } | Event::RunResumed { host: h, .. } = &fact.event {
            host.clone_from(h);
        }
        let Some(who) = who(&fact.event, &host) else { continue };
        let said = plans.as_ref().and_then(|plans| words(plans.at(fact.seq), &fact.event)).map(|w| w.text);
        let what = said.unwrap_or_else(|| machine_words(&fact.event));
        all.push(Deed { fact, who, what });
    }
    all
}

/// What lines for people leave out, and every fact where there is no plan to name steps by.
fn machine_words(event: &Event) -> String {
    match event {
        Event::Intent { action, .. } => action_words(action),
        Event::Outcome { id, result: OutcomeResult::Done { read_back, .. } } => format!("{id} read back: {read_back}."),
        other => other.name().replace('_', " "),
    }
}

/// Who did it, with the host; `None` for facts that only measure.
fn who(event: &Event, host: &str) -> Option<String> {
    let at_host = |name: &str| if name.contains('@') { name.to_owned() } else { format!("{name}@{host}") };
    let by = match event {
        Event::RunOpened { operator, host, .. } | Event::RunResumed { operator, host } => {
            return Some(format!("{operator}@{host}"));
        }
        Event::PlanAmended(amended) => return Some(format!("{}@{}", amended.by.name(), amended.host)),
        Event::RunPaused { by, .. }
        | Event::RunContinued { by }
        | Event::Confirmed { by, .. }
        | Event::StepSkipped { by, .. }
        | Event::StepBackOrdered { by, .. }
        | Event::Decided { by }
        | Event::RollbackOrdered { by, .. } => by,
        // The name is theirs to claim; the rest is what the kernel said.
        Event::Approved { by, .. } | Event::Voted { by, .. } | Event::AlertAcknowledged { by, .. } => {
            return Some(by.name().to_owned());
        }
        Event::StepStarted { .. }
        | Event::StepDone { .. }
        | Event::StepFailed { .. }
        | Event::SteppedBack { .. }
        | Event::Captured { .. }
        | Event::Intent { .. }
        | Event::Outcome { .. }
        | Event::RolledBack { .. }
        | Event::RollbackStuck { .. }
        | Event::AlertFired { .. }
        | Event::AlertTold { .. }
        | Event::RunFinished => &Actor::Auto,
        Event::Note { source, .. } => return Some(source.clone()),
        _ => return None,
    };
    Some(match by {
        Actor::Auto => "auto".to_owned(),
        Actor::Operator(name) | Actor::Terminal(name) => at_host(name),
        // Named by the person who started the console, or by nobody at all: no host saw them.
        Actor::Answered(_) | Actor::StandIn(_) => by.words(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::{Action, MoverOrder};

    #[test]
    fn no_intent_is_left_without_words() {
        let table = || "books".to_owned();
        let actions = [
            Action::SetSwitch { switch: table(), to: "new".to_owned(), position: None },
            Action::RestoreSwitch { switch: table(), version: None },
            Action::ExerciseSwitch { switch: table(), version: Some(1) },
            Action::CreateTable { table: table() },
            Action::MakeAnew { tables: vec![table()] },
            Action::TurnOnExpiry { table: table() },
            Action::EnableStream { table: table() },
            Action::EndCapture { store: table() },
            Action::TellMover { mover: table(), order: MoverOrder::Stop },
            Action::Repair { table: table(), rows: 2, keys: Vec::new() },
            Action::WriteMarker { table: table(), nonce: "n".to_owned() },
        ];
        let sequences = Event::Intent { id: "i".to_owned(), step: None, action: Action::AdvanceSequences };
        assert_eq!(machine_words(&sequences), "moving the target's sequences past the rows.");
        for action in actions {
            let said = machine_words(&Event::Intent { id: "i".to_owned(), step: None, action });
            assert!(said.contains("books") && said.contains(' ') && !said.contains("intent"), "{said}");
        }
        assert_eq!(machine_words(&Event::RunFinished), "run finished");
    }
}
