//! Notifications of the desktop, asked for by control sequences of the terminal.

use super::capabilities::Environment;
use crate::domain::alert::Desktop;

/// Characters of a title and of a body at most.
const TITLE: usize = 80;
const BODY: usize = 300;
const ESC: char = '\x1b';

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesktopNote {
    /// Its title.
    pub title: String,
    /// What it says.
    pub body: String,
}

/// The bytes that ask this terminal for it; `None` where a terminal would print them.
///
/// A multiplexer passes on only what is wrapped for it, and tmux only with `allow-passthrough on`.
pub fn sequence(how: Desktop, note: &DesktopNote, env: Environment<'_>) -> Option<Vec<u8>> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let how = match how {
        Desktop::Auto => suggested(&set)?,
        Desktop::Osc9 | Desktop::Osc777 | Desktop::Osc99 => how,
    };
    let (title, body) = (plain(&note.title, TITLE), plain(&note.body, BODY));
    let sequence = match how {
        Desktop::Osc777 => format!("{ESC}]777;notify;{};{}{ESC}\\", title.replace(';', ","), body.replace(';', ",")),
        Desktop::Osc99 => {
            format!("{ESC}]99;i=cutover:d=0;{title}{ESC}\\{ESC}]99;i=cutover:d=1:p=body;{body}{ESC}\\")
        }
        // `OSC 9;4;…` is a progress bar: a title stands first.
        Desktop::Osc9 | Desktop::Auto => format!("{ESC}]9;{title}: {body}{ESC}\\"),
    };
    let wrapped: String = match (set("TMUX"), set("STY")) {
        (Some(_), _) => format!("{ESC}Ptmux;{}{ESC}\\", sequence.replace(ESC, "\x1b\x1b")),
        // GNU screen ends what it passes on at the first terminator, so each sequence is wrapped by itself.
        (None, Some(_)) => {
            let parts = sequence.split_inclusive("\x1b\\").map(|part| part.trim_end_matches("\x1b\\"));
            parts.map(|part| format!("{ESC}P{part}\x07{ESC}\\")).collect()
        }
        (None, None) => sequence,
    };
    Some(wrapped.into_bytes())
}

/// Which sequence the terminal takes, by what it says of itself. Under tmux what its server was started from says it.
fn suggested(set: &dyn Fn(&str) -> Option<String>) -> Option<Desktop> {
    let term = set("TERM").unwrap_or_default();
    if matches!(term.as_str(), "" | "dumb" | "linux") {
        return None;
    }
    let rxvt = term.starts_with("rxvt") || term.starts_with("foot") || set("VTE_VERSION").is_some();
    Some(if term == "xterm-kitty" || set("KITTY_WINDOW_ID").is_some() {
        Desktop::Osc99
    } else if rxvt {
        Desktop::Osc777
    } else {
        // The oldest and the most widely taken; a terminal that does not know it passes over it.
        Desktop::Osc9
    })
}

/// One line without control characters: nothing in a message may end the sequence.
fn plain(text: &str, most: usize) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    one_line.trim().chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(how: Desktop, pairs: &[(&str, &str)], body: &str) -> Option<String> {
        let env = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let note = DesktopNote { title: "cutover shop errors".into(), body: body.into() };
        sequence(how, &note, &env).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn each_terminal_gets_the_sequence_it_takes() {
        let of = |pairs: &[(&str, &str)]| asked(Desktop::Auto, pairs, "it is 3%");
        let osc9 = "\x1b]9;cutover shop errors: it is 3%\x1b\\";
        assert_eq!(of(&[("TERM", "xterm-256color")]).as_deref(), Some(osc9));
        let osc777 = "\x1b]777;notify;cutover shop errors;it is 3%\x1b\\";
        assert_eq!(of(&[("TERM", "foot")]).as_deref(), Some(osc777));
        assert_eq!(of(&[("TERM", "xterm-256color"), ("VTE_VERSION", "7600")]).as_deref(), Some(osc777));
        let osc99 = "\x1b]99;i=cutover:d=0;cutover shop errors\x1b\\\x1b]99;i=cutover:d=1:p=body;it is 3%\x1b\\";
        assert_eq!(of(&[("TERM", "xterm-kitty")]).as_deref(), Some(osc99));
        for printed in ["dumb", "linux", ""] {
            assert_eq!(of(&[("TERM", printed)]), None);
        }
    }

    #[test]
    fn a_multiplexer_is_asked_to_pass_it_on() {
        let tmux = asked(Desktop::Osc9, &[("TERM", "tmux-256color"), ("TMUX", "/tmp/tmux,1,0")], "x").unwrap();
        assert_eq!(tmux, "\x1bPtmux;\x1b\x1b]9;cutover shop errors: x\x1b\x1b\\\x1b\\");
        let screen = asked(Desktop::Osc9, &[("TERM", "screen"), ("STY", "1.pts-0")], "x").unwrap();
        assert_eq!(screen, "\x1bP\x1b]9;cutover shop errors: x\x07\x1b\\");
    }

    #[test]
    fn nothing_in_a_message_ends_the_sequence() {
        let text = asked(Desktop::Osc777, &[], "a\x1b\\b;c\x07\nd\u{9c}e").unwrap();
        let inside = text.strip_prefix("\x1b]777;notify;").unwrap().strip_suffix("\x1b\\").unwrap();
        assert!(!inside.contains(char::is_control), "{inside:?}");
        assert_eq!(inside.matches(';').count(), 1, "{inside:?}");
    }
}
