//! Line 1, the annunciator, and the banners that stand over it.

use ratatui::layout::Rect;
use unicode_width::UnicodeWidthStr;

use super::action::{Action, availability, key_label};
use super::canvas::{Canvas, Line, fit};
use super::layout::Layout;
use super::modal::rollback_key;
use super::state::ViewState;
use super::theme::{Theme, Tone};
use crate::domain::at::hms;
use crate::domain::run::RunStatus;
use crate::snapshot::{Health, Lamp, Mode, Snapshot, words};

/// The words of a status.
pub(super) const fn status_words(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Prepared => "PREPARED",
        RunStatus::Running => "RUNNING",
        RunStatus::Paused => "PAUSED",
        RunStatus::RollingBack => "ROLLING BACK",
        RunStatus::RolledBack => "ROLLED BACK",
        RunStatus::Finished => "FINISHED",
        RunStatus::Stuck => "STUCK",
    }
}

/// `REHEARSAL x60`, `REPLAY x8`, `REPLAY STOPPED`; nothing for the run itself.
pub(super) fn mode_words(mode: Mode) -> Option<String> {
    let times = |speed: f64| if speed.fract() == 0.0 { format!("x{speed:.0}") } else { format!("x{speed}") };
    match mode {
        Mode::Live => None,
        Mode::Rehearsal { speed } => Some(format!("REHEARSAL {}", times(speed))),
        Mode::Replay { paused: true, .. } => Some("REPLAY STOPPED".to_owned()),
        Mode::Replay { speed, .. } => Some(format!("REPLAY {}", times(speed))),
    }
}

/// Whose time a screen shows. A rehearsal's runs ahead while only a planned time is waited for, and every time of day
/// on its screens is of that clock; ages are real.
pub(super) const fn clock_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Live | Mode::Replay { .. } => "UTC",
        Mode::Rehearsal { .. } => "rehearsed",
    }
}

/// `T-01:06:44`, `T+00:15:02`.
pub(super) fn t_clock(snapshot: &Snapshot) -> String {
    // Of a clock that was stepped nobody knows how far it is from the planned time.
    if snapshot.t0.0 == 0 || snapshot.clock_stepped_ms.is_some() {
        return "T ?".to_owned();
    }
    let ms = snapshot.now.since(snapshot.t0);
    let sign = if ms < 0 { '-' } else { '+' };
    format!("T{sign}{}", hms(ms.saturating_abs()))
}

/// `00:05`, `01:34`, `01:00:05`: minutes stand even when there are none.
fn refused_for(ms: i64) -> String {
    let text = hms(ms);
    text.strip_prefix("00:").unwrap_or(&text).to_owned()
}

/// Marks that must be seen whatever else is on the line, most important first.
fn marks(snapshot: &Snapshot, state: &ViewState) -> Vec<(String, Tone)> {
    let mut marks = Vec::new();
    if let Some(since) = state.held_at {
        // Never the word freeze: that is what is done to writes.
        marks.push((format!("SCREEN HELD {}", since.clock()), Tone::Banner));
    }
    if let Some(ms) = state.stale_ms(snapshot) {
        marks.push((format!("STALE {}", words::age(i64::try_from(ms).unwrap_or(i64::MAX))), Tone::Bad));
    }
    if !snapshot.journal.ok && snapshot.version > 0 && !matches!(snapshot.mode, Mode::Replay { .. }) {
        marks.push(("JOURNAL FAIL".to_owned(), Tone::Bad));
    }
    if let Some(ms) = snapshot.clock_stepped_ms {
        marks.push((format!("CLOCK STEPPED {}", words::stepped(ms)), Tone::Bad));
    }
    let alerts = snapshot.alerts.iter().filter(|row| row.is_unseen()).count();
    if alerts > 0 {
        let text = if alerts == 1 { "ALERT".to_owned() } else { format!("ALERTS {alerts}") };
        marks.push((text, Tone::Bad));
    }
    if snapshot.downtime.accepted.is_none()
        && let Some(ms) = snapshot.downtime_running_ms
    {
        // Customers are locked out: this clock is never further away than the first line.
        let text = match snapshot.frozen_places {
            (some, all) if some < all && all > 1 => {
                format!("WRITES REFUSED {} in {some} of {all} places", refused_for(ms))
            }
            _ => format!("WRITES REFUSED {} of {}", refused_for(ms), words::length(snapshot.downtime_budget_ms)),
        };
        let over = ms * 2 >= snapshot.downtime_budget_ms;
        marks.push((text, if over { Tone::Bad } else { Tone::Warn }));
    }
    if let Some(mode) = mode_words(snapshot.mode) {
        marks.push((mode, Tone::Accent));
    }
    if snapshot.status != RunStatus::Running {
        let tone = if snapshot.status == RunStatus::Stuck { Tone::Bad } else { Tone::Strong };
        marks.push((status_words(snapshot.status).to_owned(), tone));
    }
    marks
}

