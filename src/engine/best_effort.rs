//! The thread that writes what may be lost: samples for replay, and the keys of differences.
//!
//! A disk that hangs holds this thread and nobody else; what comes meanwhile is left out.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::at::At;
use crate::domain::gauge::Measured;
use crate::domain::verify::Finding;
use crate::journal::{Offered, RunFolder, SampleWriter};

/// What waits for the disk at most.
const QUEUE: usize = 64;
/// Samples are offered to the disk no closer together than this, in milliseconds of the wall clock.
const APART_MS: i64 = 1_000;

enum Record {
    Sample(At, Box<Measured>),
    Findings(String, Vec<Finding>),
    Written(oneshot::Sender<()>),
}

/// How long a process that ends waits for what is still queued.
const PATIENCE: Duration = Duration::from_secs(2);

/// A handle on the thread, which ends with its last handle.
#[derive(Clone)]
pub struct BestEffortWriter {
    queue: SyncSender<Record>,
}

impl BestEffortWriter {
    /// Takes the recording, if there is one, and the run's folder to a thread of its own.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(samples: Option<SampleWriter>, folder: RunFolder) -> std::io::Result<Self> {
        let (queue, inbox) = sync_channel(QUEUE);
        std::thread::Builder::new().name("best_effort".to_owned()).spawn(move || record(&inbox, samples, &folder))?;
        Ok(Self { queue })
    }

    /// Keeps keys that differ, with their fields and causes, for the owner of the run folder only. The newest pass
    /// counts. Never waits.
    pub fn findings(&self, table: &str, findings: &[Finding]) {
        let sent = self.queue.try_send(Record::Findings(table.to_owned(), findings.to_vec()));
        if sent.is_err() {
            tracing::warn!(%table, "differences not written: the disk does not answer");
        }
    }

    /// Waits until what was handed over is written, but not for a disk that hangs.
    pub async fn written(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.try_send(Record::Written(done)).is_ok() {
            let _ = tokio::time::timeout(PATIENCE, written).await;
        }
    }

    /// A pen for samples.
    #[must_use]
    pub const fn samples(self) -> Samples {
        Samples { best_effort: self, last: None, lost: false }
    }
}

/// Offers samples, and says once when they begin to be lost.
pub struct Samples {
    best_effort: BestEffortWriter,
    last: Option<At>,
    lost: bool,
}

impl Samples {
    /// Offers a sample taken at `now` on the run's clock. Never waits.
    pub fn offer(&mut self, now: At, measured: &Measured) {
        if self.last.is_some_and(|last| (0..APART_MS).contains(&measured.at.since(last))) {
            return;
        }
        self.last = Some(measured.at);
        let sent = self.best_effort.queue.try_send(Record::Sample(now, Box::new(measured.clone())));
        let lost = matches!(sent, Err(TrySendError::Full(_)));
        if lost && !self.lost {
            tracing::warn!("samples are lost: the disk does not answer");
        }
        self.lost = lost;
    }
}

fn record(inbox: &Receiver<Record>, mut samples: Option<SampleWriter>, folder: &RunFolder) {
    let mut lost = false;
    while let Ok(next) = inbox.recv() {
        match next {
            Record::Sample(now, measured) => {
                let Some(samples) = &mut samples else { continue };
                match samples.offer(now, &measured) {
                    Offered::Lost(why) => {
                        if !std::mem::replace(&mut lost, true) {
                            tracing::warn!(%why, "samples are lost");
                        }
                    }
                    Offered::Kept | Offered::Thinned => lost = false,
                }
            }
            Record::Written(done) => {
                let _ = done.send(());
            }
            Record::Findings(table, findings) => {
                let plain: String = table.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
                let text = serde_json::to_vec_pretty(&findings).unwrap_or_default();
                if let Err(e) = folder.write(&format!("findings-{plain}.json"), &text) {
                    tracing::warn!(%table, error = %e, "differences not written");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::tests::world::until;

    /// A named pipe that nobody reads, filled: every write to it waits.
    fn hanging(path: &std::path::Path) -> std::fs::File {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let reader = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
        let full = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
        while rustix::io::write(&full, &[0; 4096]).is_ok() {}
        reader
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_nobody_who_offers() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path(), "trial", At(0)).unwrap();
        let reader = hanging(&folder.samples());
        let pen = std::fs::OpenOptions::new().write(true).open(folder.samples()).unwrap();
        let best_effort =
            BestEffortWriter::start(Some(SampleWriter::on(pen, &folder.samples())), folder.clone()).unwrap();
        let mut samples = best_effort.clone().samples();
        let measured = |at: i64| Measured { at: At(at), ..Measured::default() };
        // More than the queue holds: each of these returns although no byte can be written.
        for i in 0..200 {
            samples.offer(At(i), &measured(i * 1_000));
            best_effort.findings("books", &[]);
        }
        assert!(samples.lost);
        // The disk answers again: what waited is written, and the findings with it.
        std::thread::spawn(move || std::io::copy(&mut { reader }, &mut std::io::sink()));
        until("the findings to be there", || folder.path().join("findings-books.json").exists()).await;
    }
}
