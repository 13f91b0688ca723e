//! A run without a screen: append-only lines, or one JSON event per line.

use std::io::Write;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{broadcast, watch};

use super::failure::Failure;
use super::out::say;
use crate::domain::plan::Plan;
use crate::domain::run::{Command, Fact, RunStatus};
use crate::engine::Ending;
use crate::engine::handle::Handle;
use crate::report::{LineReport, event_line};

/// How lines are written, and when they end.
pub struct Lines {
    /// One JSON event per line.
    pub json: bool,
    /// Say nothing: the terminal is gone.
    pub silent: bool,
    /// The plan, for words.
    pub plan: Arc<Plan>,
}

/// SIGINT and SIGTERM, which ask for a pause, and SIGHUP, which asks for nothing: the run outlives the terminal.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn asked_to_stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {}
            }
        }
    }
}

/// Tells the run until it ends, pauses, or is asked to stop twice.
pub async fn tell(
    lines: Lines,
    handle: &mut Handle,
    mut facts: broadcast::Receiver<Fact>,
    mut ending: watch::Receiver<Option<Ending>>,
) -> Result<Ending, Failure> {
    let mut signals = Signals::listen()?;
    let mut report = LineReport::new(Arc::clone(&lines.plan));
    let mut asked = false;
    let mut open = true;
    loop {
        // A writer that is gone (a closed pipe, a dead terminal) must not stop the run, so its errors are dropped.
        tokio::select! {
            biased;
            fact = facts.recv(), if open => {
                match fact {
                    Ok(fact) if !lines.silent => {
                        let mut out = std::io::stdout().lock();
                        let _ = if lines.json { event_line(&fact, &mut out) } else { report.fact(&fact, &mut out) };
                        let _ = out.flush();
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => open = false,
                }
            }
            () = signals.asked_to_stop() => {
                if asked {
                    return Ok(Ending::Paused);
                }
                asked = true;
                let answer = match handle.command(Command::Pause) {
                    Ok(answer) => answer.await.unwrap_or(Ok(())),
                    Err(refusal) => Err(refusal),
                };
                if let Err(refusal) = answer {
                    say(&format!("not pausing: {refusal}; once more to leave at once"));
                }
            }
            changed = ending.wait_for(Option::is_some) => {
                let ending = changed.map_or(Ending::Failed, |e| e.unwrap_or(Ending::Failed));
                // Facts that were on their way are told before the end.
                let mut out = std::io::stdout().lock();
                while let Ok(fact) = facts.try_recv() {
                    if !lines.silent {
                        let _ = if lines.json { event_line(&fact, &mut out) } else { report.fact(&fact, &mut out) };
                    }
                }
                let _ = out.flush();
                return Ok(ending);
            }
            changed = handle.snapshots.changed() => {
                if changed.is_err() {
                    return Ok(Ending::Failed);
                }
                let snapshot = handle.snapshot();
                if !lines.json && !lines.silent && snapshot.status != RunStatus::Prepared {
                    let _ = report.now(&snapshot, &mut std::io::stdout().lock());
                }
            }
        }
    }
}
