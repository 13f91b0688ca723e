//! A run without a screen: append-only lines, or one JSON event per line.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, watch};

use super::failure::Failure;
use super::out::say;
use crate::domain::plan::Plan;
use crate::domain::run::{Command, Fact, RunStatus};
use crate::engine::Ending;
use crate::engine::handle::Handle;
use crate::report::{LineReport, event_line};
use crate::snapshot::Snapshot;

/// How lines are written, and when they end.
pub struct Lines {
    /// One JSON event per line.
    pub json: bool,
    /// Say nothing: the terminal is gone.
    pub silent: bool,
    /// The plan, for words.
    pub plan: Arc<Plan>,
    /// The run's main journal: facts that the channel dropped are read again there.
    pub journal: PathBuf,
    /// The last fact that somebody saw already: a screen that was left.
    pub seen: u64,
}

/// Lines on their way out. A writer that is gone (a closed pipe, a dead terminal) must not stop the run, so its errors
/// are dropped.
struct LinePrinter<O: Write> {
    lines: Lines,
    report: LineReport,
    out: O,
    /// The last fact that was printed.
    last: u64,
}

impl<O: Write> LinePrinter<O> {
    fn new(lines: Lines, out: O) -> Self {
        let report = LineReport::new(Arc::clone(&lines.plan));
        let last = lines.seen;
        Self { lines, report, out, last }
    }

    /// Prints a fact, unless it was printed before.
    fn fact(&mut self, fact: &Fact) {
        if fact.seq <= self.last {
            return;
        }
        self.last = fact.seq;
        if !self.lines.silent {
            let (json, out) = (self.lines.json, &mut self.out);
            let _ = if json { event_line(fact, out) } else { self.report.fact(fact, out) };
            let _ = self.out.flush();
        }
    }

    /// Prints facts of the journal that the channel dropped. What is missing there as well is said to be missing.
    fn missed(&mut self) {
        match crate::journal::salvage(&self.lines.journal) {
            Ok((found, _)) => {
                let seen = self.lines.seen;
                for fact in found.facts.iter().filter(|f| f.seq > seen) {
                    self.in_turn(fact);
                }
            }
            Err(e) => say(&format!("warning: facts after fact {} are not told here: {e}", self.last)),
        }
    }

    /// Prints a fact from the channel. Whatever was missed before it comes first.
    fn heard(&mut self, fact: &Fact) {
        if fact.seq > self.last + 1 {
            self.missed();
        }
        self.in_turn(fact);
    }

    fn in_turn(&mut self, fact: &Fact) {
        if fact.seq > self.last + 1 && !self.lines.silent {
            let (from, to) = (self.last + 1, fact.seq - 1);
            say(&format!("warning: facts {from} to {to} are not told here: they are not on disk"));
        }
        self.fact(fact);
    }

    /// Says that the journal cannot be written. It is no fact, so with facts as JSON it goes where errors go.
    fn trouble(&mut self, snapshot: &Snapshot) {
        let Some(text) = self.report.trouble(snapshot).filter(|_| !self.lines.silent) else { return };
        if self.lines.json {
            say(&format!("error: {text}"));
        } else {
            let _ = self.report.error(snapshot.now, &text, &mut self.out);
        }
    }

    /// Everything that is on its way.
    fn rest(&mut self, facts: &mut broadcast::Receiver<Fact>) {
        loop {
            match facts.try_recv() {
                Ok(fact) => self.heard(&fact),
                Err(broadcast::error::TryRecvError::Lagged(_)) => self.missed(),
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => return,
            }
        }
    }
}

/// SIGINT and SIGTERM, which ask for a pause, and SIGHUP, which asks for nothing: the run outlives the terminal.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked_to_stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {}
            }
        }
    }
}

/// Prints the run until it ends, pauses, or is asked to stop twice.
pub async fn print(
    lines: Lines,
    handle: &mut Handle,
    mut facts: broadcast::Receiver<Fact>,
    mut ending: watch::Receiver<Option<Ending>>,
) -> Result<Ending, Failure> {
    let mut signals = Signals::listen()?;
    let mut printer = LinePrinter::new(lines, std::io::stdout());
    let mut asked = false;
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            fact = facts.recv(), if open => match fact {
                Ok(fact) => printer.heard(&fact),
                Err(broadcast::error::RecvError::Lagged(_)) => printer.missed(),
                Err(broadcast::error::RecvError::Closed) => open = false,
            },
            () = signals.asked_to_stop() => {
                if asked {
                    return Ok(Ending::Paused);
                }
                asked = true;
                let answer = match handle.command(Command::Pause) {
                    Ok(answer) => answer.await.unwrap_or(Ok(())),
                    Err(refusal) => Err(refusal),
                };
                if let Err(refusal) = answer {
                    say(&format!("not pausing: {refusal}; once more to leave at once"));
                }
            }
            changed = ending.wait_for(Option::is_some) => {
                let ending = changed.map_or(Ending::Failed, |e| e.unwrap_or(Ending::Failed));
                // Facts still in the channel are printed before the end.
                printer.rest(&mut facts);
                printer.trouble(&handle.snapshot());
                return Ok(ending);
            }
            changed = handle.snapshots.changed() => {
                if changed.is_err() {
                    return Ok(Ending::Failed);
                }
                let snapshot = handle.snapshot();
                printer.trouble(&snapshot);
                if !printer.lines.json && !printer.lines.silent && snapshot.status != RunStatus::Prepared {
                    let _ = printer.report.now(&snapshot, &mut printer.out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::at::At;
    use crate::domain::run::{Event, Level};
    use crate::journal::{Header, JournalWriter, RunFolder};

    #[test]
    fn a_reader_that_is_slow_loses_no_fact() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "trial", At(0)).unwrap();
        let mut journal = JournalWriter::create(&folder, &Header::new("trial", "h", "alice", "b1", At(0))).unwrap();
        let note = |seq: u64| {
            let event = Event::Note { level: Level::Info, source: "load".to_owned(), text: format!("fact {seq}") };
            Fact { seq, at: At(0), event }
        };
        let (told, mut facts) = broadcast::channel(4);
        let mut out = Vec::new();
        let plan = Arc::new(crate::snapshot::fixture::plan());
        let lines = Lines { json: true, silent: false, plan, journal: folder.journal(), seen: 0 };
        let mut printer = LinePrinter::new(lines, &mut out);
        let mut state = |from: u64, to: u64| {
            for seq in from..=to {
                journal.append(&[note(seq)]).unwrap();
                let _ = told.send(note(seq));
            }
        };
        state(1, 3);
        printer.rest(&mut facts);
        // Far more than the channel holds, while nobody reads.
        state(4, 40);
        printer.rest(&mut facts);
        state(41, 42);
        printer.rest(&mut facts);
        let text = String::from_utf8(out).unwrap();
        let seqs: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap())
            .collect();
        assert_eq!(seqs, (1..=42).collect::<Vec<_>>());
    }
}
