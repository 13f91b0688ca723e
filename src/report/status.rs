//! `cutover status`: where a run stands, in a few lines or as the whole snapshot.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use super::line::standing;
use super::runs::status_word;
use super::summary::{age, count};
use super::unattended::Unattended;
use crate::domain::at::{At, brief};
use crate::domain::run::SwitchStatus;
use crate::snapshot::{Snapshot, SwitchRow};

/// A compact block for people. `unattended` is what the folder says of a run that nobody drives.
#[must_use]
pub fn status(s: &Snapshot, unattended: Option<&Unattended>) -> String {
    let mut out = String::new();
    let prod = if s.production { " [PROD]" } else { "" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "run        {} {}{prod}, plan {} {}", s.run, s.environment, s.plan, s.plan_hash);
    let t0 = s.t0.date_clock();
    let _ = match unattended {
        None => writeln!(out, "status     {}, T-0 {t0}, driven by {}", status_word(s.status), s.driver),
        Some(u) => {
            let _ = writeln!(out, "status     {}, T-0 {t0}, last driven by {}", u.word, s.driver);
            writeln!(out, "           {}", u.words(s.wall))
        }
    };
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
    let _ = writeln!(out, "account    {}", s.account.text);
    for w in &s.switches {
        let read = w.read_at.map_or_else(String::new, |at| format!(", read {}", at.clock_on(s.now)));
        let _ = writeln!(out, "switch     {}: {}{read}", w.id, stands(w));
    }
    // What is over and was seen is in the report.
    for row in s.alerts.iter().filter(|row| row.is_unseen() || row.firing.is_open()) {
        let _ = writeln!(out, "alert      {}", row.headline(s.now));
        let _ = writeln!(out, "           {}", row.details(s.now).join(", "));
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

/// `on postgresql, set by this run; was dynamodb`. A freeze is such a switch too, so no side is named.
fn stands(w: &SwitchRow) -> String {
    match w.standing {
        SwitchStatus::Old if w.read_at.is_none() => {
            format!("? not touched and not read yet; would be set to {}", w.new)
        }
        SwitchStatus::Old => format!("found on {}, not touched; would be set to {}", w.old, w.new),
        SwitchStatus::Unknown => format!("? on {} or {}", w.old, w.new),
        SwitchStatus::New => format!("on {}, set by this run; was {}", w.new, w.old),
        SwitchStatus::Restored => format!("back on {}; was set to {}", w.old, w.new),
    }
}

/// The snapshot, and beside its fields `unattended`: null, or what to say of a run that nobody drives.
#[derive(Serialize)]
struct StatusJson<'a> {
    #[serde(flatten)]
    snapshot: &'a Snapshot,
    unattended: Option<&'a Unattended>,
}

/// The whole snapshot as JSON, for programs, with `unattended` beside its fields.
///
/// # Errors
/// What the writer said.
pub fn status_json(s: &Snapshot, unattended: Option<&Unattended>, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &StatusJson { snapshot: s, unattended })?;
    out.write_all(b"\n")
}
