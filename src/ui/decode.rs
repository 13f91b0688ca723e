//! Bytes from a terminal into keys and pastes.
//!
//! Written here because crossterm 0.29 spins for ever inside its reader when the terminal hangs up: its loop
//! leaves only on `WouldBlock`, and a dead terminal answers end-of-file. Key values are still crossterm's.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Longest paste that is kept, in bytes; the rest is dropped. Text fields here hold a word or a filter.
const LONGEST_PASTE: usize = 4096;
/// Longest escape sequence; a longer one is noise and is dropped.
const LONGEST_SEQUENCE: usize = 64;
const PASTE_END: &[u8] = b"\x1b[201~";

/// What the bytes said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// One key.
    Key(KeyEvent),
    /// Pasted text.
    Paste(String),
}

/// Turns bytes into keys. Keeps what is incomplete until more comes.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
    paste: Option<Vec<u8>>,
}

enum Step {
    /// This many bytes made this.
    Took(usize, Option<KeyEvent>),
    /// A paste begins after this many bytes.
    PasteBegins(usize),
    /// More bytes are needed.
    More,
}

impl Decoder {
    /// Takes bytes in, gives out what they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Typed> {
        self.pending.extend_from_slice(bytes);
        self.drain(false)
    }

    /// Whether something incomplete waits: a lone escape is only a key once nothing follows it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.paste.is_none() && !self.pending.is_empty()
    }

    /// Nothing followed in time: what waits is taken as it stands.
    pub fn flush(&mut self) -> Vec<Typed> {
        self.drain(true)
    }

    fn drain(&mut self, last: bool) -> Vec<Typed> {
        let mut out = Vec::new();
        loop {
            if self.paste.is_some() {
                if !self.take_paste(&mut out) {
                    return out;
                }
                continue;
            }
            if self.pending.is_empty() {
                return out;
            }
            match step(&self.pending, last) {
                Step::Took(n, key) => {
                    self.pending.drain(..n);
                    out.extend(key.map(Typed::Key));
                }
                Step::PasteBegins(n) => {
                    self.pending.drain(..n);
                    self.paste = Some(Vec::new());
                }
                Step::More => return out,
            }
        }
    }

    /// Moves pending bytes into the paste; `true` when the paste ended.
    fn take_paste(&mut self, out: &mut Vec<Typed>) -> bool {
        let end = self.pending.windows(PASTE_END.len()).position(|w| w == PASTE_END);
        // Without an end, the last bytes may be its beginning: they stay.
        let upto = end.unwrap_or_else(|| self.pending.len().saturating_sub(PASTE_END.len() - 1));
        let Some(text) = self.paste.as_mut() else { return true };
        let room = LONGEST_PASTE.saturating_sub(text.len());
        text.extend_from_slice(&self.pending[..upto.min(room)]);
        self.pending.drain(..upto + if end.is_some() { PASTE_END.len() } else { 0 });
        if end.is_none() {
            return false;
        }
        let text = self.paste.take().unwrap_or_default();
        out.push(Typed::Paste(String::from_utf8_lossy(&text).into_owned()));
        true
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> KeyEvent {
    KeyEvent::new(code, modifiers)
}

fn step(bytes: &[u8], last: bool) -> Step {
    match bytes[0] {
        0x1b => escape(bytes, last),
        b => match plain(b) {
            Some(k) => Step::Took(1, Some(k)),
            None => character(bytes, last),
        },
    }
}

/// One-byte keys below space, and delete.
fn plain(b: u8) -> Option<KeyEvent> {
    Some(match b {
        b'\r' | b'\n' => key(KeyCode::Enter, KeyModifiers::NONE),
        b'\t' => key(KeyCode::Tab, KeyModifiers::NONE),
        0x7f | 0x08 => key(KeyCode::Backspace, KeyModifiers::NONE),
        0 => key(KeyCode::Char(' '), KeyModifiers::CONTROL),
        1..=26 => key(KeyCode::Char(char::from(b - 1 + b'a')), KeyModifiers::CONTROL),
        0x1c..=0x1f => key(KeyCode::Char(char::from(b - 0x1c + b'4')), KeyModifiers::CONTROL),
        _ => return None,
    })
}

fn character(bytes: &[u8], last: bool) -> Step {
    let len = match bytes[0] {
        0x20..=0x7e => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Step::Took(1, None),
    };
    if bytes.len() < len {
        // A broken character is dropped, never guessed.
        return if last { Step::Took(bytes.len(), None) } else { Step::More };
    }
    match std::str::from_utf8(&bytes[..len]).ok().and_then(|s| s.chars().next()) {
        Some(c) => {
            let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
            Step::Took(len, Some(key(KeyCode::Char(c), shift)))
        }
        None => Step::Took(1, None),
    }
}

fn escape(bytes: &[u8], last: bool) -> Step {
    let lone = Step::Took(1, Some(key(KeyCode::Esc, KeyModifiers::NONE)));
    match bytes.get(1) {
        None if last => lone,
        None => Step::More,
        Some(b'[') => control_sequence(bytes, last),
        Some(b'O') => match bytes.get(2) {
            None if last => Step::Took(2, Some(key(KeyCode::Char('O'), KeyModifiers::ALT | KeyModifiers::SHIFT))),
            None => Step::More,
            Some(f) => Step::Took(3, final_key(*f, KeyModifiers::NONE)),
        },
        // Two escapes: the first was a key of its own.
        Some(0x1b) => lone,
        Some(_) => match step(&bytes[1..], last) {
            Step::Took(n, k) => Step::Took(
                n + 1,
                k.map(|mut k| {
                    k.modifiers |= KeyModifiers::ALT;
                    k
                }),
            ),
            other => other,
        },
    }
}

fn control_sequence(bytes: &[u8], last: bool) -> Step {
    // The Linux console sends F1 to F5 as `ESC [ [ A`.
    if bytes.get(2) == Some(&b'[') {
        return match bytes.get(3) {
            Some(f @ b'A'..=b'E') => Step::Took(4, Some(key(KeyCode::F(f - b'A' + 1), KeyModifiers::NONE))),
            Some(_) => Step::Took(4, None),
            None if last => Step::Took(bytes.len(), None),
            None => Step::More,
        };
    }
    let Some(end) = bytes[2..].iter().position(|b| matches!(b, 0x40..=0x7e)) else {
        if bytes.len() > LONGEST_SEQUENCE {
            return Step::Took(bytes.len(), None);
        }
        return match (last, bytes.len()) {
            (true, 2) => Step::Took(2, Some(key(KeyCode::Char('['), KeyModifiers::ALT))),
            (true, n) => Step::Took(n, None),
            (false, _) => Step::More,
        };
    };
    let (parameters, f, took) = (&bytes[2..2 + end], bytes[2 + end], end + 3);
    let numbers: Vec<u16> = String::from_utf8_lossy(parameters)
        .split(';')
        .map(|p| p.split(':').next().unwrap_or_default().parse().unwrap_or(0))
        .collect();
    let modifiers = numbers.get(1).map_or(KeyModifiers::NONE, |m| modifiers(*m));
    match f {
        b'~' if numbers.first() == Some(&200) => Step::PasteBegins(took),
        b'~' => Step::Took(took, tilde(numbers.first().copied().unwrap_or(0)).map(|c| key(c, modifiers))),
        b'Z' => Step::Took(took, Some(key(KeyCode::BackTab, KeyModifiers::SHIFT))),
        _ => Step::Took(took, final_key(f, modifiers)),
    }
}

fn modifiers(parameter: u16) -> KeyModifiers {
    let bits = parameter.saturating_sub(1);
    let mut m = KeyModifiers::NONE;
    m.set(KeyModifiers::SHIFT, bits & 1 != 0);
    m.set(KeyModifiers::ALT, bits & 2 != 0);
    m.set(KeyModifiers::CONTROL, bits & 4 != 0);
    m
}

fn final_key(f: u8, modifiers: KeyModifiers) -> Option<KeyEvent> {
    let code = match f {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'M' => KeyCode::Enter,
        b'P'..=b'S' => KeyCode::F(f - b'P' + 1),
        _ => return None,
    };
    Some(key(code, modifiers))
}

fn tilde(number: u16) -> Option<KeyCode> {
    Some(match number {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F(u8::try_from(number - 10).ok()?),
        17..=21 => KeyCode::F(u8::try_from(number - 11).ok()?),
        23 | 24 => KeyCode::F(u8::try_from(number - 12).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Typed> {
        let mut d = Decoder::default();
        let mut out = d.feed(bytes);
        out.extend(d.flush());
        out
    }

    fn one(code: KeyCode, modifiers: KeyModifiers) -> Vec<Typed> {
        vec![Typed::Key(key(code, modifiers))]
    }

    #[test]
    fn known_sequences() {
        let none = KeyModifiers::NONE;
        for (bytes, code, modifiers) in [
            (&b"a"[..], KeyCode::Char('a'), none),
            (b"R", KeyCode::Char('R'), KeyModifiers::SHIFT),
            (b"\x12", KeyCode::Char('r'), KeyModifiers::CONTROL),
            (b"\x03", KeyCode::Char('c'), KeyModifiers::CONTROL),
            (b"\r", KeyCode::Enter, none),
            (b"\x7f", KeyCode::Backspace, none),
            (b"\x1b", KeyCode::Esc, none),
            (b"\x1b[A", KeyCode::Up, none),
            (b"\x1bOB", KeyCode::Down, none),
            (b"\x1b[1;5C", KeyCode::Right, KeyModifiers::CONTROL),
            (b"\x1b[5~", KeyCode::PageUp, none),
            (b"\x1b[6;2~", KeyCode::PageDown, KeyModifiers::SHIFT),
            (b"\x1b[Z", KeyCode::BackTab, KeyModifiers::SHIFT),
            (b"\x1bOP", KeyCode::F(1), none),
            (b"\x1b[15~", KeyCode::F(5), none),
            (b"\x1b[24~", KeyCode::F(12), none),
            (b"\x1b[[C", KeyCode::F(3), none),
            (b"\x1bx", KeyCode::Char('x'), KeyModifiers::ALT),
            ("é".as_bytes(), KeyCode::Char('é'), none),
        ] {
            assert_eq!(keys(bytes), one(code, modifiers), "{bytes:?}");
        }
    }

    #[test]
    fn a_sequence_cut_anywhere_is_one_key() {
        let whole = b"\x1b[1;5C";
        for cut in 1..whole.len() {
            let mut d = Decoder::default();
            assert!(d.feed(&whole[..cut]).is_empty(), "cut at {cut}");
            assert!(d.is_waiting());
            assert_eq!(d.feed(&whole[cut..]), one(KeyCode::Right, KeyModifiers::CONTROL));
            assert!(!d.is_waiting());
        }
    }

    #[test]
    fn a_paste_is_never_keys() {
        let bytes = b"\x1b[200~RR orders\r\x1b[A\x1b[201~q";
        for cut in 0..bytes.len() {
            let mut d = Decoder::default();
            let mut out = d.feed(&bytes[..cut]);
            out.extend(d.feed(&bytes[cut..]));
            assert_eq!(out.len(), 2, "cut at {cut}: {out:?}");
            assert_eq!(out[0], Typed::Paste("RR orders\r\x1b[A".to_owned()));
            assert_eq!(out[1], Typed::Key(key(KeyCode::Char('q'), KeyModifiers::NONE)));
        }
    }

    #[test]
    fn a_paste_without_end_holds_no_more_than_its_share() {
        let mut d = Decoder::default();
        d.feed(b"\x1b[200~");
        for _ in 0..100 {
            assert!(d.feed(&[b'x'; 1000]).is_empty());
        }
        assert!(d.paste.as_ref().is_some_and(|p| p.len() <= LONGEST_PASTE));
        assert_eq!(d.feed(PASTE_END), vec![Typed::Paste("x".repeat(LONGEST_PASTE))]);
    }

    #[test]
    fn two_escapes_are_two_keys() {
        let esc = Typed::Key(key(KeyCode::Esc, KeyModifiers::NONE));
        assert_eq!(keys(b"\x1b\x1b"), vec![esc.clone(), esc]);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_empty_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut d = Decoder::default();
            d.feed(&bytes);
            d.flush();
            prop_assert!(!d.is_waiting());
        }

        #[test]
        fn cutting_never_changes_what_complete_bytes_say(text in "[a-zA-Z0-9é]{0,20}", cut in 0usize..20) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut d = Decoder::default();
            let mut out = d.feed(&bytes[..cut]);
            out.extend(d.feed(&bytes[cut..]));
            prop_assert_eq!(out, keys(bytes));
        }
    }
}
