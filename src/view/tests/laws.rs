//! What holds for every screen.

use std::collections::BTreeMap;

use super::*;
use crate::snapshot::fixture::{Moment, snapshot};
use crate::view::state::{Button, Modal, Pane, Toast, View};

fn states() -> Vec<ViewState> {
    let modal = |m| ViewState { modals: vec![m], ..ViewState::default() };
    let confirm = Modal::Confirm {
        step: "writes".into(),
        word: Some("orders".into()),
        typed: "ord".into(),
        button: Button::Cancel,
        drawn_ms: None,
    };
    let toast =
        Toast { level: crate::domain::run::Level::Error, text: "refused: 日本語 \u{1b}[2J".into(), until_ms: None };
    let mut all = vec![
        ViewState::default(),
        ViewState { zoom: true, focus: Pane::Signals, ..ViewState::default() },
        ViewState { armed_until_ms: Some(9), toasts: vec![toast], selected: Some(17), ..ViewState::default() },
        modal(confirm),
        modal(Modal::Decide { step: "load".into(), choice: Default::default(), drawn_ms: None }),
        modal(Modal::Quit { button: Button::Go, drawn_ms: Some(3) }),
        modal(Modal::Evidence { step: "gone".into() }),
        modal(Modal::Help { search: "e".into(), searching: true }),
        modal(Modal::Palette { typed: String::new(), selected: 40 }),
    ];
    for view in [View::Tables, View::Lag, View::Errors, View::Verify, View::Switches, View::Watch, View::Log] {
        all.push(ViewState { view, ..ViewState::default() });
    }
    all
}

/// Sizes up to 300 by 100: every small one, then a lattice with odd steps, and both sides of every breakpoint.
fn sizes() -> Vec<(u16, u16)> {
    let mut all = Vec::new();
    for width in (1..=12).chain((20..=300).step_by(70)).chain([59, 60, 79, 80, 99, 100, 159, 160, 300]) {
        for height in (1..=7).chain((9..=100).step_by(30)).chain([15, 16, 29, 30, 49, 50, 100]) {
            all.push((width, height));
        }
    }
    all
}

#[test]
fn no_size_panics_and_the_way_back_is_always_there_or_the_way_out() {
    let sizes = sizes();
    let states = states();
    for (m, moment) in Moment::ALL.into_iter().enumerate() {
        let snapshot = snapshot(moment);
        for (i, (width, height)) in sizes.iter().enumerate() {
            // Every size with some state, every state with many sizes.
            let state = &states[(i + m) % states.len()];
            let theme = if i % 2 == 0 { ASCII } else { COLOUR };
            let text = text_of(&buffer(&snapshot, state, &theme, *width, *height));
            let last = text.lines().last().unwrap_or_default();
            let over = matches!(moment, Moment::RolledBack | Moment::Finished);
            let wanted = match over {
                _ if *height == 1 && state.armed_until_ms.is_some() => "!",
                // In a box it is closed first.
                true if !state.modals.is_empty() || state.log.editing => "",
                true => "q",
                false => "R",
            };
            assert!(text.contains(wanted), "{moment:?} {width}x{height}: {text}");
            if over {
                assert!(!last.contains("R rollback"), "{moment:?} {width}x{height}: {last}");
            } else if *width >= 10 && *height > 1 {
                assert!(
                    last.contains("R rollback") || (last.contains("Ctrl-R rollback") && *width >= 15),
                    "{moment:?} {width}x{height}: {last}"
                );
            }
        }
    }
}

#[test]
fn nothing_is_drawn_outside_the_area() {
    let snapshot = snapshot(Moment::Gate);
    for state in states() {
        let whole = Rect::new(0, 0, 140, 50);
        let part = Rect::new(7, 5, 100, 34);
        let mut buf = Buffer::filled(whole, ratatui::buffer::Cell::new("~"));
        draw(&snapshot, &state, &ASCII, part, &mut buf);
        for y in 0..whole.height {
            for x in 0..whole.width {
                if !part.contains((x, y).into()) {
                    assert_eq!(buf[(x, y)].symbol(), "~", "{x},{y}");
                }
            }
        }
    }
}

#[test]
fn without_colour_no_two_moments_look_the_same() {
    for (width, height) in [(80, 24), (120, 40), (200, 60), (60, 16), (40, 10)] {
        let mut seen: BTreeMap<String, Moment> = BTreeMap::new();
        for moment in Moment::ALL {
            let text = screen(&snapshot(moment), &ViewState::default(), width, height);
            // The clock alone must not be the difference between them.
            let body: String = text.lines().skip(1).collect::<Vec<_>>().join("\n");
            if let Some(other) = seen.insert(body, moment) {
                panic!("{width}x{height}: {moment:?} looks like {other:?}");
            }
        }
    }
}

#[test]
fn every_health_reads_differently_without_colour() {
    use crate::snapshot::Health;
    let healths = [Health::Unknown, Health::Ok, Health::Watch, Health::Warn, Health::Fail];
    for (width, height) in [(120, 40), (200, 60)] {
        let mut seen = std::collections::BTreeSet::new();
        for health in healths {
            let mut s = snapshot(Moment::Gate);
            for lamp in &mut s.lamps {
                lamp.health = health;
                if lamp.word == "LAG" {
                    lamp.text = if health == Health::Unknown { "?".into() } else { "0.8s".into() };
                }
            }
            let text = screen(&s, &ViewState::default(), width, height);
            assert!(seen.insert(text.lines().nth(1).unwrap_or_default().to_owned()), "{health:?} at {width}");
        }
    }
}

#[test]
fn ascii_means_ascii() {
    for moment in Moment::ALL {
        for state in states().into_iter().filter(|s| s.toasts.is_empty()) {
            let text = screen(&snapshot(moment), &state, 120, 40);
            assert!(text.is_ascii(), "{moment:?}: {:?}", text.chars().find(|c| !c.is_ascii()));
        }
    }
}

#[test]
fn borders_are_whole() {
    for (width, height) in [(100, 30), (120, 40), (160, 40), (200, 60)] {
        for moment in Moment::ALL {
            let text = screen(&snapshot(moment), &ViewState::default(), width, height);
            for line in text.lines().skip(2).take(usize::from(height) - 3) {
                assert!(line.starts_with(['|', '+']) && line.ends_with(['|', '+']), "{moment:?} {width}: {line}");
                assert_eq!(line.chars().count(), usize::from(width), "{line}");
            }
        }
    }
}
