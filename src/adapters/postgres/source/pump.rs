//! Reads the log of a slot, message by message, into the hub where its tables find their changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_postgres::Error;
use tokio_util::task::AbortOnDropHandle;

use super::hub::{Hub, Place};
use super::pgoutput::{self, Message, Relation};
use super::rows::{Entry, Made, Of, Rows, weight};
use super::session::{EPOCH, Frame, Log};
use super::timeline::Timelines;
use super::{PgSource, partitions};
use crate::adapters::postgres::trouble;
use crate::domain::at::At;
use crate::ports::{ErrorKind, PortError, PortResult};

/// Changes that wait for their tables take up no more than this. What is read beyond waits at the server.
pub(super) const WAITING: usize = 64 << 20;
/// How often the server is told what it may forget.
const TELL: Duration = Duration::from_secs(1);
/// A server that has sent nothing for so long is asked whether it is there.
const QUIET: Duration = Duration::from_secs(10);
/// One that has sent nothing for so long is not: the session is opened anew.
const SILENT: Duration = Duration::from_secs(30);

/// What is tried.
pub(super) const READ: &str = "read the log of";

/// What the reader of the log and its tables share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Something was read, or the reading has ended.
    pub(super) news: Notify,
    /// The server is to be asked how far it has sent.
    pub(super) ask: Notify,
    /// There is room again.
    pub(super) room: Notify,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) reading: Option<Reading>,
    /// The slot that what follows is about.
    pub(super) slot: String,
    /// Where each table has made everything durable, and on which timeline that was read, whoever reads.
    pub(super) durable: BTreeMap<String, (u32, Place)>,
    /// When a table that was given nothing moved on last.
    pub(super) moved: BTreeMap<String, Instant>,
    /// When a table was given something last.
    pub(super) gave: BTreeMap<String, Instant>,
    /// Tables that are not followed any further, until somebody begins to read them again.
    pub(super) ended: BTreeMap<String, PortError>,
}

/// A slot that is being read.
pub(super) struct Reading {
    pub(super) slot: String,
    /// What the server had been told to forget when it began.
    pub(super) from: u64,
    /// As what the server's log goes on.
    pub(super) timelines: Timelines,
    pub(super) hub: Hub<Arc<Entry>>,
    /// Why it has ended.
    pub(super) ended: Option<PortError>,
    /// Ends with it.
    pub(super) task: Option<AbortOnDropHandle<()>>,
}

impl Shared {
    pub(super) fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the log that is read, if it still is.
    pub(super) fn reading<R>(&self, work: impl FnOnce(&mut Reading) -> R) -> Option<R> {
        self.locked().reading.as_mut().map(work)
    }

    /// Works on what waits of it, if it is still read.
    pub(super) fn hub<R>(&self, work: impl FnOnce(&mut Hub<Arc<Entry>>) -> R) -> Option<R> {
        self.reading(|reading| work(&mut reading.hub))
    }
}

/// Reads the log into the hub.
pub(super) struct Pump {
    pub(super) shared: Arc<Shared>,
    pub(super) rows: Rows,
    pub(super) source: Arc<PgSource>,
    pub(super) publication: String,
    /// The transaction that is being read.
    pub(super) tx: Of,
}

