//! The record of a rollback from another terminal, kept on a thread of its own: facts are sent to it, never waited for.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::sync::watch;

use crate::cli::world::Driver;
use crate::domain::at::At;
use crate::domain::run::{Actor, Cause, Event, Fact, RunState, RunStatus, apply};
use crate::engine::MachineClock;
use crate::journal::{Header, Holder, JournalWriter, RunFolder, fold};
use crate::ports::Clock;
use crate::workers::rollback::FactSink;

/// How long the end of a rollback waits for facts that are not on disk yet.
const LAST_FACTS: Duration = Duration::from_secs(5);

/// How far the record is.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Whether this process holds the run's lock; `None` until it is known.
    ours: Option<bool>,
    /// Where the run stood when the record was opened; nothing within where that could not be read.
    opened: Option<Option<Arc<RunState>>>,
    /// Why nothing is recorded any more.
    failed: Option<String>,
    /// Facts that are not on disk and will not be.
    lost: u64,
    /// Whether every fact that was sent is written or lost.
    done: bool,
}

/// Sends facts to the thread that writes them.
pub(super) struct Recorder {
    facts: Sender<(At, Event)>,
    kept: watch::Receiver<Progress>,
    machine: MachineClock,
}

impl FactSink for Recorder {
    fn send(&self, event: Event) {
        // A thread that has ended said why.
        let _ = self.facts.send((self.machine.wall(), event));
    }
}

impl Recorder {
    /// Opens the record on a thread of its own: the run's journal if nobody drives it, else a side journal. `order`
    /// says that its first fact is the rollback order, unless the run is rolling back already.
    pub fn start(folder: &RunFolder, driver: &Driver, state: &RunState, order: bool) -> Self {
        let (facts, inbox) = channel();
        let (keep, kept) = watch::channel(Progress::default());
        let thread = RecordThread {
            folder: folder.clone(),
            driver: driver.clone(),
            state: state.clone(),
            order: order.then(|| Event::RollbackOrdered { by: Actor::Terminal(driver.name()), cause: Cause::Asked }),
            kept: keep,
        };
        let machine = MachineClock::default();
        let began = machine.wall();
        // Without a thread the receiver is dropped: everything sent is lost, and reported as lost.
        let _ = std::thread::Builder::new().name("record".to_owned()).spawn(move || thread.run(began, &inbox));
        Self { facts, kept, machine }
    }

    /// Where the run stood when the record was opened, once it is; waits no longer than this.
    pub async fn opened(&mut self, time: Duration) -> Option<Arc<RunState>> {
        let opened = self.kept.wait_for(|k| k.opened.is_some() || k.failed.is_some());
        tokio::time::timeout(time, opened).await.ok()?.ok()?.opened.clone().flatten()
    }

    /// Whether this process is known to hold the run's lock.
    pub fn holds_the_lock(&self) -> bool {
        self.kept.borrow().ours == Some(true)
    }

    /// Waits a moment for the last facts. `Some` says what is not on record, and why.
    pub async fn end(self) -> Option<String> {
        let Self { facts, mut kept, .. } = self;
        drop(facts);
        let _ = tokio::time::timeout(LAST_FACTS, kept.wait_for(|k| k.done)).await;
        let now = kept.borrow().clone();
        match (now.failed, now.done) {
            (Some(why), _) => Some(why),
            (None, true) if now.lost == 0 => None,
            (None, true) => Some(format!("{} facts do not follow what is recorded", now.lost)),
            (None, false) => Some("the disk does not answer".to_owned()),
        }
    }
}

/// What the thread works with.
struct RecordThread {
    folder: RunFolder,
    driver: Driver,
    state: RunState,
    order: Option<Event>,
    kept: watch::Sender<Progress>,
}

impl RecordThread {
    fn run(mut self, began: At, inbox: &Receiver<(At, Event)>) {
        let lock = self.folder.lock(&Holder::me(&self.driver.operator, &self.driver.host));
        self.kept.send_modify(|k| k.ours = Some(lock.is_ok()));
        let opened = if lock.is_ok() { JournalWriter::reopen(&self.folder) } else { self.side_journal(began) };
        let mut writer = match opened {
            Ok((writer, record)) => {
                // What was journaled since the order was asked for counts too.
                let now = fold(&record.facts).ok();
                if let Some(now) = &now {
                    self.state.clone_from(now);
                }
                self.kept.send_modify(|k| k.opened = Some(now.map(Arc::new)));
                Some(writer)
            }
            Err(e) => {
                self.kept.send_modify(|k| k.failed = Some(e.to_string()));
                None
            }
        };
        if let Some(order) = self.order.take()
            && self.state.status != RunStatus::RollingBack
        {
            self.keep(&mut writer, began, order);
        }
        while let Ok((at, event)) = inbox.recv() {
            self.keep(&mut writer, at, event);
        }
        self.kept.send_modify(|k| k.done = true);
    }

