//! The list of actions: as help by group, and as palette by what is typed.

use super::action::{ACTIONS, Action, ActionInfo, Group, availability, pretty};
use super::canvas::{Line, pad};
use super::runbook;
use super::state::ViewState;
use super::theme::{Theme, Tone};
use crate::snapshot::Snapshot;

/// Actions found by what was typed, the first being what Enter runs: names that begin so, then names with words that
/// begin so, then whatever holds every word in its name or text; within that, the order of the table.
///
/// Rollback is the last of its kind and found by its name only, so that nobody runs it by typing something else.
#[must_use]
pub fn palette_matches(typed: &str) -> Vec<Action> {
    let typed = typed.trim().to_lowercase().replace('_', " ");
    let mut found: Vec<(u8, bool, Action)> = ACTIONS
        .iter()
        .filter_map(|i| Some((palette_rank(i, &typed)?, i.action == Action::Rollback, i.action)))
        .collect();
    found.sort_by_key(|(rank, rollback, _)| (*rank, *rollback));
    found.into_iter().map(|(_, _, action)| action).collect()
}

/// How well an action fits, small is better; absent when it does not.
fn palette_rank(info: &ActionInfo, typed: &str) -> Option<u8> {
    let name = info.name.replace('_', " ");
    if name.starts_with(typed) || name.replace(' ', "").starts_with(typed) {
        return Some(0);
    }
    let words = || typed.split_whitespace();
    if words().all(|w| name.split(' ').any(|part| part.starts_with(w))) {
        return Some(1);
    }
    let hay = format!("{name} {}", info.text.to_lowercase());
    (info.action != Action::Rollback && words().all(|w| hay.contains(w))).then_some(2)
}

/// One action on one line: its keys, its name, and what it does or why not now.
pub(super) fn action_line(action: Action, snapshot: &Snapshot, state: &ViewState, width: usize) -> Line {
    let info = action.info();
    let keys: Vec<String> = match state.keys.get(&action) {
        Some(own) => own.iter().map(|k| pretty(k)).collect(),
        None => info.keys.iter().map(|k| pretty(k)).collect(),
    };
    let mark = if info.dangerous { "!" } else { " " };
    let available = availability(action, snapshot, state);
    let tone = if available.is_ok() { Tone::Plain } else { Tone::Dim };
    let mut line = Line::new(
        format!(" {mark} {}", pad(&keys.join(" "), 11)),
        if available.is_ok() { Tone::Accent } else { Tone::Dim },
    );
    line = line.then(format!(" {} ", pad(info.name, 14)), tone);
    match available {
        Ok(()) => line.then(info.text, tone),
        Err(why) => line.then(format!("not now: {why}"), tone),
    }
    .cut(width)
}

/// The help: every action by group, then what the marks mean.
pub(super) fn help_lines(
    snapshot: &Snapshot,
    state: &ViewState,
    search: &str,
    theme: &Theme,
    width: usize,
) -> Vec<Line> {
    let needle = search.to_lowercase();
    let mut lines = Vec::new();
    for group in Group::ALL {
        let rows: Vec<&ActionInfo> = ACTIONS
            .iter()
            .filter(|i| i.group == group)
            .filter(|i| needle.is_empty() || i.name.contains(&needle) || i.text.to_lowercase().contains(&needle))
            .collect();
        if rows.is_empty() {
            continue;
        }
        lines.push(Line::new(format!(" {}", group.title()), Tone::Strong));
        lines.extend(rows.iter().map(|i| action_line(i.action, snapshot, state, width)));
    }
    if lines.is_empty() {
        lines.push(Line::new(" nothing holds this text", Tone::Dim));
    }
    if needle.is_empty() {
        lines.push(Line::default());
        lines.push(Line::new(" Marks and words", Tone::Strong));
        for (sign, text) in [
            (runbook::done_mark(theme), "done, or proven"),
            (runbook::now_mark(theme), "now"),
            (runbook::todo_mark(theme), "to do"),
            ("#", "a gate"),
            ("!", "a switch; before an action: it asks first"),
            (runbook::failed_mark(theme), "failed"),
            ("?", "not known, or too old to count: it blocks"),
            ("ok", "measured, fresh, within its limit"),
            ("WATCH", "near its limit, or on its way"),
            ("WARN", "needs attention"),
            ("FAIL", "over its limit"),
            ("~", "behind a count: the store's own estimate"),
            ("^", "behind a count: worked out from what was written and deleted"),
        ] {
            lines.push(Line::new(format!("   {}", pad(sign, 12)), Tone::Accent).then(text, Tone::Plain).cut(width));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_palette_finds_by_words() {
        assert_eq!(palette_matches("").len(), ACTIONS.len());
        for typed in ["roll", "roll_back", "roll back", "rollback", "Roll"] {
            // Others mention it; the first match is the one that is done.
            assert_eq!(palette_matches(typed).first(), Some(&Action::Rollback), "{typed}");
        }
        assert_eq!(palette_matches("full comparison"), [Action::ViewVerify]);
        assert!(palette_matches("worker").contains(&Action::MoreWorkers));
        assert!(palette_matches("zzz").is_empty());
    }

    #[test]
    fn nobody_comes_to_rollback_by_typing_something_else() {
        assert_eq!(palette_matches("").last(), Some(&Action::Rollback));
        assert_eq!(palette_matches("ver")[0], Action::ViewVerify);
        assert_eq!(palette_matches("r")[0], Action::Retry);
        assert_eq!(palette_matches("b")[0], Action::Bottom);
        assert!(palette_matches("b").contains(&Action::Rollback));
        for typed in ["ver", "every", "captured value", "switch", "old", "a"] {
            assert!(!palette_matches(typed).contains(&Action::Rollback), "{typed}");
        }
        // The name first, then a word of the name, then the text.
        assert_eq!(palette_matches("work"), [Action::MoreWorkers, Action::FewerWorkers, Action::Pause]);
        assert_eq!(palette_matches("le")[..2], [Action::Left, Action::Level]);
    }

    #[test]
    fn the_help_says_why_an_action_is_off() {
        let lines = help_lines(&Snapshot::default(), &ViewState::default(), "load worker", &Theme::default(), 80);
        let text: Vec<String> = lines.iter().map(|l| l.spans.iter().map(|s| s.text.as_str()).collect()).collect();
        assert_eq!(text.len(), 3, "{text:?}");
        assert!(text[1].contains("not now: no bulk load is running"), "{text:?}");
        let lines = help_lines(&Snapshot::default(), &ViewState::default(), "recording", &Theme::default(), 80);
        let text: String = lines.iter().flat_map(|l| &l.spans).map(|s| s.text.as_str()).collect();
        assert!(text.contains("not now: this is not a recording"), "{text}");
    }
}
