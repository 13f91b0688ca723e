//! Orders from other terminals: a Unix socket in the run folder, one JSON line each way.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::handle::{Handle, RollbackOrder};
use super::peer::{Peer, peer};
use crate::domain::run::{Actor, Cause, Command, Refusal, Vote};
use crate::snapshot::Snapshot;

/// What another terminal can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Roll back, now.
    RollBack {
        /// Who asks.
        by: String,
    },
    /// Put what a switch step moved where it stood before; see [`Command::StepBack`].
    StepBack {
        /// Step id.
        step: String,
        /// Who asks.
        by: String,
    },
    /// A second person approves a step.
    Approve {
        /// Step id.
        step: String,
        /// Who, by their own word.
        by: String,
        /// Their words.
        note: Option<String>,
    },
    /// Somebody votes on a go/no-go step.
    Vote {
        /// Step id.
        step: String,
        /// Who, by their own word.
        by: String,
        /// How.
        vote: Vote,
        /// Their words.
        note: Option<String>,
    },
    /// Somebody has seen alerts.
    Acknowledge {
        /// Which alert; absent means all of them.
        alert: Option<String>,
        /// Who, by their own word.
        by: String,
        /// Their words.
        note: Option<String>,
    },
    /// The newest snapshot.
    Status,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The order was taken; an approval, a vote or an acknowledgement is on disk.
    Taken,
    /// The snapshot.
    Status(Box<Snapshot>),
    /// It was not taken, or the line could not be read.
    Refused {
        /// Why.
        why: String,
    },
}

