//! Append-only lines: the headless run, plain mode, and screen readers.

use std::io::{self, Write};
use std::sync::Arc;

use super::words::words;
use crate::domain::at::{At, brief};
use crate::domain::plan::Plan;
use crate::domain::run::{Fact, Level, Need, RunStatus};
use crate::snapshot::{Health, Snapshot};

/// How often `now.` is said, wall clock.
const NOW_EVERY_MS: i64 = 30_000;

/// Writes a run as lines: each fact worth reporting once, and every thirty seconds where things stand.
#[derive(Debug)]
pub struct LineReport {
    plan: Arc<Plan>,
    last_seq: u64,
    last_now: Option<At>,
    in_trouble: bool,
}

impl LineReport {
    /// A report that has said nothing yet.
    #[must_use]
    pub const fn new(plan: Arc<Plan>) -> Self {
        Self { plan, last_seq: 0, last_now: None, in_trouble: false }
    }

    /// Prints a fact, unless it was printed before.
    ///
    /// # Errors
    /// What the writer said.
    pub fn fact(&mut self, fact: &Fact, out: &mut impl Write) -> io::Result<()> {
        if fact.seq <= self.last_seq {
            return Ok(());
        }
        self.last_seq = fact.seq;
        let Some(words) = words(&self.plan, &fact.event) else { return Ok(()) };
        line(fact.at, words.level, &words.text, out)
    }

    /// Prints the log lines of a snapshot that were not printed before: for a viewer that has no facts.
    ///
    /// # Errors
    /// What the writer said.
    pub fn log(&mut self, snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
        for row in &snapshot.log {
            if row.seq > self.last_seq {
                self.last_seq = row.seq;
                line(row.at, row.level, &format!("{} {}", row.source, row.text), out)?;
            }
        }
        Ok(())
    }

    /// Why the run cannot be recorded, what stands where and what to do: once for each time it begins.
    pub fn trouble(&mut self, snapshot: &Snapshot) -> Option<String> {
        let trouble = snapshot.journal.trouble.as_ref();
        let begins = trouble.is_some() && !std::mem::replace(&mut self.in_trouble, trouble.is_some());
        trouble.filter(|_| begins).map(|t| format!("{}. {}. {}.", t.why, t.stands, t.advice))
    }

    /// Prints an error that is no fact.
    ///
    /// # Errors
    /// What the writer said.
    pub fn error(&self, at: At, text: &str, out: &mut impl Write) -> io::Result<()> {
        line(at, Level::Error, text, out)
    }

    /// Says where things stand, if it was not said in the last thirty seconds.
    ///
    /// # Errors
    /// What the writer said.
    pub fn now(&mut self, snapshot: &Snapshot, out: &mut impl Write) -> io::Result<()> {
        // The wall clock: on a rehearsal the run's clock leaps through planned waits.
        let due = self.last_now.is_none_or(|last| !(0..NOW_EVERY_MS).contains(&snapshot.wall.since(last)));
        if !due || snapshot.steps.is_empty() {
            return Ok(());
        }
        self.last_now = Some(snapshot.wall);
        line(snapshot.now, Level::Info, &format!("now. {}", standing(snapshot)), out)
    }
}

fn line(at: At, level: Level, text: &str, out: &mut impl Write) -> io::Result<()> {
    let word = match level {
        Level::Info => "",
        Level::Warn => "warning. ",
        Level::Error => "error. ",
    };
    writeln!(out, "{} {word}{text}", at.clock())?;
    out.flush()
}

/// Where a run stands, in one line:
/// `step 7 of 18, bulk copy, 63 percent, done about 15:08. verify 3 open. rollback ready.`
pub(super) fn standing(s: &Snapshot) -> String {
    let mut said = vec![match s.status {
        RunStatus::RollingBack => "rolling back".to_owned(),
        RunStatus::RolledBack => "rolled back".to_owned(),
        RunStatus::Stuck => "stuck, needs a person".to_owned(),
        RunStatus::Finished => "finished".to_owned(),
        RunStatus::Prepared | RunStatus::Running | RunStatus::Paused => step(s),
    }];
    if s.status == RunStatus::Paused {
        said.push("paused".to_owned());
    }
    if let Some((what, until)) = &s.waiting {
        said.push(format!("waiting for {what} until {}", until.clock()));
    }
    if let Some(ms) = s.downtime_running_ms {
        let places = match s.frozen_places {
            (some, all) if some < all && all > 1 => format!(" in {some} of {all} places"),
            _ => String::new(),
        };
        said.push(format!("writes refused for {} of {}{places}", brief(ms), brief(s.downtime_budget_ms)));
    }
    for lamp in &s.lamps {
        let speaks = matches!(lamp.health, Health::Unknown | Health::Watch | Health::Warn | Health::Fail);
        if speaks && lamp.word != "ROLLBACK" {
            let text = if lamp.text.is_empty() { "?" } else { &lamp.text };
            said.push(format!("{} {text}", lamp.word.to_lowercase()));
        }
    }
    if matches!(s.status, RunStatus::RolledBack | RunStatus::Finished) {
        return said.join(". ") + ".";
    }
    said.push(match s.rollback.health {
        Health::Ok => "rollback ready".to_owned(),
        Health::Idle => "nothing to roll back".to_owned(),
        _ if s.rollback.text.is_empty() => "rollback ?".to_owned(),
        _ => format!("rollback {}", s.rollback.text),
    });
    said.join(". ") + "."
}

fn step(s: &Snapshot) -> String {
    let Some(row) = s.current.and_then(|i| s.steps.get(i)) else { return "no step left".to_owned() };
    let mut text = format!("step {} of {}, {}", row.number, s.steps.len(), row.title);
    if let Some((done, whole)) = row.progress.filter(|(_, whole)| *whole > 0) {
        let percent = u128::from(done) * 100 / u128::from(whole);
        text += &format!(", {} percent", percent.min(100));
    }
    if let Some(eta) = row.eta {
        text += &format!(", done about {}", eta.clock().get(..5).unwrap_or("?"));
    }
    match &row.need {
        Some(Need::Key) => text += ", waits for a key",
        Some(Need::Word(word)) => text += &format!(", waits for the word {word}"),
        Some(Need::Decision) => text += ", waits for a decision: try again, skip or roll back",
        Some(Need::Second) => text += ", waits for a second person",
        None => {}
    }
    if let Some(reason) = row.reason.as_ref().filter(|_| row.need.is_some()) {
        text += &format!(". {}", reason.trim_end_matches('.'));
    }
    text
}