    fn side_journal(
        &self,
        now: At,
    ) -> Result<(JournalWriter, crate::journal::RunRecord), crate::journal::JournalError> {
        let header =
            Header::new(self.folder.id(), &self.state.plan_hash, &self.driver.operator, &self.driver.host, now);
        let holder = format!("{}-{}", self.driver.host, std::process::id());
        // Processes of two containers may have host name and number in common.
        let again = (2..=9).map(|n| format!("{holder}-{n}"));
        let mut made = JournalWriter::create_side(&self.folder, &header, &holder);
        for holder in again {
            match &made {
                Err(crate::journal::JournalError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::AlreadyExists =>
                {
                    made = JournalWriter::create_side(&self.folder, &header, &holder);
                }
                _ => break,
            }
        }
        made
    }

    /// Writes a fact, or counts it as lost.
    fn keep(&mut self, writer: &mut Option<JournalWriter>, at: At, event: Event) {
        let fact = Fact { seq: self.state.last_seq + 1, at: at.max(self.state.opened), event };
        let Some(journal) = writer else {
            self.kept.send_modify(|k| k.lost += 1);
            return;
        };
        if apply(&mut self.state, &fact).is_err() {
            self.kept.send_modify(|k| k.lost += 1);
            return;
        }
        #[cfg(feature = "failpoints")]
        crate::engine::failpoint::hang("rollback:append");
        match journal.append(std::slice::from_ref(&fact)) {
            Ok(()) => {
                #[cfg(feature = "failpoints")]
                crate::engine::failpoint::after(&[fact]);
            }
            Err(e) => {
                self.kept.send_modify(|k| {
                    k.failed = Some(e.to_string());
                    k.lost += 1;
                });
                *writer = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::run::Level;

    fn note(seq: u64) -> Fact {
        let event = Event::Note { level: Level::Info, source: "console".into(), text: seq.to_string() };
        Fact { seq, at: At(seq.cast_signed()), event }
    }

    /// A run folder with so many facts, and where the run stood after the first ones.
    fn recorded(dir: &std::path::Path, facts: u64, read: u64) -> (RunFolder, RunState) {
        let folder = RunFolder::create(dir, "trial", At(0)).unwrap();
        let opened = Event::RunOpened {
            run: folder.id().to_owned(),
            plan: "trial".into(),
            plan_hash: "hash".into(),
            environment: "test".into(),
            operator: "alice".into(),
            host: "bastion".into(),
            version: "0".into(),
            t0: At(0),
            steps: Vec::new(),
            callers: Default::default(),
        };
        let opened = Fact { seq: 1, at: At(1), event: opened };
        let all: Vec<Fact> = std::iter::once(opened).chain((2..=facts).map(note)).collect();
        let mut journal =
            JournalWriter::create(&folder, &Header::new(folder.id(), "hash", "alice", "bastion", At(0))).unwrap();
        journal.append(&all).unwrap();
        let first = fold(&all[..usize::try_from(read).unwrap()]).unwrap();
        (folder, first)
    }

    fn recorder(folder: &RunFolder, state: &RunState) -> Recorder {
        let driver = Driver { operator: "bob".into(), host: "elsewhere".into() };
        Recorder::start(folder, &driver, state, true)
    }

    #[tokio::test]
    async fn what_a_console_did_since_the_first_reading_is_seen_when_the_record_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, first) = recorded(dir.path(), 5, 2);
        for hangs in [false, true] {
            // A console that hangs keeps the lock: then a side journal is written.
            let _lock = hangs.then(|| folder.lock(&Holder::me("alice", "bastion")).unwrap());
            let mut recorder = recorder(&folder, &first);
            let now = recorder.opened(LAST_FACTS).await.expect("it can be read");
            assert!(now.last_seq >= 5 && first.last_seq == 2, "{}", now.last_seq);
            assert_eq!(recorder.end().await, None);
        }
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_again_says_nothing_of_where_the_run_stands() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, first) = recorded(dir.path(), 5, 2);
        std::fs::remove_file(folder.journal()).unwrap();
        let mut recorder = recorder(&folder, &first);
        assert!(recorder.opened(LAST_FACTS).await.is_none(), "the first reading is not the newest");
    }
}
