//! The journal's thread: facts go in, and come back durable.
//!
//! Disk writes block, and a disk can hang; neither may stop the dispatcher from hearing a rollback order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::run::Fact;
use crate::journal::JournalWriter;

/// How long a fact stated during a rollback may take before the rollback goes on without it.
const ROLLBACK_PATIENCE: Duration = Duration::from_millis(200);

struct Write {
    facts: Vec<Fact>,
    /// Facts of a rollback: what the disk refuses is offered again with the next write.
    back: bool,
    durable: oneshot::Sender<Result<(), String>>,
}

/// A handle on the journal's thread.
pub struct Keeper {
    writes: Option<Sender<Write>>,
    thread: Option<JoinHandle<()>>,
    unsaved: Arc<AtomicUsize>,
}

impl Keeper {
    /// Takes the writer to a thread of its own.
    pub fn start(writer: JournalWriter) -> std::io::Result<Self> {
        let (writes, inbox) = channel::<Write>();
        let unsaved = Arc::new(AtomicUsize::new(0));
        let book = Book { writer, backlog: Vec::new(), unsaved: Arc::clone(&unsaved) };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || book.keep(&inbox))?;
        Ok(Self { writes: Some(writes), thread: Some(thread), unsaved })
    }

    /// Writes facts and waits until they are on disk, with room behind them for a rollback's.
    pub async fn keep(&self, facts: Vec<Fact>) -> Result<(), String> {
        self.send(facts, false)?.await.unwrap_or_else(|_| Err("the journal's thread has ended".to_owned()))
    }

    /// Hands facts of a rollback over and waits only a moment: it goes on whatever the disk does. What is refused is
    /// kept, in order, and offered again with the next of them; without facts only that is done.
    pub async fn keep_briefly(&self, facts: Vec<Fact>) -> Result<(), String> {
        self.unsaved.fetch_add(facts.len(), Ordering::AcqRel);
        match tokio::time::timeout(ROLLBACK_PATIENCE, self.send(facts, true)?).await {
            Ok(result) => result.unwrap_or_else(|_| Err("the journal's thread has ended".to_owned())),
            // Queued and in order: it becomes durable when the disk answers.
            Err(_) => Ok(()),
        }
    }

    /// Facts of a rollback that are not on disk.
    #[must_use]
    pub fn unsaved(&self) -> usize {
        self.unsaved.load(Ordering::Acquire)
    }

    fn send(&self, facts: Vec<Fact>, back: bool) -> Result<oneshot::Receiver<Result<(), String>>, String> {
        let (durable, answer) = oneshot::channel();
        let writes = self.writes.as_ref().ok_or("the journal is closed")?;
        writes.send(Write { facts, back, durable }).map_err(|_| "the journal's thread has ended".to_owned())?;
        Ok(answer)
    }
}

/// The journal in the hands of its thread.
struct Book {
    writer: JournalWriter,
    /// Facts of a rollback that the disk refused.
    backlog: Vec<Fact>,
    unsaved: Arc<AtomicUsize>,
}

impl Book {
    /// A failed append writes nothing that counts: the next one cuts the file back first.
    fn keep(mut self, inbox: &Receiver<Write>) {
        while let Ok(Write { facts, back, durable }) = inbox.recv() {
            let result = if back {
                self.backlog.extend(facts);
                self.catch_up()
            } else {
                self.forward(&facts)
            };
            let _ = durable.send(result.map_err(|e| e.to_string()));
        }
        if let Err(error) = self.catch_up() {
            tracing::error!(%error, facts = self.backlog.len(), "facts of the rollback are not on disk");
        }
    }

    fn forward(&mut self, facts: &[Fact]) -> std::io::Result<()> {
        self.catch_up()?;
        self.writer.make_room()?;
        self.writer.append(facts)
    }

    fn catch_up(&mut self) -> std::io::Result<()> {
        self.writer.append(&self.backlog)?;
        self.unsaved.fetch_sub(self.backlog.len(), Ordering::AcqRel);
        self.backlog.clear();
        Ok(())
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