fn environment(snapshot: &Snapshot) -> String {
    match (snapshot.production, snapshot.environment.as_str()) {
        (true, "production" | "prod" | "") => "[PROD]".to_owned(),
        (true, name) => format!("[PROD {name}]"),
        (false, "") => String::new(),
        (false, name) => format!("[{name}]"),
    }
}

/// Line 1: what, where, which marks, time to go, clock.
pub(super) fn header(c: &mut Canvas<'_>, row: Rect, layout: Layout, snapshot: &Snapshot, state: &ViewState) {
    let clock = format!("{}  {} {}", t_clock(snapshot), snapshot.now.clock(), clock_name(snapshot.mode));
    let width = usize::from(row.width);
    let room = width.saturating_sub(clock.width() + 2);
    let mut marks = marks(snapshot, state);
    let env = environment(snapshot);
    let name = if snapshot.plan.is_empty() { "?" } else { snapshot.plan.as_str() };
    let total = |marks: &[(String, Tone)]| env.width() + 1 + marks.iter().map(|(m, _)| m.width() + 1).sum::<usize>();
    if let Some(since) = state.held_at {
        let (at, key) = (since.clock(), key_label(Action::HoldScreen, state));
        for text in [format!("SCREEN HELD {at}, {key} for live"), format!("SCREEN HELD {at}"), format!("HELD {at}")] {
            marks[0].0 = text;
            if total(&marks) + 5 <= room {
                break;
            }
        }
    }
    let fixed = total(&marks);
    let brand = if "CUTOVER ".len() + name.width() + 1 + fixed <= room { "CUTOVER " } else { "" };
    let name = fit(name, room.saturating_sub(fixed + brand.len() + 1).max(4));
    let mut line = Line::new(brand, Tone::Dim).then(format!("{name} "), Tone::Strong);
    line = line.then(env, if snapshot.production { Tone::Production } else { Tone::Plain });
    for (mark, tone) in marks {
        line = line.then(" ", Tone::Plain).then(mark, tone);
    }
    if layout >= Layout::Medium {
        let mut extra = vec![snapshot.driver.clone()];
        if !snapshot.run.is_empty() {
            extra.push(format!("run {}", snapshot.run));
        }
        let step = snapshot.current.and_then(|i| snapshot.steps.get(i)).filter(|_| layout >= Layout::Wide);
        extra.extend(step.map(|s| format!("step {:02}/{:02} {}", s.number, snapshot.steps.len(), s.title)));
        for text in extra {
            if line.width() + 3 + text.width() <= room {
                line = line.then("   ", Tone::Plain).then(text, Tone::Plain);
            }
        }
    }
    let line = line.cut(room).ending_at(width, &clock, Tone::Plain);
    c.line(row, &line);
}

