//! The terminal, taken and given back. Whatever happens, the person gets a usable terminal again.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crossterm::{cursor, event, execute, terminal};
use ratatui::backend::CrosstermBackend;

/// A screen could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("open the screen: {step} answered: {source}; run with --headless where there is no terminal")]
pub struct TermError {
    /// What was tried.
    pub step: &'static str,
    /// The error of the operating system.
    pub source: io::Error,
}

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Panics of other tasks while the screen was up; printed once the normal screen is back.
static HELD_BACK: Mutex<Vec<String>> = Mutex::new(Vec::new());

tokio::task_local! {
    static ON_SCREEN_TASK: ();
}

/// One frame is one write, past the standard library's lock: a panic elsewhere must never wait for it.
type Backend = CrosstermBackend<BufWriter<Out>>;

/// The terminal to write to, while it is ours; afterwards what is written goes nowhere.
///
/// ratatui shows the cursor when it is dropped and reports a failure with `eprintln!`, which panics in turn when the
/// terminal is dead. After `restore` there is nothing left to write, so nothing can fail.
struct Out(File);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if TAKEN.load(Ordering::SeqCst) { self.0.write(bytes) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The terminal while it is ours: raw mode, alternate screen, no cursor. Given back on drop.
pub struct Terminal {
    inner: ratatui::Terminal<Backend>,
    title: String,
}

impl Terminal {
    /// Takes the terminal on standard output. On an error everything taken so far is given back.
    pub fn enter(title: &str) -> Result<Self, TermError> {
        install_panic_hook();
        let out = io::stdout().as_fd().try_clone_to_owned().map_err(failed("duplicate standard output"))?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, Out(File::from(out))));
        TAKEN.store(true, Ordering::SeqCst);
        let entered = take().and_then(|()| {
            let inner = ratatui::Terminal::new(backend).map_err(failed("read the terminal's size"))?;
            Ok(Self { inner, title: String::new() })
        });
        if entered.is_err() {
            restore();
        }
        let mut entered = entered?;
        // A program that was killed may have left its screen, and the alternate one is entered once only.
        entered.clear().map_err(failed("clear the screen"))?;
        entered.set_title(title).map_err(failed("set the window title"))?;
        Ok(entered)
    }

    /// Draws one frame. An error means that the terminal is gone.
    pub fn draw(&mut self, paint: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.inner.draw(paint).map(|_| ())
    }

    /// Makes the next frame a whole one: after a resume, or when something else wrote over the screen.
    pub fn clear(&mut self) -> io::Result<()> {
        // Not as the library clears: it asks the terminal where its cursor stands, and waits for the answer.
        execute!(self.inner.backend_mut(), terminal::Clear(terminal::ClearType::All))?;
        self.inner.swap_buffers();
        Ok(())
    }

    /// Sets the window title, if it changed.
    pub fn set_title(&mut self, title: &str) -> io::Result<()> {
        let title: String = title.chars().filter(|c| !c.is_control()).take(120).collect();
        if title == self.title {
            return Ok(());
        }
        let out = self.inner.backend_mut();
        execute!(out, terminal::SetTitle(&title))?;
        self.title = title;
        Ok(())
    }

    /// Rings the bell.
    pub fn bell(&mut self) -> io::Result<()> {
        self.raw(b"\x07")
    }

    /// Writes a control sequence that changes nothing of what is shown.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let out = self.inner.backend_mut();
        out.write_all(bytes)?;
        io::Write::flush(out)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> TermError {
    move |source| TermError { step, source }
}

fn take() -> Result<(), TermError> {
    terminal::enable_raw_mode().map_err(failed("set raw mode"))?;
    // The window title is pushed on the terminal's own stack and popped by `restore`.
    write_out(b"\x1b[22;2t").map_err(failed("save the window title"))?;
    let mut bytes = Vec::new();
    execute!(bytes, terminal::EnterAlternateScreen, event::EnableBracketedPaste, cursor::Hide)
        .and_then(|()| write_out(&bytes))
        .map_err(failed("enter the alternate screen"))
}

/// Gives the terminal back: every step is tried, errors are ignored, a second call does nothing.
pub fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut bytes = Vec::new();
    let _ = execute!(bytes, event::DisableBracketedPaste, cursor::Show, terminal::LeaveAlternateScreen);
    // Progress off, attributes off, title back.
    bytes.extend_from_slice(b"\x1b]9;4;0\x07\x1b[0m\x1b[23;2t");
    let _ = write_out(&bytes);
    let _ = terminal::disable_raw_mode();
    let held: Vec<String> = std::mem::take(&mut HELD_BACK.lock().unwrap_or_else(PoisonError::into_inner));
    for text in held {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Gives up a terminal that vanished: standard output and error lead nowhere from here on.
///
/// Without this the next `eprintln!` of a process that goes on without its screen panics, also inside a panic hook,
/// which ends the process.
pub fn abandon() {
    restore();
    if let Ok(nowhere) = File::options().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(&nowhere);
        let _ = rustix::stdio::dup2_stderr(&nowhere);
    }
}

/// Writes to standard output without taking its lock.
fn write_out(mut bytes: &[u8]) -> io::Result<()> {
    let out = io::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(out.as_fd(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Runs the screen's own task: a panic inside it restores the terminal before the report is printed.
pub async fn on_screen_task<F: Future>(future: F) -> F::Output {
    ON_SCREEN_TASK.scope((), future).await
}

/// Puts a hook in front of the one installed before (color-eyre's, say), once.
///
/// A panic of the screen's own task gives the terminal back, then the earlier hook prints. A panic of another task
/// leaves the screen up: its text is logged, held back, and printed when the normal screen is back.
fn install_panic_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let ours = ON_SCREEN_TASK.try_with(|()| ()).is_ok();
            if ours || cfg!(panic = "abort") || !TAKEN.load(Ordering::SeqCst) {
                restore();
                before(info);
                return;
            }
            let thread = std::thread::current();
            let text = format!("thread '{}': {info}", thread.name().unwrap_or("?"));
            tracing::error!("{text}");
            HELD_BACK.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }));
    });
}
