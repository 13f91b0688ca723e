//! The screen's loop: signals, keys, snapshots and deadlines in, frames and orders out.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::desktop;
use super::frames::FrameLimiter;
use super::input::{Heard, Listener};
use super::keys::KeyError;
use super::options::UiOptions;
use super::paint::{Painted, Painter};
use super::session::{Do, Session};
use super::term::{self, TermError, Terminal};
use super::title::title;
use crate::domain::run::{Command, Refusal, RunStatus};
use crate::engine::handle::Handle;
use crate::snapshot::Snapshot;
use crate::view;
use crate::view::state::ViewState;
use crate::view::theme::{Palette, Theme};

/// How a screen ended. The run did not end by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UiExit {
    /// The person left.
    Quit,
    /// The terminal vanished; standard output and error lead nowhere now.
    TerminalGone,
    /// The person left after the run had ended.
    Finished,
    /// The process was asked to end.
    Terminated,
}

/// Why there is no screen.
#[derive(Debug, thiserror::Error)]
pub enum UiError {
    /// The terminal could not be taken.
    #[error(transparent)]
    Term(#[from] TermError),
    /// The keyboard could not be read.
    #[error("listen to the keyboard: {0}; run with --headless where there is none")]
    Keyboard(#[source] io::Error),
    /// The signals could not be taken.
    #[error("listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// No thread to write from.
    #[error("start the thread that writes to the terminal: {0}")]
    Painter(#[source] io::Error),
    /// The person's own keys cannot be used.
    #[error("keys: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Keys(Vec<KeyError>),
}

/// Draws one moment of a run. The shell knows nothing of what is in it.
pub type Drawing = fn(&Snapshot, &ViewState, &Theme, Rect, &mut Buffer);

/// Shows a run until the person leaves, the terminal vanishes, or the process is asked to end. See
/// [`run_drawn_by`].
pub async fn run(handle: Handle, options: UiOptions) -> Result<UiExit, UiError> {
    run_drawn_by(handle, options, view::draw).await
}

/// Shows a run until the person leaves, the terminal vanishes, or the process is asked to end.
///
/// A fault of the screen itself gives the terminal back, reports, and counts as leaving: the run goes on. While a
/// recording is watched there is no run, and the fault goes on to the caller.
pub async fn run_drawn_by(handle: Handle, options: UiOptions, drawing: Drawing) -> Result<UiExit, UiError> {
    let recording = handle.is_replay();
    let screen = term::on_screen_task(show(handle, options, drawing));
    match std::panic::AssertUnwindSafe(screen).catch_unwind().await {
        Ok(ended) => ended,
        Err(fault) if recording => std::panic::resume_unwind(fault),
        Err(_) => {
            tracing::error!("the screen broke; the run goes on without it");
            term::restore();
            Ok(UiExit::Quit)
        }
    }
}

struct Signals {
    terminate: Signal,
    hangup: Signal,
    interrupt: Signal,
    resize: Signal,
}

impl Signals {
    fn take() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            resize: signal(SignalKind::window_change())?,
        })
    }
}