/// Columns of the annunciator: the lamp's word and its cells. The last one takes the rest.
const NARROW: &[(&str, usize)] = &[("LAG", 12), ("VERIFY", 13), ("ERR", 13), ("ROLLBACK", 0)];
const SMALL: &[(&str, usize)] =
    &[("COPY", 10), ("LAG", 12), ("VERIFY", 13), ("ERR", 12), ("SWITCH", 10), ("ROLLBACK", 0)];
const MEDIUM: &[(&str, usize)] =
    &[("COPY", 10), ("LAG", 15), ("VERIFY", 15), ("ERR", 14), ("SWITCH", 16), ("GATES", 11), ("ROLLBACK", 0)];
const LARGE: &[(&str, usize)] = &[
    ("COPY", 24),
    ("LAG", 20),
    ("VERIFY", 22),
    ("ERR", 20),
    ("SWITCH", 20),
    ("GATES", 16),
    ("JOURNAL", 19),
    ("ROLLBACK", 0),
];

/// What a lamp says in at most `width` cells: word, text and health as far as they fit; a bad health is never cut.
pub(super) fn lamp_text(lamp: &Lamp, at_risk: Option<u64>, width: usize) -> String {
    let (word, text) = (&lamp.word, &lamp.text);
    let health = Theme::word(lamp.health);
    // These three say how they stand in their own words.
    let own_words = matches!(word.as_str(), "SWITCH" | "GATES" | "ROLLBACK");
    let quiet = lamp.health == Health::Idle || (own_words && lamp.health == Health::Ok) || text.starts_with('?');
    let full = if quiet { format!("{word} {text}") } else { format!("{word} {text} {health}") };
    if full.width() <= width {
        return full;
    }
    let plain = format!("{word} {text}");
    let short = format!("{word} {health}");
    if word == "ROLLBACK" {
        if plain.width() <= width {
            return plain;
        }
        match at_risk {
            // What is applied to the old side costs seconds, and is no risk.
            Some(n) if n > 0 && text.starts_with("READY") && lamp.health != Health::Ok => {
                return fit(&format!("{word} RISK {}", words::human(n)), width);
            }
            None if text.starts_with("READY") => return fit(&format!("{word} RISK ?"), width),
            _ if text.starts_with('?') => return fit(&format!("{word} ?"), width),
            _ => {}
        }
        let mut cut = plain.as_str();
        while let Some((head, _)) = cut.rsplit_once(' ') {
            cut = head.trim_end_matches([':', ',']);
            if cut.width() <= width {
                return cut.to_owned();
            }
        }
        return fit(&plain, width);
    }
    let must = matches!(lamp.health, Health::Fail | Health::Unknown | Health::Ok);
    if !must && plain.width() <= width { plain } else { fit(&short, width) }
}

/// Line 2: one word per concern, always in the same place; the banners stand over it.
pub(super) fn annunciator(c: &mut Canvas<'_>, row: Rect, layout: Layout, snapshot: &Snapshot, state: &ViewState) {
    if let Some(text) = banner(snapshot, state, usize::from(row.width)) {
        let text = super::canvas::pad(&text, usize::from(row.width));
        c.put(row.x, row.y, row.width, &text, Tone::Banner);
        return;
    }
    let columns = match layout {
        Layout::Survival => NARROW,
        Layout::Small if row.width < 80 => NARROW,
        Layout::Small => SMALL,
        _ if row.width < 190 => MEDIUM,
        _ => LARGE,
    };
    c.line(row, &Line::default());
    let lead = u16::from(layout >= Layout::Medium);
    let mut x = row.x;
    for (i, (word, width)) in columns.iter().enumerate() {
        let left = row.right().saturating_sub(x);
        let width = if *width == 0 { left } else { u16::try_from(*width).unwrap_or(left).min(left) };
        let pad = if i == 0 { 0 } else { lead };
        let room = usize::from(width.saturating_sub(pad));
        let (text, tone) = match lamp_of(snapshot, state, word) {
            Some(lamp) => (lamp_text(&lamp, snapshot.rollback.at_risk, room), Theme::tone(lamp.health)),
            None => (format!("{word} ?"), Theme::tone(Health::Unknown)),
        };
        c.put(x + pad, row.y, u16::try_from(room).unwrap_or(0), &text, tone);
        x = x.saturating_add(width);
        if i + 1 < columns.len() {
            c.put(x, row.y, 1, &c.theme.bar().to_string(), Tone::Dim);
            x = x.saturating_add(1);
        }
    }
}

