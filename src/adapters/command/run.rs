//! A program that is run to its end, with something on its standard input.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::{GRACE, spawn};
use crate::ports::PortResult;

/// Bytes of what it prints that are kept, of the end.
const KEPT: usize = 4 * 1024;
/// How long what it printed is waited for once it has ended.
const PRINTED: Duration = Duration::from_millis(200);

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Whether it ended well; else how, in words.
    pub ended: Result<(), String>,
    /// The end of what it printed, both outputs.
    pub said: String,
}

/// Runs a program without a shell and waits for its end, for no longer than `timeout`: then it and what it started are
/// ended.
///
/// # Errors
/// It could not be started.
pub async fn run(words: &[String], input: &[u8], timeout: Duration) -> PortResult<Ran> {
    let (mut child, group) = spawn(words, Stdio::piped())?;
    let ended = Ended(group);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    tokio::spawn(feed(&mut child, input.to_vec()));
    let printed = async { tokio::join!(tail(out), tail(err)) };
    tokio::pin!(printed);
    let all = async {
        tokio::select! {
            status = child.wait() => {
                // What it started may hold on to what it printed to.
                let printed = tokio::time::timeout(PRINTED, &mut printed).await;
                (status, printed.unwrap_or_default())
            }
            printed = &mut printed => (child.wait().await, printed),
        }
    };
    let (status, (out, err)) = match tokio::time::timeout(timeout, all).await {
        Ok(all) => all,
        Err(_) => {
            ended.end();
            let why = format!("it did not end in {} ms and was ended", timeout.as_millis());
            return Ok(Ran { ended: Err(why), said: String::new() });
        }
    };
    ended.leave();
    let said = [out, err].iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    let ended = match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(status.to_string()),
        Err(e) => Err(e.to_string()),
    };
    Ok(Ran { ended, said })
}

/// Gives a program its input. One that does not read it is no failure: it ends as it ends.
fn feed(child: &mut Child, input: Vec<u8>) -> impl Future<Output = ()> + use<> {
    let stdin = child.stdin.take();
    async move {
        if let Some(mut stdin) = stdin {
            let _ = stdin.write_all(&input).await;
        }
    }
}

/// The end of what is printed.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut from) = from else { return String::new() };
    let (mut kept, mut some) = (Vec::new(), [0_u8; 4096]);
    while let Ok(read @ 1..) = from.read(&mut some).await {
        kept.extend_from_slice(&some[..read]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The programs of a group, ended when nobody waits for them any more: also when the wait itself is given up.
struct Ended(Option<Pid>);

impl Ended {
    fn end(self) {
        drop(self);
    }

    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let Some(group) = self.0 else { return };
        let _ = kill_process_group(group, Signal::TERM);
        // One that does not listen is not asked again.
        let after = async move {
            tokio::time::sleep(GRACE).await;
            let _ = kill_process_group(group, Signal::KILL);
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(after);
        }
    }
}