impl Pump {
    /// Reads until that fails; gives why.
    pub(super) async fn run(mut self, mut log: Log, place: &str) -> PortError {
        let mut tell = tokio::time::interval(TELL);
        tell.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            let Some((full, confirmed)) = self.shared.hub(|hub| (hub.bytes() >= WAITING, hub.confirmed())) else {
                return PortError::new(ErrorKind::Unreachable, READ, place, "nobody reads it any more");
            };
            let done = tokio::select! {
                frame = log.next(), if !full => {
                    heard = Instant::now();
                    match frame {
                        Ok(Frame::Message(message)) => self.message(&message, place).await,
                        Ok(Frame::Passed(position)) => {
                            self.shared.hub(|hub| hub.passed(position));
                            Ok(())
                        }
                        Err(e) => Err(e),
                    }
                }
                () = self.shared.room.notified(), if full => continue,
                () = self.shared.ask.notified() => tell_it(&mut log, confirmed, true, place).await,
                _ = tell.tick() => {
                    if full {
                        // Nothing is taken meanwhile, so nothing can be heard.
                        heard = Instant::now();
                    }
                    if heard.elapsed() >= SILENT {
                        return silent(place);
                    }
                    tell_it(&mut log, confirmed, heard.elapsed() >= QUIET, place).await
                }
            };
            if let Err(e) = done {
                return e;
            }
            self.shared.news.notify_waiters();
        }
    }

    async fn message(&mut self, bytes: &[u8], place: &str) -> PortResult<()> {
        let broken = |e: String| PortError::new(ErrorKind::Internal, READ, place, e).advise("it is read anew");
        let message = pgoutput::decode(bytes).map_err(|e| broken(e.to_string()))?;
        let tx = self.tx;
        if matches!(
            message,
            Message::Logical { transactional: true, .. }
                | Message::Insert { .. }
                | Message::Update { .. }
                | Message::Delete { .. }
                | Message::Truncate { .. }
        ) {
            let counted = self.shared.hub(Hub::message);
            counted.unwrap_or(Ok(())).map_err(|e| broken(e.to_string()))?;
        }
        let changes = match message {
            Message::Begin { commit, at, xid } => {
                self.tx = Of { xid, at: At(at.saturating_add(EPOCH).div_euclid(1_000)) };
                let begun = self.shared.hub(|hub| hub.begin(commit));
                return begun.unwrap_or(Ok(())).map_err(|e| broken(e.to_string()));
            }
            Message::Commit { end } => {
                let ended = self.shared.hub(|hub| hub.commit(end));
                return ended.unwrap_or(Ok(())).map_err(|e| broken(e.to_string()));
            }
            Message::Relation(relation) => {
                if !self.rows.knows(relation.oid) {
                    self.met(&relation, place).await?;
                }
                self.rows.relation(relation);
                return Ok(());
            }
            Message::Type | Message::Origin(_) | Message::Logical { transactional: false, .. } => return Ok(()),
            Message::Logical { prefix, content, .. } => match marker(prefix, content, &self.source.plan) {
                Some((table, nonce)) => self.rows.marker(table, nonce, tx),
                None => return Ok(()),
            },
            Message::Insert { relation, new } => self.rows.inserted(relation, &new, tx),
            Message::Update { relation, old, new } => self.rows.updated(relation, old.as_ref(), &new, tx),
            Message::Delete { relation, old } => self.rows.deleted(relation, &old, tx),
            Message::Truncate { relations } => self.rows.emptied(&relations),
        };
        for Made { tables, entry, second } in changes {
            let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
            let (bytes, entry) = (weight(&entry), Arc::new(entry));
            let pushed = self.shared.hub(|hub| hub.push(second, &tables, &entry, bytes));
            pushed.unwrap_or(Ok(())).map_err(|e| broken(e.to_string()))?;
        }
        Ok(())
    }

    /// A table that nobody knew when reading began: a partition that came since, or was one once.
    async fn met(&mut self, relation: &Relation, place: &str) -> PortResult<()> {
        let error = |e: Error| trouble::error(&e, READ, place);
        let client = self.source.client().await?;
        match partitions::met(&client, &self.publication, relation.oid).await.map_err(error)? {
            Some(table) => self.rows.partition(table, relation.oid),
            None => self.rows.stranger(relation),
        }
        Ok(())
    }
}

/// Tells the server how far everything is durable. A line that takes nothing is one that nobody reads.
async fn tell_it(log: &mut Log, confirmed: u64, answer: bool, place: &str) -> PortResult<()> {
    let told = tokio::time::timeout(SILENT, log.confirm(confirmed, answer)).await;
    told.unwrap_or_else(|_| Err(silent(place)))
}

fn silent(place: &str) -> PortError {
    let why = format!("nothing came for {} s", SILENT.as_secs());
    PortError::new(ErrorKind::TimedOut, READ, place, why).advise("it is connected anew")
}

/// The table and the nonce of one of our markers: `{plan}/{table}:{nonce}`.
fn marker<'m>(prefix: &str, content: &'m [u8], plan: &str) -> Option<(&'m str, &'m str)> {
    let text = std::str::from_utf8(content).ok().filter(|_| prefix == "cutover")?;
    text.strip_prefix(plan)?.strip_prefix('/')?.rsplit_once(':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_belongs_to_its_plan_and_table() {
        assert_eq!(marker("cutover", b"shop/books:n-1", "shop"), Some(("books", "n-1")));
        assert_eq!(marker("cutover", b"shop/a:b:n-1", "shop"), Some(("a:b", "n-1")));
        assert_eq!(marker("cutover", b"shop2/books:n-1", "shop"), None);
        assert_eq!(marker("other", b"shop/books:n-1", "shop"), None);
    }
}
