//! Listening to the keyboard on a thread of its own, so that a stalled screen never delays what was pressed.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::decode::{Decoder, Typed};

/// How long a lone escape byte waits for the rest of its sequence. Slow links cut sequences apart.
const ESCAPE_WAIT: Duration = Duration::from_millis(40);
/// Keys held while the screen is busy. When it is full the listener waits; nothing is dropped.
const WAITING: usize = 256;

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A key or a paste, and when it was read: a dialog takes only what came after it was drawn.
    Typed(Typed, Instant),
    /// The terminal is gone: end of file or an error.
    Gone,
}

/// Listens until dropped.
#[derive(Debug)]
pub struct Listener {
    heard: mpsc::Receiver<Heard>,
    wake: UnixStream,
}

impl Listener {
    /// Listens on standard input, or on `/dev/tty` when that is no terminal.
    pub fn start() -> io::Result<Self> {
        let stdin = io::stdin();
        let keyboard = if stdin.is_terminal() {
            stdin.as_fd().try_clone_to_owned()?
        } else {
            OwnedFd::from(File::open("/dev/tty")?)
        };
        Self::on(keyboard)
    }

    /// Listens on this file.
    pub fn on(keyboard: OwnedFd) -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        let (tell, heard) = mpsc::channel(WAITING);
        std::thread::Builder::new()
            .name("keyboard".to_owned())
            .spawn(move || listen(File::from(keyboard), &woken, &tell))?;
        Ok(Self { heard, wake })
    }

    /// The next input. After [`Heard::Gone`] it is always [`Heard::Gone`]. Cancel-safe.
    pub async fn next(&mut self) -> Heard {
        self.heard.recv().await.unwrap_or(Heard::Gone)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.wake.write_all(b"x");
    }
}

fn listen(mut keyboard: File, woken: &UnixStream, tell: &mpsc::Sender<Heard>) {
    let mut decoder = Decoder::default();
    let mut buffer = [0u8; 1024];
    loop {
        let ready = wait(&keyboard, woken, decoder.is_waiting().then_some(ESCAPE_WAIT));
        let typed = match ready {
            Ok(Ready::Woken) => return,
            Ok(Ready::Nothing) => decoder.flush(),
            Ok(Ready::Keyboard) => match keyboard.read(&mut buffer) {
                Ok(n) if n > 0 => decoder.feed(&buffer[..n]),
                Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => continue,
                Ok(_) | Err(_) => {
                    let _ = tell.blocking_send(Heard::Gone);
                    return;
                }
            },
            Err(_) => {
                let _ = tell.blocking_send(Heard::Gone);
                return;
            }
        };
        let now = Instant::now();
        for t in typed {
            if tell.blocking_send(Heard::Typed(t, now)).is_err() {
                return;
            }
        }
    }
}

enum Ready {
    Keyboard,
    Woken,
    Nothing,
}

fn wait(keyboard: &File, woken: &UnixStream, limit: Option<Duration>) -> Result<Ready, Errno> {
    let limit = limit.and_then(|d| Timespec::try_from(d).ok());
    let mut fds = [PollFd::new(keyboard, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
    loop {
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => return Ok(Ready::Nothing),
            Ok(_) if !fds[1].revents().is_empty() => return Ok(Ready::Woken),
            Ok(_) => return Ok(Ready::Keyboard),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    fn pair() -> (UnixStream, Listener) {
        let (ours, theirs) = UnixStream::pair().unwrap_or_else(|e| panic!("{e}"));
        (ours, Listener::on(OwnedFd::from(theirs)).unwrap_or_else(|e| panic!("{e}")))
    }

    async fn next(l: &mut Listener) -> Heard {
        tokio::time::timeout(Duration::from_secs(5), l.next()).await.unwrap_or_else(|_| panic!("nothing heard"))
    }

    fn code(h: &Heard) -> Option<KeyCode> {
        match h {
            Heard::Typed(Typed::Key(k), _) => Some(k.code),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_lone_escape_becomes_a_key_and_a_sequence_stays_one() {
        let (mut ours, mut l) = pair();
        ours.write_all(b"\x1b").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(code(&next(&mut l).await), Some(KeyCode::Esc));
        ours.write_all(b"\x1b[5~").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(code(&next(&mut l).await), Some(KeyCode::PageUp));
    }

    #[tokio::test]
    async fn a_hang_up_is_told_after_what_was_typed_before_it() {
        let (mut ours, mut l) = pair();
        ours.write_all(b"q").unwrap_or_else(|e| panic!("{e}"));
        drop(ours);
        let q = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        assert!(matches!(next(&mut l).await, Heard::Typed(Typed::Key(k), _) if k == q));
        assert_eq!(next(&mut l).await, Heard::Gone);
        assert_eq!(next(&mut l).await, Heard::Gone);
    }

    #[tokio::test]
    async fn dropping_the_listener_ends_its_thread() {
        let (mut ours, l) = pair();
        drop(l);
        // The thread's end closes the last copy of the other side: end of file here.
        ours.set_read_timeout(Some(Duration::from_secs(5))).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(ours.read(&mut [0u8; 1]).ok(), Some(0));
    }
}