/// Serves the socket until `stop`. The file is removed at the end.
pub fn serve(path: &Path, handle: Handle, stop: CancellationToken) -> std::io::Result<()> {
    let path = path.to_owned();
    // A socket file left by a dead process would make bind fail; the folder's lock says we are alone.
    let _ = std::fs::remove_file(&path);
    let listener = near(&path)?.bind()?;
    tokio::spawn(async move {
        let (listener, handle) = (&listener, &handle);
        let accept = move || async move { listener.accept().await.map(|(stream, _)| stream) };
        let answered = move |stream| {
            tokio::spawn(answer(stream, handle.clone()));
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = accepting(accept, answered, tokio::time::sleep) => {}
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

/// How long the next try waits after `accept` failed: the first time, doubled each time after it.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
/// The longest of these waits.
const MOST_PAUSE: Duration = Duration::from_secs(5);

/// Takes connections for ever. When the kernel has none to give (too many open files), it is asked again later and
/// later, and the log says so once.
async fn accepting<S, A, W>(mut accept: impl FnMut() -> A, answered: impl Fn(S), wait: impl Fn(Duration) -> W)
where
    A: Future<Output = std::io::Result<S>>,
    W: Future<Output = ()>,
{
    let mut pause = LEAST_PAUSE;
    loop {
        match accept().await {
            Ok(stream) => {
                if pause > LEAST_PAUSE {
                    tracing::info!("the control socket takes orders again");
                }
                pause = LEAST_PAUSE;
                answered(stream);
            }
            Err(error) => {
                if pause == LEAST_PAUSE {
                    tracing::warn!(%error, "the control socket takes no orders: accept failed; it is tried again");
                }
                wait(pause).await;
                pause = (pause * 2).min(MOST_PAUSE);
            }
        }
    }
}

async fn answer(stream: UnixStream, handle: Handle) {
    let peer = peer(&stream);
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    while let Ok(Some(line)) = line(&mut read, LONGEST_ASK).await {
        let asked =
            line.as_deref().map_err(|TooLong| serde::de::Error::custom(format!("longer than {LONGEST_ASK} bytes")));
        let answer = match asked.and_then(serde_json::from_slice) {
            Ok(Ask::RollBack { by }) => {
                handle.order(RollbackOrder { by: Actor::Terminal(by), cause: Cause::Asked });
                Answer::Taken
            }
            Ok(Ask::StepBack { step, by }) => taken(&handle, Command::StepBack { step }, by).await,
            Ok(Ask::Approve { step, by, note }) => match &peer {
                Ok(Peer { origin, same_terminal }) => {
                    let (origin, drivers_terminal) = (origin.clone(), *same_terminal);
                    taken(&handle, Command::Approve { step, note, origin, drivers_terminal }, by).await
                }
                Err(why) => Answer::Refused { why: why.clone() },
            },
            Ok(Ask::Vote { step, by, vote, note }) => match &peer {
                Ok(Peer { origin, .. }) => {
                    taken(&handle, Command::Vote { step, vote, note, origin: origin.clone() }, by).await
                }
                Err(why) => Answer::Refused { why: why.clone() },
            },
            Ok(Ask::Acknowledge { alert, by, note }) => match &peer {
                Ok(Peer { origin, .. }) => {
                    let origin = Some(origin.clone());
                    taken(&handle, Command::Acknowledge { alert, through: None, note, origin }, by).await
                }
                Err(why) => Answer::Refused { why: why.clone() },
            },
            Ok(Ask::Status) => Answer::Status(Box::new((*handle.snapshot()).clone())),
            Err(e) => Answer::Refused { why: e.to_string() },
        };
        let Ok(mut text) = serde_json::to_vec(&answer) else { return };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() || line.is_err() {
            return;
        }
    }
}

/// The longest order that is read: a note of a screenful is far below it.
const LONGEST_ASK: usize = 64 << 10;
/// The longest answer that is read: a snapshot of a thousand tables is far below it.
const LONGEST_ANSWER: usize = 64 << 20;

/// A line was longer than anybody of ours writes.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// The next line without its end, or `TooLong` as soon as that is known; `None` at the end of the stream. No more than
/// `longest` bytes and one buffer are ever held.
async fn line(
    read: &mut (impl AsyncBufRead + Unpin),
    longest: usize,
) -> std::io::Result<Option<Result<Vec<u8>, TooLong>>> {
    let mut line = Vec::new();
    loop {
        let some = read.fill_buf().await?;
        if some.is_empty() {
            return Ok((!line.is_empty()).then_some(Ok(line)));
        }
        let end = some.iter().position(|b| *b == b'\n');
        let part = &some[..end.unwrap_or(some.len())];
        if line.len() + part.len() > longest {
            return Ok(Some(Err(TooLong)));
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        read.consume(used);
        if end.is_some() {
            return Ok(Some(Ok(line)));
        }
    }
}

/// Hands a command to the engine and waits until its facts are on disk.
async fn taken(handle: &Handle, command: Command, by: String) -> Answer {
    let answer = match handle.command_by(command, Actor::Terminal(by)) {
        Ok(answer) => answer.await.unwrap_or_else(|_| Err(Refusal("the engine has ended".to_owned()))),
        Err(refusal) => Err(refusal),
    };
    answer.map_or_else(|Refusal(why)| Answer::Refused { why }, |()| Answer::Taken)
}

/// Asks a live engine. `None` when nobody answers in `patience`: the process is gone or hangs.
pub async fn ask(path: &Path, ask: &Ask, patience: Duration) -> Option<Answer> {
    let exchange = async {
        let place = near(path).ok()?;
        let stream = UnixStream::connect(place.path()).await.ok()?;
        let (read, mut write) = stream.into_split();
        let mut text = serde_json::to_vec(ask).ok()?;
        text.push(b'\n');
        write.write_all(&text).await.ok()?;
        let line = line(&mut BufReader::new(read), LONGEST_ANSWER).await.ok()??.ok()?;
        serde_json::from_slice(&line).ok()
    };
    tokio::time::timeout(patience, exchange).await.ok().flatten()
}

/// The longest path that the kernel takes for a socket, in bytes (`sun_path` with its final nought).
const LONGEST_PATH: usize = 107;

/// Where a socket is bound or connected to: its own path, or, when that is too long for a socket, its name in its
/// folder as this process has it open.
struct Near {
    path: PathBuf,
    /// Keeps the short path good.
    _folder: Option<OwnedFd>,
}

/// Finds it.
fn near(path: &Path) -> std::io::Result<Near> {
    if path.as_os_str().len() <= LONGEST_PATH {
        return Ok(Near { path: path.to_owned(), _folder: None });
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{}: no socket", path.display())));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok(Near { path, _folder: Some(folder) })
}

impl Near {
    fn path(&self) -> &Path {
        &self.path
    }

    fn bind(&self) -> std::io::Result<UnixListener> {
        UnixListener::bind(&self.path)
    }
}

#[cfg(test)]
mod tests;
