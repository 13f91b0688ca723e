//! The journal's thread: it takes facts and answers once they are durable.
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
pub struct JournalThread {
    writes: Option<Sender<Write>>,
    thread: Option<JoinHandle<()>>,
    unsaved: Arc<AtomicUsize>,
    /// Writes that were handed over and not answered.
    asked: Arc<AtomicUsize>,
}

/// What became of facts that were stated going forward.
#[derive(Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk.
    Durable,
    /// The disk had not answered when a rollback was ordered.
    Overtaken,
}

fn durable(answer: Option<Result<(), String>>) -> Result<Durability, String> {
    answer.unwrap_or_else(|| Err("the journal's thread has ended".to_owned())).map(|()| Durability::Durable)
}

impl JournalThread {
    /// Takes the writer to a thread of its own.
    pub fn start(writer: JournalWriter) -> std::io::Result<Self> {
        let (writes, inbox) = channel::<Write>();
        let unsaved = Arc::new(AtomicUsize::new(0));
        let asked = Arc::new(AtomicUsize::new(0));
        let (left, answered) = (Arc::clone(&unsaved), Arc::clone(&asked));
        let book = JournalLoop { writer, backlog: Vec::new(), unsaved: left, asked: answered };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || book.keep(&inbox))?;
        Ok(Self { writes: Some(writes), thread: Some(thread), unsaved, asked })
    }

    /// Writes facts and waits until they are on disk, with room behind them for a rollback's; or until `overtaken`:
    /// then they count as stated, the disk gets them in their order, and the rollback that was ordered does not wait
    /// for them.
    pub async fn keep(&self, facts: Vec<Fact>, overtaken: impl Future<Output = ()>) -> Result<Durability, String> {
        let stated = facts.len();
        let mut answer = self.send(facts, false)?;
        tokio::select! {
            biased;
            answer = &mut answer => return durable(answer.ok()),
            () = overtaken => {}
        }
        // From here on nobody takes the thread's answer, and it keeps what the disk refuses.
        self.unsaved.fetch_add(stated, Ordering::AcqRel);
        answer.close();
        match answer.try_recv() {
            Err(_) => Ok(Durability::Overtaken),
            Ok(answer) => {
                self.unsaved.fetch_sub(stated, Ordering::AcqRel);
                durable(Some(answer))
            }
        }
    }

    /// Hands facts of a rollback over and waits only a moment: it goes on whatever the disk does. What is refused is
    /// kept, in order, and offered again with the next of them; without facts only that is done.
    pub async fn keep_briefly(&self, facts: Vec<Fact>) -> Result<(), String> {
        // Behind what hangs already nobody waits.
        let hangs = self.asked.load(Ordering::Acquire) > 0;
        let patience = if hangs { Duration::ZERO } else { ROLLBACK_PATIENCE };
        self.unsaved.fetch_add(facts.len(), Ordering::AcqRel);
        match tokio::time::timeout(patience, self.send(facts, true)?).await {
            Ok(result) => result.unwrap_or_else(|_| Err("the journal's thread has ended".to_owned())),
            // Queued and in order: it becomes durable when the disk answers.
            Err(_) => Ok(()),
        }
    }

    /// Waits until the disk has taken everything that was handed over, has refused it, or has not answered for so long.
    pub async fn settle(&self, patience: Duration) {
        if let Ok(answer) = self.send(Vec::new(), true) {
            let _ = tokio::time::timeout(patience, answer).await;
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
        self.asked.fetch_add(1, Ordering::AcqRel);
        writes.send(Write { facts, back, durable }).map_err(|_| "the journal's thread has ended".to_owned())?;
        Ok(answer)
    }
}

/// The journal in the hands of its thread.
struct JournalLoop {
    writer: JournalWriter,
    /// Facts of a rollback that the disk refused.
    backlog: Vec<Fact>,
    unsaved: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
}

impl JournalLoop {
    /// A failed append writes nothing that counts: the next one cuts the file back first.
    fn keep(mut self, inbox: &Receiver<Write>) {
        while let Ok(Write { facts, back, durable }) = inbox.recv() {
            let result = if back {
                self.backlog.extend(facts.iter().cloned());
                self.catch_up()
            } else {
                self.forward(&facts)
            };
            self.asked.fetch_sub(1, Ordering::AcqRel);
            let refused = result.is_err();
            let overtaken = durable.send(result.map_err(|e| e.to_string())).is_err() && !back;
            if overtaken && refused {
                self.backlog.extend(facts);
            } else if overtaken {
                self.unsaved.fetch_sub(facts.len(), Ordering::AcqRel);
            }
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

impl Drop for JournalThread {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::at::At;
    use crate::domain::run::{Event, Level};
    use crate::journal::{Header, RunFolder, read_run};

    fn note(seq: u64) -> Fact {
        let event = Event::Note { level: Level::Info, source: "test".to_owned(), text: "x".to_owned() };
        Fact { seq, at: At(1), event }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nobody_who_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "shop", At(0)).unwrap();
        let writer = JournalWriter::create(&folder, &Header::new("run", "hash", "me", "here", At(0))).unwrap();
        let disk = writer.disk();
        let (held, holds) = channel();
        let hangs = std::thread::spawn(move || {
            let disk = disk.hung.lock().unwrap();
            held.send(()).unwrap();
            std::thread::park();
            drop(disk);
        });
        holds.recv().unwrap();
        let thread = JournalThread::start(writer).unwrap();
        let (order, ordered) = oneshot::channel::<()>();
        let mut forward = Box::pin(thread.keep(vec![note(1)], async { ordered.await.unwrap_or(()) }));
        assert!(futures::poll!(&mut forward).is_pending(), "going forward waits for the disk");
        order.send(()).unwrap();
        assert_eq!(forward.as_mut().await, Ok(Durability::Overtaken), "until somebody orders to go back");
        drop(forward);
        for seq in 2..=600 {
            assert_eq!(thread.keep_briefly(vec![note(seq)]).await, Ok(()));
        }
        assert_eq!(thread.unsaved(), 600);
        // The disk works again: everything is there, in order.
        let unsaved = Arc::clone(&thread.unsaved);
        hangs.thread().unpark();
        hangs.join().unwrap();
        while unsaved.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
        drop(thread);
        assert_eq!(unsaved.load(Ordering::Acquire), 0);
        assert_eq!(read_run(&folder).unwrap().facts.len(), 600);
    }
}