/// What a lamp says, if anything is known of it.
pub(super) fn lamp_of(snapshot: &Snapshot, state: &ViewState, word: &str) -> Option<Lamp> {
    if state.stale_ms(snapshot).is_some() {
        return None;
    }
    if word == "JOURNAL" {
        let j = &snapshot.journal;
        let text = j.age_ms.map_or_else(|| "?".to_owned(), words::age);
        let health = match (j.ok, j.age_ms) {
            (false, _) => Health::Fail,
            (true, None) => Health::Unknown,
            (true, Some(_)) => Health::Ok,
        };
        return Some(Lamp { word: word.to_owned(), text, health });
    }
    snapshot.lamps.iter().find(|l| l.word == word).cloned()
}

/// What stands over the annunciator, in every view and over every box: rollback armed, or just ordered.
pub(super) fn banner(snapshot: &Snapshot, state: &ViewState, width: usize) -> Option<String> {
    let back = &snapshot.rollback;
    let under_way = matches!(snapshot.status, RunStatus::RollingBack | RunStatus::RolledBack);
    if let Some(ms) = state.armed_ms() {
        // In a box that takes text the letter would be typed.
        let (first, key) = rollback_key(state);
        let key = format!("{first}{key}");
        let seconds = ms.div_ceil(1000);
        if let Err(why) = availability(Action::Rollback, snapshot, state) {
            return Some(fit(&format!("!! ROLLBACK NOT POSSIBLE HERE: {why}"), width));
        }
        let undo = back.actions.iter().filter(|a| a.contains("->") || a.starts_with("BY HAND")).count();
        let run = match undo {
            0 => "stop; nothing to undo".to_owned(),
            1 => "run 1 undo action".to_owned(),
            n => format!("run {n} undo actions"),
        };
        let about = back.estimate_ms.map_or_else(|| "(? s)".to_owned(), |ms| format!("(~{} s)", (ms + 999) / 1000));
        let risk = match back.at_risk {
            Some(0) => String::new(),
            Some(n) if back.carries => format!(" {} WRITES COME BACK.", words::human(n)),
            Some(n) => format!(" {} WRITES STAY BEHIND.", words::human(n)),
            None => " WRITES AT RISK: ?.".to_owned(),
        };
        let variants = [
            format!("!! ROLLBACK ARMED - press {key} again within {seconds} s to {run} {about}.{risk}  Esc cancels"),
            format!("!! ROLLBACK ARMED - press {key} again within {seconds} s to {run}.{risk}  Esc cancels"),
            format!("!! ROLLBACK ARMED - {key} again within {seconds} s: {run}.{risk}  Esc cancels"),
            format!("!! ROLLBACK ARMED - {key} again within {seconds} s: {run}.{risk}  Esc"),
            format!("!! ROLLBACK ARMED - {key} again within {seconds} s.{risk}  Esc"),
            format!("!! ROLLBACK ARMED {key} again {seconds}s Esc"),
            format!("!! {key} again {seconds}s Esc"),
        ];
        return Some(variants.iter().find(|v| v.width() <= width).cloned().unwrap_or_else(|| fit(&variants[6], width)));
    }
    (state.ordered && !under_way).then(|| fit("!! ROLLBACK ORDERED - waiting for the engine to answer", width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::state::{Button, Modal};

    fn lamp(word: &str, text: &str, health: Health) -> Lamp {
        Lamp { word: word.into(), text: text.into(), health }
    }

    #[test]
    fn lamps_keep_what_matters_when_they_get_narrow() {
        let t = |l: &Lamp, w| lamp_text(l, Some(0), w);
        assert_eq!(t(&lamp("COPY", "63% 18.8k/s", Health::Ok), 8), "COPY ok");
        assert_eq!(t(&lamp("COPY", "63% 18.8k/s", Health::Ok), 24), "COPY 63% 18.8k/s ok");
        assert_eq!(t(&lamp("LAG", "0.8s", Health::Ok), 12), "LAG 0.8s ok");
        assert_eq!(t(&lamp("LAG", "?", Health::Unknown), 12), "LAG ?");
        assert_eq!(t(&lamp("LAG", "02:30", Health::Fail), 12), "LAG FAIL");
        assert_eq!(t(&lamp("VERIFY", "3 open", Health::Warn), 13), "VERIFY 3 open");
        assert_eq!(t(&lamp("ERR", "12.50%", Health::Fail), 13), "ERR FAIL");
        assert_eq!(t(&lamp("ROLLBACK", "READY ~1s 0 at risk", Health::Ok), 18), "ROLLBACK READY ~1s");
        assert_eq!(t(&lamp("ROLLBACK", "NOT READY: values not captured", Health::Warn), 18), "ROLLBACK NOT READY");
        let risky = lamp("ROLLBACK", "READY 12 writes stay behind", Health::Warn);
        assert_eq!(lamp_text(&risky, Some(12), 18), "ROLLBACK RISK 12");
        let carried = lamp("ROLLBACK", "READY ~1s 12 to carry", Health::Ok);
        assert_eq!(lamp_text(&carried, Some(12), 18), "ROLLBACK READY ~1s");
        assert_eq!(lamp_text(&lamp("ROLLBACK", "READY ~1s ? at risk", Health::Unknown), None, 18), "ROLLBACK RISK ?");
        assert_eq!(t(&lamp("ROLLBACK", "?", Health::Unknown), 18), "ROLLBACK ?");
    }

    #[test]
    fn minutes_of_a_refusal_stay_when_there_are_none() {
        assert_eq!(refused_for(5_000), "00:05");
        assert_eq!(refused_for(94_200), "01:34");
        assert_eq!(refused_for(3_605_000), "01:00:05");
    }

    #[test]
    fn the_banner_says_what_the_second_press_does_at_any_width() {
        let mut snapshot = Snapshot { status: RunStatus::Running, ..Snapshot::default() };
        snapshot.rollback.actions = vec!["/a -> old".into(), "/b -> old".into(), "read every switch back".into()];
        snapshot.rollback.estimate_ms = Some(900);
        snapshot.rollback.at_risk = Some(0);
        let state = ViewState { armed_until_ms: Some(4_000), clock_ms: 300, ..ViewState::default() };
        assert_eq!(
            banner(&snapshot, &state, 120).unwrap(),
            "!! ROLLBACK ARMED - press R again within 4 s to run 2 undo actions (~1 s).  Esc cancels"
        );
        for width in 1..200 {
            let text = banner(&snapshot, &state, width).unwrap();
            assert!(text.width() <= width && text.starts_with('!'));
        }
        snapshot.rollback.at_risk = Some(12);
        assert!(banner(&snapshot, &state, 80).unwrap().contains("12 WRITES STAY BEHIND"));
        snapshot.rollback.at_risk = None;
        assert!(banner(&snapshot, &state, 80).unwrap().contains("AT RISK: ?"));
        let word = Modal::Confirm {
            step: "freeze".into(),
            word: Some("orders".into()),
            typed: String::new(),
            button: Button::Cancel,
            drawn_ms: None,
        };
        let typing = ViewState { modals: vec![word], ..state.clone() };
        assert!(banner(&snapshot, &typing, 120).unwrap().contains("press Ctrl-R again"), "a letter would be typed");
        let late = ViewState { clock_ms: 4_000, ..state };
        assert_eq!(banner(&snapshot, &late, 80), None);
    }
}
