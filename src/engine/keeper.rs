//! The journal's thread: facts go in, and come back durable.
//!
//! Disk writes block, and a disk can hang; neither may stop the dispatcher from hearing a rollback order.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::run::Fact;
use crate::journal::JournalWriter;

/// How long a fact stated during a rollback may take before the rollback goes on without it.
const ROLLBACK_PATIENCE: Duration = Duration::from_millis(200);

struct Write {
    facts: Vec<Fact>,
    durable: oneshot::Sender<Result<(), String>>,
}

/// A handle on the journal's thread.
pub struct Keeper {
    writes: Option<SyncSender<Write>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Takes the writer to a thread of its own.
    pub fn start(mut writer: JournalWriter) -> std::io::Result<Self> {
        let (writes, inbox) = sync_channel::<Write>(256);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            // A failed append writes nothing that counts: the next one cuts the file back first.
            while let Ok(write) = inbox.recv() {
                let _ = write.durable.send(writer.append(&write.facts).map_err(|e| e.to_string()));
            }
        })?;
        Ok(Self { writes: Some(writes), thread: Some(thread) })
    }

    /// Writes facts and waits until they are on disk.
    pub async fn keep(&self, facts: Vec<Fact>) -> Result<(), String> {
        self.send(facts)?.await.unwrap_or_else(|_| Err("the journal's thread has ended".to_owned()))
    }

    /// Hands facts over and waits only a moment: a rollback goes on whatever the disk does.
    pub async fn keep_briefly(&self, facts: Vec<Fact>) -> Result<(), String> {
        match tokio::time::timeout(ROLLBACK_PATIENCE, self.send(facts)?).await {
            Ok(result) => result.unwrap_or_else(|_| Err("the journal's thread has ended".to_owned())),
            // Queued and in order: it becomes durable when the disk answers.
            Err(_) => Ok(()),
        }
    }

    fn send(&self, facts: Vec<Fact>) -> Result<oneshot::Receiver<Result<(), String>>, String> {
        let (durable, answer) = oneshot::channel();
        let writes = self.writes.as_ref().ok_or("the journal is closed")?;
        writes.try_send(Write { facts, durable }).map_err(|_| "the journal's queue is full".to_owned())?;
        Ok(answer)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.writes = None;
        let Some(thread) = self.thread.take() else { return };
        // A hung disk must not keep the process; what is queued has two more seconds.
        for _ in 0..200 {
            if thread.is_finished() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
