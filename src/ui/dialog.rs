//! What keys do in the boxes that change something: confirm a step, decide about a failed one, leave.
//!
//! Pure. A box ignores keys until it has been on the screen for a while, so that keys typed for something else trigger
//! nothing dangerous. Rollback does not come through here: it is checked first.

use crossterm::event::{KeyCode, KeyEvent};

use super::field;
use crate::snapshot::{Snapshot, StepRow};
use crate::view::action::Action;
use crate::view::state::{Button, Choice, Modal};

/// What a key did to a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The box still ignores keys: nothing happened.
    Deaf,
    /// The box stays, changed or not.
    Stays,
    /// The box stays, and says why.
    Refused(String),
    /// The box closes and nothing happens.
    Cancelled,
    /// Let the step start.
    Confirmed {
        /// Step id.
        step: String,
        /// What was typed, if a word is asked for.
        word: Option<String>,
    },
    /// Try the step again.
    Retry(String),
    /// Leave the step out.
    Skip(String),
    /// Take the step back.
    StepBack(String),
    /// Leave; the run goes on.
    Leave,
}

/// The box for the step that waits for a person now, if one does.
#[must_use]
pub fn for_current(snapshot: &Snapshot) -> Option<Modal> {
    current(snapshot).and_then(Modal::for_step)
}

fn current(snapshot: &Snapshot) -> Option<&StepRow> {
    snapshot.current.and_then(|i| snapshot.steps.get(i))
}

/// Whether a box still asks what the run waits for. A box that answers a question nobody asks any more must go.
#[must_use]
pub fn still_asked(modal: &Modal, snapshot: &Snapshot) -> bool {
    let asked = current(snapshot).and_then(Modal::for_step);
    match (modal, asked) {
        (Modal::Confirm { step, word, .. }, Some(Modal::Confirm { step: s, word: w, .. })) => *step == s && *word == w,
        (Modal::Decide { step, .. }, Some(Modal::Decide { step: s, .. })) => *step == s,
        (Modal::Confirm { .. } | Modal::Decide { .. }, _) => false,
        (Modal::StepBack { step, .. }, _) => snapshot.step_back.step.as_ref() == Some(step),
        _ => true,
    }
}

/// Whether a typed character is text in this box.
#[must_use]
pub const fn takes_text(modal: &Modal) -> bool {
    matches!(
        modal,
        Modal::Confirm { word: Some(_), .. }
            | Modal::Help { searching: true, .. }
            | Modal::Palette { .. }
            | Modal::Note { .. }
    )
}

/// A key for a box that changes something. `at_ms` is when the key was read, `action` what it is bound to.
pub fn press(modal: &mut Modal, key: &KeyEvent, action: Option<Action>, at_ms: u64) -> Outcome {
    if key.code == KeyCode::Esc || (action == Some(Action::Back) && !(takes_text(modal) && field::is_text(key))) {
        // Cancelling changes nothing, so a box that still ignores keys accepts it too.
        return Outcome::Cancelled;
    }
    if modal.is_deaf(at_ms) {
        return Outcome::Deaf;
    }
    let (right, left) = sideways(modal, key, action);
    match modal {
        Modal::Confirm { step, word, typed, button, .. } => {
            if right || left {
                *button = other(*button);
                return Outcome::Stays;
            }
            if key.code == KeyCode::Enter {
                return match (*button, word.as_deref()) {
                    (_, Some(word)) if !typed.is_empty() && typed != word => {
                        Outcome::Refused(format!("type {word} exactly; nothing was changed"))
                    }
                    // A word that was typed means forward, the focus means back: neither is done.
                    (Button::Cancel, Some(_)) if !typed.is_empty() => Outcome::Refused(
                        "the focus is on Cancel: Tab to the button, then Enter; Esc cancels".to_owned(),
                    ),
                    (Button::Cancel, _) => Outcome::Cancelled,
                    (Button::Go, None) => Outcome::Confirmed { step: step.clone(), word: None },
                    (Button::Go, Some(word)) if typed == word => {
                        Outcome::Confirmed { step: step.clone(), word: Some(typed.clone()) }
                    }
                    (Button::Go, Some(word)) => Outcome::Refused(format!("type {word} exactly; nothing was changed")),
                };
            }
            if word.is_some() {
                field::edit(typed, key);
            }
            Outcome::Stays
        }
        Modal::Decide { step, choice, .. } => match (key.code, action) {
            (KeyCode::Enter, _) => match *choice {
                Choice::Wait => Outcome::Cancelled,
                Choice::Retry => Outcome::Retry(step.clone()),
                Choice::Skip => Outcome::Skip(step.clone()),
            },
            (_, Some(Action::Retry)) => {
                *choice = Choice::Retry;
                Outcome::Stays
            }
            (_, Some(Action::Skip)) => {
                *choice = Choice::Skip;
                Outcome::Stays
            }
            _ => {
                if right {
                    *choice = choice.right();
                } else if left {
                    *choice = choice.left();
                }
                Outcome::Stays
            }
        },
        Modal::StepBack { step, button, .. } => match (key.code, action) {
            _ if right || left => {
                *button = other(*button);
                Outcome::Stays
            }
            (_, Some(Action::StepBack)) => Outcome::StepBack(step.clone()),
            (KeyCode::Enter, _) => match *button {
                Button::Cancel => Outcome::Cancelled,
                Button::Go => Outcome::StepBack(step.clone()),
            },
            _ => Outcome::Stays,
        },
        Modal::Quit { button, .. } => match key.code {
            _ if right || left => {
                *button = other(*button);
                Outcome::Stays
            }
            KeyCode::Char('y' | 'Y') if field::is_text(key) => Outcome::Leave,
            KeyCode::Char('n' | 'N') if field::is_text(key) => Outcome::Cancelled,
            KeyCode::Enter => match *button {
                Button::Cancel => Outcome::Cancelled,
                Button::Go => Outcome::Leave,
            },
            _ => Outcome::Stays,
        },
        _ => Outcome::Stays,
    }
}