async fn show(mut handle: Handle, options: UiOptions, drawing: Drawing) -> Result<UiExit, UiError> {
    let now = Instant::now();
    let mut session = Session::new(&options.keys, now).map_err(UiError::Keys)?;
    let mut signals = Signals::take().map_err(UiError::Signals)?;
    // What may be coloured was decided already; nothing below decides again.
    crossterm::style::force_color_output(options.theme.palette != Palette::Mono);
    let first = handle.snapshots.borrow_and_update().clone();
    let terminal = Terminal::enter(&title(&first))?;
    let mut listener = Listener::start().map_err(UiError::Keyboard)?;
    let mut screen = Screen {
        painter: Painter::start(terminal).map_err(UiError::Painter)?,
        limiter: FrameLimiter::new(u32::from(options.fps)),
        theme: options.theme,
        drawing,
        asked: (0, 0),
        title: title(&first),
    };
    session.saw(&first, now);
    screen.limiter.key(now);
    let mut answers = FuturesUnordered::new();
    let mut clock = now + Duration::from_secs(1);
    let mut engine_lives = true;
    let ended = loop {
        let deadline = [screen.limiter.due(), session.deadline(), Some(clock)].into_iter().flatten().min();
        let mut orders = Vec::new();
        // Keys first: a flood of data must not keep an order waiting.
        tokio::select! { biased;
            _ = signals.terminate.recv() => break UiExit::Terminated,
            _ = signals.hangup.recv() => break UiExit::TerminalGone,
            heard = listener.next() => match heard {
                Heard::Gone => break UiExit::TerminalGone,
                Heard::Typed(typed, at) => {
                    orders = session.on(typed, at, &handle.snapshot());
                    screen.limiter.key(Instant::now());
                }
            },
            _ = signals.interrupt.recv() => {
                orders = session.interrupt(Instant::now(), &handle.snapshot());
                screen.limiter.key(Instant::now());
            }
            painted = screen.painter.painted() => match painted {
                Some(Painted::Frame(number, at)) => {
                    if number == screen.asked.0 {
                        session.drawn(screen.asked.1, at);
                    }
                }
                Some(Painted::Gone) | None => break UiExit::TerminalGone,
            },
            _ = signals.resize.recv() => screen.limiter.key(Instant::now()),
            Some((command, answer)) = answers.next(), if !answers.is_empty() => {
                session.answered(&command, answer, Instant::now());
                screen.limiter.key(Instant::now());
            }
            changed = handle.snapshots.changed(), if engine_lives => {
                engine_lives = changed.is_ok();
                let snapshot = handle.snapshots.borrow_and_update().clone();
                orders = session.saw(&snapshot, Instant::now());
                screen.limiter.data(Instant::now());
            }
            () = until(deadline) => {}
        }
        let mut leaves = None;
        for order in orders {
            match order {
                Do::RollBack => handle.roll_back(),
                Do::Command(command) => match handle.command(command.clone()) {
                    Ok(reply) => answers.push(answer(command, reply)),
                    Err(refusal) => session.answered(&command, Err(refusal), Instant::now()),
                },
                Do::Playback(ask) => {
                    handle.playback(ask);
                }
                Do::Bell => screen.painter.bell(),
                Do::Desktop(how, note) => {
                    let env = |name: &str| std::env::var(name).ok();
                    if let Some(bytes) = desktop::sequence(how, &note, &env) {
                        screen.painter.desktop(bytes);
                    }
                }
                Do::Redraw => {
                    screen.painter.whole();
                    screen.limiter.key(Instant::now());
                }
                Do::Leave => leaves = Some(UiExit::Quit),
                Do::Quit => leaves = Some(quit(&handle.snapshot())),
            }
        }
        if let Some(ended) = leaves {
            break ended;
        }
        let now = Instant::now();
        if session.tick(now) {
            screen.limiter.key(now);
        }
        if now >= clock {
            clock = now + Duration::from_secs(1);
            screen.limiter.data(now);
        }
        if screen.limiter.is_due(now) {
            screen.draw(&mut session, &handle.snapshot(), now);
        }
    };
    if ended == UiExit::TerminalGone {
        term::abandon();
    }
    screen.painter.stop().await;
    Ok(ended)
}

const fn quit(snapshot: &Snapshot) -> UiExit {
    match snapshot.status {
        RunStatus::Finished | RunStatus::RolledBack => UiExit::Finished,
        _ => UiExit::Quit,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

type Answer = Result<(), Refusal>;

async fn answer(command: Command, reply: oneshot::Receiver<Answer>) -> (Command, Answer) {
    let answer = reply.await.unwrap_or_else(|_| Err(Refusal("the engine has ended".to_owned())));
    (command, answer)
}

struct Screen {
    painter: Painter,
    limiter: FrameLimiter,
    theme: Theme,
    drawing: Drawing,
    /// The newest frame asked for, and the boxes in it.
    asked: (u64, u64),
    title: String,
}

impl Screen {
    fn draw(&mut self, session: &mut Session, newest: &Arc<Snapshot>, now: Instant) {
        // Asked for each time: the signal of a resize may come late or never.
        if let Ok((width, height)) = crossterm::terminal::size() {
            let area = Rect::new(0, 0, width, height);
            session.resized(area);
            let mut buffer = Buffer::empty(area);
            (self.drawing)(session.shown(newest), &session.state, &self.theme, area, &mut buffer);
            self.asked = (self.painter.frame(buffer), session.boxes());
        }
        let title = title(newest);
        if title != self.title {
            self.painter.title(title.clone());
            self.title = title;
        }
        self.limiter.drawn(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::{mpsc, watch};

    /// The screen may be moved between threads; nobody awaits it on a fixed one.
    #[test]
    fn the_screen_is_send() {
        fn send<T: Send>(_: &T) {}
        let (_publish, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let handle = Handle::new(snapshots, mpsc::channel(1).0, Arc::new(watch::channel(None).0), None, String::new());
        send(&run(handle, UiOptions::from_terminal(None, true, 10)));
    }
}
