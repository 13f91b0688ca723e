//! Orders from other terminals: a Unix socket in the run folder, one JSON line each way.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
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
    /// The newest snapshot.
    Status,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The order was taken; an approval or a vote is on disk.
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
    let listener = UnixListener::bind(&path)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(answer(stream, handle.clone()));
                    }
                }
            }
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

async fn answer(stream: UnixStream, handle: Handle) {
    let peer = peer(&stream);
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str(&line) {
            Ok(Ask::RollBack { by }) => {
                handle.order(RollbackOrder { by: Actor::Terminal(by), cause: Cause::Asked });
                Answer::Taken
            }
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
            Ok(Ask::Status) => Answer::Status(Box::new((*handle.snapshot()).clone())),
            Err(e) => Answer::Refused { why: e.to_string() },
        };
        let Ok(mut text) = serde_json::to_vec(&answer) else { return };
        text.push(b'\n');
        if write.write_all(&text).await.is_err() {
            return;
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
        let stream = UnixStream::connect(path).await.ok()?;
        let (read, mut write) = stream.into_split();
        let mut text = serde_json::to_vec(ask).ok()?;
        text.push(b'\n');
        write.write_all(&text).await.ok()?;
        let line = BufReader::new(read).lines().next_line().await.ok()??;
        serde_json::from_str(&line).ok()
    };
    tokio::time::timeout(patience, exchange).await.ok().flatten()
}