/// Whether a key moves the focus right, or left. Letters do only where nothing is typed.
fn sideways(modal: &Modal, key: &KeyEvent, action: Option<Action>) -> (bool, bool) {
    if takes_text(modal) && field::is_text(key) {
        return (false, false);
    }
    let right = matches!(key.code, KeyCode::Tab | KeyCode::Right);
    let left = matches!(key.code, KeyCode::BackTab | KeyCode::Left);
    let by_action = |a: Action, b: Action| action == Some(a) || action == Some(b);
    (
        right || (!left && by_action(Action::Right, Action::FocusNext)),
        left || (!right && by_action(Action::Left, Action::FocusPrevious)),
    )
}

const fn other(button: Button) -> Button {
    match button {
        Button::Cancel => Button::Go,
        Button::Go => Button::Cancel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::Need;
    use crossterm::event::KeyModifiers;
    use proptest::prelude::*;

    const OPEN: u64 = 1_000;
    const HEARS: u64 = OPEN + 400;

    fn held(need: Need) -> Snapshot {
        let step = StepRow { id: "switch".into(), need: Some(need), ..StepRow::default() };
        Snapshot { steps: vec![step], current: Some(0), ..Snapshot::default() }
    }

    fn boxed(need: Need) -> Modal {
        let mut modal = for_current(&held(need)).unwrap();
        modal.mark_drawn(OPEN);
        modal
    }

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    fn tap(modal: &mut Modal, code: KeyCode) -> Outcome {
        press(modal, &key(code), None, HEARS)
    }

    fn type_in(modal: &mut Modal, text: &str, at_ms: u64) {
        for c in text.chars() {
            press(modal, &key(KeyCode::Char(c)), None, at_ms);
        }
    }

    #[test]
    fn the_word_and_the_button_both_count() {
        let word = || Need::Word("orders".into());
        let mut m = boxed(word());
        type_in(&mut m, "orders", HEARS);
        assert!(matches!(tap(&mut m, KeyCode::Enter), Outcome::Refused(_)), "cancel is focused first; the word stays");
        assert!(m.word_matches());
        assert_eq!(tap(&mut m, KeyCode::Esc), Outcome::Cancelled);
        assert_eq!(tap(&mut boxed(word()), KeyCode::Enter), Outcome::Cancelled, "nothing typed, nothing meant");
        let mut m = boxed(word());
        type_in(&mut m, "order", HEARS);
        tap(&mut m, KeyCode::Tab);
        assert!(matches!(tap(&mut m, KeyCode::Enter), Outcome::Refused(_)));
        type_in(&mut m, "s", HEARS);
        let confirmed = Outcome::Confirmed { step: "switch".into(), word: Some("orders".into()) };
        assert_eq!(tap(&mut m, KeyCode::Enter), confirmed);
        tap(&mut m, KeyCode::Backspace);
        assert!(matches!(tap(&mut m, KeyCode::Enter), Outcome::Refused(_)));
    }

    #[test]
    fn what_was_typed_before_the_box_stood_is_dropped() {
        let mut undrawn = for_current(&held(Need::Word("go".into()))).unwrap();
        type_in(&mut undrawn, "go", u64::MAX);
        assert_eq!(press(&mut undrawn, &key(KeyCode::Tab), None, u64::MAX), Outcome::Deaf);
        let mut m = boxed(Need::Word("go".into()));
        type_in(&mut m, "go", HEARS - 1);
        type_in(&mut m, "go", OPEN - 500);
        assert_eq!(press(&mut m, &key(KeyCode::Tab), None, HEARS - 1), Outcome::Deaf);
        assert!(matches!(&m, Modal::Confirm { typed, button: Button::Cancel, .. } if typed.is_empty()));
        assert_eq!(press(&mut m, &key(KeyCode::Esc), None, OPEN), Outcome::Cancelled);
    }

    #[test]
    fn a_key_is_enough_where_no_word_is_asked() {
        let mut m = boxed(Need::Key);
        assert_eq!(press(&mut m, &key(KeyCode::Char('l')), Some(Action::Right), HEARS), Outcome::Stays);
        assert_eq!(tap(&mut m, KeyCode::Enter), Outcome::Confirmed { step: "switch".into(), word: None });
    }

    #[test]
    fn letters_bound_to_movement_are_text_in_a_field() {
        let mut m = boxed(Need::Word("hl".into()));
        press(&mut m, &key(KeyCode::Char('h')), Some(Action::Left), HEARS);
        press(&mut m, &key(KeyCode::Char('l')), Some(Action::Right), HEARS);
        assert!(m.word_matches());
        assert!(matches!(m, Modal::Confirm { button: Button::Cancel, .. }));
    }

    #[test]
    fn a_decision_is_focused_and_then_taken() {
        let mut m = boxed(Need::Decision);
        assert_eq!(tap(&mut m, KeyCode::Enter), Outcome::Cancelled);
        tap(&mut m, KeyCode::Right);
        assert_eq!(tap(&mut m, KeyCode::Enter), Outcome::Retry("switch".into()));
        press(&mut m, &key(KeyCode::Char('s')), Some(Action::Skip), HEARS);
        assert_eq!(tap(&mut m, KeyCode::Enter), Outcome::Skip("switch".into()));
        press(&mut m, &key(KeyCode::Char('t')), Some(Action::Retry), HEARS);
        tap(&mut m, KeyCode::Left);
        assert_eq!(tap(&mut m, KeyCode::Enter), Outcome::Cancelled);
    }

    #[test]
    fn leaving_takes_a_yes() {
        let mut m = Modal::Quit { button: Button::Cancel, drawn_ms: Some(OPEN) };
        assert_eq!(press(&mut m, &key(KeyCode::Char('y')), None, HEARS - 1), Outcome::Deaf);
        assert_eq!(tap(&mut m, KeyCode::Enter), Outcome::Cancelled);
        assert_eq!(tap(&mut m, KeyCode::Char('n')), Outcome::Cancelled);
        assert_eq!(tap(&mut m, KeyCode::Char('q')), Outcome::Stays);
        assert_eq!(tap(&mut m, KeyCode::Char('y')), Outcome::Leave);
        tap(&mut m, KeyCode::Tab);
        assert_eq!(tap(&mut m, KeyCode::Enter), Outcome::Leave);
    }

    #[test]
    fn a_question_nobody_asks_any_more_is_noticed() {
        let m = boxed(Need::Word("orders".into()));
        assert!(still_asked(&m, &held(Need::Word("orders".into()))));
        assert!(!still_asked(&m, &held(Need::Word("other".into()))));
        assert!(!still_asked(&m, &held(Need::Decision)));
        assert!(!still_asked(&m, &Snapshot::default()));
        let quit = Modal::Quit { button: Button::Cancel, drawn_ms: None };
        assert!(still_asked(&quit, &Snapshot::default()));
    }

    proptest! {
        /// Without the whole word there is no way to confirm, whatever is pressed.
        #[test]
        fn nothing_but_the_word_confirms(presses in proptest::collection::vec((0u8..8, any::<char>(), 0u64..3_000), 0..60)) {
            let mut m = boxed(Need::Word("zq".into()));
            for (which, c, at) in presses {
                let code = match which {
                    0 => KeyCode::Tab,
                    1 | 2 => KeyCode::Enter,
                    3 => KeyCode::Left,
                    4 => KeyCode::Backspace,
                    5 => KeyCode::Char(if c > 'm' { 'z' } else { 'q' }),
                    _ => KeyCode::Char(c),
                };
                let before = m.clone();
                let outcome = press(&mut m, &key(code), None, at);
                if at < HEARS && code != KeyCode::Esc {
                    prop_assert_eq!(&outcome, &Outcome::Deaf);
                    prop_assert_eq!(&before, &m);
                }
                if let Outcome::Confirmed { word, .. } = outcome {
                    prop_assert_eq!(word.as_deref(), Some("zq"));
                    prop_assert!(before.word_matches());
                }
            }
        }
    }
}
