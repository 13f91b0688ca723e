//! `cutover status`: where a run stands, in a few lines or as the whole snapshot.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::line::standing;
use super::runs::status_word;
use super::summary::{age, count};
use crate::domain::at::{At, brief};
use crate::snapshot::Snapshot;

/// A compact block for people.
#[must_use]
pub fn status(s: &Snapshot) -> String {
    let mut out = String::new();
    let prod = if s.production { " [PROD]" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "run        {} {}{prod}, plan {} {}", s.run, s.environment, s.plan, s.plan_hash);
    let _ = writeln!(out, "status     {}, T-0 {}, driven by {}", status_word(s.status), s.t0.date_clock(), s.driver);
    let _ = writeln!(out, "now        {}", standing(s));
    for t in s.tables.iter().filter(|t| !t.target_name.is_empty()) {
        let difference = t.difference.map_or_else(|| "?".to_owned(), |d| d.to_string());
        let lag = t.lag.apply.value.map_or_else(|| "?".to_owned(), |ms| brief(ms as i64));
        let _ = writeln!(
            out,
            "table      {}: {} -> {}, difference {difference}, lag {lag}, {}",
            t.id,
            count(&t.source, s.wall),
            count(&t.target, s.wall),
            t.trouble.as_deref().unwrap_or("no trouble")
        );
    }
    for w in &s.switches {
        let read = w.read_at.map_or_else(|| "never read".to_owned(), |at| format!("read {}", at.clock()));
        let _ = writeln!(out, "switch     {}: {:?}, {} -> {}, {read}", w.id, w.standing, w.old, w.new);
    }
    let rollback = if s.rollback.text.is_empty() { "?" } else { &s.rollback.text };
    let _ = writeln!(out, "rollback   {rollback}");
    for line in &s.rollback.stuck {
        let _ = writeln!(out, "by hand    {line}");
    }
    let ok = if s.journal.ok { "ok" } else { "cannot be written, or nobody drives" };
    let _ = writeln!(out, "journal    {} facts, {ok}", s.journal.last_seq);
    let measured = s.tables.iter().flat_map(|t| [t.source.at, t.target.at]).max().unwrap_or(At(0));
    let _ = writeln!(out, "measured   {}", age(measured, s.wall));
    out
}

/// The whole snapshot as JSON, for programs.
///
/// # Errors
/// What the writer said.
pub fn status_json(s: &Snapshot, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, s)?;
    out.write_all(b"\n")
}
