//! Standard output and standard error, whatever reads them: a reader that closes its end is no failure.

use std::io::{self, StdoutLock, Write};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// The reader of standard output has closed it.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
struct ReaderGone;

/// Standard output of a command that ends when nobody reads it any more, as in `cutover audit | head`.
///
/// Its error for a closed pipe is distinguished from those of other writers, and the program ends quietly
/// ([`reader_gone`]). What drives a run writes through [`print`] instead: it goes on without a reader.
pub struct Out<W>(W);

/// This process's standard output.
pub fn stdout() -> Out<StdoutLock<'static>> {
    Out(io::stdout().lock())
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(named)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(named)
    }
}

fn named(e: io::Error) -> io::Error {
    if e.kind() == io::ErrorKind::BrokenPipe { io::Error::new(e.kind(), ReaderGone) } else { e }
}

/// Whether this failure only says that the reader of standard output has closed it.
pub fn reader_gone(report: &color_eyre::eyre::Report) -> bool {
    let errors = report.chain().filter_map(|e| e.downcast_ref::<io::Error>());
    errors.filter_map(io::Error::get_ref).any(|inner| inner.is::<ReaderGone>())
}

/// Where words go while an [`OutputThread`] is there.
static QUEUE: Mutex<Option<mpsc::Sender<Words>>> = Mutex::new(None);

/// Words on their way to somebody.
enum Words {
    Out(String),
    Err(String),
}

impl Words {
    /// Writes them. A reader that is gone is no error.
    fn write(&self) {
        match self {
            Self::Out(text) => {
                let mut out = io::stdout().lock();
                let _ = out.write_all(text.as_bytes());
                let _ = out.flush();
            }
            Self::Err(text) => {
                let _ = io::stderr().lock().write_all(text.as_bytes());
            }
        }
    }

    /// Writes them, or leaves that to the thread of an [`OutputThread`].
    fn emit(self) {
        let queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let left = match queue {
            Some(queue) => queue.send(self).err().map(|e| e.0),
            None => Some(self),
        };
        if let Some(words) = left {
            words.write();
        }
    }
}

/// How long the end of a command waits for a reader of what is not written yet.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Writes what is printed on a thread of its own for as long as it exists: a terminal that was stopped with Ctrl-S, a
/// pipe nobody reads or a file on a disk that hangs delays nothing.
pub struct OutputThread(mpsc::Receiver<()>);

/// Starts an [`OutputThread`]. Without a thread for it, words are written as ever.
pub fn output_thread() -> Option<OutputThread> {
    let (queue, words) = mpsc::channel::<Words>();
    let (ended, end) = mpsc::channel();
    let writing = move || {
        words.iter().for_each(|words| words.write());
        drop(ended);
    };
    std::thread::Builder::new().name("output".to_owned()).spawn(writing).ok()?;
    *QUEUE.lock().unwrap_or_else(PoisonError::into_inner) = Some(queue);
    Some(OutputThread(end))
}

impl Drop for OutputThread {
    fn drop(&mut self) {
        *QUEUE.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _ = self.0.recv_timeout(LAST_WORDS);
    }
}

/// A line on stderr, and in the log where there is one. A reader that is gone is no error.
pub fn say(text: &str) {
    tracing::info!(target: "cutover::said", "{text}");
    Words::Err(format!("{text}\n")).emit();
}

/// Writes text to standard output. A reader that is gone is no error.
pub fn print(text: &str) {
    Words::Out(text.to_owned()).emit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Failure;

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn only_a_closed_standard_output_is_no_failure() {
        let gone = |e: io::Error| reader_gone(&Failure::from(e).report);
        let written = |kind| writeln!(Out(Broken(kind)), "line").unwrap_err();
        assert!(gone(written(io::ErrorKind::BrokenPipe)));
        assert!(gone(Out(Broken(io::ErrorKind::BrokenPipe)).flush().unwrap_err()));
        assert!(!gone(written(io::ErrorKind::StorageFull)));
        // Another pipe than standard output.
        assert!(!gone(io::ErrorKind::BrokenPipe.into()));
        let json = serde_json::to_writer(Out(Broken(io::ErrorKind::BrokenPipe)), "text").unwrap_err();
        assert!(gone(json.into()), "through the JSON writer");
    }
}
