use super::*;
use crate::domain::plan::StepName;
use crate::domain::run::{Level, Need};
use crate::snapshot::fixture::{Moment, snapshot};
use crate::snapshot::{SetRow, StepBackRow, StepMark};
use crate::view::state::{Button, Choice, DIALOG_DEAF_MS, Modal, Toast};

/// A box that has stood for long enough to listen.
fn with(mut modal: Modal) -> ViewState {
    modal.mark_drawn(0);
    ViewState { modals: vec![modal], clock_ms: DIALOG_DEAF_MS, ..ViewState::default() }
}

fn asked(snapshot: &Snapshot) -> ViewState {
    let step = &snapshot.steps[snapshot.current.unwrap()];
    with(Modal::for_step(step).unwrap())
}

#[test]
fn the_switch_asks_for_its_word_with_cancel_focused() {
    let frozen = snapshot(Moment::Frozen);
    let mut state = asked(&frozen);
    insta::assert_snapshot!("box_80_switch", screen(&frozen, &state, 80, 24));
    if let Some(Modal::Confirm { typed, button, .. }) = state.modals.last_mut() {
        typed.push_str("orders");
        *button = Button::Go;
    }
    insta::assert_snapshot!("box_80_switch_typed", styled(&buffer(&frozen, &state, &ASCII, 80, 24)));
    insta::assert_snapshot!("box_120_switch", screen(&frozen, &state, 120, 40));
}

#[test]
fn the_freeze_shows_what_it_writes() {
    let confirm = snapshot(Moment::Confirm);
    insta::assert_snapshot!("box_80_freeze", screen(&confirm, &asked(&confirm), 80, 24));
}

#[test]
fn a_box_asks_what_is_true_for_the_kind_of_step() {
    let mut s = snapshot(Moment::Confirm);
    let at = s.current.unwrap();
    for (kind, mark, need, question, button, opens) in [
        (StepName::Manual, StepMark::Manual, Need::Key, "Is this done?", "It is done", "the box that says it is done"),
        (
            StepName::Manual,
            StepMark::Manual,
            Need::Word("yes".into()),
            "Type yes once it is done: [",
            "It is done",
            "done",
        ),
        (StepName::Gate, StepMark::Gate, Need::Key, "Start watching this gate now?", "Start", "the box that starts it"),
        (StepName::GoNoGo, StepMark::Gate, Need::Key, "Start this decision now?", "Start", "the box that starts it"),
        (StepName::Load, StepMark::Plain, Need::Key, "Start this step now?", "Start", "the box that starts it"),
        (StepName::Load, StepMark::Plain, Need::Word("yes".into()), "Type yes to start: [", "Start", "starts it"),
    ] {
        let step = &mut s.steps[at];
        (step.kind, step.mark, step.need) = (kind, mark, Some(need));
        let home = screen(&s, &ViewState::default(), 80, 24);
        assert!(home.contains(opens), "{kind}: {home}");
        let text = screen(&s, &asked(&s), 80, 24);
        assert!(text.contains(question) && text.contains(&format!("  {button}  ")), "{kind}: {text}");
    }
}

#[test]
fn a_box_that_does_not_listen_yet_shows_it() {
    let (frozen, failed) = (snapshot(Moment::Frozen), snapshot(Moment::Failed));
    let quit = with(Modal::Quit { button: Button::Cancel, drawn_ms: None });
    for (s, mut state, button) in [
        (&frozen, asked(&frozen), "[ Cancel ]"),
        (&failed, asked(&failed), "[ Leave it ]"),
        (&frozen, quit, "[ Stay ]"),
    ] {
        let text = screen(s, &state, 80, 24);
        assert!(text.contains(button) && !text.contains("wait.."), "{text}");
        state.clock_ms -= 1;
        let text = screen(s, &state, 80, 24);
        assert!(!text.contains(button) && text.contains("wait.."), "{text}");
    }
}

#[test]
fn a_failed_step_asks_for_a_decision() {
    let failed = snapshot(Moment::Failed);
    let mut state = asked(&failed);
    if let Some(Modal::Decide { choice, .. }) = state.modals.last_mut() {
        *choice = Choice::Retry;
    }
    insta::assert_snapshot!("box_80_decide", screen(&failed, &state, 80, 24));
}

