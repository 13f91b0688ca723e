//! One more key before something is done, where somebody sits at a terminal.

use std::io::IsTerminal;

use rustix::fd::BorrowedFd;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcsetattr,
};

use super::out::print;

/// Whether somebody can be asked: standard input and standard output are terminals.
pub fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Asks for one more key, one of these, and waits for it on a thread of its own. What was typed before the question
/// does not answer it.
pub async fn confirmed(question: &'static str, keys: &'static [u8]) -> bool {
    tokio::task::spawn_blocking(move || one_key(question, keys)).await.unwrap_or(false)
}

/// Whether exactly one of these keys is pressed next. Several bytes at once are a paste or another key; no answer, and
/// a terminal that cannot be asked, are a no.
fn one_key(question: &str, wanted: &[u8]) -> bool {
    let input = rustix::stdio::stdin();
    let Some(_raw) = Raw::enter(input) else { return false };
    print(question);
    let mut bytes = [0_u8; 64];
    let pressed = loop {
        match rustix::io::read(input, &mut bytes) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(read) => break bytes.get(..read).unwrap_or_default().to_vec(),
            Err(_) => break Vec::new(),
        }
    };
    print("\n");
    matches!(pressed[..], [key] if wanted.contains(&key))
}

/// The terminal gives single keys, unechoed, until this is dropped.
struct Raw {
    input: BorrowedFd<'static>,
    before: Termios,
}

impl Raw {
    fn enter(input: BorrowedFd<'static>) -> Option<Self> {
        let before = tcgetattr(input).ok()?;
        let mut raw = before.clone();
        // Ctrl-C is a key like any other: it must not leave the terminal like this.
        raw.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        // Flush: what was typed before nobody has asked yet.
        tcsetattr(input, OptionalActions::Flush, &raw).ok()?;
        tcflush(input, QueueSelector::IFlush).ok()?;
        Some(Self { input, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What else was pasted must not reach the shell as a command.
        let _ = tcsetattr(self.input, OptionalActions::Flush, &self.before);
    }
}
