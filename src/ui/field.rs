//! A line of text being typed.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Longest line, in characters: a word, a filter, a note for the journal.
pub const LONGEST: usize = 200;

/// Whether a key is text, not a command: a character without Ctrl or Alt.
#[must_use]
pub fn is_text(key: &KeyEvent) -> bool {
    matches!(key.code, KeyCode::Char(_)) && !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
}

/// Lets a key change the line; `true` when the key belongs to the line, whether it changed anything or not.
pub fn edit(line: &mut String, key: &KeyEvent) -> bool {
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char(c) if is_text(key) => push(line, c),
        KeyCode::Char('u') if ctrl => line.clear(),
        KeyCode::Char('w') if ctrl => {
            let kept = line.trim_end().rfind(char::is_whitespace).map_or(0, |i| i + 1);
            // The space itself may be wider than a byte.
            let kept = (kept..=line.len()).find(|i| line.is_char_boundary(*i)).unwrap_or(0);
            line.truncate(kept);
        }
        KeyCode::Backspace => {
            line.pop();
        }
        _ => return false,
    }
    true
}

/// Takes pasted text into the line: what is no character on one line becomes a space.
pub fn paste(line: &mut String, text: &str) {
    for c in text.trim_end().chars() {
        push(line, if c.is_control() { ' ' } else { c });
    }
}

fn push(line: &mut String, c: char) {
    if !c.is_control() && line.chars().count() < LONGEST {
        line.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(code: KeyCode, modifiers: KeyModifiers) -> KeyEvent {
        KeyEvent::new(code, modifiers)
    }

    #[test]
    fn a_line_is_typed_and_corrected() {
        let mut line = String::new();
        for c in "say it".chars() {
            assert!(edit(&mut line, &key(KeyCode::Char(c), KeyModifiers::NONE)));
        }
        assert!(edit(&mut line, &key(KeyCode::Backspace, KeyModifiers::NONE)));
        assert_eq!(line, "say i");
        edit(&mut line, &key(KeyCode::Char('w'), KeyModifiers::CONTROL));
        assert_eq!(line, "say ");
        edit(&mut line, &key(KeyCode::Char('u'), KeyModifiers::CONTROL));
        assert_eq!(line, "");
        assert!(!edit(&mut line, &key(KeyCode::Enter, KeyModifiers::NONE)));
        assert!(!edit(&mut line, &key(KeyCode::Char('r'), KeyModifiers::CONTROL)));
        assert!(!edit(&mut line, &key(KeyCode::Char('x'), KeyModifiers::ALT)));
        paste(&mut line, "two\nlines\n");
        assert_eq!(line, "two lines");
    }

    proptest! {
        #[test]
        fn no_key_breaks_a_line(start in "\\PC{0,20}", presses in proptest::collection::vec((any::<char>(), 0u8..4), 0..300)) {
            let mut line = start;
            for (c, m) in presses {
                let modifiers = if m == 1 { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
                let code = if m == 2 { KeyCode::Backspace } else if m == 1 { KeyCode::Char('w') } else { KeyCode::Char(c) };
                edit(&mut line, &key(code, modifiers));
                prop_assert!(line.chars().count() <= LONGEST);
            }
        }
    }
}
