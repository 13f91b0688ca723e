//! The log: newest first, filtered by text and level.

use super::canvas::{Line, pad};
use super::state::{LogFilter, ViewState};
use super::theme::Tone;
use crate::domain::run::Level;
use crate::snapshot::{LogRow, Snapshot};

/// The letter of a level.
pub(super) const fn letter(level: Level) -> &'static str {
    match level {
        Level::Info => "I",
        Level::Warn => "W",
        Level::Error => "E",
    }
}

const fn level_name(level: Level) -> &'static str {
    match level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// Whether a row passes the filter.
#[must_use]
pub fn passes(row: &LogRow, filter: &LogFilter) -> bool {
    if row.level < filter.level {
        return false;
    }
    let needle = filter.text.to_lowercase();
    needle.is_empty() || row.text.to_lowercase().contains(&needle) || row.source.to_lowercase().contains(&needle)
}

/// How many rows pass, for scrolling.
#[must_use]
pub fn matching(snapshot: &Snapshot, filter: &LogFilter) -> usize {
    snapshot.log.iter().filter(|r| passes(r, filter)).count()
}

/// The rows that pass, newest first, from the scroll position on.
pub(super) fn lines(snapshot: &Snapshot, state: &ViewState, width: usize, height: usize) -> Vec<Line> {
    let all = matching(snapshot, &state.log);
    let from = state.scrolls.log.min(all.saturating_sub(height));
    let wide = width >= 100;
    let rows = snapshot.log.iter().rev().filter(|r| passes(r, &state.log)).skip(from).take(height);
    let mut lines: Vec<Line> = rows
        .map(|r| {
            let tone = match r.level {
                Level::Info => Tone::Plain,
                Level::Warn => Tone::Strong,
                Level::Error => Tone::Bad,
            };
            let clock = if wide { r.at.clock_ms() } else { r.at.clock() };
            // Eighty columns leave seven cells for the source.
            let source = if wide { pad(&r.source, 9) } else { short_source(&r.source) };
            Line::new(format!("{clock} "), Tone::Dim)
                .then(letter(r.level), tone)
                .then(format!(" {source} "), Tone::Dim)
                .then(r.text.clone(), if r.level == Level::Info { Tone::Plain } else { tone })
                .cut(width)
        })
        .collect();
    if lines.is_empty() && height > 0 {
        let text = if snapshot.log.is_empty() { "nothing happened yet" } else { "no line passes the filter" };
        lines.push(Line::new(text, Tone::Dim));
    }
    lines
}

fn short_source(source: &str) -> String {
    let short = if source == "operator" { "ops" } else { source };
    pad(&short.chars().take(7).collect::<String>(), 7)
}

/// `follow on   level>=info   /filter`, for the border of the log.
pub(super) fn status(snapshot: &Snapshot, state: &ViewState) -> String {
    let follow = if state.scrolls.log == 0 { "on".to_owned() } else { format!("off, {} back", state.scrolls.log) };
    let filter = match (state.log.editing, state.log.text.as_str()) {
        (true, text) => format!("/{text}_ {} lines", matching(snapshot, &state.log)),
        (false, "") => "/filter".to_owned(),
        (false, text) => format!("/{text} {} lines", matching(snapshot, &state.log)),
    };
    format!("follow {follow}   level>={}   {filter}", level_name(state.log.level))
}