#[test]
fn a_step_back_that_failed_says_what_goes_back_when_it_is_tried_again() {
    let mut failed = snapshot(Moment::Failed);
    let at = failed.current.unwrap();
    let switch = failed.switches[0].clone();
    let step = &mut failed.steps[at];
    step.goes_back = true;
    step.sets = vec![SetRow { switch: switch.id, from: "10".into(), to: "50".into() }];
    let text = screen(&failed, &asked(&failed), 100, 30);
    assert!(text.contains("Try again goes on taking it back:") && text.contains(" 50 -> 10"), "{text}");
}

#[test]
fn what_can_be_taken_back_has_its_key_in_the_last_line() {
    let mut s = snapshot(Moment::Loading);
    let last = |s: &Snapshot| screen(s, &ViewState::default(), 120, 40).lines().last().unwrap().to_owned();
    assert!(!last(&s).contains("step back"), "{}", last(&s));
    s.step_back = StepBackRow { step: Some(s.steps[0].id.clone()), why: String::new() };
    assert!(last(&s).contains("b step back") && last(&s).contains("rollback"), "{}", last(&s));
}

#[test]
fn help_palette_note_quit_and_evidence() {
    let s = snapshot(Moment::Loading);
    let help = Modal::Help { search: String::new(), searching: false };
    insta::assert_snapshot!("box_80_help", screen(&s, &with(help.clone()), 80, 24));
    insta::assert_snapshot!("box_120_help", screen(&s, &with(help), 120, 40));
    let search = Modal::Help { search: "worker".into(), searching: true };
    insta::assert_snapshot!("box_80_help_search", screen(&s, &with(search), 80, 24));
    let palette = Modal::Palette { typed: "view".into(), selected: 2 };
    insta::assert_snapshot!("box_80_palette", screen(&s, &with(palette), 80, 24));
    insta::assert_snapshot!("box_80_note", screen(&s, &with(Modal::Note { typed: "dba says go".into() }), 80, 24));
    let quit = Modal::Quit { button: Button::Cancel, drawn_ms: None };
    insta::assert_snapshot!("box_80_quit", screen(&s, &with(quit), 80, 24));
    let gate = snapshot(Moment::Gate);
    insta::assert_snapshot!(
        "box_80_evidence",
        screen(&gate, &with(Modal::Evidence { step: "in-sync".into() }), 80, 24)
    );
}

#[test]
fn the_rollback_banner_stands_over_every_view_and_box() {
    let s = snapshot(Moment::Switched);
    let armed = ViewState { armed_until_ms: Some(4_000), ..ViewState::default() };
    insta::assert_snapshot!("banner_80_armed", screen(&s, &armed, 80, 24));
    for modal in [Modal::Help { search: String::new(), searching: true }, Modal::Note { typed: "x".into() }] {
        for view in [super::super::View::Home, super::super::View::Log] {
            let state = ViewState { modals: vec![modal.clone()], view, ..armed.clone() };
            for (width, height) in [(80, 24), (120, 40), (200, 60), (60, 16)] {
                let text = screen(&s, &state, width, height);
                let second = text.lines().nth(1).unwrap();
                assert!(second.starts_with("!! ROLLBACK ARMED"), "{second}");
            }
        }
    }
    let ordered = ViewState { ordered: true, ..ViewState::default() };
    assert!(screen(&s, &ordered, 80, 24).contains("!! ROLLBACK ORDERED"));
}

#[test]
fn messages_lie_over_the_log_and_errors_name_their_key() {
    let toast = |level, text: &str, until_ms| Toast { level, text: text.into(), until_ms };
    let state = ViewState {
        toasts: vec![toast(Level::Info, "paused", Some(4_000)), toast(Level::Error, "rollback refused", None)],
        ..ViewState::default()
    };
    let text = screen(&snapshot(Moment::Loading), &state, 80, 24);
    assert!(text.contains(" I paused"), "{text}");
    assert!(text.contains("E rollback refused  (a acknowledges)"), "{text}");
}

#[test]
fn leaving_means_something_else_for_a_rehearsal() {
    let state = with(Modal::Quit { button: Button::Cancel, drawn_ms: Some(0) });
    let mut loading = snapshot(Moment::Loading);
    let live = screen(&loading, &state, 80, 24);
    assert!(live.contains("resumes the run") && live.contains("pauses it"), "{live}");
    loading.mode = crate::snapshot::Mode::Rehearsal { speed: 60.0 };
    let rehearsal = screen(&loading, &state, 80, 24);
    assert!(rehearsal.contains("not resumed") && !rehearsal.contains("resumes the run"), "{rehearsal}");
}
